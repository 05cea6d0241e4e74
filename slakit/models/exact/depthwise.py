"""The depth-wise 3D convolution of the time-aware adapters (CLIP-SLA section 3.2; ST-Adapter) over packed clips."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from slakit.models.packing import Clips


def _is_point(weight: torch.Tensor) -> bool:
    """Whether the kernel is one pixel wide: a product then, quicker than any convolution."""
    return weight.shape[-1] == 1


def _convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [n, rows, columns, C], weight [C, 1, k, k] -> the shape of x; channels last in memory, as it comes."""
    return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=1, groups=x.shape[-1]).permute(0, 2, 3, 1)


def _add_tap(y: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> None:
    """y += weight * x, in place: one time step of the kernel."""
    if _is_point(weight):
        y.addcmul_(x, weight[:, 0, 0, 0])
    else:
        y += _convolve(x, weight)


def _add_gradient(to_x: torch.Tensor, gradient: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Add the gradient with respect to x to `to_x`, in place; returns that with respect to weight."""
    if _is_point(weight):
        to_x.addcmul_(gradient, weight[:, 0, 0, 0])
        return (gradient * x).flatten(0, 2).sum(0)[:, None, None, None]
    planes, gradient = x.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
    options = (None, [1, 1], [1, 1], [1, 1], False, [0, 0], x.shape[-1], [True, True, False])
    part, to_weight, _ = torch.ops.aten.convolution_backward(gradient, planes, weight, *options)
    to_x += part.permute(0, 2, 3, 1)
    return to_weight


def _neighbours(lengths: tuple[int, ...]) -> Iterator[tuple[int, slice, slice]]:
    """(tap, frames that receive, frames that give) of both neighbours in time, clip by clip."""
    start = 0
    for length in lengths:
        end = start + length
        if length > 1:
            yield 0, slice(start + 1, end), slice(start, end - 1)
            yield 2, slice(start, end - 1), slice(start + 1, end)
        start = end


class _DepthwiseConv(torch.autograd.Function):
    """y[t] = bias + K_-1 * x[t-1] + K_0 * x[t] + K_+1 * x[t+1], each a 2D convolution, added where they belong.

    The kernels for 2D are several times quicker than those for 3D, nothing is shifted or masked, and x alone is kept.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, lengths):
        kernels = weight.permute(2, 0, 1, 3, 4).contiguous()  # [3, C, 1, k, k]: strided taps are slow
        ctx.save_for_backward(x, kernels)
        ctx.lengths = lengths
        middle = kernels[1]
        y = torch.addcmul(bias, x, middle[:, 0, 0, 0]) if _is_point(middle) else _convolve(x, middle, bias)
        for tap, receive, give in _neighbours(lengths):
            _add_tap(y[receive], x[give], kernels[tap])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        x, kernels = ctx.saved_tensors
        gradient = gradient.contiguous()
        to_x, to_kernels = torch.zeros_like(x), torch.zeros_like(kernels)
        to_kernels[1] = _add_gradient(to_x, gradient, x, kernels[1])
        for tap, receive, give in _neighbours(ctx.lengths):
            to_kernels[tap] += _add_gradient(to_x[give], gradient[receive], x[give], kernels[tap])
        return to_x, to_kernels.permute(1, 2, 0, 3, 4), gradient.flatten(0, 2).sum(0), None


class DepthwiseConv3d(nn.Module):
    """A depth-wise 3D convolution (padding 1) that never crosses from one clip into the next. Starts at zero.

    kernel: "3x3x3" (time x rows x columns) or "3x1x1". weight [C, 1, 3, k, k] and bias [C] are nn.Conv3d's.
    """

    def __init__(self, channels: int, kernel: str = "3x3x3"):
        super().__init__()
        size = int(kernel[-1])
        self.weight = nn.Parameter(torch.zeros(channels, 1, 3, size, size))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.reach = 1

    @torch.compiler.disable  # it walks from clip to clip: compiled, every batch would be compiled anew
    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """x [N, rows, columns, C] -> the same shape, in the precision of x."""
        with torch.autocast(x.device.type, enabled=False):
            return _DepthwiseConv.apply(x, self.weight.to(x.dtype), self.bias.to(x.dtype), clips.lengths)
