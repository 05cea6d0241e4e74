"""AdaptSign's cross-frame attention, Eq. (6) and (7): a frame's class token meets the patches of its neighbours."""

from __future__ import annotations

import torch
from torch import nn

from slakit.errors import ConfigError
from slakit.models.clips import Clips


class CrossFrameAttention(nn.Module):
    """cls[t] + sum over neighbouring frames and their patches p of (sigmoid(a(cls[t], p)) - 0.5) p.

    tau: frames on each side (published: 2); direction "both", or "future" alone. published=True is the released
    code: a = LN(cls)·LN(p) / sqrt(D), values LN(p), their sum times a learned scalar that starts at 0 (no mean).
    published=False is the text: a = LN(cls)·LN(p), values p, their mean over (2 tau + 1) n.
    Frames beyond a video's ends contribute nothing: sigmoid(0) - 0.5 = 0.

    Each frame's patches meet the queries of its neighbours once; nothing is unfolded.
    """

    def __init__(self, width: int, tau: int = 2, direction: str = "both", published: bool = True):
        super().__init__()
        if tau < 0:
            raise ConfigError(f"tau={tau} is no number of frames; published: 2")
        self.ln = nn.LayerNorm(width)
        self.scale = nn.Parameter(torch.zeros(1)) if published else None
        self.offsets = range(-tau if direction == "both" else 0, tau + 1)

    def forward(self, x: torch.Tensor, clips: Clips, prefix_tokens: int = 1) -> torch.Tensor:
        """Tokens x [N, L, D], class token first -> the same with the class token [N, 1, D] extended.

        Only the class token is changed, since nothing else is read after it. A tower without one asks with the mean
        of its patches, and its result is added to every token.
        """
        normalised = self.ln(x)
        queries = normalised[:, 0] if prefix_tokens else normalised.mean(1)  # [N, D]
        keys = normalised[:, prefix_tokens:]  # [N, n, D]
        values = keys if self.scale is not None else x[:, prefix_tokens:]
        # Frame s serves the queries of the frames t = s - k: t looks at t + k.
        asked = torch.stack([clips.neighbour(queries, -k) for k in self.offsets], dim=1)  # [N, K, D]
        affinity = asked @ keys.transpose(1, 2)  # [N, K, n]
        if self.scale is not None:
            affinity = affinity * x.shape[-1] ** -0.5
        given = (affinity.sigmoid() - 0.5).to(values.dtype) @ values  # [N, K, D]
        gathered = sum(clips.neighbour(given[:, i], k) for i, k in enumerate(self.offsets))  # [N, D]
        weight = self.scale if self.scale is not None else 1 / (len(self.offsets) * keys.shape[1])
        update = (weight * gathered)[:, None]  # [N, 1, D]
        return torch.cat([x[:, :1] + update, x[:, 1:]], dim=1) if prefix_tokens else x + update
