"""Checkpoints of recognizers: one file, `x.safetensors`, the weights with their description as JSON in the header.

For methods that leave the backbone's weights alone only the adapters and heads are stored (a few MB and the head);
the base comes again from backbone + pretrained, and its checksum is compared. A folder with `model.safetensors` and
`model.json`, as the shipped demo models are, is read as well.

A checkpoint may come from anyone. Its description is read strictly, its shapes are compared with the model it describes
before either takes memory, a checksum covers all of it; and it names weights by tag, or a file beside itself, but never
another place on the disk or in the net.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path, PureWindowsPath
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from slakit.config import ModelConfig, from_dict, to_dict
from slakit.models.description import (
    FORMAT,
    checksum,
    file_content,
    files_of,
    read_description,
    read_shapes,
    with_suffix,
)  # fmt: skip
from slakit.models.hub import find_checkpoint
from slakit.models.methods import find_method
from slakit.models.recognizer import Recognizer, build_model
from slakit.models.towers.definition import read_definition, unpacked
from slakit.models.towers.flava import FLAVA_TAG
from slakit.models.towers.weights import TINY_CLIP
from slakit.records import CheckpointError, CorpusError, SlakitError, Vocabulary, write_atomically

MAX_PARAMETERS = 3e9  # of a model whose frozen weights are not in the file, which bounds it otherwise


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
        "activation": model.encoder.backbone.activation,
        "backbone_definition": model.encoder.backbone.definition,
        "tensors": len(tensors),
        "parameters": sum(value.numel() for value in tensors.values()),
        "versions": {name: _version(name) for name in ("slakit", "torch", "open_clip_torch")},
        **about,
    }
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    if half:
        tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    file = with_suffix(path)
    write_atomically(file, file_content(description, tensors))
    return file


def add_to_description(path: str | Path, **about: Any) -> None:
    """Let a checkpoint of one file say more of itself; its weights stay to the bit."""
    write_atomically(with_suffix(path), file_content({**read_description(path), **about}, load_tensors(path)))


def load_checkpoint(
    path: str | Path,
    glosses: Vocabulary | Sequence[str] | None = None,
    pretrained: str | Path | None = None,
) -> Recognizer:
    """The recognizer that save_checkpoint() wrote, in evaluation mode; its `about` holds the description.

    path: `x.safetensors`, with or without that ending, a folder of two files, `hf://user/name@revision` on the Hub, or
    a demo model's name ("sla-lora"). glosses: a corpus' vocabulary to compare with; the message of the CheckpointError
    says what differs. pretrained: the file (or folder) of the base weights, where it was trained from one: a
    checkpoint's own word for where it lies is not followed, but for a file beside it. Raises CheckpointError too for
    missing, damaged or foreign files and for other base weights than it was trained on.
    """
    path = find_checkpoint(path)  # once: what is fetched is asked for once
    description = read_description(path)
    weights, text_file = files_of(path)
    try:
        vocabulary = Vocabulary(description["glosses"])
    except CorpusError as error:
        raise CheckpointError(f"{text_file}: {error}") from None
    if glosses is not None:
        compare_glosses(vocabulary, glosses if isinstance(glosses, Vocabulary) else Vocabulary(glosses), weights)
    config = from_dict(ModelConfig, description["config"], f"{text_file}: config")
    include_base = description["include_base"]
    header = read_shapes(weights)
    if config.lstm_layers > len(header):
        raise CheckpointError(f"{text_file}: lstm_layers={config.lstm_layers}, more than {weights} has tensors")
    with _backbone(config, description, weights.parent, text_file) as name:
        empty = replace(config, backbone=name, pretrained=None)
        expected = _planned(empty, vocabulary, include_base, text_file)
        check_fit(header, weights, config.method, expected, expected)
        tensors = load_tensors(path)
        if description.get("checksum") not in (None, checksum(description, tensors)):
            raise CheckpointError(f"{weights}: its checksum is wrong, so it is damaged or was edited; copy it again")
        source = config.pretrained if include_base and pretrained is None else _base(config, pretrained, weights)
        model = build_model(empty if include_base else replace(empty, pretrained=source), vocabulary)
    backbone = model.encoder.backbone
    backbone.name, backbone.definition = config.backbone, description.get("backbone_definition")
    model.config = replace(model.config, backbone=config.backbone, pretrained=source)
    if include_base:  # nothing was fetched: the tower is filled below
        backbone.base_checksum = description["base_checksum"]
    else:
        _check_base(model, description, text_file)
    restore(model, tensors, weights, model.state_dict() if include_base else _without_base(model))
    model.about = description
    return model.eval()


def load_tensors(path: str | Path) -> dict[str, torch.Tensor]:
    """A checkpoint's tensors by name, as stored; CheckpointError where they are missing or cannot be read."""
    weights, text_file = files_of(path)
    if not os.path.isfile(weights):
        both = "" if text_file == weights else f"; a checkpoint in a folder is that file and {text_file} together"
        raise CheckpointError(f"{weights} is missing{both}")
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
    check_fit(tensors, source, model.config.method, required, known)
    model.load_state_dict(tensors, strict=False)


