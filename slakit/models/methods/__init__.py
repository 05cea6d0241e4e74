"""Adaptation methods: a method is one file here, and this is the registry that they enter.

In: a Backbone with everything frozen, and the method's options. Out: an Encoder, packed frames [N, 3, S, S] ->
features [N, F], in which what the method trains requires a gradient.

A new method is a dataclass of its options, a function (backbone, options) -> Encoder, and one call of
register_method(); with its file in this folder every part of slakit knows the name. Training the gains of the norms
alone, for example:

>>> from dataclasses import dataclass
>>> from slakit.models import count_parameters, create_model
>>> from slakit.models.methods import METHODS, Encoder, register_method
>>> @dataclass(frozen=True)
... class NormsOptions:
...     shifts: bool = True  # whether the norms' shifts are trained too
>>> def norms(backbone, options):
...     for block in backbone.blocks:  # to change what a block computes, replace it: see sla_adapter.py
...         for norm in (block.ln_1, block.ln_2):
...             norm.weight.requires_grad_(True)
...             norm.bias.requires_grad_(options.shifts)
...     return Encoder(backbone)
>>> register_method("norms", NormsOptions, norms, auxiliary_head=False)
>>> model = create_model("norms", ["HELLO", "WORLD"], "tiny-clip", shifts=False)
>>> count_parameters(model).rows["image tower"][1] == model.encoder.backbone.depth * 2 * model.encoder.backbone.width
True
>>> del METHODS["norms"]

A method may also bring an image network of its own in the place of a ViT tower: vac.py.

baselines.py: frozen, last blocks, everything (CLIP-SLA Table 1). lora.py, sla_lora.py: LoRA and the temporal shift, Eq.
(1) and (2). sla_adapter.py: time-aware adapters, Eq. (3). adaptsign.py, adaptsign_attention.py: AdaptSign, Eq. (1) to
(7). vac.py (VAC-SMKD too), tlp.py, sen.py, corrnet.py, corrnet_plus.py, slowfastsign.py: the systems that the papers
compare with, each on a network of its own. They stand on towers and exact; models above them (recognizer.py, …) are not
imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from slakit.config import ModelConfig, from_dict, nearest
from slakit.models.towers.backbones import Backbone, load_backbone
from slakit.models.towers.encoder import Encoder
from slakit.records import ConfigError

__all__ = [
    "METHODS", "Encoder", "Method", "base_of", "build_encoder", "chosen_blocks", "find_method", "register_method",
    "with_method",
]  # fmt: skip


@dataclass(frozen=True)
class Method:
    """A name for create_model().

    options: dataclass of the method's settings. build: (backbone with everything frozen, options) -> Encoder.
    auxiliary_head: whether the paper trains it with the CTC head on frame features. adapters_only: whether a
    checkpoint may leave the backbone's own weights out. network: of a method with an image network of its own,
    (name, pretrained, image_size, seed, options) -> Backbone; None: it adapts a ViT tower. defaults: what of
    ModelConfig it has otherwise than the papers of ViT towers; for a network "backbone", its name, among them.
    """

    name: str
    options: type
    build: Callable[[Backbone, Any], Encoder]
    auxiliary_head: bool
    adapters_only: bool = True
    network: Callable[..., Backbone] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


METHODS: dict[str, Method] = {}


def register_method(
    name: str,
    options: type,
    build: Callable,
    auxiliary_head: bool,
    adapters_only: bool = True,
    network: Callable[..., Backbone] | None = None,
    **defaults: Any,
) -> None:
    """Make `name` known to create_model(); all of it is explained at Method. With a network of its own, the defaults
    name it ("backbone") and its usual weights ("pretrained")."""
    METHODS[name] = Method(name, options, build, auxiliary_head, adapters_only, network, defaults)


def with_method(config: ModelConfig, method: str) -> ModelConfig:
    """`config` for another method: its options are that one's, and so is what either has by default alone."""
    if method == config.method:
        return config
    before, after = find_method(config.method).defaults, find_method(method).defaults
    plain = {name: getattr(ModelConfig(), name) for name in before}
    return replace(config, method=method, options={}, **{**plain, **after})


def base_of(config: ModelConfig) -> Backbone:
    """The backbone that a setting names, with its weights; ConfigError for one that the method cannot stand on."""
    method, name = find_method(config.method), config.backbone
    if method.network is None:
        if owners := [other.name for other in METHODS.values() if other.defaults.get("backbone") == name]:
            raise ConfigError(f"{method.name} adapts a ViT tower; {name} is the network of {', '.join(owners)}")
        return load_backbone(name, config.pretrained, config.image_size, config.seed)
    own = method.defaults["backbone"]
    if name != own:
        raise ConfigError(f"{method.name} has a network of its own, {own}, and cannot stand on {name!r}")
    options = from_dict(method.options, config.options)
    return method.network(name, config.pretrained, config.image_size, config.seed, options)


def find_method(name: str) -> Method:
    """The method of that name; ConfigError that names the nearest one."""
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}{nearest(name, METHODS)}")
    return METHODS[name]


def build_encoder(method: str, backbone: Backbone, options: dict[str, Any]) -> tuple[Encoder, Any]:
    """(encoder, checked options): the backbone is frozen first, then the method adds or unfreezes what it trains."""
    chosen = find_method(method)
    checked = from_dict(chosen.options, options)
    backbone.requires_grad_(False)
    return chosen.build(backbone, checked), checked


def chosen_blocks(blocks: str | tuple[int, ...] | None, depth: int) -> tuple[int, ...]:
    """Which blocks to adapt, as indices from 0.

    blocks: 1-based as in the papers, a range "5-12" or a tuple (5, 6, 12); None: all but the first third, which is
    5-12 of 12, the published choice. ConfigError for a block that the tower does not have.
    """
    if blocks is None:
        return tuple(range(depth // 3, depth))
    if isinstance(blocks, str):
        first, _, last = blocks.partition("-")
        if not re.fullmatch(r"\s*\d{1,9}\s*(-\s*\d{1,9}\s*)?", blocks, re.ASCII):
            raise ConfigError(f'blocks={blocks!r} is no range of blocks; write it as "5-12", or as a list of numbers')
        numbers = tuple(range(int(first), min(int(last or first), depth + 1) + 1))
    else:
        numbers = blocks
    if not numbers or any(not 1 <= number <= depth for number in numbers):
        raise ConfigError(f"blocks={blocks!r} does not fit a tower of {depth} blocks; number them 1 to {depth}")
    return tuple(sorted({number - 1 for number in numbers}))
