"""AdaptSign's attentions of few queries over many tokens: aggregation, Eq. (4), (5); across frames, Eq. (6), (7)."""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import nn

from slakit.models.exact.low_rank import back_through, forward_through
from slakit.models.exact.query_attention import first_token, query_attention
from slakit.models.exact.recompute import QuickGELU
from slakit.models.packing import Clips
from slakit.models.towers.blocks import MLP, Attention
from slakit.records import ConfigError


class Aggregation(nn.Module):
    """x' = x + MHSA(LN(x), LN(tokens)), then x' + MLP(LN(x')), for one query x and the L tokens of a block.

    One LayerNorm serves query and tokens; the MLP has the token's width (ratio 1) and QuickGELU.
    record: keep the attention weights of the last call in `weights` [N, num_heads, L].
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        q_proj, k_proj, v_proj, out_proj = (nn.Linear(width, width) for _ in range(4))
        self.attn = Attention(q_proj, k_proj, v_proj, out_proj, num_heads)
        for projection in (q_proj, k_proj, v_proj):
            nn.init.xavier_uniform_(projection.weight)  # as nn.MultiheadAttention starts
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(out_proj.bias)
        self.mlp = MLP(nn.Linear(width, width), QuickGELU(), nn.Linear(width, width))
        self.record = False
        self.weights: torch.Tensor | None = None

    def forward(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """query [N, D], tokens [N, L, D] -> [N, D]."""
        query = query + self.attn.out_proj(self.attend(self.ln_1(query), tokens))
        return query + self.mlp(self.ln_2(query))

    def attend(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Normalised query [N, D] over LN(tokens) [N, L, D] -> [N, D], before the output projection.

        The query is carried back through W_k and the LayerNorm's gain, and the sum over tokens is taken before W_v, so
        keys and values of all tokens are never formed. Exact: what b_k adds cancels in the softmax, whose weights sum
        to 1, so the LayerNorm's shift and b_v add once.
        """
        attn, norm = self.attn, self.ln_1
        heads = (attn.num_heads, attn.head_dim)
        q = attn.q_proj(query).unflatten(-1, heads)  # [N, H, d]
        u = back_through(attn.k_proj, q) * norm.weight * attn.head_dim**-0.5  # [N, H, D]
        constant = (q * attn.k_proj.bias.unflatten(0, heads)).sum(-1, keepdim=True)  # cancels: b_k's gradient is zero
        if self.record:
            plain = F.layer_norm(tokens, norm.normalized_shape, None, None, norm.eps)
            self.weights = (u.detach() @ plain.detach().transpose(1, 2) + constant.detach()).softmax(-1)
        z = query_attention(u, constant, tokens, norm.eps)[0] * norm.weight + norm.bias  # [N, H, D]
        return forward_through(attn.v_proj, z, attn.head_dim).flatten(1) + attn.v_proj.bias


class CrossFrameAttention(nn.Module):
    """cls[t] + sum over neighbouring frames and their patches p of (sigmoid(a(cls[t], p)) - 0.5) p.

    tau: frames on each side (published: 2); direction "both", or "future" alone. published=True is the released
    code: a = LN(cls)·LN(p) / sqrt(D), values LN(p), their sum times a learned scalar that starts at 0 (no mean).
    published=False is the text: a = LN(cls)·LN(p), values p, their mean over (2 tau + 1) n.
    Frames beyond a video's ends contribute nothing: sigmoid(0) - 0.5 = 0.

    Each frame's patches meet the queries of its neighbours once; nothing is unfolded.

    record: keep the gates of the last call in `weights` [N, K, n]: weights[t, i, p] = sigmoid(a) - 0.5 of frame t's
    query for patch p of frame t + offsets[i]; zeros beyond a video's ends.
    """

    def __init__(self, width: int, tau: int = 2, direction: str = "both", published: bool = True):
        super().__init__()
        if tau < 0:
            raise ConfigError(f"tau={tau} is no number of frames; published: 2")
        self.ln = nn.LayerNorm(width)
        self.scale = nn.Parameter(torch.zeros(1)) if published else None
        self.offsets = range(-tau if direction == "both" else 0, tau + 1)
        self.reach = tau
        self.record = False
        self.weights: torch.Tensor | None = None

    def forward(
        self, x: torch.Tensor, clips: Clips, prefix_tokens: int = 1, class_token_only: bool = False
    ) -> torch.Tensor:
        """Tokens x [N, L, D], class token first -> [N, L, D]: every token of a frame gets the same addition.

        class_token_only: only the class token is read afterwards, so only that is returned, [N, 1, D]. A tower without
        a class token asks with the mean of its patches.
        """
        alone = class_token_only and self.scale is not None  # nobody else reads the tokens
        first, tokens = first_token(x) if alone else (x[:, 0], x)  # [N, D], [N, L, D]
        queries = self.ln(first) if prefix_tokens else self.ln(x).mean(1)  # [N, D]
        # Frame s serves the queries of the frames t = s - k: t looks at t + k.
        queries = torch.stack([clips.neighbour(queries, -k) for k in self.offsets], dim=1)  # [N, K, D]
        if self.record:
            self.weights = self.gates(queries, x, clips, prefix_tokens)
        collect = self.mean_of_patches if self.scale is None else self.sum_of_normed_patches
        collected = collect(queries, tokens, prefix_tokens)  # [N, K, D]
        back = [clips.neighbour(collected[:, i], k) for i, k in enumerate(self.offsets)]  # to the frames that asked
        gathered = reduce(torch.add, back)  # [N, D]
        return (first + gathered)[:, None] if class_token_only else x + gathered[:, None]

    @torch.no_grad()
    def gates(self, queries: torch.Tensor, x: torch.Tensor, clips: Clips, prefix_tokens: int) -> torch.Tensor:
        """What `record` keeps, from the same queries and tokens."""
        affinity = queries @ self.ln(x[:, prefix_tokens:]).transpose(1, 2)  # [N, K, n], of the frame that serves
        gates = (affinity if self.scale is None else affinity * x.shape[-1] ** -0.5).sigmoid() - 0.5
        return torch.stack([clips.neighbour(gates[:, i], k) for i, k in enumerate(self.offsets)], dim=1)

    def mean_of_patches(self, queries: torch.Tensor, x: torch.Tensor, prefix_tokens: int) -> torch.Tensor:
        """The text: K queries [N, K, D] over values p, a mean over all (2 tau + 1) n patches -> [N, K, D]."""
        patches = x[:, prefix_tokens:]  # [N, n, D]
        affinity = queries @ self.ln(patches).transpose(1, 2)  # [N, K, n]
        collected = (affinity.sigmoid() - 0.5).to(patches.dtype) @ patches
        return collected / (len(self.offsets) * patches.shape[1])

    def sum_of_normed_patches(self, queries: torch.Tensor, x: torch.Tensor, prefix_tokens: int) -> torch.Tensor:
        """The released code: scaled affinities, values LN(p), their sum times the learned scalar -> [N, K, D]."""
        assert self.scale is not None
        queries = queries * x.shape[-1] ** -0.5
        constant = (queries * self.ln.bias).sum(-1, keepdim=True)
        collected, total = query_attention(queries * self.ln.weight, constant, x, self.ln.eps, "sigmoid", prefix_tokens)
        return self.scale * (collected * self.ln.weight + total * self.ln.bias)
