"""SLA-Adapter (CLIP-SLA section 3.2, Fig. 3): time-aware adapters before attention and before the MLP of a block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from slakit.models.exact.depthwise import DepthwiseConv3d
from slakit.models.methods import Encoder, chosen_blocks, register_method
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.blocks import Block
from slakit.records import ConfigError


@dataclass(frozen=True)
class SlaAdapterOptions:
    """Settings of SLA-Adapter; the defaults are the readings of the paper's open points.

    width: channels inside (published: 256). blocks: 1-based, "2-12" or (2, 3, …); None: all but the first third
    (5-12 of 12, CSL-Daily's choice; Phoenix-2014 has 2-12, -T 3-12).
    time_aware: depth-wise 3D convolution between the projections; False: the plain adapter, Eq. (3), with activation.
    kernel: "3x3x3" (time x rows x columns) or ST-Adapter's "3x1x1". activation: a GELU after the convolution (Fig. 3
    shows none). before_mhsa, before_mlp: which of the two adapters there are.
    place: "stream", x = A(x) before the branch (ST-Adapter's code); "branch", only attention or MLP reads A(x).
    """

    width: int = 256
    blocks: str | tuple[int, ...] | None = None
    time_aware: bool = True
    kernel: Literal["3x3x3", "3x1x1"] = "3x3x3"
    activation: bool = False
    before_mhsa: bool = True
    before_mlp: bool = True
    place: Literal["stream", "branch"] = "stream"


class TimeAwareAdapter(nn.Module):
    """x + up(dwconv3d(down(x))) on the patch tokens; class tokens pass by. Starts as the identity: the convolution
    starts at zero, all biases at zero. Without time: x + up(GELU(down(x))), Eq. (3), with `up` at zero.
    """

    def __init__(self, width: int, options: SlaAdapterOptions, grid: tuple[int, int], prefix_tokens: int):
        super().__init__()
        self.grid, self.prefix_tokens = grid, prefix_tokens
        self.down, self.up = nn.Linear(width, options.width), nn.Linear(options.width, width)
        self.conv = DepthwiseConv3d(options.width, options.kernel) if options.time_aware else None
        self.activation = nn.GELU() if options.activation or not options.time_aware else nn.Identity()
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.bias)
        if self.conv is None:
            nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """x [N, L, D] -> [N, L, D]."""
        patches = self.down(x[:, self.prefix_tokens :])  # [N, rows*columns, width]
        if self.conv is not None:
            patches = self.conv(patches.unflatten(1, self.grid), clips).flatten(1, 2)
        update = self.up(self.activation(patches))
        return torch.cat([x[:, : self.prefix_tokens], x[:, self.prefix_tokens :] + update], dim=1)


class AdapterBlock(Block):
    """x = A1(x); x = x + MHSA(LN(x)); x = A2(x); x = x + MLP(LN(x)) (CLIP-SLA Fig. 3).

    Adapters leave the class token alone, so where only that token leaves the last block, its A2 has no effect and is
    not computed: it never gets a gradient.
    """

    def __init__(self, block: Block, adapter_1: nn.Module | None, adapter_2: nn.Module | None, place: str):
        super().__init__(*block.parts())
        self.adapter_1, self.adapter_2, self.place = adapter_1, adapter_2, place

    def forward(self, x: torch.Tensor, clips: Clips, class_token_only: bool = False) -> torch.Tensor:
        adapted = x if self.adapter_1 is None else self.adapter_1(x, clips)
        stream = adapted if self.place == "stream" else x
        attended = self.attend(adapted, class_token_only)
        x = (stream[:, :1] if class_token_only else stream) + self.ls_1(attended)
        adapted = x if self.adapter_2 is None or class_token_only else self.adapter_2(x, clips)
        stream = adapted if self.place == "stream" else x
        return stream + self.feed(adapted)


def sla_adapter(backbone: Backbone, options: SlaAdapterOptions) -> Encoder:
    """Put adapters into the chosen blocks."""
    if options.width < 1:
        raise ConfigError(f"width={options.width} is no number of channels; published: 256 and 384")
    if not (options.before_mhsa or options.before_mlp):
        raise ConfigError("before_mhsa=False and before_mlp=False leave no adapter; use method='frozen' for that")
    for index in chosen_blocks(options.blocks, backbone.depth):
        adapter_1, adapter_2 = (
            TimeAwareAdapter(backbone.width, options, backbone.grid, backbone.prefix_tokens) if chosen else None
            for chosen in (options.before_mhsa, options.before_mlp)
        )
        backbone.blocks[index] = AdapterBlock(backbone.blocks[index], adapter_1, adapter_2, options.place)
    return Encoder(backbone)


register_method("sla-adapter", SlaAdapterOptions, sla_adapter, auxiliary_head=True)
