"""Packed clips: the frames of a batch's videos one after the other, and how time is counted: in frames and in steps.

No padded frame ever meets the image encoder. Modules that look at neighbouring frames use Clips.neighbour(), which
never crosses from one video into the next; only pooled features are padded, by replicate_padding().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from slakit.records import SlakitError

# The temporal grid. Through K5-P2-K5-P2 without padding one step of the output sees 16 frames, and the next begins four
# frames later; 12 extra frames, half of them before the clip, give ceil(T / 4) steps for T frames.
LEFT = 6  # copies of the first frame before a clip
STRIDE = 4  # frames from one step to the next
FIELD = 16  # frames that one step sees


def steps(num_frames: int) -> int:
    """Steps of the sequence head for a clip: ceil(T / 4)."""
    return -(-num_frames // STRIDE)


def frames_of(step: int, num_frames: int | None = None) -> tuple[int, int]:
    """The frames that a step stands for: start (included) and end (excluded); num_frames cuts the last step off.

    Step i sees frames 4i-6 .. 4i+9 (`receptive_field`). Their centre is 4i + 1.5, the centre of frames 4i .. 4i+3, and
    those four tile the clip.
    """
    start, end = step * STRIDE, (step + 1) * STRIDE
    return (start, end) if num_frames is None else (min(start, num_frames), min(end, num_frames))


def receptive_field(step: int) -> tuple[int, int]:
    """The frames that a step sees: start (included, may lie before 0: padding) and end (excluded)."""
    return step * STRIDE - LEFT, step * STRIDE - LEFT + FIELD


def seconds_of(step: int | np.ndarray, fps: float, frames: int = STRIDE) -> float | np.ndarray:
    """The middle of a step's frames on a time axis where frame f fills f / fps to (f + 1) / fps: where to draw it.

    step: a number or an array of them; frames: how many a step stands for, 1 where every frame has a value.
    """
    return (step + 0.5) * frames / fps


class Clips:
    """The lengths (in frames) of the B videos packed in one batch of N = sum of lengths frames."""

    def __init__(self, lengths: torch.Tensor | Sequence[int], device: torch.device | str = "cpu"):
        self.lengths = tuple(int(n) for n in (lengths.tolist() if isinstance(lengths, torch.Tensor) else lengths))
        if not self.lengths or min(self.lengths) < 1:
            raise SlakitError(f"the clips' lengths are {list(self.lengths)}; every clip needs one frame at least")
        self.device = torch.device(device)
        self.total = sum(self.lengths)
        self._inside: dict[int, torch.Tensor] = {}

    def check(self, frames: torch.Tensor) -> None:
        """SlakitError unless `frames` [N, …] holds exactly the frames that the lengths promise."""
        if frames.shape[0] != self.total:
            raise SlakitError(f"{frames.shape[0]} frames for clips of {list(self.lengths)} frames, {self.total} in all")

    def inside(self, offset: int) -> torch.Tensor:
        """bool [N]: whether frame t + offset belongs to the same video as frame t."""
        if offset not in self._inside:
            flags = [0 <= t + offset < length for length in self.lengths for t in range(length)]
            self._inside[offset] = torch.tensor(flags, device=self.device)
        return self._inside[offset]

    def masks(self) -> list[torch.Tensor]:
        """inside() of the frames before and after, made here and now and kept for neighbour()."""
        return [self.inside(offset) for offset in (-1, 0, 1)]

    def neighbour(self, x: torch.Tensor, offset: int, boundary: str = "zeros") -> torch.Tensor:
        """y[t] = x[t + offset] within each video; x [N, …]. Beyond its ends zeros, or x[t] ("replicate")."""
        if offset == 0:
            return x
        gap = x.new_zeros((min(abs(offset), x.shape[0]), *x.shape[1:]))
        moved = torch.cat([gap, x[:offset]]) if offset < 0 else torch.cat([x[offset:], gap])
        inside = self.inside(offset).view(-1, *[1] * (x.dim() - 1))
        return torch.where(inside, moved, x if boundary == "replicate" else moved.new_zeros(()))

    def over_time(self, x: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """`function` on whole clips: x [N, C, …] -> [N', C', …], packed as before; T may become another number.

        function: [B, C, T, …] -> [B, C', T', …], clips of equal length at once, others one by one.
        """
        if len(set(self.lengths)) == 1:
            parts = [x.unflatten(0, (len(self.lengths), -1))]
        else:
            parts = [part[None] for part in x.split(list(self.lengths))]
        return torch.cat([function(part.transpose(1, 2)).transpose(1, 2).flatten(0, 1) for part in parts])

    def pad(self, x: torch.Tensor) -> torch.Tensor:
        """[N, D] -> [B, T, D] with zeros after the end of shorter videos."""
        return torch.nn.utils.rnn.pad_sequence(list(x.split(list(self.lengths))), batch_first=True)


def padded_lengths(lengths: torch.Tensor) -> torch.Tensor:
    """The published batches' reported lengths: ceil(T/4)*4 + 12."""
    return (lengths + STRIDE - 1) // STRIDE * STRIDE + 2 * LEFT


def padded_index(lengths: Sequence[int]) -> torch.Tensor:
    """int64 [B, T_padded]: which frame of its own clip stands at each place of the published padding.

    6 copies of the first frame, the clip, then copies of its last frame until ceil(T_max/4)*4 + 12.
    """
    length = torch.tensor(list(lengths))
    total = int(padded_lengths(length.max()))
    places = torch.arange(total) - LEFT  # [T_padded]
    return torch.minimum(places.clamp(min=0)[None], length[:, None] - 1)


def replicate_padding(features: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """[B, T, D] -> [B, T_padded, D], by padded_index(); what stands behind a clip's end in `features` is not read."""
    index = padded_index(lengths).to(features.device)
    return features[torch.arange(len(index), device=features.device)[:, None], index]
