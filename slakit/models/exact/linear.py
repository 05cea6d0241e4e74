"""Matrix products by whichever of PyTorch's libraries is fastest for them.

On x86 processors F.linear goes to MKL in float32. oneDNN, which PyTorch carries too (its compiler calls it for the same
purpose), is up to 1.3 times as fast for the thin matrices here; where a PyTorch is built without it, F.linear is taken.
It wants wide matrices row by row: walking down the columns of a ViT-B's W^T it has half its speed (rows that are apart
by a multiple of 4 KiB share their place in the cache), and a copy costs what sixty rows of the product do.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.jit._trace import is_tracing

COPIED = 2**18  # elements
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product_dtype(x: torch.Tensor) -> torch.dtype:
    """The precision of a product with x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def graph_is_read() -> bool:
    """Whether torch.compile or the tracer reads the code that runs now: then it is to see plain operations."""
    return torch.compiler.is_compiling() or is_tracing()


def fast_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x W^T + b, as F.linear, for use inside autograd functions alone: it does not build a graph.

    x […, in], weight [out, in] (a transposed view will do), bias [out] or None -> […, out].
    """
    plain = x.dtype is weight.dtype is torch.float32 and x.device.type == "cpu" and x.numel()
    if not plain or _ONEDNN is None or not torch.backends.mkldnn.enabled:
        return F.linear(x, weight, bias)
    if weight.numel() >= COPIED and not weight.is_contiguous():  # as a backward pass has it, W^T
        weight = weight.contiguous()
    return _ONEDNN(x, weight, bias, "none", [], "")


class _Product(torch.autograd.Function):
    """F.linear through fast_linear(), forwards and backwards."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        needs_weight = ctx.needs_input_grad[1]
        ctx.save_for_backward(x if needs_weight else None, weight)
        return fast_linear(x, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        rows = gradient.flatten(0, -2)  # [M, out]
        return (
            fast_linear(gradient, weight.T) if needs_x else None,
            rows.T @ x.flatten(0, -2) if needs_weight else None,
            rows.sum(0) if needs_bias else None,
        )


class FastLinear(nn.Linear):
    """nn.Linear that takes fast_linear() in float32 on a CPU: those of opened towers and of AdaptSign's adapters."""

    @classmethod
    def like(cls, other: nn.Linear) -> FastLinear:
        """One with the parameters of `other`, which are shared, not copied."""
        linear = cls(other.in_features, other.out_features, bias=other.bias is not None, device="meta")
        linear.weight, linear.bias = other.weight, other.bias
        return linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kind = x.device.type
        if kind != "cpu" or torch.is_autocast_enabled(kind) or graph_is_read():
            return F.linear(x, self.weight, self.bias)
        return _Product.apply(x, self.weight, self.bias)
