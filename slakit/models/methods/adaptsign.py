"""AdaptSign (Hu et al., arXiv 2404.08226): parallel adapters, prefix embeddings, aggregation, cross-frame attention.

`variant="published"` is the released code, `variant="paper"` the text. The differences that matter:

| point | "published" | "paper" |
|---|---|---|
| prefixes | P_k, P_v apart, in input space: they go through W_k and W_v | one P, put straight before K and V, Eq. (3) |
| adapter activation | QuickGELU | GELU |
| aggregation token | random constant, never trained | learned |
| cross-frame attention | 1/sqrt(D), values LN(p), sum times a scalar from 0 | Eq. (6), (7): no scale, values p, mean |
| fusion of both tokens | learned weights that start at 0.5 and 0.5 | their sum |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from slakit.models.exact.linear import FastLinear
from slakit.models.exact.recompute import QuickGELU, recompute_input
from slakit.models.methods import Encoder, register_method
from slakit.models.methods.adaptsign_attention import Aggregation, CrossFrameAttention
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.blocks import MLP, Attention, Block
from slakit.records import ConfigError


@dataclass(frozen=True)
class AdaptSignOptions:
    """Settings of AdaptSign; each part can be left out, as in its Table 2.

    adapters, prefix, aggregation, cross_frame: the four parts. adapter_width: None = a quarter of the tokens' width
    (Table 3: best). adapter_init: of the second layer, "zeros" or "normal" (Table 3). prefix_length, shared_prefix:
    m and whether all blocks share it (Table 4). tau, direction: frames on each side; "both" or "future" (Table 5).
    train_query: None: as the variant says. project: through CLIP's projection, which is trained too (512 features).
    """

    variant: Literal["published", "paper"] = "published"
    adapters: bool = True
    adapter_width: int | None = None
    adapter_init: Literal["zeros", "normal"] = "zeros"
    prefix: bool = True
    prefix_length: int = 8
    shared_prefix: bool = False
    aggregation: bool = True
    cross_frame: bool = True
    tau: int = 2
    direction: Literal["both", "future"] = "both"
    train_query: bool | None = None
    project: bool = True


class Prefix(nn.Module):
    """m learned rows that every token can attend to, Eq. (3). in_input_space: two sets that pass W_k and W_v."""

    def __init__(self, length: int, width: int, in_input_space: bool):
        super().__init__()
        if length < 1:
            raise ConfigError(f"prefix_length={length} is no number of rows; use prefix=False for none (published: 8)")
        self.k = nn.Parameter(torch.randn(length, width) * width**-0.5)
        self.v = nn.Parameter(torch.randn(length, width) * width**-0.5) if in_input_space else None

    def rows(self, attn: Attention) -> tuple[torch.Tensor, torch.Tensor]:
        """(keys, values), each [m, D]: projected once for all frames; compiled blocks go another way."""
        return (self.k, self.k) if self.v is None else (attn.k_proj(self.k), attn.v_proj(self.v))


def before(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[m, D] in front of every frame's tokens: x [N, L, D] -> [N, m + L, D]."""
    return torch.cat([rows.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)


class AdaptSignBlock(Block):
    """z' = z + MSA(LN z; prefix) + A1(z), Eq. (1) and (3); z' + FFN(LN z') + A2(z'), Eq. (2)."""

    def __init__(self, block: Block, adapters: list[MLP] | None, prefix: Prefix | None):
        super().__init__(*block.parts())
        self.adapter_1, self.adapter_2 = adapters or (None, None)
        self.prefix = prefix

    def attention(self, x: torch.Tensor, class_token_only: bool) -> torch.Tensor:
        attn = self.attn
        if self.prefix is None:
            return attn(x, class_token_only)
        q = attn.q_proj(x[:, :1] if class_token_only else x)
        if self.prefix.v is not None and torch.compiler.is_compiling():  # m more rows a frame are less than two copies
            k, v = attn.k_proj(before(self.prefix.k, x)), attn.v_proj(before(self.prefix.v, x))  # [N, m + L, D]
        else:
            rows_k, rows_v = self.prefix.rows(attn)
            k, v = before(rows_k, attn.k_proj(x)), before(rows_v, attn.v_proj(x))
        return attn.out_proj(attn.attend(attn.heads(q), attn.heads(k), attn.heads(v)))

    def forward(self, x: torch.Tensor, clips: Clips, class_token_only: bool = False) -> torch.Tensor:
        attended = self.ls_1(recompute_input(self.ln_1, x, self.attention, self.width, class_token_only))
        x = x[:, :1] if class_token_only else x
        x = x + attended if self.adapter_1 is None else x + attended + self.adapter_1(x)
        y = x + self.feed(x)
        return y if self.adapter_2 is None else y + self.adapter_2(x)


class AdaptSignEncoder(Encoder):
    """The adapted tower, the query token that collects from every block, and the attention across frames."""

    def __init__(self, backbone: Backbone, options: AdaptSignOptions):
        super().__init__(backbone)
        width, published = backbone.width, options.variant == "published"
        if options.aggregation:
            train = not published if options.train_query is None else options.train_query
            self.query = nn.Parameter(torch.rand(width), requires_grad=train)
            heads = backbone.blocks[0].attn.num_heads
            self.aggregations = nn.ModuleList(Aggregation(width, heads) for _ in backbone.blocks)
            self.ln_query = nn.LayerNorm(width)
            fits = width == backbone.feature_dim
            self.match = nn.Identity() if fits else nn.Linear(width, backbone.feature_dim, bias=False)
            self.fusion = nn.Parameter(torch.full((2,), 0.5)) if published else None
        self.aggregation = options.aggregation
        self.cross_frame = (
            CrossFrameAttention(width, options.tau, options.direction, published) if options.cross_frame else None
        )
        self.project = options.project
        if options.project:
            with torch.no_grad():
                self.feature_dim = backbone.project(torch.zeros(1, backbone.feature_dim)).shape[-1]

    @staticmethod
    def block_step(
        block: Block,
        x: torch.Tensor,
        clips: Clips,
        class_token_only: bool,
        query: torch.Tensor | None = None,
        aggregation: Aggregation | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """One block, and what the query token [N, D] collects from its tokens."""
        x = block(x, clips, class_token_only)
        return x, None if aggregation is None else aggregation(query, x)

    def forward(self, images: torch.Tensor, clips: Clips) -> torch.Tensor:
        """images, normalised [N, 3, S, S], packed as `clips` says -> features [N, feature_dim]."""
        tower, blocks = self.backbone.tower, self.backbone.blocks
        x = self.run(Backbone.embed, self.backbone, images)  # [N, L, D]
        query = self.query.expand(x.shape[0], -1) if self.aggregation else None  # [N, D]
        only_class = tower.pools_class_token and not (self.aggregation or self.cross_frame or self.all_tokens)
        aggregations = self.aggregations if self.aggregation else [None] * len(blocks)
        for index, (block, aggregation) in enumerate(zip(blocks, aggregations, strict=True)):
            only = only_class and index == len(blocks) - 1
            x, query = self.block_step_checkpointed(block, x, clips, only, query, aggregation)
        if self.cross_frame is not None:
            x = self.cross_frame(x, clips, self.backbone.prefix_tokens, tower.pools_class_token)
        features = self.backbone.pool(x)
        if self.aggregation:
            collected = self.match(self.ln_query(query))
            if self.fusion is None:
                features = features + collected
            else:
                features = self.fusion[0] * features + self.fusion[1] * collected
        return self.backbone.project(features) if self.project else features


def adapter(width: int, options: AdaptSignOptions) -> MLP:
    """Linear to a quarter, activation, Linear back; no skip connection inside. See AdaptSignOptions.adapter_init."""
    inner = width // 4 if options.adapter_width is None else options.adapter_width
    if inner < 1:
        raise ConfigError(f"adapter_width={inner} is no number of channels; published: a quarter of {width}")
    activation = QuickGELU() if options.variant == "published" else nn.GELU()
    mlp = MLP(FastLinear(width, inner), activation, FastLinear(inner, width))
    nn.init.normal_(mlp.fc2.weight, std=0.02) if options.adapter_init == "normal" else nn.init.zeros_(mlp.fc2.weight)
    nn.init.zeros_(mlp.fc2.bias)
    return mlp


def adaptsign(backbone: Backbone, options: AdaptSignOptions) -> AdaptSignEncoder:
    """Put AdaptSign's parts into the backbone. Last norm and projection are trained, as in the released code."""
    width, published = backbone.width, options.variant == "published"
    shared = Prefix(options.prefix_length, width, published) if options.prefix and options.shared_prefix else None
    for index, block in enumerate(backbone.blocks):
        adapters = [adapter(width, options) for _ in range(2)] if options.adapters else None
        prefix = (shared or Prefix(options.prefix_length, width, published)) if options.prefix else None
        backbone.blocks[index] = AdaptSignBlock(block, adapters, prefix)
    trained = ("ln_post", "trunk.norm.", *(("proj", "head", "trunk.head") if options.project else ()))
    for name, parameter in backbone.tower.named_parameters():
        if name.startswith(trained):
            parameter.requires_grad_(True)
    return AdaptSignEncoder(backbone, options)


register_method("adaptsign", AdaptSignOptions, adaptsign, auxiliary_head=False)
