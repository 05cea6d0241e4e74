"""CorrNet+ (Hu et al., arXiv 2404.11111): CorrNet with one query a frame, more neighbours, SEN's temporal gate and
TLP's lift pooling.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from slakit.models.methods import Encoder, register_method
from slakit.models.methods.corrnet import last_blocks
from slakit.models.methods.sen import SpatialGate, TemporalGate
from slakit.models.methods.vac import ResNetOptions
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.blocks import kernels
from slakit.models.towers.resnet import ON_RESNET, kaiming

NEIGHBOURS = {2: 1, 3: 3, 4: 5}  # stage -> frames to each side that it is compared with
DILATIONS = 3


class Correlation(nn.Module):
    """alpha c m. With r_t = u_0 mean(x_t) + u_1 max(x_t) + u_2 Attn(x_t), all over space, and k = w_o (V x_{t+o})_p,
    zero beyond a clip's ends:

        c_t = sum over offsets o = -n … -1, 1 … n and positions p of (sigmoid(r_t · k) - 1/2) k

    one row, broadcast over space. m: SEN's spatial gate. alpha starts at 0.
    """

    def __init__(self, channels: int, neighbours: int):
        super().__init__()
        self.reach = max(4, neighbours)  # m sees four frames to each side
        self.offsets = [*range(-neighbours, 0), *range(1, neighbours + 1)]
        self.value, self.gate = nn.Conv2d(channels, channels, 1, bias=False), SpatialGate(channels, bias=False)
        self.weights = nn.Parameter(torch.full((2 * neighbours,), 1 / (2 * neighbours)))
        self.summary = nn.Parameter(torch.full((3,), 1 / 3))
        self.query = nn.Parameter(torch.rand(1, 1, channels))
        self.q_proj, self.k_proj, self.v_proj, self.c_proj = (nn.Linear(channels, channels) for _ in range(4))
        self.alpha = nn.Parameter(torch.zeros(1))
        kaiming(self.value)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        """One learned query on the positions of each frame, one head: [N, P, C] -> [N, C]."""
        query = self.q_proj(self.query).expand(len(x), -1, -1)
        with kernels(any_length=x.is_cuda):
            pooled = F.scaled_dot_product_attention(query, self.k_proj(x), self.v_proj(x))
        return self.c_proj(pooled)[:, 0]

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W], to be added to x."""
        tokens, v = (maps.flatten(2).transpose(1, 2) for maps in (x, self.value(x)))  # [N, P, C]
        u = self.summary
        r = u[0] * tokens.mean(1) + u[1] * tokens.amax(1) + u[2] * self.attend(tokens)  # [N, C]
        c = torch.zeros_like(r)
        for weight, offset in zip(self.weights, self.offsets, strict=True):
            k = weight * clips.neighbour(v, offset)
            c = c + ((r[:, None] @ k.transpose(1, 2)).sigmoid().sub(0.5) @ k)[:, 0]
        return self.alpha * c[..., None, None] * self.gate(x, clips)


class TemporalWeight(nn.Module):
    """a x g_t(x), to be added to x: SEN's temporal gate of three dilations; a starts at 0."""

    reach = DILATIONS

    def __init__(self, channels: int):
        super().__init__()
        self.gate, self.scale = TemporalGate(channels, DILATIONS), nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """[N, C, H, W] -> [N, C, H, W]."""
        return self.scale * x * self.gate(x, clips)


def corrnet_plus(backbone: Backbone, options: ResNetOptions) -> Encoder:
    """Both modules behind the last three stages; all is trained."""
    for block, neighbours in zip(last_blocks(backbone, tuple(NEIGHBOURS)), NEIGHBOURS.values(), strict=True):
        block.after.extend([Correlation(block.width, neighbours), TemporalWeight(block.width)])
    return Encoder(backbone.requires_grad_(True))


register_method("corrnet+", ResNetOptions, corrnet_plus, pooling="lift", **ON_RESNET)
