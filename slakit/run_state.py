"""The state of a training run on disk: written atomically, read safely, refused when it belongs to another run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from slakit.errors import CheckpointError, ConfigError


def write_atomically(path: Path, write) -> None:
    """Call write(temporary path), sync it to disk and rename it to `path`: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, content: Any) -> None:
    """JSON, written atomically."""
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


class RunState:
    """`state.pt` and the one before it, `state.previous.pt`, in a run's folder.

    identity: what makes this run this run (settings, model, corpus); another identity in the folder is a ConfigError
    that names the first difference. Files are read with torch's weights-only loader: no code in them is executed.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]):
        self.folder, self.identity = folder, identity
        self.warnings: list[str] = []

    @property
    def path(self) -> Path:
        return self.folder / "state.pt"

    @property
    def previous(self) -> Path:
        return self.folder / "state.previous.pt"

    def save(self, content: dict[str, Any]) -> None:
        """Write the state; the state before it stays as state.previous.pt."""
        if self.path.exists():
            os.replace(self.path, self.previous)
        content = {**content, "identity": json.dumps(self.identity, sort_keys=True)}
        write_atomically(self.path, lambda temporary: torch.save(content, temporary))

    def load(self) -> dict[str, Any] | None:
        """The newest readable state, or None where there is none; a damaged file is reported in `warnings`."""
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                identity = json.loads(content["identity"])
            except (
                Exception
            ) as error:  # whatever a damaged file makes the loader raise: said, and the one before is used
                self.warnings.append(f"{path} cannot be read ({type(error).__name__}: {str(error)[:120]}); not used")
                continue
            self._check(identity, path)
            return content
        if self.warnings:
            raise CheckpointError("; ".join(self.warnings) + f". Delete {self.folder} to start the run anew")
        return None

    def _check(self, found: dict[str, Any], path: Path) -> None:
        for key in sorted({*found, *self.identity}):
            if found.get(key) != self.identity.get(key):
                raise ConfigError(
                    f"{path.parent} holds a run with {key}={found.get(key)!r}, this one has "
                    f"{key}={self.identity.get(key)!r}; give another out_dir, or delete that folder"
                )
