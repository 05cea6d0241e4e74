"""LoRA for one Linear, CLIP-SLA Eq. (2): h = W x + (alpha / r) B A x, with W frozen."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from slakit.errors import ConfigError
from slakit.models.products import Linear, linear


class _MergedLinear(torch.autograd.Function):
    """y = (W + s B A) x + b as one product, without ever forming the gradient of the full matrix.

    Exact up to rounding in float32 and float64. In half precision the sum W + s B A would round the update away: see
    _HalfLinear.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, lora_a, lora_b, scale):
        merged = torch.addmm(weight, lora_b, lora_a, alpha=scale)  # [out, in]
        ctx.save_for_backward(x, weight, lora_a, lora_b)
        ctx.scale, ctx.has_bias = scale, bias is not None
        return linear(x, merged, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, lora_a, lora_b = ctx.saved_tensors
        flat, rows = gradient.flatten(0, -2), x.flatten(0, -2)  # [M, out], [M, in]
        needs_x, needs_w, needs_bias, needs_a, needs_b, _ = ctx.needs_input_grad
        low = linear(flat, lora_b.T) if needs_a else None  # [M, r]
        return (
            linear(gradient, torch.addmm(weight, lora_b, lora_a, alpha=ctx.scale).T) if needs_x else None,
            flat.T @ rows if needs_w else None,
            flat.sum(0) if ctx.has_bias and needs_bias else None,
            ctx.scale * (low.T @ rows) if needs_a else None,
            ctx.scale * (flat.T @ linear(rows, lora_a)) if needs_b else None,
            None,
        )


class _HalfLinear(torch.autograd.Function):
    """y = W x + b + s B (A x) in half precision: the thin product A x, then one of [W | s B] with [x; A x].

    The update is summed in float32 inside that product, not rounded away as in a merged matrix, and no tensor of the
    size of y is passed over a second time. Only the gradient that goes on to x passes the merged matrix, rounded to
    half: an error as large as W's own rounding, harmless there, since what A and B learn is computed apart. The full
    matrix' gradient is never formed.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, lora_a, lora_b, scale):
        half = x.dtype
        w, a, b = weight.to(half), lora_a.to(half), (scale * lora_b).to(half)
        low = F.linear(x, a)  # [..., r]
        ctx.save_for_backward(x, weight, lora_a, lora_b, low)
        ctx.scale = scale
        return F.linear(torch.cat([x, low], -1), torch.cat([w, b], 1), None if bias is None else bias.to(half))

    @staticmethod
    def backward(ctx, gradient):
        x, weight, lora_a, lora_b, low = ctx.saved_tensors
        half = x.dtype
        flat, rows = gradient.flatten(0, -2), x.flatten(0, -2)  # [M, out], [M, in]
        needs_x, needs_w, needs_bias, needs_a, needs_b, _ = ctx.needs_input_grad
        g_low = flat @ (ctx.scale * lora_b).to(half) if needs_a else None  # [M, r]
        merged = torch.addmm(weight, lora_b, lora_a, alpha=ctx.scale) if needs_x else None  # in float32
        return (
            gradient @ merged.to(half) if needs_x else None,
            (flat.T @ rows).to(weight.dtype) if needs_w else None,
            flat.sum(0).to(weight.dtype) if needs_bias else None,
            (g_low.T @ rows).to(lora_a.dtype) if needs_a else None,
            ctx.scale * (flat.T @ low.flatten(0, -2)).to(lora_b.dtype) if needs_b else None,
            None,
        )


class LoRALinear(nn.Linear):
    """A Linear with a trainable low-rank update; its own weight and bias keep their names and are frozen.

    rank r, alpha: scale s = alpha / r. A [r, in] starts Kaiming-uniform, B [out, r] zero: the layer starts equal to
    the plain one. dropout acts on the update's input (0 in CLIP-SLA).
    """

    def __init__(self, linear: nn.Linear, rank: int = 16, alpha: float | None = None, dropout: float = 0.0):
        if rank < 1 or rank > min(linear.in_features, linear.out_features):
            raise ConfigError(
                f"rank={rank} does not fit a {linear.in_features} -> {linear.out_features} layer; use 1 to "
                f"{min(linear.in_features, linear.out_features)}"
            )
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        for parameter in (self.weight, self.bias):
            if parameter is not None:
                parameter.requires_grad_(False)
        options = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.lora_A = nn.Parameter(torch.empty(rank, linear.in_features, **options))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank, **options))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.rank, self.scale = rank, (rank if alpha is None else alpha) / rank
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = x.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        narrow = half in (torch.float16, torch.bfloat16)
        tracing = torch.jit.is_tracing()
        if (narrow and tracing) or (self.training and self.dropping):
            return F.linear(x, self.weight, self.bias) + self.scale * F.linear(
                F.linear(self.dropout(x), self.lora_A), self.lora_B
            )
        if narrow:
            with torch.autocast(kind, enabled=False):
                return _HalfLinear.apply(x.to(half), self.weight, self.bias, self.lora_A, self.lora_B, self.scale)
        if torch.compiler.is_compiling() or tracing:
            return F.linear(x, self.effective_weight(), self.bias)
        return _MergedLinear.apply(x, self.weight, self.bias, self.lora_A, self.lora_B, self.scale)

    @property
    def dropping(self) -> bool:
        """Whether training drops some of the update's inputs."""
        return self.dropout.p > 0

    def effective_weight(self) -> torch.Tensor:
        """W + s B A [out, in], in the layer's own precision."""
        return torch.addmm(self.weight, self.lora_B, self.lora_A, alpha=self.scale)

    @torch.no_grad()
    def merge(self) -> nn.Linear:
        """A plain Linear with W + s B A, summed in float32 or better; trainable as a new one is."""
        plain = Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        update = self.scale * (self.lora_B.to(wide) @ self.lora_A.to(wide))
        plain.weight = nn.Parameter((self.weight.to(wide) + update).to(self.weight.dtype))
        plain.bias = self.bias
        return plain

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, scale={self.scale:g}"
