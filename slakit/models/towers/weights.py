"""Where the weights of an image tower come from: an open_clip tag, a file in a published layout, or the tiny CLIP.

And how released pickles are read, of which nothing is executed, and tensors renamed.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from slakit.config import parse_json
from slakit.machine import shipped
from slakit.records import CheckpointError, ConfigError, read_text
from slakit.strict import UNREADABLE, check_pickle

TINY_CLIP = "tiny-clip"
BAD_WEIGHTS = (*UNREADABLE, SafetensorError)
# In a folder: as open_clip and the hubs name the weights, the first that is there.
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin", "model.safetensors", "pytorch_model.bin")


class Placeholder:
    """Stands for a class or function that a pickle names, and for what it would make of it: does nothing.

    Plain data and containers come as they are; arrays, random states, optimisers and whatever else a training file
    holds come as this. arguments: what it was called with. state: what it was given, such as an array's shape and
    bytes.
    """

    arguments: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *arguments: Any) -> Placeholder:
        return cls(*arguments) if isinstance(cls, Placeholder) else super().__new__(cls)  # "a new object of this"

    def __init__(self, module: str, name: str):
        self.__module__, self.__qualname__, self.__name__ = module, name, name

    def __call__(self, *arguments: Any) -> Placeholder:
        made = Placeholder(self.__module__, self.__name__)
        made.arguments = arguments
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Placeholder)  # torch looks for what is called among what it was allowed

    __hash__ = object.__hash__


class _Inert(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return dict if (module, name) == ("collections", "OrderedDict") else Placeholder(module, name)


def read_pickle(data: bytes, encoding: str = "ASCII") -> Any:
    """What a pickle holds, as plain data and Placeholders: nothing that it asks for is executed.

    encoding: of Python 2's strings. Raises what UNREADABLE names.
    """
    return _Inert(io.BytesIO(check_pickle(data)), encoding=encoding).load()


def renamed(name: str, rules: Iterable[tuple[str, str | Callable[[re.Match], str]]]) -> str:
    """A tensor's name after each (pattern, replacement) in order, as re.sub() takes them."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def tiny_clip_files() -> tuple[Path, Path]:
    """(model config, weights) of the small CLIP that the project ships. Trained by us, these are not OpenAI's."""
    return shipped(f"tiny_clip/{TINY_CLIP}.json"), shipped(f"tiny_clip/{TINY_CLIP}.safetensors")


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive, as OpenAI published CLIP."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except BAD_WEIGHTS:
        return False


def weights_file(place: Path) -> Path:
    """The weights at a place: the file itself, or the one in a folder as open_clip, a hub or its cache lays it out.

    CheckpointError where there is none, or more than one and none of them under a usual name.
    """
    if place.is_file():
        return place
    if snapshots := sorted(place.glob("snapshots/*")):  # of a hub's cache: refs/main names the one in use
        main = place / "refs" / "main"
        current = place / "snapshots" / read_text(main, CheckpointError, 1000).strip() if main.is_file() else place
        place = current if current in snapshots else snapshots[-1]
    files = sorted(p for p in place.glob("*") if p.suffix in (".safetensors", ".bin", ".pt", ".pth") and p.is_file())
    usual = [place / name for name in WEIGHTS if place / name in files]
    if not usual and len(files) != 1:
        held = f"{len(files)} files" if files else "no file"
        raise CheckpointError(f"{place} holds {held} of weights, none of them {WEIGHTS[0]}; give the file itself")
    return usual[0] if usual else files[0]


def quick_gelu(file: Path) -> tuple[bool | None, str]:
    """(whether the weights were trained with QuickGELU, how that is known); None where nothing tells.

    Files of weights do not say it. OpenAI's archive has it always; beside other files lies open_clip's or transformers'
    configuration, as hubs hand it out.
    """
    if is_torchscript(file):
        return True, "archives of OpenAI's form have it"
    for name in ("open_clip_config.json", "config.json"):
        if not (beside := file.parent / name).is_file():
            continue
        content = parse_json(read_text(beside, CheckpointError, 2**20), beside)
        content = content if isinstance(content, dict) else {}
        model, vision = (
            content[key] if isinstance(content.get(key), dict) else {} for key in ("model_cfg", "vision_config")
        )
        if model:
            return bool(model.get("quick_gelu", False)), f"{name} beside it says"
        if isinstance(activation := vision.get("hidden_act", content.get("hidden_act")), str):
            return activation == "quick_gelu", f"{name} beside it says"
    return None, "the backbone's name says, and nothing beside the file"


