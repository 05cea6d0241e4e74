"""What a checkpoint says of itself: read strictly from its header, and in words for `python -m slakit info`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from slakit.config import DecodeConfig, ModelConfig, checked_dataclass, from_dict, parse_json, to_dict
from slakit.records import CheckpointError, ConfigError, read_text

FORMAT = 1
SUFFIX = ".safetensors"
HEADER = "slakit"  # the key of the description in safetensors' own metadata, which maps strings to strings


@checked_dataclass
class Description:
    """What is relied on of a checkpoint's description, and its types; more may stand beside it.

    activation: of the image tower, beside its checksum. backbone_definition: the content of the JSON file that defines
    the tower. checksum: see `checksum`; checkpoints of slakit 0.1 have none of the three.
    """

    format: int
    config: dict[str, Any]
    glosses: tuple[str, ...]
    include_base: bool
    base_checksum: str
    activation: str | None = None
    backbone_definition: dict[str, Any] | None = None
    checksum: str | None = None
    tensors: int | None = None
    parameters: int | None = None
    versions: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, Any] | None = None
    train: dict[str, Any] | None = None
    corpus: str | None = None
    corpus_options: dict[str, Any] | None = None
    pictures: dict[str, Any] | None = None
    trained_on: str | None = None
    best_epoch: int | None = None
    training_features: dict[str, Any] | None = None


NEEDED = ("format", "config", "glosses", "include_base", "base_checksum")


def with_suffix(path: str | Path) -> Path:
    """The checkpoint's file: `out/best` is short for `out/best.safetensors`."""
    return Path(path) if Path(path).suffix == SUFFIX else Path(f"{path}{SUFFIX}")


def read_description(path: str | Path) -> dict[str, Any]:
    """What a checkpoint says of itself, read from its header alone; CheckpointError where it is missing, damaged or
    foreign. Training's own hold the run's whole setting ("train", "corpus") and its score ("metrics") as well."""
    weights, text_file = files_of(path)
    if not os.path.isfile(text_file):
        raise CheckpointError(
            f"{path} holds no checkpoint ({text_file} is missing); "
            f"give best{SUFFIX} or last{SUFFIX} of a training run, or a demo model's name, such as sla-lora"
        )
    text = read_header(weights) if text_file == weights else read_text(text_file, CheckpointError)
    try:
        description = parse_json(text or "{}", text_file)
    except ConfigError as error:
        raise CheckpointError(f"{text_file} cannot be read: {error}") from None
    missing = [key for key in NEEDED if not isinstance(description, dict) or key not in description]
    if missing:
        raise CheckpointError(f"{text_file} is no slakit checkpoint: it lacks {', '.join(missing)}")
    known = {item.name for item in fields(Description)}
    try:
        said = from_dict(Description, {key: value for key, value in description.items() if key in known})
    except ConfigError as error:
        raise CheckpointError(f"{text_file} is no slakit checkpoint: {error}") from None
    if said.format != FORMAT:
        raise CheckpointError(f"{text_file} has format {said.format}, this slakit reads format {FORMAT}; update slakit")
    return description


