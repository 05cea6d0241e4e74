"""Matrix products by whichever of PyTorch's libraries is fastest for them.

On x86 processors F.linear goes to MKL in float32. oneDNN, which PyTorch carries too (its compiler calls it for the same
purpose), is up to 1.3 times as fast for the thin matrices here; where a PyTorch is built without it, F.linear is taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x W^T + b, as F.linear, for use inside autograd functions alone: it does not build a graph.

    x […, in], weight [out, in] (a transposed view will do), bias [out] or None -> […, out].
    """
    plain = x.dtype is weight.dtype is torch.float32 and x.device.type == "cpu" and x.numel()
    if not plain or _ONEDNN is None or not torch.backends.mkldnn.enabled:
        return F.linear(x, weight, bias)
    return _ONEDNN(x, weight, bias, "none", [], "")
