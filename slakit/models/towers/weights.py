"""Where the weights of an image tower come from: an open_clip tag, a file in a published layout, or the tiny CLIP."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from slakit.machine import shipped
from slakit.records import CheckpointError, ConfigError

TINY_CLIP = "tiny-clip"


def tiny_clip_files() -> tuple[Path, Path]:
    """(model config, weights) of the small CLIP that the project ships. Trained by us, these are not OpenAI's."""
    return shipped(f"tiny_clip/{TINY_CLIP}.json"), shipped(f"tiny_clip/{TINY_CLIP}.safetensors")


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive, as OpenAI published CLIP."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


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
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError) as error:
        raise CheckpointError(f"the weights file {path} cannot be read: {str(error).splitlines()[0][:200]}") from error
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
