"""The published formulations, written out plainly from the papers' equations, for the benchmarks to compare with.

Nothing here is clever: keys and values of all tokens for the one query of the aggregation, prefixes that pass the
projections with every frame, neighbouring frames unfolded fivefold, activations as plain expressions. The weights are
those of a slakit model, so that both must give the same features and gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from slakit.models.methods.adaptsign import AdaptSignEncoder


def quick_gelu(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(1.702 * x)


class PlainAttention(nn.Module):
    """Multi-head attention with one input projection of 3 D rows, as torch.nn.MultiheadAttention computes it."""

    def __init__(self, attn: nn.Module):
        super().__init__()
        self.attn = attn

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """[N, L, D] each -> [N, L_query, D]."""
        attn = self.attn
        q = F.linear(query, attn.q_proj.weight, attn.q_proj.bias)
        k = F.linear(key, attn.k_proj.weight, attn.k_proj.bias)
        v = F.linear(value, attn.v_proj.weight, attn.v_proj.bias)
        y = F.scaled_dot_product_attention(attn.heads(q), attn.heads(k), attn.heads(v))
        return F.linear(y.transpose(1, 2).flatten(2), attn.out_proj.weight, attn.out_proj.bias)


def plain_mlp(mlp: nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = quick_gelu(F.linear(x, mlp.fc1.weight, mlp.fc1.bias))
    return F.linear(x, mlp.fc2.weight, mlp.fc2.bias)


def unfolded(patches: torch.Tensor, tau: int) -> torch.Tensor:
    """Patches [T, n, D] -> those of 2 tau + 1 frames around each, [T, (2 tau + 1) n, D], zeros beyond the ends.

    By torch's unfold over the time axis of an image [1, D, T, n], which is the form in use.
    """
    frames, n, width = patches.shape
    windows = F.unfold(patches.permute(2, 0, 1)[None], (2 * tau + 1, 1), padding=(tau, 0))
    return windows.view(width, 2 * tau + 1, frames, n).permute(2, 1, 3, 0).reshape(frames, -1, width)


def sliced(patches: torch.Tensor, tau: int) -> torch.Tensor:
    """The same by shifted slices: kinder to the memory than the published form."""
    padded = F.pad(patches, (0, 0, 0, 0, tau, tau))  # [T + 2 tau, n, D]
    return torch.cat([padded[k : k + len(patches)] for k in range(2 * tau + 1)], dim=1)


class PublishedAdaptSign(nn.Module):
    """AdaptSign, Eq. (1) to (7) with the released code's details (variant "published"), on one video.

    recompute: activation checkpointing of every block, as the released code always does.
    """

    def __init__(self, ours: AdaptSignEncoder, recompute: bool):
        super().__init__()
        self.ours, self.recompute = ours, recompute

    def block(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Eq. (1) to (3); the prefixes stand in input space and pass W_k and W_v with every frame's tokens."""
        normal = block.ln_1(x)
        key = torch.cat([normal, block.prefix.k.expand(len(x), -1, -1)], dim=1)  # [N, L + m, D]
        value = torch.cat([normal, block.prefix.v.expand(len(x), -1, -1)], dim=1)
        attended = PlainAttention(block.attn)(normal, key, value)
        x = x + attended + plain_mlp(block.adapter_1, x)
        return x + plain_mlp(block.mlp, block.ln_2(x)) + plain_mlp(block.adapter_2, x)

    def aggregate(self, layer: nn.Module, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Eq. (4) and (5): one query [N, 1, D], keys and values of query and all tokens' LayerNorm."""
        normal = layer.ln_1(torch.cat([query, tokens], dim=1))
        query = query + PlainAttention(layer.attn)(normal[:, :1], normal[:, 1:], normal[:, 1:])
        return query + plain_mlp(layer.mlp, layer.ln_2(query))

    def cross(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Eq. (6) and (7): the class token over the patches of five frames, unfolded; added to all tokens."""
        normal = layer.ln(x)
        near = unfolded(normal[:, 1:], 2)  # [T, 5 n, D]
        affinity = (normal[:, :1] @ near.transpose(1, 2) / x.shape[-1] ** 0.5).sigmoid() - 0.5
        return x + layer.scale * (affinity @ near)

    def run(self, function, *inputs: torch.Tensor) -> torch.Tensor:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images, normalised [T, 3, S, S] of one video -> features [T, 512]."""
        ours = self.ours
        x = ours.backbone.embed(images)
        query = ours.query.expand(len(x), 1, -1)
        for block, layer in zip(ours.backbone.blocks, ours.aggregations, strict=True):
            x = self.run(lambda x, block=block: self.block(block, x), x)
            query = self.run(lambda q, x, layer=layer: self.aggregate(layer, q, x), query, x)
        x = self.cross(ours.cross_frame, x)
        features = ours.backbone.tower.ln_post(x[:, 0])
        features = ours.fusion[0] * features + ours.fusion[1] * ours.ln_query(query[:, 0])
        return features @ ours.backbone.tower.proj


class PublishedFull(nn.Module):
    """Full fine-tuning of the stock tower: every block whole, plain Linears."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images, normalised [N, 3, S, S] -> class tokens [N, D]."""
        x = self.backbone.embed(images)
        for block in self.backbone.blocks:
            normal = block.ln_1(x)
            x = x + PlainAttention(block.attn)(normal, normal, normal)
            x = x + plain_mlp(block.mlp, block.ln_2(x))
        return self.backbone.pool(x)


__all__ = ["PublishedAdaptSign", "PublishedFull"]
