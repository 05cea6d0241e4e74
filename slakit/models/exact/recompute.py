"""Autograd that keeps only what cannot be had again for less: normed tokens and activations are computed twice.

A layer's input is kept for its weights' gradient. Where that input is itself one element-wise step away from a tensor
that is kept anyway (LayerNorm from its input, an activation from its own), keeping both is waste: of an adapted
ViT-B/16 block 40 % of all bytes. The values are the same to the bit; the second computation costs about 1 / width of
the block's products, so narrow towers (below WIDTH), where that would be some percent, keep everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from slakit.models.exact.linear import graph_is_read

WIDTH = 256
_keep_all: ContextVar[bool] = ContextVar("keep_all", default=False)


@contextmanager
def without_recompute() -> Iterator[None]:
    """Within: everything is kept as usual. For parts that activation checkpointing computes again as a whole."""
    token = _keep_all.set(True)
    try:
        yield
    finally:
        _keep_all.reset(token)


def checkpointed(part: Callable, *arguments: object) -> torch.Tensor:
    """part(*arguments) by activation checkpointing: its inputs alone are kept, backward computes it a second time.

    Batch norms in a module among the arguments move their statistics once, the first time.
    """
    modules = [part for part in arguments if isinstance(part, nn.Module)]

    def whole(*arguments: object) -> torch.Tensor:
        with without_recompute():  # the checkpoint decides what is kept
            return part(*arguments)

    return checkpoint(whole, *arguments, use_reentrant=False, context_fn=lambda: (nullcontext(), held(*modules)))


@contextmanager
def held(*parts: nn.Module) -> Iterator[None]:
    """Behind it, the statistics of the parts' batch norms are what they were before."""
    norms = (module for part in parts for module in part.modules() if isinstance(module, _BatchNorm))
    before = {buffer: buffer.clone() for norm in norms for buffer in norm.buffers()}
    try:
        yield
    finally:
        for buffer, value in before.items():
            buffer.data.copy_(value)  # by way of .data: no graph is told, none reads them


def recompute_input(step: nn.Module, x: torch.Tensor, layer: Callable, width: int, *arguments: object) -> torch.Tensor:
    """layer(step(x), *arguments), and step(x) is not kept for the backward pass but computed again from x.

    step: an element-wise or normalising module without randomness. width: of the products around it. Under autocast
    its result is cast once, as every product behind it would do by itself.
    """
    kind = x.device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None

    def compute(x: torch.Tensor) -> torch.Tensor:
        y = step(x)
        return y if half is None or y.dtype is not torch.float32 else y.to(half)

    y = compute(x)
    if torch.compiler.is_compiling() or not y.requires_grad or width < WIDTH or _keep_all.get():
        return layer(y, *arguments)
    source, storage, start = x.detach(), y.untyped_storage()._cdata, y.storage_offset()  # y lives until the end
    contiguous, recomputed = y.is_contiguous(), []
    waiting = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor | tuple:
        nonlocal waiting
        if tensor.untyped_storage()._cdata != storage or not contiguous:
            return tensor
        waiting += 1
        return tensor.size(), tensor.stride(), tensor.storage_offset() - start

    def unpack(packed: torch.Tensor | tuple) -> torch.Tensor:
        if isinstance(packed, torch.Tensor):
            return packed
        nonlocal waiting
        if not recomputed:  # once for all who ask, and let go after the last of them
            with torch.no_grad(), torch.autocast(kind, half or torch.bfloat16, enabled=half is not None):
                recomputed.append(compute(source).contiguous())
        size, stride, offset = packed
        view = recomputed[0].as_strided(size, stride, offset)
        waiting -= 1
        if waiting <= 0:
            recomputed.clear()
        return view

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        result = layer(y, *arguments)
    return result


class _QuickGELU(torch.autograd.Function):
    """x * sigmoid(1.702 x), keeping x alone; plain autograd keeps sigmoid(1.702 x) too."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.mul(1.702, x).sigmoid_().mul_(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        # x sigmoid(1.702 x) = silu(1.702 x) / 1.702, and so its slope is silu's at 1.702 x: one fused kernel.
        return torch.ops.aten.silu_backward(gradient, 1.702 * x)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the activation of OpenAI's CLIP; keeps its input alone for the backward pass."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.requires_grad and not graph_is_read():
            return _QuickGELU.apply(x)
        return x * torch.sigmoid(1.702 * x)
