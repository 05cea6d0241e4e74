"""The transformer block of a CLIP image tower, opened: separate q, k, v and output projections, one function to read.

Every adaptation of slakit either replaces a Linear of this block (LoRA) or derives from Block and writes its own
equation in forward(). Tower is what stands before and behind the blocks.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from slakit.models.exact.low_rank import LowRankLinear, back_through, forward_through, lora_linears
from slakit.models.exact.query_attention import aligned
from slakit.models.exact.recompute import checkpointed, recompute_input
from slakit.models.packing import Clips

ANY_LENGTH = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def kernels(any_length: bool) -> AbstractContextManager:
    """Which of PyTorch's attention kernels may run.

    cuDNN's, its choice on an H100, is a quarter faster and takes a tenth of a second to prepare for every new number of
    frames. any_length: only those that need no preparation.
    """
    return sdpa_kernel(ANY_LENGTH) if any_length else nullcontext()


class Tower(nn.Module):
    """An image tower without its blocks; one class a family (see open_clip.py, flava.py).

    prefix_tokens: class tokens before the patches. grid: rows and columns of patches. image_size: pixels of a side.
    feature_dim: of the pooled feature. pools_class_token: only the first token is read, so the last block need not
    compute the others.
    """

    prefix_tokens: int
    grid: tuple[int, int]
    image_size: int
    feature_dim: int
    pools_class_token: bool

    @abstractmethod
    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [N, 3, S, S] -> tokens [N, L, D]."""

    @abstractmethod
    def pool(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens of the last block [N, L, D] -> features [N, feature_dim]."""

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Features -> what the stock tower returns."""
        return features


class Attention(nn.Module):
    """Multi-head self-attention with four Linears.

    record: keep the attention weights of the last call in `weights` [N, num_heads, L_query, L_key], on the autograd
    graph (an explicit softmax instead of the fused kernel: about twice the time). any_length: see kernels(); the
    encoder sets it for every batch.
    """

    any_length = False

    def __init__(self, q_proj: nn.Linear, k_proj: nn.Linear, v_proj: nn.Linear, out_proj: nn.Linear, num_heads: int):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = q_proj, k_proj, v_proj, out_proj
        self.num_heads = num_heads
        self.head_dim = q_proj.out_features // num_heads
        self.record = False
        self.weights: torch.Tensor | None = None

    def heads(self, x: torch.Tensor) -> torch.Tensor:
        """[N, L, D] -> [N, num_heads, L, head_dim]."""
        return x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """q, k, v [N, num_heads, L, head_dim] -> [N, L_query, D], before the output projection."""
        if self.record:
            self.weights = weights = (q @ k.transpose(-1, -2) * self.head_dim**-0.5).softmax(-1)
            y = weights @ v
        else:
            with kernels(self.any_length):
                y = F.scaled_dot_product_attention(q, k, v)
        return y.transpose(1, 2).flatten(2)

    def forward(self, x: torch.Tensor, class_token_only: bool = False) -> torch.Tensor:
        """x [N, L, D] -> [N, L, D]; with class_token_only [N, 1, D], the first token's row of it, computed exactly."""
        dropping = any(isinstance(p, LowRankLinear) and p.dropping for p in (self.k_proj, self.v_proj))
        if class_token_only and not self.record and not dropping:
            return self.out_proj(self._first_token(x))
        if class_token_only:
            projected = self.q_proj(x[:, :1]), self.k_proj(x), self.v_proj(x)
        else:
            projected = lora_linears(x, self.q_proj, self.k_proj, self.v_proj)
        return self.out_proj(self.attend(*map(self.heads, projected)))

    def _first_token(self, x: torch.Tensor) -> torch.Tensor:
        """One query needs no keys and values of all tokens: q·(W_k x) = (W_k^T q)·x, and W_v goes after the sum.

        b_k adds the same number to every score; the weights sum to 1, so b_v adds once.
        """
        q = self.q_proj(x[:, 0]).unflatten(-1, (self.num_heads, self.head_dim))  # [N, H, d]
        u = aligned(back_through(self.k_proj, q) * self.head_dim**-0.5)  # [N, H, D]
        tokens = x.to(u.dtype)
        scores = tokens @ u.transpose(1, 2)  # [N, L, H]
        if self.k_proj.bias is not None:  # cancels in the softmax; there so that a trained b_k has its (zero) gradient
            b_k = self.k_proj.bias.unflatten(0, (self.num_heads, self.head_dim))
            scores = scores + aligned((q * b_k).sum(-1, keepdim=True)).transpose(1, 2)
        z = scores.softmax(1).to(u.dtype).transpose(1, 2) @ tokens  # [N, H, D]
        z = z[:, : self.num_heads]
        y = forward_through(self.v_proj, z, self.head_dim).flatten(1)  # [N, D]
        return (y if self.v_proj.bias is None else y + self.v_proj.bias)[:, None]


class MLP(nn.Module):
    """Linear, activation, Linear."""

    def __init__(self, fc1: nn.Linear, activation: nn.Module, fc2: nn.Linear):
        super().__init__()
        self.fc1, self.activation, self.fc2 = fc1, activation, fc2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return recompute_input(self.activation, self.fc1(x), self.fc2, self.fc2.out_features)


class Block(nn.Module):
    """x + MHSA(LN(x)), then x + MLP(LN(x)): a pre-norm transformer block.

    recompute_mlp: the MLP keeps its input alone and is computed again in the backward pass (the encoder sets it).
    """

    recompute_mlp = False

    def __init__(self, ln_1: nn.Module, attn: Attention, ls_1: nn.Module, ln_2: nn.Module, mlp: MLP, ls_2: nn.Module):
        super().__init__()
        self.ln_1, self.attn, self.ls_1 = ln_1, attn, ls_1
        self.ln_2, self.mlp, self.ls_2 = ln_2, mlp, ls_2

    def parts(self) -> tuple[nn.Module, Attention, nn.Module, nn.Module, MLP, nn.Module]:
        """The constructor's arguments, so that a derived block can take over this one's modules and their names."""
        return self.ln_1, self.attn, self.ls_1, self.ln_2, self.mlp, self.ls_2

    @property
    def width(self) -> int:
        return self.attn.q_proj.in_features

    def forward(self, x: torch.Tensor, clips: Clips, class_token_only: bool = False) -> torch.Tensor:
        """x [N, L, D] -> [N, L, D]; [N, 1, D] with class_token_only, exactly the first row of the former."""
        attended = self.attend(x, class_token_only)
        x = (x[:, :1] if class_token_only else x) + self.ls_1(attended)
        return x + self.feed(x)

    def attend(self, x: torch.Tensor, class_token_only: bool = False) -> torch.Tensor:
        """MHSA(LN(x)); the normed tokens are not kept."""
        return recompute_input(self.ln_1, x, self.attn, self.width, class_token_only)

    def feed(self, x: torch.Tensor) -> torch.Tensor:
        """MLP(LN(x)), scaled where the tower scales it; the normed tokens are not kept."""
        return checkpointed(self._feed, x) if self.recompute_mlp else self._feed(x)

    def _feed(self, x: torch.Tensor) -> torch.Tensor:
        return self.ls_2(recompute_input(self.ln_2, x, self.mlp, self.width))
