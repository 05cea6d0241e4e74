"""The compared systems' image networks written out plainly, on padded batches [B, C, T, H, W], with slakit's weights.

From the papers' equations, in the form that public code usually takes: clips padded to one length, convolutions over
time and space where slakit has ones over space alone, CorrNet's affinities of all positions of both neighbours at once,
CorrNet+'s neighbours stacked. They are what benchmarks/other_systems.py compares with, values and gradients included.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from slakit.models.methods.corrnet import Correlation
from slakit.models.methods.corrnet_plus import Correlation as CorrelationPlus
from slakit.models.methods.sen import Emphasis, SpatialGate, TemporalGate
from slakit.models.methods.slowfastsign import Bottleneck, ConvNorm, SlowFastEncoder
from slakit.models.packing import STRIDE
from slakit.models.towers.resnet import ResidualBlock


def conv(layer: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    """A convolution over space as one of 1 x k x k over time and space. [B, C, T, H, W]."""
    stride, padding = layer.stride[0], layer.padding[0]
    return F.conv3d(x, layer.weight[:, :, None], layer.bias, (1, stride, stride), (0, padding, padding))


def norm(layer: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Batch norm over batch, time and space."""
    training = layer.training
    mean, variance = (None, None) if training else (layer.running_mean, layer.running_var)
    return F.batch_norm(x, mean, variance, layer.weight, layer.bias, training, layer.momentum or 0.0, layer.eps)


def spatial_gate(gate: SpatialGate, x: torch.Tensor) -> torch.Tensor:
    y = conv(gate.down, x)
    return conv(gate.up, sum(w * d(y) for w, d in zip(gate.weights, gate.dilated, strict=True))).sigmoid() - 0.5


def temporal_gate(gate: TemporalGate, x: torch.Tensor) -> torch.Tensor:
    y = gate.down(x.mean((3, 4)))
    parts = sum(w * d(y) for w, d in zip(gate.weights, gate.dilated, strict=True))
    return (gate.up(parts).sigmoid() - 0.5)[..., None, None]


def emphasis(module: Emphasis, y: torch.Tensor) -> torch.Tensor:
    by_space = y * spatial_gate(module.spatial, y) * module.spatial_scale
    by_time = y * temporal_gate(module.temporal, y) * module.temporal_scale
    return y + by_space + by_time


def correlation(module: Correlation, x: torch.Tensor) -> torch.Tensor:
    """All affinities at once: [B, T, P, P] with the next and with the previous frame."""
    v = conv(module.value, x)
    following = torch.cat([v[:, :, 1:], v[:, :, -1:]], 2).flatten(3)  # [B, C, T, P]
    previous = torch.cat([v[:, :, :1], v[:, :, :-1]], 2).flatten(3)
    q = x.flatten(3)
    found = []
    for other in (following, previous):
        affinity = torch.einsum("bctp,bctq->btpq", q, other).sigmoid() - 0.5
        found.append(torch.einsum("btpq,bctq->bctp", affinity, other))
    c = (module.weights[0] * found[0] + module.weights[1] * found[1]).view_as(x)
    return x + module.alpha * c * spatial_gate(module.gate, x)


def correlation_plus(module: CorrelationPlus, x: torch.Tensor) -> torch.Tensor:
    """The neighbours of every frame stacked: [B, C, offsets, T, P]."""
    v, u = conv(module.value, x), module.summary
    tokens = x.flatten(3).permute(0, 2, 3, 1)  # [B, T, P, C]
    k, values = module.k_proj(tokens), module.v_proj(tokens)
    attention = (module.q_proj(module.query) @ k.transpose(2, 3) / k.shape[-1] ** 0.5).softmax(-1)
    attended = module.c_proj(attention @ values)[:, :, 0]
    r = u[0] * tokens.mean(2) + u[1] * tokens.amax(2) + u[2] * attended  # [B, T, C]
    reach = len(module.offsets) // 2
    padded = F.pad(v.flatten(3), (0, 0, reach, reach))  # [B, C, T + 2 reach, P]
    frames = v.shape[2]
    stacked = torch.stack([padded[:, :, reach + o : reach + o + frames] for o in module.offsets], 2)
    stacked = stacked * module.weights.view(1, 1, -1, 1, 1)
    affinity = torch.einsum("btc,bcotp->botp", r, stacked).sigmoid() - 0.5
    c = torch.einsum("botp,bcotp->bct", affinity, stacked)[..., None, None]
    return x + module.alpha * c * spatial_gate(module.gate, x)


def block(module: ResidualBlock, x: torch.Tensor) -> torch.Tensor:
    y = norm(module.bn1, conv(module.conv1, x)).relu()
    if isinstance(module.emphasis, Emphasis):
        y = emphasis(module.emphasis, y)
    y = norm(module.bn2, conv(module.conv2, y))
    if module.downsample is not None:
        x = norm(module.downsample[1], conv(module.downsample[0], x))
    x = (x + y).relu()
    for after in module.after:
        if isinstance(after, Correlation):
            x = correlation(after, x)
        elif isinstance(after, CorrelationPlus):
            x = correlation_plus(after, x)
        else:
            x = x + after.scale * x * temporal_gate(after.gate, x)
    return x


def plain_network(encoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Padded clips, normalised [B, T, 3, S, S] -> features [B, T, F]."""
    x = images.transpose(1, 2)
    if isinstance(encoder, SlowFastEncoder):
        return plain_slowfast(encoder, x)
    tower = encoder.backbone.tower
    x = norm(tower.bn1, conv(tower.conv1, x)).relu()
    x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for module in encoder.backbone.blocks:
        x = block(module, x)
    return x.mean((3, 4)).transpose(1, 2)


def conv_time(layer: nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
    return F.conv3d(x, layer.weight, None, layer.stride, layer.padding)


def conv_norm(module: ConvNorm, x: torch.Tensor) -> torch.Tensor:
    return norm(module.bn, conv_time(module.conv, x))


def bottleneck(module: Bottleneck, x: torch.Tensor) -> torch.Tensor:
    y = conv_norm(module.c, conv_norm(module.b, conv_norm(module.a, x).relu()).relu())
    return (y + (x if module.shortcut is None else conv_norm(module.shortcut, x))).relu()


def plain_slowfast(encoder: SlowFastEncoder, images: torch.Tensor) -> torch.Tensor:
    """[B, 3, T, S, S], T a multiple of 4 -> [B, T, F]."""
    tower, pathways = encoder.backbone.tower, []
    for stem, x in ((tower.slow, images[:, :, ::STRIDE]), (tower.fast, images)):
        x = conv_norm(stem, x).relu()
        pathways.append(F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1)))
    slow, fast = pathways
    for stage in encoder.backbone.blocks:
        to_slow = conv_norm(stage.to_slow, fast).relu()
        to_fast = norm(stage.to_fast.bn, conv_time(stage.to_fast.conv, slow).repeat_interleave(STRIDE, 2)).relu()
        slow, fast = slow + stage.weight_s * to_slow, fast + stage.weight_f * to_fast
        for module in stage.slow:
            slow = bottleneck(module, slow)
        for module in stage.fast:
            fast = bottleneck(module, fast)
    joined = torch.cat([slow.mean((3, 4)).repeat_interleave(STRIDE, 2), fast.mean((3, 4))], 1)
    return encoder.dropout(joined.transpose(1, 2))
