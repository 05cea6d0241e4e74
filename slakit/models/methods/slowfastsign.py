"""SlowFastSign (Ahn et al., ICASSP 2024): a SlowFast 64x2 R101 whose two pathways fuse both ways.

The slow pathway sees every fourth frame with many channels, the fast one every frame with an eighth of them. Before
every stage each is added to the other,

    slow += s_s ReLU(norm(conv 5x1x1, stride 4 in time, of fast)),  fast += s_f ReLU(norm(conv 1x1x1 of slow, 4 times))

and a frame's feature is [slow, repeated four times; fast]. In training each pathway alone has a sequence model as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from slakit.models.methods import Encoder, register_method
from slakit.models.packing import STRIDE, Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.encoder import EVERYWHERE
from slakit.models.towers.resnet import MapTower, kaiming
from slakit.models.towers.slowfast_weights import read_kinetics

SLOWFAST = "SlowFast-64x2-R101"
FEWER = 8  # the fast pathway's share of the channels
WITH_TIME = (3, 4, 6, 3)  # so many first blocks of a stage look at neighbouring frames
SLOW_KERNELS, FAST_KERNEL = (1, 1, 3, 3), 3


@dataclass(frozen=True)
class SlowFastOptions:
    """width: channels of the slow stem (64). depths: blocks of the four stages. feature_dropout: before the heads."""

    width: int = 64
    depths: tuple[int, ...] = (3, 4, 23, 3)
    feature_dropout: float = 0.5


class ConvNorm(nn.Module):
    """A convolution T x S x S without bias and its norm, on packed frames; T = 1 is one over space. Zeros beyond a
    clip's ends."""

    def __init__(self, inputs: int, outputs: int, time: int, space: int, stride: int = 1, time_stride: int = 1):
        super().__init__()
        self.stride, self.padding = stride, space // 2
        sizes = (time, space, space), (time_stride, stride, stride), (time // 2, self.padding, self.padding)
        self.conv, self.bn = nn.Conv3d(inputs, outputs, *sizes, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, inputs, H, W] -> [N', outputs, H', W']."""
        if self.conv.kernel_size[0] > 1:
            return self.bn(clips.over_time(x, self.conv))
        return self.bn(F.conv2d(x, self.conv.weight[:, :, 0], None, self.stride, self.padding))


class Times:
    """The clips of both pathways. first: [N_slow], which frame each slow one is. of: [N], each frame's slow one."""

    def __init__(self, clips: Clips):
        self.fast, self.slow = clips, Clips([-(-length // STRIDE) for length in clips.lengths], clips.device)
        begins, slow_begins = ([0, *accumulate(part.lengths)] for part in (clips, self.slow))  # and the end
        first = [torch.arange(begin, end, STRIDE) for begin, end in pairwise(begins)]
        of = [begin + torch.arange(n) // STRIDE for begin, n in zip(slow_begins, clips.lengths, strict=False)]
        self.first, self.of = torch.cat(first).to(clips.device), torch.cat(of).to(clips.device)


class Bottleneck(nn.Module):
    """Tx1x1, 1x3x3 (with the stride), 1x1x1, each with a norm, and the shortcut around them."""

    def __init__(self, inputs: int, inner: int, outputs: int, time: int, stride: int):
        super().__init__()
        self.a, self.b = ConvNorm(inputs, inner, time, 1), ConvNorm(inner, inner, 1, 3, stride)
        self.c = ConvNorm(inner, outputs, 1, 1)
        changes = inputs != outputs or stride > 1
        self.shortcut = ConvNorm(inputs, outputs, 1, 1, stride) if changes else None
        nn.init.zeros_(self.c.bn.weight)

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        y = self.c(self.b(self.a(x, clips).relu(), clips).relu(), clips)
        return (y + (x if self.shortcut is None else self.shortcut(x, clips))).relu()


class Stage(nn.Module):
    """Each pathway added to the other (both scales start at 0), and the bottlenecks of both."""

    def __init__(self, number: int, inputs: int, width: int, depth: int):
        super().__init__()
        self.width = width
        self.to_slow = ConvNorm(inputs // FEWER, inputs, 5, 1, time_stride=STRIDE)
        self.to_fast = ConvNorm(inputs, inputs // FEWER, 1, 1)
        self.weight_s, self.weight_f = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        inner, outputs, stride = width << number, 4 * width << number, 1 if number == 0 else 2

        def pathway(share: int, kernel: int) -> nn.ModuleList:
            sizes, times = (inner // share, outputs // share), [kernel] * WITH_TIME[number] + [1] * depth
            first = Bottleneck(inputs // share, *sizes, kernel, stride)
            rest = (Bottleneck(outputs // share, *sizes, time, 1) for time in times[1:depth])
            return nn.ModuleList([first, *rest])

        self.slow, self.fast = pathway(1, SLOW_KERNELS[number]), pathway(FEWER, FAST_KERNEL)

    def forward(
        self, x: tuple[torch.Tensor, torch.Tensor], times: Times, class_token_only: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(slow [N_slow, C, H, W], fast [N, C/8, H, W]) -> the same with the stage's channels and size."""
        to_slow, to_fast = self.to_slow(x[1], times.fast).relu(), self.to_fast(x[0], times.slow).relu()[times.of]
        slow, fast = x[0] + self.weight_s * to_slow, x[1] + self.weight_f * to_fast
        for block in self.slow:
            slow = block(slow, times.slow)
        for block in self.fast:
            fast = block(fast, times.fast)
        return slow, fast


class SlowFastStem(MapTower):
    """Both stems, T x 7 x 7 with stride 2, and the last maps of both pathways joined: [N, 36 width, h, w]."""

    reach = EVERYWHERE  # the slow pathway's phase: features depend on where the whole padded clip begins

    def __init__(self, width: int, image_size: int):
        super().__init__(image_size, 36 * width)
        self.slow, self.fast = ConvNorm(3, width, 1, 7, 2), ConvNorm(3, width // FEWER, 5, 7, 2)


class SlowFastEncoder(Encoder):
    """Packed frames -> [slow; fast] a frame."""

    def __init__(self, backbone: Backbone, dropout: float):
        super().__init__(backbone)
        slow = backbone.feature_dim // 9 * 8
        self.pathways = {"slow": (0, slow), "fast": (slow, backbone.feature_dim)}
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: torch.Tensor, clips: Clips) -> torch.Tensor:
        """images, normalised [N, 3, S, S], packed as `clips` says -> features [N, 36 width]."""
        tower, times = cast(SlowFastStem, self.backbone.tower), Times(clips)
        x = tower.slow(images[times.first], times.slow), tower.fast(images, clips)
        x = tuple(F.max_pool2d(maps.relu(), 3, 2, 1) for maps in x)
        for stage in self.backbone.blocks:
            x = self.block_step_checkpointed(stage, x, times, False)
        return self.dropout(self.backbone.pool(torch.cat([x[0][times.of], x[1]], 1)))


def load_slowfast(name: str, pretrained: str | None, image_size: int | None, seed: int, options: Any) -> Backbone:
    """SlowFast R101 with two-way fusion. pretrained: SLOWFAST_64x2_R101_50_50.pkl, which PySlowFast's model zoo gives
    (Kinetics), or None for random weights. CheckpointError where there is no such file, or it does not fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tower, blocks, inputs = SlowFastStem(options.width, image_size or 224), nn.ModuleList(), options.width
        for number, depth in enumerate(options.depths):
            blocks.append(Stage(number, inputs, options.width, depth))
            inputs = 4 * options.width << number
        kaiming(tower, blocks)
    if pretrained is not None:
        read_kinetics(Path(pretrained), nn.ModuleDict({"tower": tower, "blocks": blocks}))
    return Backbone(name, tower, cast(Any, list(blocks)))


def slowfastsign(backbone: Backbone, options: SlowFastOptions) -> Encoder:
    """The whole network is trained; nothing is added."""
    return SlowFastEncoder(backbone.requires_grad_(True), options.feature_dropout)


register_method(
    "slowfastsign", SlowFastOptions, slowfastsign, auxiliary_head=False, adapters_only=False, network=load_slowfast,
    backbone=SLOWFAST, pretrained="SLOWFAST_64x2_R101_50_50.pkl", padding="published", normalize="kinetics",
)  # fmt: skip
