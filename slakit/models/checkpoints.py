"""Checkpoints of recognizers: one file, `x.safetensors`, the weights with their description as JSON in the header.

For methods that leave the backbone's weights alone only the adapters and heads are stored (a few MB and the head);
the base comes again from backbone + pretrained, and its checksum is compared. A folder with `model.safetensors` and
`model.json`, as the shipped demo models are, is read as well.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from slakit.config import ModelConfig, from_dict, to_dict
from slakit.machine import write_atomically
from slakit.models.hub import find_checkpoint
from slakit.models.methods import find_method
from slakit.models.methods.sla_lora import merge_lora
from slakit.models.recognizer import Recognizer, build_model
from slakit.models.towers.open_clip import OpenClipTower
from slakit.records import CheckpointError, ConfigError, Vocabulary

FORMAT = 1
SUFFIX = ".safetensors"
HEADER = "slakit"  # the key of the description in safetensors' own metadata, which maps strings to strings


def with_suffix(path: str | Path) -> Path:
    """The checkpoint's file: `out/best` is short for `out/best.safetensors`."""
    return Path(path) if Path(path).suffix == SUFFIX else Path(f"{path}{SUFFIX}")


def save_checkpoint(
    model: Recognizer, path: str | Path, include_base: bool | None = None, half: bool = False, **about: Any
) -> Path:
    """Write a checkpoint at once or not at all; returns its file, `path` with `.safetensors` at its end.

    include_base: store the backbone's frozen weights too; None: only where they could not be had again (random ones,
    or a method that trains them). half: store float16, half the size (to hand on, not to go on training from); they
    are loaded as float32. about: what to keep with it, as JSON (corpus="…", metrics={…}). OSError where it cannot be
    written.
    """
    if include_base is None:
        include_base = model.config.pretrained is None or not find_method(model.config.method).adapters_only
    tensors = model.state_dict() if include_base else _without_base(model)
    description = {
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
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    file = with_suffix(path)
    write_atomically(file, save(tensors, {HEADER: json.dumps(description, ensure_ascii=False)}))
    return file


def load_checkpoint(path: str | Path, glosses: Vocabulary | Sequence[str] | None = None) -> Recognizer:
    """The recognizer that save_checkpoint() wrote, in evaluation mode; its `about` holds the description.

    path: `x.safetensors`, with or without that ending, a folder of two files, `hf://user/name@revision` on the Hub, or
    a demo model's name ("sla-lora"). glosses: a corpus' vocabulary to
    compare with; the message of the CheckpointError says what differs. Raises CheckpointError too for missing, damaged
    or foreign files and for other base weights than it was trained on.
    """
    path = find_checkpoint(path)  # once: what is fetched is asked for once
    description = read_description(path)
    weights, text_file = _files(path)
    vocabulary = Vocabulary(description["glosses"])
    if glosses is not None:
        compare_glosses(vocabulary, glosses if isinstance(glosses, Vocabulary) else Vocabulary(glosses), weights)
    tensors = load_tensors(path)
    config = from_dict(ModelConfig, description["config"], str(text_file))
    if description["include_base"]:  # nothing to fetch: the tower is built empty and filled below
        model = build_model(from_dict(ModelConfig, {**description["config"], "pretrained": None}), vocabulary)
        model.config = config
        model.encoder.backbone.base_checksum = description["base_checksum"]
    else:
        model = build_model(config, vocabulary)
        _check_base(model, description, text_file)
    restore(model, tensors, weights, model.state_dict() if description["include_base"] else _without_base(model))
    model.about = description
    return model.eval()


def read_description(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says of itself, read from its header alone; CheckpointError where it is missing, damaged or
    foreign. Training's own hold the run's whole setting ("train", "corpus") and its score ("metrics") as well."""
    weights, text_file = _files(path)
    if not text_file.is_file():
        raise CheckpointError(
            f"{path} holds no checkpoint ({text_file} is missing); "
            f"give best{SUFFIX} or last{SUFFIX} of a training run, or one in data/demo_models"
        )
    try:
        text = _header(weights) if text_file == weights else text_file.read_text(encoding="utf-8")
        description = json.loads(text or "{}")
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{text_file} cannot be read: {error}") from error
    needed = ("format", "config", "glosses", "include_base", "base_checksum")
    missing = [key for key in needed if not isinstance(description, dict) or key not in description]
    if missing:
        raise CheckpointError(f"{text_file} is no slakit checkpoint: it lacks {', '.join(missing)}")
    if description["format"] != FORMAT:
        raise CheckpointError(
            f"{text_file} has format {description['format']}, this slakit reads format {FORMAT}; update slakit"
        )
    return description


def load_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by name, as stored; CheckpointError where they are missing or cannot be read."""
    weights, text_file = _files(path)
    if not weights.is_file():
        raise CheckpointError(f"{weights} is missing; a checkpoint in a folder is that file and {text_file} together")
    try:
        return load_file(weights)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{weights} cannot be read, it may be cut short: {str(error)[:200]}") from error


def restore(
    model: Recognizer,
    tensors: Mapping[str, torch.Tensor],
    source: str | Path,
    expected: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Put saved weights into a model that was built alike; CheckpointError that names `source` where they do not fit.

    expected: the tensors that must be there, and no others; None: those that are trained must be, the model's others
    may be.
    """
    required, known = (expected, expected) if expected is not None else (model.trainable_state(), model.state_dict())
    other = "it belongs to another model: give the file of this one, or another out_dir"
    for name in required:
        if name not in tensors:
            raise CheckpointError(f"{source} lacks the tensor {name}; {other}")
    for name, value in tensors.items():
        if name not in known:
            raise CheckpointError(
                f"{source} holds {name!r}, which this {model.config.method} model does not have; {other}"
            )
        if value.shape != known[name].shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(value.shape)}, the model's description says "
                f"{tuple(known[name].shape)}; {other}"
            )
    model.load_state_dict(tensors, strict=False)


def compare_glosses(checkpoint: Vocabulary, corpus: Vocabulary, path: Path) -> None:
    """CheckpointError that says how the two vocabularies differ, unless they are equal."""
    if checkpoint == corpus:
        return
    missing = [gloss for gloss in corpus if gloss not in checkpoint]
    extra = [gloss for gloss in checkpoint if gloss not in corpus]
    message = f"{len(checkpoint.glosses)} glosses in the checkpoint, {len(corpus.glosses)} in the corpus"
    if missing:
        message += f"; first missing in the checkpoint: {', '.join(missing[:3])}"
    if extra:
        message += f"; first missing in the corpus: {', '.join(extra[:3])}"
    if not missing and not extra:
        first = next(i for i, pair in enumerate(zip(checkpoint, corpus, strict=True)) if pair[0] != pair[1])
        message += f"; the order differs from place {first + 1} on"
    raise CheckpointError(
        f"{path}: {message}; train on this corpus or use the checkpoint with the corpus it was made for"
    )


def _files(path: str | Path) -> tuple[Path, Path]:
    """(file with the weights, file with the description): the same one, or the two of a folder, named by either."""
    path = find_checkpoint(path)
    file = with_suffix(path)
    stem = path.with_suffix("") if path.suffix in (SUFFIX, ".json") else path / "model"
    pair = Path(f"{stem}{SUFFIX}"), Path(f"{stem}.json")
    if file.is_file() and not (pair[1].is_file() and _header(file) is None):
        return file, file
    return pair if pair[1].is_file() or path.is_dir() else (file, file)


def _header(file: Path) -> str | None:
    """The description's text; None where there is none, CheckpointError for a file that is no whole safetensors."""
    try:
        with safe_open(file, "pt") as content:
            return (content.metadata() or {}).get(HEADER)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read, it may be cut short: {str(error)[:200]}") from error


def _without_base(model: Recognizer) -> dict[str, torch.Tensor]:
    """Everything but the frozen tensors of the image tower (a method's own constants are kept)."""
    start = "encoder.backbone."
    frozen = {name for name, p in model.named_parameters() if name.startswith(start) and not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _check_base(model: Recognizer, description: dict[str, Any], file: Path) -> None:
    checksum = model.encoder.backbone.base_checksum
    if checksum != description["base_checksum"]:
        raise CheckpointError(
            f"{file} was trained on other base weights than {model.config.backbone} with "
            f"pretrained={model.config.pretrained!r} gives here (checksum {description['base_checksum'][:12]}…, found "
            f"{checksum[:12]}…); put the same weights back, or save the checkpoint with include_base=True"
        )


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
