"""CorrNet (Hu et al., CVPR 2023): after the last stages of a ResNet-18, x <- x + alpha corr(x).

Every position of a frame is compared with every position of the next and the previous one, and what is like it is
gathered there (correlation); a gate says where on the picture that counts (identification).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from slakit.models.methods import Encoder, register_method
from slakit.models.methods.sen import SpatialGate
from slakit.models.methods.vac import ResNetOptions
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.resnet import ON_RESNET, ResidualBlock, kaiming
from slakit.records import ConfigError


@dataclass(frozen=True)
class CorrNetOptions(ResNetOptions):
    """stages: behind which of the four stages the module stands; the CSL-Daily checkpoint has it behind 3 and 4."""

    stages: tuple[int, ...] = (2, 3, 4)


class Correlation(nn.Module):
    """alpha c m. For the positions q = x_t [P, C] of frame t and v_t = V x_t, clip ends repeating themselves:

        c_t = w_0 (sigmoid(q v_{t+1}^T) - 1/2) v_{t+1} + w_1 (sigmoid(q v_{t-1}^T) - 1/2) v_{t-1}

    m: SEN's spatial gate. alpha starts at 0: at the start the network is ResNet-18.
    """

    reach = 4  # m's; c looks one frame far

    def __init__(self, channels: int):
        super().__init__()
        self.value, self.gate = nn.Conv2d(channels, channels, 1, bias=False), SpatialGate(channels, bias=False)
        self.weights, self.alpha = nn.Parameter(torch.full((2,), 0.5)), nn.Parameter(torch.zeros(1))
        kaiming(self.value)

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W], to be added to x."""
        q, v = (maps.flatten(2).transpose(1, 2) for maps in (x, self.value(x)))  # [N, P, C]
        c = torch.zeros_like(v)
        for weight, offset in zip(self.weights, (1, -1), strict=True):
            other = clips.neighbour(v, offset, "replicate")
            c = c + weight * ((q @ other.transpose(1, 2)).sigmoid() - 0.5) @ other
        return self.alpha * c.transpose(1, 2).view_as(x) * self.gate(x, clips)


def last_blocks(backbone: Backbone, stages: tuple[int, ...]) -> list[ResidualBlock]:
    """The last block of each of these stages, numbered from 1."""
    if not set(stages) <= {1, 2, 3, 4}:
        raise ConfigError(f"stages={stages} are not stages of a ResNet-18; they are numbered 1 to 4")
    return [cast(ResidualBlock, backbone.blocks[2 * stage - 1]) for stage in stages]


def corrnet(backbone: Backbone, options: CorrNetOptions) -> Encoder:
    """The module behind the stages; all is trained."""
    for block in last_blocks(backbone, options.stages):
        block.after.append(Correlation(block.width))
    return Encoder(backbone.requires_grad_(True))


register_method("corrnet", CorrNetOptions, corrnet, **ON_RESNET)
