"""The temporal shift of CLIP-SLA, Eq. (1): a few channels look one frame back, as many one frame ahead."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from slakit.errors import ConfigError
from slakit.models.clips import Clips


class TemporalShift(nn.Module):
    """Channels 0 .. d/n_div come from frame t-1, the next d/n_div from frame t+1, the others stay.

    No parameters. The published choice is n_div = 32 (24 + 24 of 768 channels), zeros beyond a video's ends, class
    token included. (The original TSM shifts the first channels the other way: equivalent by symmetry.)
    boundary: "replicate" takes the frame's own channels at the ends. class_token=False leaves the first
    `prefix_tokens` tokens alone.
    """

    def __init__(
        self,
        width: int,
        n_div: int = 32,
        boundary: Literal["zeros", "replicate"] = "zeros",
        class_token: bool = True,
        prefix_tokens: int = 1,
    ):
        super().__init__()
        if not 2 <= n_div <= width:
            raise ConfigError(f"n_div={n_div} cannot divide {width} channels; use 2 to {width} (published: 32)")
        self.fold = width // n_div
        self.reach = 1
        self.boundary = boundary
        self.skipped = 0 if class_token else prefix_tokens

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """x [N, L, D] -> [N, L, D]; never mixes two videos of the pack."""
        back, ahead, rest = x.split([self.fold, self.fold, x.shape[-1] - 2 * self.fold], dim=-1)
        back, ahead = clips.neighbour(back, -1, self.boundary), clips.neighbour(ahead, 1, self.boundary)
        shifted = torch.cat([back, ahead, rest], dim=-1)
        return torch.cat([x[:, : self.skipped], shifted[:, self.skipped :]], dim=1) if self.skipped else shifted

    def extra_repr(self) -> str:
        return f"channels={self.fold}+{self.fold}, boundary={self.boundary}"
