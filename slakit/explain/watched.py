"""One video, watched once by a model: features, log probabilities; windows of it for gradients in little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch

from slakit.config import to_dict
from slakit.data.video.read import open_source
from slakit.decoding import beam_search
from slakit.machine import half_precision
from slakit.models.modes import evaluating
from slakit.models.packing import Clips, padded_index
from slakit.models.recognizer import Recognizer
from slakit.models.towers.blocks import Block
from slakit.recognition.forward import encode, placed
from slakit.recognition.pictures import crop_of, pictures_for, settings_for
from slakit.recognition.video import fitted_frames
from slakit.records import Sample, SlakitError

CHUNK = 32  # frames whose gradients are taken at once


@dataclass(frozen=True, eq=False)
class WatchedClip:
    """A clip and what the model makes of it.

    frames: uint8 [T, S, S, 3] as the model takes them. order: int64 [N], the frame at each of the encoder's places
    (0 .. T-1; with padding="published" also the copies before and behind). features: [1, N, F]. log_probs: [T', V] of
    the sequence head, on the CPU. precision: of these and of all that is computed from them.
    """

    model: Recognizer
    frames: np.ndarray
    order: torch.Tensor
    features: torch.Tensor
    log_probs: torch.Tensor
    precision: str = "auto"

    @cached_property
    def tokens(self) -> list[int]:
        """Class indices of the recognised sequence."""
        options = to_dict(settings_for(self.model).decode)
        return list(beam_search(self.log_probs[None].float(), None, **options)[0][0].tokens)

    @property
    def glosses(self) -> list[str]:
        """The recognised sequence."""
        return self.model.vocabulary.decode(self.tokens)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.model.encoder.backbone.grid

    def packed(self, frames: np.ndarray | None = None) -> torch.Tensor:
        """Frames (the clip's own, or others like them) as the model takes them: uint8 [T, 3, S, S] on its device."""
        array = np.ascontiguousarray(self.frames if frames is None else frames)
        return torch.from_numpy(array).permute(0, 3, 1, 2).to(self.features.device)

    def fold(self, values: torch.Tensor, reduce: str = "sum") -> torch.Tensor:
        """Values at the encoder's places [N, …] -> at the frames [T, …]: copies of a frame are added, or averaged."""
        order = self.order.to(values.device)
        total = values.new_zeros((len(self.frames), *values.shape[1:])).index_add_(0, order, values)
        if reduce == "sum":
            return total
        return total / torch.bincount(order, minlength=len(self.frames)).view(-1, *[1] * (values.dim() - 1))


@contextmanager
def frozen_eval(clip: WatchedClip) -> Iterator[None]:
    """Within: evaluation mode, and no parameter asks for a gradient, so that graphs keep only what inputs need."""
    with evaluating(clip.model, clip.precision, gradients=True):
        yield


def head(model: Recognizer, features: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Features [B, N, F] of clips of equal length -> log probabilities [B, T', V], in float32 at least.

    Without cuDNN, whose LSTM refuses the way back in evaluation mode.
    """
    with torch.backends.cudnn.flags(enabled=False):
        logits = model.recognize_features(features, [num_frames] * len(features)).sequence
    return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def watch(
    model: Recognizer,
    video: str | Path | Sample | Sequence[Path] | np.ndarray,
    crop: str | Sequence[int] = "auto",
    precision: str | None = None,
    device: str | torch.device | None = None,
) -> WatchedClip:
    """Look at a video once, without gradients.

    video: a file, a folder of frames or a clip of a corpus, read with the loader's checks (VideoError names file and
    reason) and cropped as recognize() does; or frames uint8 [T, S, S, 3] of the model's size. SlakitError for an array
    of another kind.
    precision, device: as recognize() has them.
    """
    size, precision = model.image_size, precision or settings_for(model).precision
    placed(model, device)
    if isinstance(video, Sample):
        video, crop = video.source, crop_of(model, video) if crop == "auto" else crop
    if not isinstance(video, np.ndarray):
        video = fitted_frames(open_source(video), pictures_for(model), crop, "error")
    if video.dtype != np.uint8 or video.ndim != 4 or video.shape[1:] != (size, size, 3) or not len(video):
        raise SlakitError(
            f"frames are {video.dtype} {list(video.shape)}; this model takes uint8 [T, {size}, {size}, 3]: give the "
            "file, or pass the frames through slakit.recognition.fit_frames"
        )
    count = len(video)
    order = padded_index([count])[0] if model.config.padding == "published" else torch.arange(count)
    packed = torch.from_numpy(np.ascontiguousarray(video)).permute(0, 3, 1, 2)
    with evaluating(model, precision):
        features = encode(model, packed, torch.tensor([count]))  # [1, N, F]
        logits = model.recognize_features(features, [count]).sequence[0]
        wide = torch.promote_types(features.dtype, torch.float32)
        log_probs = logits.log_softmax(-1, dtype=wide)
    features = features.to(wide, copy=True)  # outside, so that gradients may be taken with respect to it
    return WatchedClip(model, video, order, features, log_probs.cpu().clone(), precision)


def block_of(model: Recognizer, block: int) -> Block:
    """The encoder's block of that number, 0-based or negative from the end; SlakitError where there is none."""
    blocks = model.encoder.backbone.blocks
    if not -len(blocks) <= block < len(blocks):
        raise SlakitError(f"block={block} is no block of this encoder; it has {len(blocks)}, counted from 0")
    return cast(Block, blocks[block])


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of the encoder's places with as many neighbours on each side as its inner frames can be changed by.

    images: normalised [n, 3, S, S]; places: which of the N places they are; inner: the slice of `images` (and of all
    that is computed from them) whose values and gradients are exact.
    """

    images: torch.Tensor
    clips: Clips
    places: slice
    inner: slice


def windows(clip: WatchedClip, chunk: int = CHUNK) -> Iterator[Window]:
    """The clip in windows whose inner parts tile it, so that memory does not grow with its length.

    A score's gradient in an inner frame is exact: it reaches only features within the encoder's `reach`, and those see
    only frames within another `reach`; both are in the window.
    """
    if chunk < 1:
        raise SlakitError(f"chunk={chunk} is no number of frames; use 1 or more")
    model, count, margin = clip.model, len(clip.order), 2 * clip.model.encoder.reach
    for start in range(0, count, chunk):
        end = min(start + chunk, count)
        low, high = max(0, start - margin), min(count, end + margin)
        frames = clip.frames[clip.order[low:high].numpy()]
        yield Window(
            model.normalise(clip.packed(frames)).to(clip.features.dtype),
            Clips([high - low], clip.features.device),
            slice(low, high),
            slice(start - low, end - low),
        )


def encode_window(clip: WatchedClip, window: Window) -> torch.Tensor:
    """Features [n, F] of a window; SlakitError if they are not those of the whole clip (a wrong `reach`)."""
    features = clip.model.encoder(window.images, window.clips)
    expected = clip.features[0, window.places][window.inner]
    gap = (features.detach()[window.inner] - expected).abs().max()
    rounding = 1e-2 if half_precision(clip.precision, features.device) is None else 5e-2
    if not gap <= rounding * expected.abs().max() + 1e-6:
        raise SlakitError(
            f"features of a window differ by {float(gap):.2g} from those of the whole clip: a module of "
            f"{clip.model.config.method} looks at frames further away than the `reach` that it states"
        )
    return features


def by_window(
    clip: WatchedClip, read: Callable[[Window], torch.Tensor], chunk: int = CHUNK, reduce: str = "mean"
) -> np.ndarray:
    """read(window) -> [n, …, patches] for every window; the inner parts joined and folded: float32 [T, …, h, w]."""
    parts = []
    for window in windows(clip, chunk):
        with frozen_eval(clip):
            parts.append(read(window)[window.inner].detach())
    return clip.fold(torch.cat(parts), reduce).unflatten(-1, clip.grid).float().cpu().numpy()
