"""A few queries look at layer-normed tokens: the tokens are read twice forward, one gradient of their size comes back.

AdaptSign's aggregation has 12 queries a frame (one a head), its cross-frame attention 2 tau + 1. Ordinary autograd
keeps the normalised tokens and adds up three gradients of their size; here the tokens alone are kept, and what the
LayerNorm's backward needs follows from numbers of the size [queries, tokens] that are there anyway.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from slakit.models.exact.linear import product_dtype

ALIGNED = 8  # a GPU's products want rows of 16 bytes: the numbers of queries and tokens (12 and 197) are none


def aligned(rows: torch.Tensor) -> torch.Tensor:
    """[N, K, …] with zeros behind, on a GPU, until K is a multiple of ALIGNED."""
    return F.pad(rows, (0, 0, 0, -rows.shape[1] % ALIGNED)) if rows.is_cuda and rows.shape[1] % ALIGNED else rows


class _QueryAttention(torch.autograd.Function):
    """z = a n(x) and sum(a), with a = softmax(s) or sigmoid(s) - 1/2, s = u n(x)^T + c, n the plain LayerNorm.

    With n = (x - m) r row by row, f = dL/dn = a^T g + ds^T u gives dL/dx = r (f - mean(f) - n mean(f n)), and both
    means are sums over queries: mean(f) of mean(g) and mean(u), mean(f n) of (g n^T) a and ds (u n^T).
    """

    @staticmethod
    def forward(ctx, u, constant, tokens, eps, kind, skip):
        normal, mean, rstd = torch.native_layer_norm(tokens, tokens.shape[-1:], None, None, eps)  # mean, rstd [N, L, 1]
        normal = normal.to(u.dtype)
        scores = (normal @ u.transpose(1, 2)).to(mean.dtype)  # [N, L, K]
        if kind == "softmax":
            weights = (scores + constant.transpose(1, 2)).softmax(1)
        else:
            weights = (scores + constant.transpose(1, 2)).sigmoid() - 0.5
            weights[:, :skip] = 0
        ctx.save_for_backward(u, tokens, mean, rstd, scores, weights)
        ctx.kind, ctx.skip = kind, skip
        return weights.to(u.dtype).transpose(1, 2) @ normal, weights.sum(1)[..., None]

    @staticmethod
    @once_differentiable
    def backward(ctx, g, g_total):
        u, tokens, mean, rstd, scores, weights = ctx.saved_tensors
        x, g, wide = tokens.to(u.dtype), g.to(u.dtype), scores.dtype
        g_normal = ((x @ g.transpose(1, 2)).to(wide) - g.sum(-1, dtype=wide)[:, None] * mean) * rstd  # [N, L, K]
        if ctx.kind == "softmax":  # the total is 1 whatever the scores are
            d_scores = weights * (g_normal - (g_normal * weights).sum(1, keepdim=True))
        else:
            d_scores = (g_normal + g_total.transpose(1, 2)) * (0.25 - weights * weights)
            d_scores[:, : ctx.skip] = 0
        pulled = d_scores * rstd
        to_u = (pulled.to(u.dtype).transpose(1, 2) @ x).to(wide) - (pulled * mean).sum(1)[..., None]
        to_x = None
        if ctx.needs_input_grad[2]:
            shares, rows = torch.cat([weights, d_scores], 2), torch.cat([g, u], 1)  # [N, L, 2K], [N, 2K, D]
            mean_f = (shares * rows.mean(-1, dtype=wide)[:, None]).sum(2, keepdim=True)  # [N, L, 1]
            mean_fn = (weights * g_normal + d_scores * scores).sum(2, keepdim=True) / tokens.shape[-1]
            slope, offset = -rstd * rstd * mean_fn, rstd * (rstd * mean * mean_fn - mean_f)
            # The offset is the same for all D channels: one more row of ones, in equal parts to keep rows aligned.
            shares = torch.cat([shares * rstd, offset.expand(-1, -1, ALIGNED)], 2).to(u.dtype)
            rows = torch.cat([rows, rows.new_full((len(rows), ALIGNED, rows.shape[2]), 1 / ALIGNED)], 1)
            to_x = (shares @ rows).to(tokens.dtype)  # [N, L, D], without the part along n
            to_x.addcmul_(tokens, slope.to(tokens.dtype))
        return to_u.to(u.dtype), d_scores.sum(1)[..., None], to_x, None, None, None


class _FirstToken(torch.autograd.Function):
    """x -> (x[:, 0], x): one gradient for both, where a slice's own would be zeros of the size of x, added to it."""

    @staticmethod
    def forward(ctx, x):
        return x[:, 0].clone(), x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g_first, g_all):
        g_all[:, 0] += g_first  # nobody else holds it: query_attention() made it
        return g_all


def query_attention(
    queries: torch.Tensor,
    constant: torch.Tensor,
    tokens: torch.Tensor,
    eps: float,
    kind: Literal["softmax", "sigmoid"] = "softmax",
    skip: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What K queries a frame collect from the layer-normed tokens of that frame, and the sum of the weights.

    queries [N, K, D] already carry gain and scale; constant [N, K, 1] is added to their scores; tokens [N, L, D] are
    normalised without gain and shift. kind "softmax", or "sigmoid": sigmoid - 1/2, without the first `skip` tokens.
    Returns ([N, K, D], [N, K, 1]).
    """
    dtype = product_dtype(tokens)
    count, queries, constant = queries.shape[1], aligned(queries), aligned(constant)
    with torch.autocast(tokens.device.type, enabled=False):
        wide = torch.promote_types(tokens.dtype, torch.float32)
        collected, total = _QueryAttention.apply(queries.to(dtype), constant.to(wide), tokens, eps, kind, skip)
    return collected[:, :count], total[:, :count]


def first_token(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(x[:, 0] [N, D], x [N, L, D]) for query_attention() alone to read: its gradient is written into."""
    return _FirstToken.apply(x)
