"""SLA-LoRA (CLIP-SLA section 3.1, Fig. 2): a temporal shift before attention, Eq. (1), and LoRA, Eq. (2).

Eq. (1), for c of d channels of every token at frame t: y[t, c] = x[t-1, c] for the first d/n_div, x[t+1, c] for the
next d/n_div, x[t, c] for the others. Eq. (2) is in lora.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from slakit.config import nearest
from slakit.models.methods import Encoder, chosen_blocks, register_method
from slakit.models.methods.lora import LoRALinear
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.blocks import Block
from slakit.records import ConfigError


class TemporalShift(nn.Module):
    """Eq. (1): a few channels look one frame back, as many one frame ahead, the others stay. No parameters.

    The published choice is n_div = 32 (24 + 24 of 768 channels), zeros beyond a video's ends, class
    token included. (The original TSM shifts the first channels the other way: equivalent by symmetry.)
    boundary: "replicate" takes the frame's own channels at the ends. class_token=False leaves the first
    `prefix_tokens` tokens alone.
    """

    def __init__(
        self,
        width: int,
        n_div: int = 32,
        boundary: Literal["zeros", "replicate"] = "zeros",
        class_token: bool = True,
        prefix_tokens: int = 1,
    ):
        super().__init__()
        if not 2 <= n_div <= width:
            raise ConfigError(f"n_div={n_div} cannot divide {width} channels; use 2 to {width} (published: 32)")
        self.fold = width // n_div
        self.reach = 1
        self.boundary = boundary
        self.skipped = 0 if class_token else prefix_tokens

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        """x [N, L, D] -> [N, L, D]; never mixes two videos of the pack."""
        back, ahead, rest = x.split([self.fold, self.fold, x.shape[-1] - 2 * self.fold], dim=-1)
        back, ahead = clips.neighbour(back, -1, self.boundary), clips.neighbour(ahead, 1, self.boundary)
        shifted = torch.cat([back, ahead, rest], dim=-1)
        return torch.cat([x[:, : self.skipped], shifted[:, self.skipped :]], dim=1) if self.skipped else shifted

    def extra_repr(self) -> str:
        return f"channels={self.fold}+{self.fold}, boundary={self.boundary}"


TARGETS = {
    "q": "attn.q_proj", "k": "attn.k_proj", "v": "attn.v_proj", "o": "attn.out_proj",
    "fc1": "mlp.fc1", "fc2": "mlp.fc2",
}  # fmt: skip


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
        super().__init__(*block.parts())
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
        for index in range(depth) if options.shift_blocks is None else chosen_blocks(options.shift_blocks, depth):
            choices = options.n_div, options.shift_boundary, options.shift_class_token
            shift = TemporalShift(backbone.width, *choices, backbone.prefix_tokens)
            backbone.blocks[index] = ShiftedBlock(backbone.blocks[index], shift, options.shift_place)
    for index in chosen_blocks(options.blocks, backbone.depth):
        for target in options.targets:
            part, _, name = TARGETS[target].partition(".")
            parent = backbone.blocks[index].get_submodule(part)
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