def checksum(description: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over a description (but its "checksum") and over every tensor's name, type, shape and bytes."""
    said = {key: value for key, value in description.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_content(description: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> bytes:
    """A checkpoint as one file, its checksum in the description."""
    said = json.loads(json.dumps({**description, "checksum": None}))  # as it will be read
    said["checksum"] = checksum(said, tensors)
    return save(dict(tensors), {HEADER: json.dumps(said, ensure_ascii=False)})


def files_of(path: str | Path) -> tuple[Path, Path]:
    """(file with the weights, file with the description): the same one, or the two of a folder, named by either."""
    path, file = Path(path), with_suffix(path)
    stem = path.with_suffix("") if path.suffix in (SUFFIX, ".json") else path / "model"
    pair = Path(f"{stem}{SUFFIX}"), Path(f"{stem}.json")
    if os.path.isfile(file) and not (os.path.isfile(pair[1]) and read_header(file) is None):
        return file, file
    return pair if os.path.isfile(pair[1]) or os.path.isdir(path) else (file, file)


def read_header(file: Path) -> str | None:
    """The description's text; None where there is none, CheckpointError for a file that is no whole safetensors."""
    with _opened(file) as content:
        return (content.metadata() or {}).get(HEADER)


def read_shapes(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by name, without their numbers: on the device "meta"."""
    with _opened(file) as content:
        parts = {name: content.get_slice(name) for name in content.keys()}
        return {
            name: torch.empty(part.get_shape(), dtype=DTYPES.get(part.get_dtype(), torch.complex64), device="meta")
            for name, part in parts.items()
        }


# safetensors' names; the types that no slakit model has are one
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    if not os.path.isfile(file):  # a pipe would be waited for
        raise CheckpointError(f"{file} is missing, or no file; a checkpoint is a file, or a folder of two")
    try:
        with safe_open(file, "pt") as content:
            yield content
    except (SafetensorError, OSError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{file} cannot be read, it may be cut short: {str(error)[:200]}") from error


def checkpoint_bytes(path: str | Path) -> int:
    """The size of a checkpoint on disk: of its file, or of the files in its folder."""
    path = Path(path)
    files = path.glob("model.*") if os.path.isdir(path) else (path, path.with_name(f"{path.name}.safetensors"))
    return sum(file.stat().st_size for file in files if os.path.isfile(file))


def describe(description: Mapping[str, Any], path: str | Path) -> str:
    """What the checkpoint is, on what it was trained, how it is decoded and what it scored, a line each.

    description: the dict that save_checkpoint() wrote; what a checkpoint does not say is said to be unknown.
    """
    config, glosses = to_dict(from_dict(ModelConfig, description["config"], "config")), description["glosses"]
    base = "all weights are in the file" if description["include_base"] else "its frozen weights are not in the file"
    head = f"temporal convolution and BiLSTM of {config['hidden_size']} channels, {config['lstm_layers']} layers"
    auxiliary = f", CTC head on frame features ({config['auxiliary_lengths']})" if config["auxiliary_head"] else ""
    versions = description.get("versions", {})
    rows = {
        "checkpoint": f"{path}, {checkpoint_bytes(path) / 1e6:.1f} MB, {_count(description)}",
        "method": f"{config['method']} ({_listed(config['options']) or 'no options'})",
        "backbone": f"{config['backbone']} ({config['pretrained'] or 'random start'}); {base}",
        "pictures": f"normalised as {config['normalize']}, padding {config['padding']}",
        "head": head + auxiliary,
        "trained on": _corpus(description),
        "knows": f"{len(glosses)} glosses, {len(glosses) + 1} classes with the blank",
        "decoded": _decoding(description),
        "scored": _scores(description) or "unknown",
        "made with": ", ".join(f"{name} {version}" for name, version in versions.items()) or "unknown versions",
    }
    return "\n".join(f"{name:<12}{text}" for name, text in rows.items())


def _listed(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())


def _count(description: Mapping[str, Any]) -> str:
    numbers, tensors = description.get("parameters"), description.get("tensors")
    return f"{numbers:,} numbers in {tensors} tensors" if numbers is not None else "number of weights unknown"


def _corpus(description: Mapping[str, Any]) -> str:
    corpus, clips = description.get("corpus"), description.get("clips")
    counts = _listed(clips) if isinstance(clips, Mapping) else clips
    facts = [str(corpus or "")] + ([f"{counts} clips"] if counts else []) + [description.get("trained_on") or ""]
    return "; ".join(filter(None, facts)) or "unknown: the checkpoint does not say"


def _decoding(description: Mapping[str, Any]) -> str:
    decode = (description.get("train") or {}).get("decode")
    search = from_dict(DecodeConfig, decode or {}, "train.decode")
    beam, tokens, collapse = search.beam_width, search.top_tokens, search.collapse_repeats
    repeats = "equal neighbours merged" if collapse else "equal neighbours kept"
    source = "" if decode else "; by default, the checkpoint does not say"
    return f"prefix beam search, width {beam}, {tokens} glosses a step, {repeats}{source}"


def _scores(description: Mapping[str, Any]) -> str:
    """'WER dev 9.5 %, test 7.5 %, epoch 12' from the metrics that training, or an evaluation after it, left."""
    metrics = description.get("metrics") or {}
    wer = metrics.get("wer", metrics.get("dev_wer"))
    rates = wer if isinstance(wer, Mapping) else {"dev": wer}
    parts = [f"{split} {value:.1f} %" for split, value in rates.items() if isinstance(value, int | float)]
    epoch = metrics.get("epoch", description.get("best_epoch"))
    return ("WER " if parts else "") + ", ".join(parts + ([f"epoch {epoch + 1}"] if isinstance(epoch, int) else []))
