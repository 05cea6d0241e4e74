"""The JSON files that define an image tower by its sizes: bounded, and without names of anything to be fetched."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip

from slakit.config import brief, digest, parse_json
from slakit.records import ConfigError, read_text

MAX_SIZE, MAX_LAYERS = 16384, 256  # the largest CLIP towers are 1,792 wide and 64 deep
PLAIN_TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}


def read_definition(path: Path) -> dict[str, Any]:
    """The content of a model configuration, open_clip's or FLAVA's; ConfigError for one that is absurd, or that names a
    model of a hub: building it would fetch that."""
    content = parse_json(read_text(path, ConfigError, 2**20), path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no model configuration: it must hold one JSON object")
    parts = {"": content, **{f"{key}.": content[key] for key in ("vision_cfg", "text_cfg") if key in content}}
    for start, part in parts.items():
        if not isinstance(part, dict):
            raise ConfigError(f"{path}: {start.rstrip('.')} is {brief(part)}; it must be a mapping")
        for key, value in part.items():
            deep = MAX_LAYERS if "layers" in key else 2**20 if key.startswith("vocab") else MAX_SIZE
            numbers = value if isinstance(value, list) else [value]
            if any(isinstance(n, int) and abs(n) > deep for n in numbers):
                raise ConfigError(f"{path}: {start}{key}={brief(value)}; it is at most {deep:,}")
            if key == "hf_model_name" or (key.startswith("timm_model") and (value is True or ":" in str(value))):
                raise ConfigError(
                    f"{path}: {start}{key}={brief(value)} asks a hub for a model; slakit builds towers from their "
                    "sizes alone, so leave the key out"
                )
    return content


@contextmanager
def unpacked(definition: Mapping[str, Any], name: str) -> Iterator[str]:
    """A file of the definition for load_backbone(), its stem that of `name` and a digest: no other tower's name."""
    with tempfile.TemporaryDirectory(prefix="slakit-") as folder:
        file = Path(folder, f"{Path(name).stem[:60]}-{digest(definition)[:8]}.json")
        file.write_text(json.dumps(definition), encoding="utf-8")
        yield str(file)


def without_hub(config: str) -> str:
    """The name of a configuration of the same image tower with a text tower that nothing need be fetched for."""
    content = open_clip.get_model_config(config) or {}
    if "hf_model_name" not in content.get("text_cfg", {}):
        return config
    plain = {"embed_dim": content["embed_dim"], "vision_cfg": content["vision_cfg"], "text_cfg": PLAIN_TEXT}
    with unpacked(plain, config) as file:
        open_clip.add_model_config(file)
        return Path(file).stem