def check_fit(
    found: Mapping[str, torch.Tensor],
    source: str | Path,
    method: str,
    required: Mapping[str, torch.Tensor],
    known: Mapping[str, torch.Tensor],
) -> None:
    """CheckpointError that names `source` where tensors do not fit by name, shape and type. float16 passes for another
    float: checkpoints to hand on are stored so."""
    other = "it belongs to another model: give the file of this one, or another out_dir"
    for name in required:
        if name not in found:
            raise CheckpointError(f"{source} lacks the tensor {name}; {other}")
    for name, value in found.items():
        if name not in known:
            raise CheckpointError(f"{source} holds {name[:120]!r}, which this {method} model does not have; {other}")
        if value.shape != known[name].shape:
            raise CheckpointError(
                f"{source}: {name} has shape {tuple(value.shape)}, the model's description says "
                f"{tuple(known[name].shape)}; {other}"
            )
        stored, wanted = value.dtype, known[name].dtype
        if stored != wanted and not (stored == torch.float16 and wanted.is_floating_point):
            raise CheckpointError(f"{source}: {name} holds {stored}, the model has {wanted}; save it again by slakit")


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


def _planned(config: ModelConfig, glosses: Vocabulary, include_base: bool, text_file: Path) -> dict[str, torch.Tensor]:
    """The tensors that a checkpoint of this model has, without their numbers: a model of any size takes no memory."""
    try:
        with torch.device("meta"):
            plan = build_model(config, glosses)
    except (SlakitError, RuntimeError, TypeError, ValueError, ArithmeticError, LookupError, MemoryError) as error:
        raise CheckpointError(f"{text_file}: the model that it describes cannot be built: {error}") from None
    size = sum(value.numel() for value in plan.state_dict().values())
    if not include_base and size > MAX_PARAMETERS:
        raise CheckpointError(
            f"{text_file} describes a model of {size:,} numbers; no checkpoint of slakit's has as many"
        )
    return plan.state_dict() if include_base else _without_base(plan)


@contextmanager
def _backbone(config: ModelConfig, description: Mapping[str, Any], folder: Path, text_file: Path) -> Iterator[str]:
    """What load_backbone() builds the tower from: its name; or a JSON file, as the description holds it, or as it lies
    beside the checkpoint. A whole tower (include_base) gets its activation, which no file of weights comes to tell."""
    own, beside = config.backbone.endswith(".json"), folder / PureWindowsPath(config.backbone).name
    definition = description.get("backbone_definition") if own else None
    if own and definition is None:
        if not os.path.isfile(beside):
            raise CheckpointError(
                f"{text_file}: its image tower is defined by {config.backbone[:200]}, a file that is not followed "
                f"there; copy it to {beside}"
            )
        definition = read_definition(beside)
    if description["include_base"] and _activation(config, description) == "quick_gelu":
        if not own and config.backbone in open_clip.list_models():  # another name could be one to fetch
            definition = open_clip.get_model_config(config.backbone)
        definition = {**definition, "quick_gelu": True} if definition else None
    if definition is None:
        yield config.backbone
        return
    with unpacked(definition, beside.name) as file:
        yield file


def _activation(config: ModelConfig, description: Mapping[str, Any]) -> str | None:
    """The tower's activation as the checkpoint says; one of slakit 0.1 says its tag alone."""
    if (said := description.get("activation")) is not None or config.pretrained is None:
        return said
    tag = open_clip.get_pretrained_cfg(config.backbone, config.pretrained)
    return "quick_gelu" if tag.get("quick_gelu") else "gelu"


def _base(config: ModelConfig, given: str | Path | None, weights: Path) -> str | None:
    """Where the base weights come from: what the user gives, a tag, or the file beside the checkpoint."""
    named = config.pretrained
    if given is not None:
        return str(given)
    if named in (None, "default", TINY_CLIP, FLAVA_TAG) or named in {tag for _, tag in open_clip.list_pretrained()}:
        return named
    beside = weights.parent / PureWindowsPath(named).name
    if os.path.exists(beside) and beside.name not in ("", "..", weights.name):
        return str(beside)
    raise CheckpointError(
        f"{weights} was trained from the weights {named[:200]}, which is no tag, and a checkpoint's word for where "
        "files lie is not followed; give them: --pretrained FILE, or load_checkpoint(…, pretrained=FILE)"
    )


def _without_base(model: Recognizer) -> dict[str, torch.Tensor]:
    """Everything but the frozen tensors of the image tower (a method's own constants are kept)."""
    start = "encoder.backbone."
    frozen = {name for name, p in model.named_parameters() if name.startswith(start) and not p.requires_grad}
    return {name: value for name, value in model.state_dict().items() if name not in frozen}


def _check_base(model: Recognizer, description: dict[str, Any], file: Path) -> None:
    backbone, trained = model.encoder.backbone, description.get("activation")
    found, names = backbone.base_checksum, {"quick_gelu": "QuickGELU", "gelu": "GELU"}
    if trained is None:
        found = backbone.weights_checksum  # slakit 0.1's did not tell the activations apart
    elif trained != backbone.activation:
        raise CheckpointError(
            f"{file} was trained with {names.get(trained, trained[:40])}, the weights {model.config.pretrained} come "
            f"with {names[backbone.activation]} here; give the file that it was trained from: --pretrained FILE"
        )
    if found != description["base_checksum"]:
        raise CheckpointError(
            f"{file} was trained on other base weights than {model.config.backbone} with "
            f"pretrained={model.config.pretrained!r} gives here (checksum {description['base_checksum'][:12]}…, found "
            f"{found[:12]}…); put the same weights back, or save the checkpoint with include_base=True"
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed as a package"
