"""SEN, the Self-Emphasizing Network (Hu et al., AAAI 2023): two gates inside every block of a ResNet-18.

Between a block's first ReLU and its second convolution, with both gates reading the same y:

    y <- y + a_s y g_s(y) + a_t y g_t(y),   g(y) = sigmoid(B(sum_i w_i D_i(A(y)))) - 1/2
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from slakit.models.methods import Encoder, register_method
from slakit.models.methods.vac import OWN_CLASSIFIERS, ResNetOptions
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.resnet import ON_RESNET, ResidualBlock, kaiming


class Gate(nn.Module):
    """g, by layers A (`down`), to a sixteenth of the channels, D_i (`dilated`) and B (`up`); the w_i start equal."""

    def __init__(self, channels: int, pointwise: Callable, dilated: Callable, dilations: int, bias: bool = True):
        super().__init__()
        inner = max(channels // 16, 1)
        self.down, self.up = pointwise(channels, inner, 1, bias=bias), pointwise(inner, channels, 1, bias=bias)
        self.dilated = nn.ModuleList(dilated(inner, i) for i in range(1, dilations + 1))
        self.weights = nn.Parameter(torch.full((dilations,), 1 / dilations))
        kaiming(self)

    def aggregate(self, x: torch.Tensor) -> torch.Tensor:
        """sum_i w_i D_i(x) on whole clips [B, C, T, …]."""
        return sum((w * layer(x) for w, layer in zip(self.weights, self.dilated, strict=True)), x.new_zeros(()))


class SpatialGate(Gate):
    """g_s: D_i depthwise 9x3x3 (time x space) of spatial dilation 1, 2, 3; zeros beyond a clip's ends. Sees four frames
    to each side. bias: of A and B."""

    def __init__(self, channels: int, bias: bool = True):
        def dilated(inner: int, i: int) -> nn.Module:
            return nn.Conv3d(inner, inner, (9, 3, 3), padding=(4, i, i), dilation=(1, i, i), groups=inner)

        super().__init__(channels, nn.Conv2d, dilated, 3, bias)

    def forward(self, y: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W] in (-1/2, 1/2)."""
        return self.up(clips.over_time(self.down(y), self.aggregate)).sigmoid() - 0.5


class TemporalGate(Gate):
    """g_t: the same on spatial means [C, T], D_i depthwise of width 3 and dilation 1, 2, …; broadcast over space.

    Sees as many frames to each side as it has dilations.
    """

    def __init__(self, channels: int, dilations: int):
        def dilated(inner: int, i: int) -> nn.Module:
            return nn.Conv1d(inner, inner, 3, padding=i, dilation=i, groups=inner)

        super().__init__(channels, nn.Conv1d, dilated, dilations)

    def forward(self, y: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, 1, 1] in (-1/2, 1/2)."""
        found = clips.over_time(y.mean((2, 3)), lambda x: self.up(self.aggregate(self.down(x))))
        return found.sigmoid()[..., None, None] - 0.5


class Emphasis(nn.Module):
    """Both gates; a_s starts at 1, a_t at 0."""

    reach = 5

    def __init__(self, channels: int):
        super().__init__()
        self.spatial, self.spatial_scale = SpatialGate(channels), nn.Parameter(torch.ones(1))
        self.temporal, self.temporal_scale = TemporalGate(channels, self.reach), nn.Parameter(torch.zeros(1))

    def forward(self, y: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        gates = self.spatial_scale * self.spatial(y, clips) + self.temporal_scale * self.temporal(y, clips)
        return y + y * gates


def sen(backbone: Backbone, options: ResNetOptions) -> Encoder:
    """An emphasis into every block; all is trained."""
    for block in backbone.blocks:
        assert isinstance(block, ResidualBlock)
        block.emphasis = Emphasis(block.width)
    return Encoder(backbone.requires_grad_(True))


register_method("sen", ResNetOptions, sen, **ON_RESNET, **OWN_CLASSIFIERS)
