"""LoRA for one Linear, CLIP-SLA Eq. (2): h = W x + (alpha / r) B A x, with W frozen."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.jit._trace import is_tracing

from slakit.models.exact.linear import FastLinear
from slakit.models.exact.low_rank import LowRankLinear, is_half, lora_linears, merged_linear
from slakit.records import ConfigError


class LoRALinear(LowRankLinear):
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
        if alpha is not None and not abs(alpha) <= 1e6:
            raise ConfigError(f"alpha={alpha} is no scale of an update; use about the rank, {rank}")
        super().__init__(linear.in_features, linear.out_features, bias=linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.requires_grad_(False)
        options = {"device": linear.weight.device, "dtype": linear.weight.dtype}
        self.lora_A = nn.Parameter(torch.empty(rank, linear.in_features, **options))
        self.lora_B = nn.Parameter(torch.zeros(linear.out_features, rank, **options))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.rank, self.scale = rank, (rank if alpha is None else alpha) / rank
        self.dropout = nn.Dropout(dropout)

    def equation(self, x: torch.Tensor) -> torch.Tensor:
        """Eq. (2) as it stands: W x + b + s B A x, for x […, in] -> […, out]."""
        update = F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)
        return F.linear(x, self.weight, self.bias) + self.scale * update

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """equation(x); where nothing is dropped, by fewer and larger products: its three read and write x and h thrice.

        In half precision (float16, bfloat16) W and B stay apart, for rounding W + s B A would lose the update; in
        float32 and float64 they are summed first and x meets one matrix.
        """
        if self.dropping or (is_half(x) and is_tracing()):
            return self.equation(x)
        return lora_linears(x, self)[0] if is_half(x) else merged_linear(x, self)

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
