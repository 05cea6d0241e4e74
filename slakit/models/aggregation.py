"""AdaptSign's multiscale aggregation, Eq. (4) and (5): a query token collects from the tokens of every block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from slakit.models.blocks import MLP, Attention
from slakit.models.few_queries import few_queries
from slakit.models.lean import QuickGELU


class Aggregation(nn.Module):
    """x' = x + MHSA(LN(x), LN(tokens)), then x' + MLP(LN(x')), for one query x and the L tokens of a block.

    One LayerNorm serves query and tokens; the MLP has the token's width (ratio 1) and QuickGELU.

    The sum over L tokens is taken before the value projection and the query is carried through the key projection, so
    keys and values of all tokens are never formed (exact: what b_k adds cancels in the softmax; its weights sum to 1).

    record: keep the attention weights of the last call in `weights` [N, num_heads, L].
    """

    def __init__(self, width: int, num_heads: int):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = Attention(*(nn.Linear(width, width) for _ in range(4)), num_heads)
        for projection in (self.attn.q_proj, self.attn.k_proj, self.attn.v_proj):
            nn.init.xavier_uniform_(projection.weight)  # as nn.MultiheadAttention starts
            nn.init.zeros_(projection.bias)
        nn.init.zeros_(self.attn.out_proj.bias)
        self.mlp = MLP(nn.Linear(width, width), QuickGELU(), nn.Linear(width, width))
        self.record = False
        self.weights: torch.Tensor | None = None

    def forward(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """query [N, D], tokens [N, L, D] -> [N, D]."""
        query = query + self.attn.out_proj(self.attend(self.ln_1(query), tokens))
        return query + self.mlp(self.ln_2(query))

    def attend(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Normalised query [N, D] over LN(tokens) [N, L, D] -> [N, D], before the output projection.

        The LayerNorm's gain and shift move to the query's side too.
        """
        attn, norm = self.attn, self.ln_1
        heads = (attn.num_heads, attn.head_dim)
        q = attn.q_proj(query).unflatten(-1, heads)  # [N, H, d]
        u = torch.einsum("nhd,hdD->nhD", q, attn.k_proj.weight.unflatten(0, heads).to(q.dtype))
        u = u * norm.weight * attn.head_dim**-0.5  # [N, H, D]
        constant = (q * attn.k_proj.bias.unflatten(0, heads)).sum(-1, keepdim=True)  # cancels: b_k's gradient is zero
        if self.record:
            plain = F.layer_norm(tokens, norm.normalized_shape, None, None, norm.eps)
            self.weights = (u.detach() @ plain.detach().transpose(1, 2) + constant.detach()).softmax(-1)
        z = few_queries(u, constant, tokens, norm.eps)[0] * norm.weight + norm.bias  # [N, H, D]
        y = torch.einsum("nhD,hdD->nhd", z, attn.v_proj.weight.unflatten(0, heads).to(z.dtype))
        return y.flatten(1) + attn.v_proj.bias
