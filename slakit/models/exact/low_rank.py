"""Products with W + s B A, faster than as they stand: for the layers of methods/lora.py and for attention over them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.jit._trace import is_tracing

from slakit.models.exact.linear import fast_linear, graph_is_read, product_dtype


def is_half(x: torch.Tensor) -> bool:
    """Whether a product with x is computed in half precision."""
    return product_dtype(x) in (torch.float16, torch.bfloat16)


class LowRankLinear(nn.Linear):
    """A Linear that stands for W + s B A: lora_A [r, in], lora_B [out, r], scale s, dropout on the update's input."""

    lora_A: nn.Parameter
    lora_B: nn.Parameter
    scale: float
    dropout: nn.Dropout

    @property
    def dropping(self) -> bool:
        """Whether some of the update's inputs are dropped now."""
        return self.training and self.dropout.p > 0

    def uses_half_path(self, x: torch.Tensor) -> bool:
        """Whether this layer takes _HalfLoRA for x."""
        return is_half(x) and not is_tracing() and not self.dropping

    def effective_weight(self) -> torch.Tensor:
        """W + s B A [out, in], in the layer's own precision."""
        return torch.addmm(self.weight, self.lora_B, self.lora_A, alpha=self.scale)


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
        return (
            fast_linear(gradient, torch.addmm(weight, lora_b, lora_a, alpha=ctx.scale).T) if needs_x else None,
            flat.T @ rows if needs_w else None,
            flat.sum(0) if ctx.has_bias and needs_bias else None,
            ctx.scale * (fast_linear(flat, lora_b.T).T @ rows) if needs_a else None,
            ctx.scale * (flat.T @ fast_linear(rows, lora_a)) if needs_b else None,
            None,
        )


def merged_linear(x: torch.Tensor, layer: LowRankLinear) -> torch.Tensor:
    """(W + s B A) x + b in full precision, without dropout: x […, in] -> […, out]."""
    if graph_is_read():
        return F.linear(x, layer.effective_weight(), layer.bias)
    return _MergedLoRA.apply(x, layer.weight, layer.bias, layer.lora_A, layer.lora_B, layer.scale)


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
        to_x, to_a = None, ()
        if any(ctx.needs_input_grad[4::4]):
            to_low = torch.cat([g @ b.to(half) for g, b in zip(flat, scaled, strict=True)], 1)  # [M, sum of r]
            to_a = (to_low.T @ rows).to(lora_a[0].dtype).split(ranks)
        if ctx.needs_input_grad[0]:  # merged in float32
            merged = [torch.addmm(w, b, a) for w, b, a in zip(weights, scaled, lora_a, strict=True)]
            to_x = sum(gradient @ m.to(half) for gradient, m in zip(gradients, merged, strict=True))
        to_parameters = []
        for i, g in enumerate(flat):
            needs_w, needs_bias, needs_a, needs_b = ctx.needs_input_grad[2 + 4 * i : 6 + 4 * i]
            to_parameters += [
                (g.T @ rows).to(weights[i].dtype) if needs_w else None,
                g.sum(0).to(weights[i].dtype) if needs_bias else None,
                to_a[i] if needs_a else None,
                ctx.scales[i] * (g.T @ lows[i]).to(lora_b[i].dtype) if needs_b else None,
            ]
        return to_x, None, *to_parameters


def lora_linears(x: torch.Tensor, *layers: nn.Linear) -> tuple[torch.Tensor, ...]:
    """layer(x) of each: LoRA layers in half precision as one product, x is read once."""
    lora = [layer for layer in layers if isinstance(layer, LowRankLinear) and layer.uses_half_path(x)]
    if len(lora) < len(layers) or len({layer.bias is None for layer in layers}) > 1:
        return tuple(layer(x) for layer in layers)
    parameters = [p for layer in lora for p in (layer.weight, layer.bias, layer.lora_A, layer.lora_B)]
    half = product_dtype(x)
    with torch.autocast(x.device.type, enabled=False):
        return _HalfLoRA.apply(x.to(half), tuple(layer.scale for layer in lora), *parameters)


def back_through(linear: nn.Linear, q: torch.Tensor) -> torch.Tensor:
    """W_h^T q_h for every head: [N, H, d] -> [N, H, in]; the update of a LoRA layer as two thin products."""
    heads = q.shape[1:]
    u = torch.einsum("nhd,hdD->nhD", q, linear.weight.unflatten(0, heads).to(q.dtype))
    if isinstance(linear, LowRankLinear):
        low = torch.einsum("nhd,hdr->nhr", q, linear.lora_B.unflatten(0, heads).to(q.dtype))
        u = u + linear.scale * (low @ linear.lora_A.to(low.dtype))
    return u


def forward_through(linear: nn.Linear, z: torch.Tensor, head_dim: int) -> torch.Tensor:
    """W_h z_h for every head, without the bias: [N, H, in] -> [N, H, d]."""
    heads = (z.shape[1], head_dim)
    y = torch.einsum("nhD,hdD->nhd", z, linear.weight.unflatten(0, heads).to(z.dtype))
    if isinstance(linear, LowRankLinear):
        low = z @ linear.lora_A.T.to(z.dtype)  # [N, H, r]
        y = y + linear.scale * torch.einsum("nhr,hdr->nhd", low, linear.lora_B.unflatten(0, heads).to(low.dtype))
    return y
