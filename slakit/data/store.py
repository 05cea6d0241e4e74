"""Where the frames of a clip come from: its file, the memory, or a prepared cache; always at the size asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from slakit.data.augment import ClipPlan
from slakit.data.images import list_frames
from slakit.data.resize import resize
from slakit.data.samples import Sample
from slakit.data.video import ON_DAMAGE, probe_video, read_frames
from slakit.errors import ConfigError, SlakitError, VideoError

MAX_MEMORY = 4 * 2**30


class ClipStore:
    """Reads clips for the loaders, and may keep them: resized, uint8, once for all epochs, train and dev alike.

    keep_in_memory: keep every clip that was read (small corpora). max_memory: bytes that may be kept; more is a
    ConfigError. on_damage: "skip" and "error" leave a damaged clip to the caller as a VideoError ("error" as a
    SlakitError that stops), "keep-readable" uses the frames that can be decoded. prepare: what to do to the frames as
    read, before they are resized,
    for instance `cropping.signer_crop`.
    """

    def __init__(
        self,
        keep_in_memory: bool = False,
        max_memory: int = MAX_MEMORY,
        on_damage: str = "skip",
        prepare: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        if on_damage not in ON_DAMAGE:
            raise ConfigError(f"on_damage={on_damage!r} is none of {', '.join(ON_DAMAGE)}")
        self.keep_in_memory, self.max_memory, self.on_damage = keep_in_memory, max_memory, on_damage
        self.prepare = prepare
        self._kept: dict[tuple[object, int], np.ndarray] = {}
        self.bytes = 0

    def read(
        self, sample: Sample, image_size: int, plan: Callable[[int], ClipPlan]
    ) -> tuple[np.ndarray, np.ndarray, ClipPlan]:
        """(pictures uint8 [T, image_size, image_size, 3], positions of the planned frames in them, the plan).

        plan is asked once, with the clip's number of frames; where possible only the frames that it names are decoded.
        """
        key = (sample.source, image_size)
        if key in self._kept:
            made = plan(len(self._kept[key]))
            return self._kept[key], made.frames, made
        if self.keep_in_memory:
            pictures = self._whole(sample, image_size)
            self._keep(key, pictures, sample)
            made = plan(len(pictures))
            return pictures, made.frames, made
        if self.on_damage == "keep-readable" or self.prepare is not None:
            pictures = self._whole(sample, image_size)
            made = plan(len(pictures))
            return pictures, made.frames, made
        made = plan(_num_frames(sample.source))
        wanted, positions = np.unique(made.frames, return_inverse=True)
        pictures = self._resized(sample, image_size, wanted.tolist())
        return pictures, positions, made

    def preload(self, samples: Sequence[Sample], image_size: int) -> None:
        """Read what is to be kept before worker processes start, so that they share it. Damaged clips are left."""
        if not self.keep_in_memory:
            return
        for sample in samples:
            if (key := (sample.source, image_size)) not in self._kept:
                try:
                    self._keep(key, self._whole(sample, image_size), sample)
                except VideoError:
                    continue  # named by the loader when its turn comes

    def _keep(self, key: tuple[object, int], pictures: np.ndarray, sample: Sample) -> None:
        self.bytes += pictures.nbytes
        if self.bytes > self.max_memory:
            raise ConfigError(
                f"keep_in_memory: {len(self._kept)} clips fill max_memory={self.max_memory:,} bytes at {sample.id}; "
                "raise it, make frames smaller, or prepare a cache on disk"
            )
        self._kept[key] = pictures

    def _whole(self, sample: Sample, image_size: int) -> np.ndarray:
        return self._resized(sample, image_size, None)

    def _resized(self, sample: Sample, image_size: int, indices: Sequence[int] | None) -> np.ndarray:
        try:
            damage = "keep-readable" if self.on_damage == "keep-readable" else "error"
            frames = read_frames(sample.source, indices, on_damage=damage)
        except VideoError as error:
            if self.on_damage == "error":
                raise SlakitError(f"{sample.id}: {error}") from error
            raise
        if self.prepare is not None:
            frames = self.prepare(frames)
        return resize(frames, image_size)


def _num_frames(source: Path | tuple[Path, ...]) -> int:
    """Frames of a clip without decoding it; 0 for an empty folder."""
    if isinstance(source, tuple):
        return len(source)
    if source.is_dir():
        return len(list_frames(source))
    return probe_video(source).num_frames
