"""Checkpoints of recognizers: `model.safetensors` with the weights, `model.json` with everything to read beside them.

For methods that leave the backbone's weights alone only the adapters and heads are stored (a few MB and the head);
the base comes again from backbone + pretrained, and its checksum is compared.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slakit.config import ModelConfig, from_dict, to_dict
from slakit.models.methods import find_method
from slakit.models.methods.sla_lora import merge_lora
from slakit.models.recognizer import Recognizer, build_model
from slakit.models.towers.open_clip import OpenClipTower
from slakit.records import CheckpointError, ConfigError, Vocabulary

WEIGHTS, DESCRIPTION = "model.safetensors", "model.json"
FORMAT = 1


def checkpoint_files(path: str | Path) -> tuple[Path, Path]:
    """(weights, description) of a checkpoint named by its folder or by either of its files."""
    path = Path(path)
    if path.suffix in (".safetensors", ".json"):
        return path.with_suffix(".safetensors"), path.with_suffix(".json")
    return path / WEIGHTS, path / DESCRIPTION


def save_checkpoint(
    model: Recognizer, path: str | Path, include_base: bool | None = None, half: bool = False, **about: Any
) -> Path:
    """Write a checkpoint, each file atomically; returns the folder or weights file as given.

    include_base: store the backbone's frozen weights too; None: only where they could not be had again (random ones,
    or a method that trains them). half: store float16, half the size (to hand on, not to go on training from); they
    are loaded as float32. about: what to keep beside it, as JSON (corpus="…", metrics={…}).
    """
    weights, description = checkpoint_files(path)
    if include_base is None:
        include_base = model.config.pretrained is None or not find_method(model.config.method).adapters_only
    tensors = model.state_dict() if include_base else _without_base(model)
    content = {
        "format": FORMAT,
        "config": to_dict(model.config),
        "glosses": list(model.vocabulary.glosses),
        "include_base": include_base,
        "base_checksum": model.encoder.backbone.base_checksum,
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values()),
        "versions": {name: _version(name) for name in ("slakit", "torch", "open_clip_torch")},
        **about,
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    _write(weights, lambda temporary: save_file(tensors, temporary))
    _write(description, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return Path(path)


def load_checkpoint(path: str | Path, glosses: Vocabulary | Sequence[str] | None = None) -> Recognizer:
    """The recognizer that save_checkpoint() wrote, in evaluation mode; its `about` holds the description.

    glosses: a corpus' vocabulary to compare with; the message of the CheckpointError says what differs. Raises
    CheckpointError too for missing, damaged or foreign files and for other base weights than it was trained on.
    """
    weights, description = checkpoint_files(path)
    about = read_description(description)
    vocabulary = Vocabulary(about["glosses"])
    if glosses is not None:
        compare_glosses(vocabulary, glosses if isinstance(glosses, Vocabulary) else Vocabulary(glosses), weights)
    tensors = _read_tensors(weights)
    config = from_dict(ModelConfig, about["config"], str(description))
    if about["include_base"]:  # nothing to fetch: the tower is built empty and filled below
        model = build_model(from_dict(ModelConfig, {**about["config"], "pretrained": None}), vocabulary)
        model.config = config
        model.encoder.backbone.base_checksum = about["base_checksum"]
    else:
        model = build_model(config, vocabulary)
        _check_base(model, about, description)
    _load(model, tensors, about["include_base"], weights)
    model.about = about
    return model.eval()


def load_weights(model: Recognizer, source: str | Path | dict[str, torch.Tensor]) -> None:
    """Put the weights of a checkpoint, or Recognizer.trainable_state()-like tensors, into a model built alike."""
    if not isinstance(source, dict):
        weights, description = checkpoint_files(source)
        about = read_description(description)
        compare_glosses(Vocabulary(about["glosses"]), model.vocabulary, weights)
        _load(model, _read_tensors(weights), about["include_base"], weights)
        return
    own = model.state_dict()
    wrong = [name for name, value in source.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise CheckpointError(f"the weights hold {wrong[0]!r}, which this {model.config.method} model does not have so")
    missing = sorted(set(model.trainable_state()) - set(source))
    if missing:
        raise CheckpointError(f"the weights lack {missing[0]!r}; they belong to another model")
    model.load_state_dict(source, strict=False)


def read_description(path: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint; CheckpointError where it is missing, damaged or foreign."""
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} holds no checkpoint ({path.name} is missing); "
            "give the folder best/ or last/ of a training run, or one in data/demo_models"
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    needed = ("format", "config", "glosses", "include_base", "base_checksum")
    missing = [key for key in needed if not isinstance(about, dict) or key not in about]
    if missing:
        raise CheckpointError(f"{path} is no slakit checkpoint: it lacks {', '.join(missing)}")
    if about["format"] != FORMAT:
        raise CheckpointError(f"{path} has format {about['format']}, this slakit reads format {FORMAT}; update slakit")
    return about


