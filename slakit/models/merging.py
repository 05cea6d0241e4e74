"""A trained model without its adapters: LoRA folded into the weights, and the tower under open_clip's names."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from slakit.models.methods.sla_lora import merge_lora
from slakit.models.recognizer import Recognizer
from slakit.models.towers.open_clip import OpenClipTower
from slakit.records import ConfigError


def merge(model: Recognizer) -> Recognizer:
    """A copy of an SLA-LoRA model with W + s B A in place of every LoRA layer: the same function, no adapters.

    Sums are taken in float32 or better. The temporal shift has no weights and stays. ConfigError for other methods.
    """
    if model.config.method != "sla-lora":
        raise ConfigError(f"merge() folds LoRA layers; this is a {model.config.method} model, which has none")
    merged = copy.deepcopy(model)
    merge_lora(merged.encoder)
    merged.config = replace(model.config, pretrained=None, options={**model.config.options, "targets": []})
    return merged


def open_clip_weights(model: Recognizer) -> dict[str, torch.Tensor]:
    """The image tower under open_clip's names (`visual.…`, q, k, v fused), LoRA merged, in float32.

    For other tools. It is the whole encoder where nothing else was added: with the temporal shift or adapters the
    stock tower does not know of them, so ConfigError for methods other than frozen, partial, full and sla-lora.
    """
    if model.config.method not in ("frozen", "partial", "full", "sla-lora"):
        raise ConfigError(f"a {model.config.method} encoder is no plain image tower; its adapters cannot be merged")
    merged = merge(model) if model.config.method == "sla-lora" else model
    backbone = merged.encoder.backbone
    if not isinstance(backbone.tower, OpenClipTower):
        raise ConfigError(f"{backbone.name} is no open_clip VisionTransformer; only those can be written back")
    named = {f"visual.{name}": value for name, value in backbone.tower.state_dict().items()}
    for index, block in enumerate(backbone.blocks):
        state = block.state_dict()
        start = f"visual.transformer.resblocks.{index}."
        for part in ("weight", "bias"):
            rows = [state.pop(f"attn.{letter}_proj.{part}") for letter in "qkv"]
            named[f"{start}attn.in_proj_{part}"] = torch.cat(rows)
        for name, value in state.items():
            named[start + name.replace("mlp.fc1", "mlp.c_fc").replace("mlp.fc2", "mlp.c_proj")] = value
    return {name: value.detach().float().clone() for name, value in named.items()}
