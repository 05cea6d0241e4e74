"""A run's folder: held by one process, its state written atomically, read safely, refused when it is another run's."""

from __future__ import annotations

import errno
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from slakit.machine import locked
from slakit.records import CheckpointError, ConfigError, SlakitError, write_atomically


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made and held for this process alone. ConfigError where it cannot be written, SlakitError where
    another process trains in it."""
    with ExitStack() as stack:
        try:
            free = stack.enter_context(locked(folder, 5.0))  # a killed batch run takes its kernel along, a little later
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name, or half of a character
            if getattr(error, "errno", None) not in (
                errno.ENOTSUP,
                errno.ENOSYS,
                errno.ENOLCK,
            ):  # a mounted Drive may have no locks
                raise ConfigError(
                    f"{folder} cannot be written ({getattr(error, 'strerror', error)}); give another out_dir"
                ) from error
            free = True
        if not free:
            raise SlakitError(f"another process is training in {folder}; wait for it, or give another out_dir")
        yield


class RunFolder:
    """`state.pt` and the one before it, `state.previous.pt`, in the folder `path`.

    identity: what makes this run this run (settings, model, corpus); another identity in the folder is a ConfigError
    that names the first difference. Files are read with torch's weights-only loader: no code in them is executed.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self.identity = path, identity
        self.state, self.previous = path / "state.pt", path / "state.previous.pt"

    def save(self, content: dict[str, Any]) -> None:
        """Write the state; the one before it stays as state.previous.pt. OSError where it cannot be written: both
        files are then as they were."""
        content = {**content, "identity": json.dumps(self.identity, sort_keys=True)}
        buffer = io.BytesIO()  # torch's own file writer turns a full disk into a message about its internals
        torch.save(content | {"checksum": checksum(content)}, buffer)
        write_atomically(self.state, buffer.getbuffer(), keep_as=self.previous)

    def load(self) -> dict[str, Any] | None:
        """The newest sound state, or None where there is none; a damaged file is said, and the one before it used."""
        for part in self.path.glob(".*.part"):  # of a process that was killed while writing
            part.unlink(missing_ok=True)
        damaged = []
        for file in (self.state, self.previous):
            if not file.exists():
                continue
            try:
                content = torch.load(file, map_location="cpu", weights_only=True)
                identity = json.loads(content["identity"])
                if content.pop("checksum") != checksum(content):
                    raise ValueError("its checksum is wrong")
            except Exception as error:  # whatever a damaged file makes the loader raise
                damaged.append(f"{file} cannot be read ({type(error).__name__}: {str(error)[:120]}); not used")
                print(damaged[-1])
                continue
            self._compare(identity)
            return content
        if damaged:
            raise CheckpointError("; ".join(damaged) + f". Delete {self.path} to start the run anew")
        return None

    def _compare(self, saved: dict[str, Any]) -> None:
        # Recomputing changes no gradient, so a run may go on with more or less memory.
        for key in sorted({*saved, *self.identity} - {"model.recompute"}):
            if saved.get(key) != self.identity.get(key):
                raise ConfigError(
                    f"{self.path} holds a run with {key}={saved.get(key)!r}, this one has "
                    f"{key}={self.identity.get(key)!r}; give another out_dir, or delete that folder"
                )


def checksum(content: Any, so_far: int = 0) -> int:
    """CRC-32 of everything in nested dictionaries and lists of tensors, numbers and strings."""
    if isinstance(content, dict):
        for key in content:
            so_far = checksum(content[key], zlib.crc32(repr(key).encode(), so_far))
        return so_far
    if isinstance(content, list | tuple):
        for item in content:
            so_far = checksum(item, so_far)
        return so_far
    if isinstance(content, torch.Tensor):
        data = content.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return zlib.crc32(data.numpy().data, so_far)
    return zlib.crc32(repr(content).encode(), so_far)
