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

from slakit.models.methods import Encoder, register_network
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


class PackedConv(nn.Conv3d):
    """A convolution T x S x S without bias on packed frames; T = 1 is one over space. Zeros beyond a clip's ends."""

    def __init__(self, inputs: int, outputs: int, time: int, space: int, stride: int = 1, time_stride: int = 1):
        padding = (time // 2, space // 2, space // 2)
        super().__init__(inputs, outputs, (time, space, space), (time_stride, stride, stride), padding, bias=False)

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, inputs, H, W] -> [N', outputs, H', W']."""
        if self.kernel_size[0] == 1:
            return F.conv2d(x, self.weight[:, :, 0], None, self.stride[1:], cast(Any, self.padding)[1:])
        return clips.over_time(x, super().forward)


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
        self.a, self.a_bn = PackedConv(inputs, inner, time, 1), nn.BatchNorm2d(inner)
        self.b, self.b_bn = PackedConv(inner, inner, 1, 3, stride), nn.BatchNorm2d(inner)
        self.c, self.c_bn = PackedConv(inner, outputs, 1, 1), nn.BatchNorm2d(outputs)
        self.shortcut = self.shortcut_bn = None
        if inputs != outputs or stride > 1:
            self.shortcut, self.shortcut_bn = PackedConv(inputs, outputs, 1, 1, stride), nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.c_bn.weight)

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        y = self.a_bn(self.a(x, clips)).relu()
        y = self.c_bn(self.c(self.b_bn(self.b(y, clips)).relu(), clips))
        if self.shortcut is not None and self.shortcut_bn is not None:
            x = self.shortcut_bn(self.shortcut(x, clips))
        return (x + y).relu()


class Fusion(nn.Module):
    """Each pathway added to the other; both scales start at 0."""

    def __init__(self, slow: int, fast: int):
        super().__init__()
        self.conv_f2s, self.bn = PackedConv(fast, slow, 5, 1, time_stride=STRIDE), nn.BatchNorm2d(slow)
        self.conv_s2f, self.bn2 = PackedConv(slow, fast, 1, 1), nn.BatchNorm2d(fast)
        self.weight_s, self.weight_f = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))

    def forward(self, slow: torch.Tensor, fast: torch.Tensor, times: Times) -> tuple[torch.Tensor, torch.Tensor]:
        to_slow = self.bn(self.conv_f2s(fast, times.fast)).relu()
        to_fast = self.bn2(self.conv_s2f(slow, times.slow)).relu()[times.of]
        return slow + self.weight_s * to_slow, fast + self.weight_f * to_fast


class Stage(nn.Module):
    """A fusion, and the bottlenecks of both pathways."""

    def __init__(self, number: int, inputs: int, width: int, depth: int):
        super().__init__()
        self.width = width
        self.fusion = Fusion(inputs, inputs // FEWER)
        inner, outputs, stride = width << number, 4 * width << number, 1 if number == 0 else 2

        def pathway(share: int, kernel: int) -> nn.ModuleList:
            blocks = nn.ModuleList()
            for i in range(depth):
                sizes = ((outputs if i else inputs) // share, inner // share, outputs // share)
                time = kernel if i < WITH_TIME[number] else 1
                blocks.append(Bottleneck(*sizes, time, 1 if i else stride))
            return blocks

        self.slow, self.fast = pathway(1, SLOW_KERNELS[number]), pathway(FEWER, FAST_KERNEL)

    def forward(
        self, x: tuple[torch.Tensor, torch.Tensor], times: Times, class_token_only: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(slow [N_slow, C, H, W], fast [N, C/8, H, W]) -> the same with the stage's channels and size."""
        slow, fast = self.fusion(*x, times)
        for block in self.slow:
            slow = block(slow, times.slow)
        for block in self.fast:
            fast = block(fast, times.fast)
        return slow, fast


class PathwayStem(nn.Module):
    """T x 7 x 7 with stride 2, norm, ReLU, max pooling by 2."""

    def __init__(self, width: int, time: int):
        super().__init__()
        self.conv, self.bn = PackedConv(3, width, time, 7, 2), nn.BatchNorm2d(width)

    def forward(self, images: torch.Tensor, clips: Clips) -> torch.Tensor:
        return F.max_pool2d(self.bn(self.conv(images, clips)).relu(), 3, 2, 1)


class SlowFastStem(MapTower):
    """Both stems, and the last maps of both pathways joined: [N, 36 width, h, w]."""

    def __init__(self, width: int, image_size: int):
        super().__init__(image_size, 36 * width)
        self.slow, self.fast = PathwayStem(width, 1), PathwayStem(width // FEWER, 5)


class SlowFastEncoder(Encoder):
    """Packed frames -> [slow; fast] a frame. Its features depend on where the whole padded clip begins."""

    @property
    def reach(self) -> int:
        return EVERYWHERE  # the slow pathway's phase

    def __init__(self, backbone: Backbone, dropout: float):
        super().__init__(backbone)
        slow = backbone.feature_dim // 9 * 8
        self.pathways = {"slow": (0, slow), "fast": (slow, backbone.feature_dim)}
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: torch.Tensor, clips: Clips) -> torch.Tensor:
        """images, normalised [N, 3, S, S], packed as `clips` says -> features [N, 36 width]."""
        tower, times = cast(SlowFastStem, self.backbone.tower), Times(clips)
        x = tower.slow(images[times.first], times.slow), tower.fast(images, clips)
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


register_network(
    "slowfastsign", SlowFastOptions, slowfastsign, load_slowfast, SLOWFAST, "SLOWFAST_64x2_R101_50_50.pkl",
    normalize="kinetics",
)  # fmt: skip
