"""Starting from a checkpoint that knows other glosses, or has another method: what both models share is taken over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slakit.config import to_dict
from slakit.models.checkpoints import load_checkpoint, load_tensors
from slakit.models.description import checksum
from slakit.models.hub import find_checkpoint
from slakit.models.modes import evaluating
from slakit.models.recognizer import Recognizer
from slakit.models.sequence import NormLinear
from slakit.records import CheckpointError

# Settings that shape no tensor, and change nothing of what a tensor means.
FREE = ("seed", "dropout", "recompute", "image_size")


def start_from(model: Recognizer, checkpoint: str | Path) -> str:
    """Fill `model` with the weights of a checkpoint: encoder, temporal convolution and BiLSTM whole, of the classifiers
    the blank and the glosses that both know. Of a frozen encoder's checkpoint all but the encoder is taken, where the
    model begins near that encoder. Returns a sentence that says so.

    checkpoint: as load_checkpoint() takes it. CheckpointError where method, backbone, base weights or sizes differ.
    """
    base = model.config.pretrained
    source = load_checkpoint(checkpoint, pretrained=base if base and os.path.exists(base) else None)
    mine, theirs = _sizes(model), _sizes(source)
    head_alone = source.config.method == "frozen" != model.config.method
    if head_alone:
        if _far_apart(model, source):
            raise CheckpointError(
                f"{checkpoint} is of a frozen encoder, and {model.config.method} begins with features unlike its, so "
                "that head does not fit; start from a checkpoint of the same method"
            )
        mine = {name: value for name, value in mine.items() if not name.startswith(("method", "options.", "auxiliary"))}
    for name, value in mine.items():
        if theirs[name] != value:
            raise CheckpointError(
                f"{checkpoint} has {name}={theirs[name]!r}, this model {name}={value!r}; start from a checkpoint of "
                "the same method, backbone and sizes, or make the model as that one is"
            )
    glosses = [gloss for gloss in model.vocabulary if gloss in source.vocabulary]
    to, of = ([0, *vocabulary.encode(glosses)] for vocabulary in (model.vocabulary, source.vocabulary))
    axes, taken = _class_axes(model), source.state_dict()
    if head_alone:
        taken = {name: value for name, value in taken.items() if not name.startswith("encoder.")}
    for name, value in model.state_dict().items():
        if (axis := axes.get(name)) is not None and name in taken:
            rows = taken[name].index_select(axis, torch.tensor(of)).to(value.device)
            taken[name] = value.index_copy(axis, torch.tensor(to, device=value.device), rows)
    known = model.state_dict()
    model.load_state_dict({name: value for name, value in taken.items() if name in known}, strict=not head_alone)
    new = [gloss for gloss in model.vocabulary if gloss not in source.vocabulary]
    parts = "temporal convolution and BiLSTM" if head_alone else "encoder, temporal convolution and BiLSTM"
    said = f"starting from {checkpoint}: {parts} are taken over"
    said += f"; of {len(model.vocabulary.glosses)} glosses it knows {len(glosses)}"
    return said + (f", new are {_listed(new)}" if new else "")


@torch.no_grad()
def _far_apart(model: Recognizer, frozen: Recognizer) -> bool:
    """Whether features of noise differ by more than half of their size (a temporal shift moves them by a seventh)."""
    if model.encoder.feature_dim != frozen.encoder.feature_dim or model.image_size != frozen.image_size:
        return True
    size, device = model.image_size, next(model.parameters()).device
    noise = torch.randint(0, 256, (4, 3, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with evaluating(model, "float32"), evaluating(frozen.to(device), "float32"):
        ours, plain = (m.encode(noise.to(device), torch.tensor([4])) for m in (model, frozen))
    return bool((ours - plain).norm() > 0.5 * plain.norm())


def weights_checksum(checkpoint: str | Path) -> str:
    """SHA-256 over a checkpoint's tensors, wherever it lies and whatever it says of itself; 16 hex digits."""
    return checksum({}, load_tensors(find_checkpoint(checkpoint)))[:16]


def _sizes(model: Recognizer) -> dict[str, Any]:
    """What must be equal, the plainest first."""
    settings = to_dict(model.config)
    settings |= {f"options.{name}": value for name, value in settings.pop("options").items()}
    settings = {name: value for name, value in settings.items() if name not in FREE}
    settings["image_size"] = model.image_size
    return settings | {"base weights": model.encoder.backbone.base_checksum[:16]}


def _class_axes(model: Recognizer) -> dict[str, int]:
    """The tensors that have a row for each class: name -> its axis."""
    axes = {}
    for name, module in model.named_modules():
        if name.startswith("encoder."):
            continue
        if isinstance(module, NormLinear):
            axes[f"{name}.weight"] = 1
        elif isinstance(module, nn.Linear):
            axes |= {f"{name}.weight": 0, f"{name}.bias": 0}
    return axes


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
