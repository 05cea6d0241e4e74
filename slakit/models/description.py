"""A checkpoint's description (`slakit.models.checkpoints.read_description`) in words, for `python -m slakit info`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slakit.config import DecodeConfig


def checkpoint_bytes(path: str | Path) -> int:
    """The size of a checkpoint on disk: of its file, or of the files in its folder."""
    path = Path(path)
    files = path.glob("model.*") if path.is_dir() else (path, path.with_name(f"{path.name}.safetensors"))
    return sum(file.stat().st_size for file in files if file.is_file())


def describe(description: Mapping[str, Any], path: str | Path) -> str:
    """What the checkpoint is, on what it was trained, how it is decoded and what it scored, a line each.

    description: the dict that save_checkpoint() wrote; what a checkpoint does not say is said to be unknown.
    """
    config, glosses = description["config"], description["glosses"]
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
    default = DecodeConfig()
    beam, tokens, collapse = (
        (decode or {}).get(name, getattr(default, name)) for name in ("beam_width", "top_tokens", "collapse_repeats")
    )
    repeats = "equal neighbours merged" if collapse else "equal neighbours kept"
    source = "" if decode else "; by default, the checkpoint does not say"
    return f"prefix beam search, width {beam}, {tokens} glosses a step, {repeats}{source}"


def _scores(description: Mapping[str, Any]) -> str:
    """'WER dev 9.5 %, test 7.5 %, epoch 12' from the metrics that training, or an evaluation after it, left."""
    metrics = description.get("metrics") or {}
    wer = metrics.get("wer", metrics.get("dev_wer"))
    rates = wer if isinstance(wer, Mapping) else {} if wer is None else {"dev": wer}
    parts = [f"{split} {value:.1f} %" for split, value in rates.items()]
    epoch = metrics.get("epoch", description.get("best_epoch"))
    return ("WER " if parts else "") + ", ".join(parts + ([] if epoch is None else [f"epoch {epoch + 1}"]))