def read_tower_weights(path: Path) -> dict[str, torch.Tensor]:
    """The image tower's tensors of a local file, without the prefix `visual.`, in float32.

    Layouts: safetensors; OpenAI's TorchScript archive; a PyTorch state dict, bare or under "state_dict", with or
    without "module."; the whole CLIP or the bare tower. No pickled code is executed. CheckpointError if unreadable.
    """
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            tensors = load_file(path)
        elif is_torchscript(path):
            tensors = torch.jit.load(str(path), map_location="cpu").state_dict()
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
    except BAD_WEIGHTS as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"the weights file {path} cannot be read: {reason}") from error
    if isinstance(tensors, dict) and isinstance(tensors.get("state_dict"), dict):
        tensors = tensors["state_dict"]
    if not isinstance(tensors, dict) or not all(isinstance(key, str) for key in tensors):
        raise CheckpointError(f"the weights file {path} holds no state dict")
    tensors = {key.removeprefix("module."): value for key, value in tensors.items() if isinstance(value, torch.Tensor)}
    if any(key.startswith("visual.") for key in tensors):
        tensors = {key.removeprefix("visual."): value for key, value in tensors.items() if key.startswith("visual.")}
    return {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}


def load_tower(tower: nn.Module, path: Path) -> None:
    """Load a local file into a stock open_clip tower; another image size's position embedding is resampled."""
    tensors = read_tower_weights(path)
    positions = getattr(tower, "positional_embedding", None)
    if positions is not None and "positional_embedding" in tensors:
        tensors["positional_embedding"] = resample_positions(tensors["positional_embedding"], positions.shape[0], path)
    for key, value in tower.state_dict().items():
        if key in tensors and tensors[key].shape != value.shape:
            raise CheckpointError(
                f"{path}: {key} has shape {tuple(tensors[key].shape)}, this backbone needs {tuple(value.shape)}; "
                "name the backbone that the file was made for"
            )
    missing, unexpected = tower.load_state_dict(tensors, strict=False)
    if missing or unexpected:
        raise CheckpointError(
            f"{path} does not hold this image tower: {len(missing)} tensors missing ({', '.join(missing[:3])}), "
            f"{len(unexpected)} unknown ({', '.join(unexpected[:3])}); name the backbone that the file was made for"
        )


def resample_positions(positions: torch.Tensor, count: int, path: Path | str) -> torch.Tensor:
    """Position embedding [1 + g*g, D] -> [count, D] by bicubic interpolation of its square grid."""
    if positions.shape[0] == count:
        return positions
    old, new = int((positions.shape[0] - 1) ** 0.5), int((count - 1) ** 0.5)
    if old * old + 1 != positions.shape[0] or new * new + 1 != count:
        raise CheckpointError(f"{path}: a position embedding of {positions.shape[0]} rows cannot be made {count} rows")
    grid = positions[1:].reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = nn.functional.interpolate(grid, size=(new, new), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:1], grid.permute(0, 2, 3, 1).reshape(new * new, -1)])


def checksum(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values: equal for equal weights wherever they are stored."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name} {tuple(value.shape)};".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def with_activation(checksum: str, activation: str) -> str:
    """A checksum of weights as one of the tower that they make: GELU's is the weights' own."""
    return checksum if activation == "gelu" else hashlib.sha256(f"{checksum} {activation}".encode()).hexdigest()


def demo_models() -> list[str]:
    """The methods of which slakit ships a trained demo model: a folder each, or a file each."""
    home = shipped("demo_models")
    return sorted(
        {path.parent.name for path in home.glob("*/model.json")} | {p.stem for p in home.glob("*.safetensors")}
    )


def demo_model(method: str = "sla-lora") -> Path:
    """The trained demo model that slakit ships for `method`, for load_checkpoint().

    It knows MiniSign's glosses and nothing else. ConfigError, with the names that there are, for another method.
    """
    home, methods = shipped("demo_models"), demo_models()
    if method not in methods:
        known = ", ".join(methods) or "none"
        raise ConfigError(f"no demo model of {method!r} is shipped in {home}; there are: {known}")
    return home / method
