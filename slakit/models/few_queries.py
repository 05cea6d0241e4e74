"""A few queries look at layer-normed tokens: the tokens are read twice forward, one gradient of their size comes back.

AdaptSign's aggregation has 12 queries a frame (one a head), its cross-frame attention 2 tau + 1. Ordinary autograd
keeps the normalised tokens and adds up three gradients of their size; here the tokens alone are kept, and what the
LayerNorm's backward needs follows from numbers of the size [queries, tokens] that are there anyway.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch.autograd.function import once_differentiable


class _FewQueries(torch.autograd.Function):
    """z = a n(x) and sum(a), with a = softmax(s) or sigmoid(s) - 1/2, s = u n(x)^T + c, n the plain LayerNorm.

    With n = (x - m) r row by row, f = dL/dn = a^T g + ds^T u gives dL/dx = r (f - mean(f) - n mean(f n)), and both
    means are sums over queries: mean(f) of mean(g) and mean(u), mean(f n) of (g n^T) a and ds (u n^T).
    """

    @staticmethod
    def forward(ctx, u, constant, tokens, eps, kind, skip):
        normal, mean, rstd = torch.native_layer_norm(tokens, tokens.shape[-1:], None, None, eps)
        normal = normal.to(u.dtype)
        scores = (u @ normal.transpose(1, 2)).to(mean.dtype)  # [N, K, L]
        if kind == "softmax":
            weights = (scores + constant).softmax(-1)
        else:
            weights = (scores + constant).sigmoid() - 0.5
            weights[..., :skip] = 0
        ctx.save_for_backward(u, tokens, mean.transpose(1, 2), rstd.transpose(1, 2), scores, weights)
        ctx.kind, ctx.skip = kind, skip
        return weights.to(u.dtype) @ normal, weights.sum(-1, keepdim=True)

    @staticmethod
    @once_differentiable
    def backward(ctx, g, g_total):
        u, tokens, mean, rstd, scores, weights = ctx.saved_tensors  # mean, rstd [N, 1, L]
        x, g, wide = tokens.to(u.dtype), g.to(u.dtype), scores.dtype
        g_normal = ((g @ x.transpose(1, 2)).to(wide) - g.sum(-1, keepdim=True, dtype=wide) * mean) * rstd  # [N, K, L]
        if ctx.kind == "softmax":  # the total is 1 whatever the scores are
            d_scores = weights * (g_normal - (g_normal * weights).sum(-1, keepdim=True))
        else:
            d_scores = (g_normal + g_total) * (0.25 - weights * weights)
            d_scores[..., : ctx.skip] = 0
        pulled = d_scores * rstd
        to_u = (pulled.to(u.dtype) @ x).to(wide) - (pulled * mean).sum(-1, keepdim=True)
        to_x = None
        if ctx.needs_input_grad[2]:
            shares, rows = torch.cat([weights, d_scores], 1), torch.cat([g, u], 1)  # [N, 2K, L], [N, 2K, D]
            mean_f = (shares * rows.mean(-1, keepdim=True, dtype=wide)).sum(1, keepdim=True)  # [N, 1, L]
            mean_fn = (weights * g_normal + d_scores * scores).sum(1, keepdim=True) / tokens.shape[-1]
            slope, offset = -rstd * rstd * mean_fn, rstd * (rstd * mean * mean_fn - mean_f)
            shares = torch.cat([shares * rstd, offset], 1).to(u.dtype)
            rows = torch.cat([rows, rows.new_ones(len(rows), 1, rows.shape[2])], 1)
            to_x = (shares.transpose(1, 2) @ rows).to(tokens.dtype)  # [N, L, D], without the part along n
            to_x.addcmul_(tokens, slope.transpose(1, 2).to(tokens.dtype))
        return to_u.to(u.dtype), d_scores.sum(-1, keepdim=True), to_x, None, None, None


class _FirstToken(torch.autograd.Function):
    """x -> (x[:, 0], x): one gradient for both, where a slice's own would be zeros of the size of x, added to it."""

    @staticmethod
    def forward(ctx, x):
        return x[:, 0].clone(), x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, g_first, g_all):
        g_all[:, 0] += g_first  # nobody else holds it: few_queries() made it
        return g_all


def few_queries(
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
    device = tokens.device.type
    wanted = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tokens.dtype
    with torch.autocast(device, enabled=False):
        wide = torch.promote_types(tokens.dtype, torch.float32)
        return _FewQueries.apply(queries.to(wanted), constant.to(wide), tokens, eps, kind, skip)


def first_token(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(x[:, 0] [N, D], x [N, L, D]) for few_queries() to read, and for nothing else: its gradient is written into."""
    return _FirstToken.apply(x)
