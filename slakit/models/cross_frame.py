"""AdaptSign's cross-frame attention, Eq. (6) and (7): a frame's class token meets the patches of its neighbours."""

from __future__ import annotations

import torch
from torch import nn

from slakit.errors import ConfigError
from slakit.models.clips import Clips
from slakit.models.few_queries import few_queries, first_token


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
        lean = class_token_only and self.scale is not None
        first, tokens = first_token(x) if lean else (x[:, 0], x)  # [N, D], [N, L, D]
        queries = self.ln(first) if prefix_tokens else self.ln(x).mean(1)  # [N, D]
        # Frame s serves the queries of the frames t = s - k: t looks at t + k.
        asked = torch.stack([clips.neighbour(queries, -k) for k in self.offsets], dim=1)  # [N, K, D]
        if self.record:
            self.weights = self.gates(asked, x, clips, prefix_tokens)
        serve = self.text if self.scale is None else self.published
        given = serve(asked, tokens, prefix_tokens)  # [N, K, D]
        gathered = sum(clips.neighbour(given[:, i], k) for i, k in enumerate(self.offsets))  # [N, D]
        return (first + gathered)[:, None] if class_token_only else x + gathered[:, None]

    @torch.no_grad()
    def gates(self, asked: torch.Tensor, x: torch.Tensor, clips: Clips, prefix_tokens: int) -> torch.Tensor:
        """What `record` keeps, from the same queries and tokens."""
        affinity = asked @ self.ln(x[:, prefix_tokens:]).transpose(1, 2)  # [N, K, n], of the frame that serves
        gates = (affinity if self.scale is None else affinity * x.shape[-1] ** -0.5).sigmoid() - 0.5
        return torch.stack([clips.neighbour(gates[:, i], k) for i, k in enumerate(self.offsets)], dim=1)

    def published(self, asked: torch.Tensor, x: torch.Tensor, prefix_tokens: int) -> torch.Tensor:
        """What each frame gives to K queries [N, K, D]: values LN(p), times the learned scalar -> [N, K, D]."""
        asked = asked * x.shape[-1] ** -0.5
        constant = (asked * self.ln.bias).sum(-1, keepdim=True)
        given, total = few_queries(asked * self.ln.weight, constant, x, self.ln.eps, "sigmoid", prefix_tokens)
        return self.scale * (given * self.ln.weight + total * self.ln.bias)

    def text(self, asked: torch.Tensor, x: torch.Tensor, prefix_tokens: int) -> torch.Tensor:
        """The same with values p and the mean over all (2 tau + 1) n patches."""
        patches = x[:, prefix_tokens:]  # [N, n, D]
        affinity = asked @ self.ln(patches).transpose(1, 2)  # [N, K, n]
        given = (affinity.sigmoid() - 0.5).to(patches.dtype) @ patches
        return given / (len(self.offsets) * patches.shape[1])