def compare_glosses(checkpoint: Vocabulary, corpus: Vocabulary, path: Path) -> None:
    """CheckpointError that says how the two vocabularies differ, unless they are equal."""
    if checkpoint == corpus:
        return
    missing = [gloss for gloss in corpus if gloss not in checkpoint]
    extra = [gloss for gloss in checkpoint if gloss not in corpus]
    said = f"{len(checkpoint.glosses)} glosses in the checkpoint, {len(corpus.glosses)} in the corpus"
    if missing:
        said += f"; first missing in the checkpoint: {', '.join(missing[:3])}"
    if extra:
        said += f"; first missing in the corpus: {', '.join(extra[:3])}"
    if not missing and not extra:
        place = next(i for i, pair in enumerate(zip(checkpoint, corpus, strict=True)) if pair[0] != pair[1])
        said += f"; the order differs from place {place + 1} on"
    raise CheckpointError(f"{path}: {said}; train on this corpus or use the checkpoint with the corpus it was made for")


def _read_tensors(weights: Path) -> dict[str, torch.Tensor]:
    if not weights.is_file():
        raise CheckpointError(f"{weights} is missing; a checkpoint is {WEIGHTS} and {DESCRIPTION} together")
    try:
        return load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{weights} cannot be read, it may be cut short: {str(error)[:200]}") from error


def _without_base(model: Recognizer) -> dict[str, torch.Tensor]:
    """Everything but the frozen tensors of the image tower (a method's own constants are kept)."""
    start = "encoder.backbone."
    frozen = {name for name, p in model.named_parameters() if name.startswith(start) and not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _check_base(model: Recognizer, about: dict[str, Any], description: Path) -> None:
    found = model.encoder.backbone.base_checksum
    if found != about["base_checksum"]:
        raise CheckpointError(
            f"{description} was trained on other base weights than {model.config.backbone} with "
            f"pretrained={model.config.pretrained!r} gives here (checksum {about['base_checksum'][:12]}…, found "
            f"{found[:12]}…); put the same weights back, or save the checkpoint with include_base=True"
        )


def _load(model: Recognizer, tensors: dict[str, torch.Tensor], include_base: bool, path: Path) -> None:
    expected = model.state_dict() if include_base else _without_base(model)
    for name in expected:
        if name not in tensors:
            raise CheckpointError(f"{path} lacks the tensor {name}; it does not belong to the model.json beside it")
        if tensors[name].shape != expected[name].shape:
            raise CheckpointError(
                f"{path}: {name} has shape {tuple(tensors[name].shape)}, the model.json beside it describes "
                f"{tuple(expected[name].shape)}"
            )
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise CheckpointError(f"{path} holds {unknown[0]!r}, which the model.json beside it does not describe")
    model.load_state_dict(tensors, strict=False)


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    """Call write(temporary), sync and rename: a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"


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
