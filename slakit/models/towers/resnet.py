"""ResNet-18 on packed frames, the image network of VAC and what followed it, in the parts of a ViT tower.

He et al. 2016: a 7x7 convolution and a max pooling, four stages of two blocks with 1, 2, 4 and 8 times the first
width, the mean over space as feature. A block may carry an `emphasis` (SEN), a stage modules `after` it (CorrNet).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import ResNet18_Weights
from torchvision.models.resnet import BasicBlock, conv1x1

from slakit.machine import shipped
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.blocks import Tower
from slakit.models.towers.weights import read_tower_weights, renamed
from slakit.records import CheckpointError, ConfigError

RESNET, TINY_RESNET = "ResNet-18", "tiny-resnet"
IMAGENET = ResNet18_Weights.IMAGENET1K_V1
# Torchvision's names -> those of a Backbone, in order.
NAMES = (
    (r"^layer(\d)\.(\d)\.", lambda m: f"blocks.{2 * int(m[1]) - 2 + int(m[2])}."),
    (r"^(?!blocks\.)", "tower."),
)


class MapTower(Tower):
    """What stands before and behind the blocks of a convolutional network: maps [N, C, h, w], no tokens.

    maps: the last map goes through it, so that explanations can take it from there.
    """

    prefix_tokens, pools_class_token = 0, False

    def __init__(self, image_size: int, feature_dim: int):
        super().__init__()
        side = -(-image_size // 32)  # halved five times: the stem twice, then in three stages
        self.grid, self.image_size, self.feature_dim = (side, side), image_size, feature_dim
        self.maps = nn.Identity()

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """[N, C, h, w] -> [N, C]."""
        return self.maps(x).mean((2, 3))


class Stem(MapTower):
    """conv1, bn1, ReLU and the pooling, all of torchvision's names."""

    def __init__(self, width: int, image_size: int):
        super().__init__(image_size, 8 * width)
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """[N, 3, S, S] -> [N, width, S/4, S/4]."""
        return F.max_pool2d(self.bn1(self.conv1(images)).relu(), 3, 2, 1)


class ResidualBlock(BasicBlock):
    """torchvision's block, ReLU(x + norm(conv(E(ReLU(norm(conv(x))))))), then x + module(x) for what follows its stage.

    emphasis: E, a module (y, clips) -> y; None leaves y alone. Where size or width change, x goes through a 1x1
    convolution and a norm.
    """

    emphasis: nn.Module | None

    def __init__(self, inputs: int, width: int, stride: int):
        changes = stride > 1 or inputs != width
        shortcut = nn.Sequential(conv1x1(inputs, width, stride), nn.BatchNorm2d(width)) if changes else None
        super().__init__(inputs, width, stride, shortcut)
        self.width, self.emphasis, self.after = width, None, nn.ModuleList()

    def forward(self, x: torch.Tensor, clips: Clips, class_token_only: bool = False) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, width, H/stride, W/stride]; there is no class token."""
        y = self.bn1(self.conv1(x)).relu()
        if self.emphasis is not None:
            y = self.emphasis(y, clips)
        x = (self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x))).relu()
        for module in self.after:
            x = x + module(x, clips)
        return x


def load_resnet(name: str, pretrained: str | Path | None, image_size: int | None, seed: int, options: Any) -> Backbone:
    """ResNet-18, opened; options.width: channels of its first stage, 64 in the published one.

    pretrained: "imagenet" (torchvision's file, downloaded once and checked by its hash), "tiny-resnet" (a quarter as
    wide, shipped with slakit, which has seen tiny-clip's pictures), a file with torchvision's names, or None for random
    weights from `seed`. ConfigError where the weights cannot be had, CheckpointError for a file that does not fit.
    """
    width = options.width
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem, blocks, inputs = Stem(width, image_size or 224), nn.ModuleList(), width
        for stage in range(4):
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(ResidualBlock(inputs, width << stage, stride))
                inputs = width << stage
        kaiming(stem, blocks)
    if pretrained is not None:
        weights = {name: value for name, value in named_weights(pretrained).items() if not name.startswith("fc.")}
        ours = {renamed(name, NAMES): value for name, value in weights.items()}
        fill(nn.ModuleDict({"tower": stem, "blocks": blocks}), ours, pretrained)
    return Backbone(name, stem, cast(Any, list(blocks)))


# What register_method() is told of a method on ResNet-18: all of it is trained, on frames that are padded before.
ON_RESNET: dict[str, Any] = {
    "auxiliary_head": False, "adapters_only": False, "network": load_resnet,
    "backbone": RESNET, "pretrained": "imagenet", "padding": "published",
}  # fmt: skip


def named_weights(pretrained: str | Path) -> Mapping[str, torch.Tensor]:
    """ImageNet's, the shipped or a file's weights, under torchvision's names."""
    if pretrained == "imagenet":
        try:
            return IMAGENET.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"the ImageNet weights cannot be fetched ({str(error)[:120]}); give pretrained=FILE, torchvision's "
                f"{IMAGENET.url.rpartition('/')[2]}, or pretrained=None for random ones"
            ) from error
    path = shipped(f"tiny_resnet/{TINY_RESNET}.safetensors") if pretrained == TINY_RESNET else Path(pretrained)
    if not path.is_file():
        what = f"{RESNET} has no weights {str(pretrained)!r}, and that is no file"
        raise ConfigError(f"{what}; known: 'imagenet', {TINY_RESNET!r}")
    return read_tower_weights(path)


def fill(network: nn.Module, found: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Load all weights of `network`; CheckpointError where one is missing, unknown or of another shape."""
    expected = network.state_dict()
    counters = {name: value for name, value in expected.items() if name.endswith("num_batches_tracked")}
    found = {**counters, **found}  # files of an old torch have none
    for name in sorted(expected.keys() | found.keys()):
        ours, theirs = (tuple(side[name].shape) if name in side else "missing" for side in (expected, found))
        if ours != theirs:
            raise CheckpointError(f"{source} does not fit: {name} is {theirs} there and {ours} here")
    network.load_state_dict(found)


def kaiming(*parts: nn.Module) -> None:
    """Convolutions over space start as He et al. 2015 (fan-out, ReLU); norms at 1 and 0, as PyTorch has them."""
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
