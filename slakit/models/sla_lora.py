"""SLA-LoRA (CLIP-SLA section 3.1): temporal shift in every block, LoRA in the upper ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from slakit.errors import ConfigError
from slakit.models.backbones import Backbone
from slakit.models.blocks import Block
from slakit.models.clips import Clips
from slakit.models.lora import LoRALinear
from slakit.models.methods import Encoder, chosen_blocks, register_method
from slakit.models.temporal_shift import TemporalShift
from slakit.strict import nearest

TARGETS = {
    "q": ("attn", "q_proj"),
    "k": ("attn", "k_proj"),
    "v": ("attn", "v_proj"),
    "o": ("attn", "out_proj"),
    "fc1": ("mlp", "fc1"),
    "fc2": ("mlp", "fc2"),
}


@dataclass(frozen=True)
class SlaLoraOptions:
    """Settings of SLA-LoRA; the defaults are the readings of the paper's open points.

    rank, alpha: scale = alpha / rank, alpha None = rank (published: 16 for Phoenix-2014, 32 for -T and CSL-Daily).
    targets: which Linears of a block. blocks: 1-based, "5-12" or (5, 6, …); None: all but the first third (5-12 of 12).
    temporal_shift, n_div, shift_blocks (None: all): Eq. (1). shift_place: "branch" shifts what attention reads, the
    residual stream is not touched; "stream" shifts the stream itself. shift_boundary: what stands beyond a video's
    ends. shift_class_token: whether the class token is shifted too.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q", "k", "v", "o", "fc1", "fc2")
    blocks: str | tuple[int, ...] | None = None
    temporal_shift: bool = True
    n_div: int = 32
    shift_blocks: str | tuple[int, ...] | None = None
    shift_place: Literal["branch", "stream"] = "branch"
    shift_boundary: Literal["zeros", "replicate"] = "zeros"
    shift_class_token: bool = True


class ShiftedBlock(Block):
    """x + MHSA(LN(TSM(x))), then x + MLP(LN(x)) (CLIP-SLA Fig. 2)."""

    def __init__(self, block: Block, shift: TemporalShift, place: str):
        super().__init__(**block.parts())
        self.shift = shift
        self.place = place

    def forward(self, x: torch.Tensor, clips: Clips, class_token_only: bool = False) -> torch.Tensor:
        shifted = self.shift(x, clips)
        attended = self.attend(shifted, class_token_only)
        stream = shifted if self.place == "stream" else x
        x = (stream[:, :1] if class_token_only else stream) + self.ls_1(attended)
        return x + self.feed(x)


def sla_lora(backbone: Backbone, options: SlaLoraOptions) -> Encoder:
    """Put the temporal shift and the LoRA layers into the backbone."""
    for target in options.targets:
        if target not in TARGETS:
            raise ConfigError(f"targets={target!r} is no layer of a block{nearest(target, TARGETS)}")
    if options.temporal_shift:
        depth = backbone.depth
        places = range(depth) if options.shift_blocks is None else chosen_blocks(options.shift_blocks, depth)
        for index in places:
            shift = TemporalShift(
                backbone.width,
                options.n_div,
                options.shift_boundary,
                options.shift_class_token,
                backbone.prefix_tokens,
            )
            backbone.blocks[index] = ShiftedBlock(backbone.blocks[index], shift, options.shift_place)
    for index in chosen_blocks(options.blocks, backbone.depth):
        for target in options.targets:
            part, name = TARGETS[target]
            parent = getattr(backbone.blocks[index], part)
            layer = LoRALinear(getattr(parent, name), options.rank, options.alpha, options.dropout)
            setattr(parent, name, layer)
    return Encoder(backbone)


def merge_lora(module: nn.Module) -> nn.Module:
    """Replace every LoRA layer inside `module` by a plain Linear with the sum of both, in place; returns `module`."""
    for name, child in module.named_children():
        if isinstance(child, LoRALinear):
            setattr(module, name, child.merge().requires_grad_(False))
        else:
            merge_lora(child)
    return module


register_method("sla-lora", SlaLoraOptions, sla_lora, auxiliary_head=True)
