"""The baselines of CLIP-SLA Table 1: frozen encoder, last blocks trained, everything trained."""

from __future__ import annotations

from dataclasses import dataclass

from slakit.models.methods import Encoder, register_method
from slakit.models.towers.backbones import Backbone
from slakit.records import ConfigError


@dataclass(frozen=True)
class NoOptions:
    """The frozen encoder and full fine-tuning have no settings."""


@dataclass(frozen=True)
class PartialOptions:
    """num_blocks: how many of the last blocks are trained (published: 2, blocks 11 and 12 of 12)."""

    num_blocks: int = 2


def frozen(backbone: Backbone, options: NoOptions) -> Encoder:
    """Nothing of the encoder is trained: the sequence model alone."""
    return Encoder(backbone)


def partial(backbone: Backbone, options: PartialOptions) -> Encoder:
    """The last `num_blocks` blocks are trained; embedding, the other blocks and the last norm stay frozen."""
    if not 1 <= options.num_blocks <= backbone.depth:
        raise ConfigError(f"num_blocks={options.num_blocks} does not fit a tower of {backbone.depth} blocks")
    for block in backbone.blocks[-options.num_blocks :]:
        block.requires_grad_(True)
    return Encoder(backbone)


def full(backbone: Backbone, options: NoOptions) -> Encoder:
    """Everything that the feature depends on is trained (CLIP's projection to text space is not used, so it is not)."""
    backbone.requires_grad_(True)
    for unused in ("proj", "head"):
        part = getattr(backbone.tower, unused, None)
        if part is not None:
            part.requires_grad_(False)
    return Encoder(backbone)


register_method("frozen", NoOptions, frozen, auxiliary_head=False)
register_method("partial", PartialOptions, partial, auxiliary_head=False)
register_method("full", NoOptions, full, auxiliary_head=True, adapters_only=False)
