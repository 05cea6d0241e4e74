"""The published training and evaluation transforms: crop, flip, temporal rescale, decided before a pixel is touched.

The order and the rounding are those of the public code that CLIP-SLA and AdaptSign build on (VAC, CorrNet): one random
crop for the clip, one flip for the clip, then the temporal rescale. Pixel values stay uint8; normalising them is the
model's part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from slakit.config import AugmentConfig
from slakit.records import ConfigError, VideoError


@dataclass(frozen=True)
class ClipPlan:
    """What becomes of one clip: which frames, which window, mirrored or not.

    frames: rising frame numbers (repeats allowed), int64 [T']. top, left: the window's corner; negative means that many
    rows or columns of black (the picture is smaller than the window). size: the window's side.
    """

    frames: np.ndarray
    top: int
    left: int
    size: int
    flip: bool


@dataclass(frozen=True)
class ClipTransform:
    """The transform of one split; AugmentConfig's defaults are the published ones.

    train: random crop, flip and temporal rescale; otherwise the centre crop of the whole clip.
    """

    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: bool = True

    def plan(self, num_frames: int, height: int, width: int, generator: np.random.Generator | None = None) -> ClipPlan:
        """Decide frames, window and flip for a clip of `num_frames` pictures of height x width.

        generator: needed in training; `sample_generator` makes one.
        """
        a, size = self.augment, self.augment.crop_size
        if num_frames < 1:
            raise VideoError("the clip has no frames; leave it out or look for its files")
        if not self.train:
            return ClipPlan(np.arange(num_frames), centre(height, size), centre(width, size), size, False)
        if generator is None:
            raise ConfigError("training transforms need a random generator; see sample_generator()")
        left = window(width, size, generator)
        top = window(height, size, generator)
        flip = bool(generator.random() < a.flip)
        frames = np.arange(num_frames)
        if a.temporal_scale is not None:
            frames = temporal_rescale(num_frames, a.temporal_scale, a.min_frames, a.max_frames, generator)
        return ClipPlan(frames, top, left, size, flip)

    def lengths(self, num_frames: int) -> tuple[int, int]:
        """The shortest and the longest clip that `plan` can make of `num_frames` frames."""
        a = self.augment
        if not self.train or a.temporal_scale is None:
            return num_frames, num_frames
        low = rescaled_length(num_frames, 1 - a.temporal_scale, a.min_frames, a.max_frames)
        return low, rescaled_length(num_frames, 1 + a.temporal_scale, a.min_frames, a.max_frames)


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random stream of one clip in one epoch: no other (seed, epoch, index) has it, whatever the workers do."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, index)))


def window(length: int, size: int, generator: np.random.Generator) -> int:
    """Offset of a random window, uniform over 0 .. length - size, both included; black is added where length < size."""
    if size > length:
        return -((size - length) // 2)
    return int(generator.integers(0, length - size, endpoint=True))


def centre(length: int, size: int) -> int:
    """Offset of the window in the middle, rounded as Python rounds."""
    return -((size - length) // 2) if size > length else round((length - size) / 2)


def evaluation_crop(size: int) -> tuple[int, int]:
    """(side to which pictures are resized, offset of the window in the middle) for a window of `size`: 8/7 of it, as
    published (256 for 224)."""
    side = round(size * 8 / 7)
    return side, centre(side, size)


def rescaled_length(num_frames: int, factor: float, min_frames: int, max_frames: int) -> int:
    """int(T x factor), then at least min_frames, then at most max_frames, then up to a multiple of 4."""
    return 4 * math.ceil(min(max(int(num_frames * factor), min_frames), max_frames) / 4)


def temporal_rescale(
    num_frames: int, scale: float, min_frames: int, max_frames: int, generator: np.random.Generator
) -> np.ndarray:
    """Frame numbers of the randomly rescaled clip, rising, int64 [n] (VAC, `TemporalRescale`).

    n frames are drawn without replacement where there are enough, otherwise with replacement: frames are left out or
    repeated, never blended.
    """
    factor = (1 - scale) + 2 * scale * generator.random()
    length = rescaled_length(num_frames, factor, min_frames, max_frames)
    if length <= num_frames:
        return np.sort(generator.choice(num_frames, length, replace=False))
    return np.sort(generator.integers(0, num_frames, length))


def apply_plan(pictures: np.ndarray, plan: ClipPlan, out: np.ndarray, frames: np.ndarray | None = None) -> None:
    """Write the planned clip into `out`.

    pictures: uint8 [T, H, W, 3]; out: uint8 [T', size, size, 3]. frames: positions in `pictures`, where that holds not
    all frames of the clip but those that the plan names; default plan.frames.
    """
    chosen = plan.frames if frames is None else frames
    height, width = pictures.shape[1:3]
    rows = slice(max(plan.top, 0), min(plan.top + plan.size, height))
    columns = slice(max(plan.left, 0), min(plan.left + plan.size, width))
    to_rows = slice(rows.start - plan.top, rows.stop - plan.top)
    to_columns = slice(columns.start - plan.left, columns.stop - plan.left)
    if to_rows.stop - to_rows.start < plan.size or to_columns.stop - to_columns.start < plan.size:
        out[:] = 0
    if plan.flip:
        to_columns = slice(plan.size - to_columns.stop, plan.size - to_columns.start)
    target = torch.from_numpy(out[:, to_rows, to_columns])
    source = torch.from_numpy(pictures[:, rows, columns])
    if not plan.flip:
        torch.index_select(source, 0, torch.from_numpy(np.asarray(chosen, np.int64)), out=target)
        return
    for position, number in enumerate(chosen.tolist()):  # frame by frame: a copy of one stays in the processor's cache
        target[position].copy_(source[number].flip(1))  # torch flips 4 times as fast as NumPy
