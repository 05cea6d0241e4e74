"""LoRA for one Linear, CLIP-SLA Eq. (2): h = W x + (alpha / r) B A x, with W frozen."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from slakit.models.exact.linear import FastLinear, fast_linear, product_dtype
from slakit.records import ConfigError

HALF = (torch.float16, torch.bfloat16)


class _MergedLoRA(torch.autograd.Function):
    """y = (W + s B A) x + b as one product, without ever forming the gradient of the full matrix.

    Exact up to rounding in float32 and float64. In half precision the sum W + s B A would round the update away: see
    _HalfLoRA.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, lora_a, lora_b, scale):
        merged = torch.addmm(weight, lora_b, lora_a, alpha=scale)  # [out, in]
        ctx.save_for_backward(x, weight, lora_a, lora_b)
        ctx.scale, ctx.has_bias = scale, bias is not None
        return fast_linear(x, merged, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight, lora_a, lora_b = ctx.saved_tensors
        flat, rows = gradient.flatten(0, -2), x.flatten(0, -2)  # [M, out], [M, in]
        needs_x, needs_w, needs_bias, needs_a, needs_b, _ = ctx.needs_input_grad
        low = fast_linear(flat, lora_b.T) if needs_a else None  # [M, r]
        return (
            fast_linear(gradient, torch.addmm(weight, lora_b, lora_a, alpha=ctx.scale).T) if needs_x else None,
            flat.T @ rows if needs_w else None,
            flat.sum(0) if ctx.has_bias and needs_bias else None,
            ctx.scale * (low.T @ rows) if needs_a else None,
            ctx.scale * (flat.T @ fast_linear(rows, lora_a)) if needs_b else None,
            None,
        )


class _HalfLoRA(torch.autograd.Function):
    """y = W x + b + s B (A x) in half precision, for one layer or for several that share their input.

    The thin product A x comes first, of all layers at once, then one of [W | s B] with [x; A x]: the update is summed
    in float32 inside that product, not rounded away as in a merged matrix, and no tensor of the size of y is passed
    over a second time. Where y is smaller than x, two products and their sum cost less than a copy of x. Only the
    gradient that goes on to x passes the merged matrix, rounded to half: an error as large as W's own rounding,
    harmless there, since what A and B learn is computed apart. The full matrix' gradient is never formed.
    """

    @staticmethod
    def forward(ctx, x, scales, *parameters):
        """parameters: weight, bias, A, B of every layer in turn. Returns one y for every layer."""
        half, (weights, biases, lora_a, lora_b) = x.dtype, (parameters[i::4] for i in range(4))
        low = F.linear(x, torch.cat(lora_a).to(half))  # [..., sum of r]
        w, bias = torch.cat(weights).to(half), None if biases[0] is None else torch.cat(biases).to(half)
        update = torch.block_diag(*(scale * b for scale, b in zip(scales, lora_b, strict=True))).to(half)
        ctx.save_for_backward(x, low, *weights, *lora_a, *lora_b)
        ctx.scales = scales
        if len(w) < w.shape[1]:
            y = F.linear(x, w, bias) + F.linear(low, update)
        else:
            y = F.linear(torch.cat([x, low], -1), torch.cat([w, update], 1), bias)
        return y.split([len(weight) for weight in weights], -1)

    @staticmethod
    def backward(ctx, *gradients):
        (x, low, *rest), layers = ctx.saved_tensors, len(gradients)
        weights, lora_a, lora_b = (rest[i * layers : (i + 1) * layers] for i in range(3))
        half, rows, ranks = x.dtype, x.flatten(0, -2), [len(a) for a in lora_a]
        lows = low.flatten(0, -2).split(ranks, 1)  # [M, r] each
        flat = [gradient.flatten(0, -2) for gradient in gradients]  # [M, out] each
        scaled = [scale * b for scale, b in zip(ctx.scales, lora_b, strict=True)]
        to_x, g_a = None, ()
        if any(ctx.needs_input_grad[4::4]):
            g_low = torch.cat([g @ b.to(half) for g, b in zip(flat, scaled, strict=True)], 1)  # [M, sum of r]
            g_a = (g_low.T @ rows).to(lora_a[0].dtype).split(ranks)
        if ctx.needs_input_grad[0]:  # merged in float32
            merged = [torch.addmm(w, b, a) for w, b, a in zip(weights, scaled, lora_a, strict=True)]
            to_x = sum(gradient @ m.to(half) for gradient, m in zip(gradients, merged, strict=True))
        found = []
        for i, g in enumerate(flat):
            needs_w, needs_bias, needs_a, needs_b = ctx.needs_input_grad[2 + 4 * i : 6 + 4 * i]
            found.append((g.T @ rows).to(weights[i].dtype) if needs_w else None)
            found.append(g.sum(0).to(weights[i].dtype) if needs_bias else None)
            found.append(g_a[i] if needs_a else None)
            found.append(ctx.scales[i] * (g.T @ lows[i]).to(lora_b[i].dtype) if needs_b else None)
        return to_x, None, *found


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
        if self.uses_half_path(x):
            return lora_linears(x, self)[0]
        half = product_dtype(x) in HALF
        if half or (self.training and self.dropping):
            return F.linear(x, self.weight, self.bias) + self.scale * F.linear(
                F.linear(self.dropout(x), self.lora_A), self.lora_B
            )
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return F.linear(x, self.effective_weight(), self.bias)
        return _MergedLoRA.apply(x, self.weight, self.bias, self.lora_A, self.lora_B, self.scale)

    def uses_half_path(self, x: torch.Tensor) -> bool:
        """Whether this layer takes _HalfLoRA for x."""
        return product_dtype(x) in HALF and not torch.jit.is_tracing() and not (self.training and self.dropping)

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
        plain = FastLinear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        update = self.scale * (self.lora_B.to(wide) @ self.lora_A.to(wide))
        plain.weight = nn.Parameter((self.weight.to(wide) + update).to(self.weight.dtype))
        plain.bias = self.bias
        return plain

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.rank}, scale={self.scale:g}"


def lora_linears(x: torch.Tensor, *layers: nn.Linear) -> tuple[torch.Tensor, ...]:
    """layer(x) of each: LoRA layers in half precision as one product, x is read once."""
    narrow = all(isinstance(layer, LoRALinear) and layer.uses_half_path(x) for layer in layers)
    if not narrow or len({layer.bias is None for layer in layers}) > 1:
        return tuple(layer(x) for layer in layers)
    parameters = [p for layer in layers for p in (layer.weight, layer.bias, layer.lora_A, layer.lora_B)]
    half = product_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        return _HalfLoRA.apply(x.to(half), tuple(layer.scale for layer in layers), *parameters)
