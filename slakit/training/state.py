"""The state of a training run on disk: written atomically, read safely, refused when it belongs to another run."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slakit.machine import locked, write_atomically
from slakit.models.recognizer import Recognizer
from slakit.records import CheckpointError, ConfigError, SlakitError

NO_MATTER = {"model.recompute"}  # of an identity: it changes no gradient, so a run may go on with more or less memory


@dataclass
class Position:
    """Where in which epoch a process is, and the sums of that epoch's row so far; saved with every checkpoint.

    batches: done in this epoch by each process. clips, frames: handed to all processes; counted: those with a finite
    loss. skipped, left_out: ids, of this process alone. steps_skipped: steps of the optimiser that were left out.
    """

    epoch: int = 0
    batches: int = 0
    clips: int = 0
    frames: int = 0
    counted: int = 0
    skipped_clips: int = 0
    steps_skipped: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made and held for this process alone. ConfigError where it cannot be written, SlakitError where
    another process trains in it."""
    with ExitStack() as stack:
        try:
            free = stack.enter_context(locked(folder, 5.0))  # a killed batch run takes its kernel along, a little later
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK):  # a mounted Drive may have no locks
                raise ConfigError(f"{folder} cannot be written ({error.strerror}); give another out_dir") from error
            free = True
        if not free:
            raise SlakitError(f"another process is training in {folder}; wait for it, or give another out_dir")
        yield


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
        return zlib.crc32(data.numpy(), so_far)
    return zlib.crc32(repr(content).encode(), so_far)


class RunState:
    """`state.pt` and the one before it, `state.previous.pt`, in a run's folder, and the best checkpoint, `best/`.

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

    @property
    def new_best(self) -> Path:
        """Where a better checkpoint waits until the state that speaks of it is written."""
        return self.folder / "best.new"

    def save(self, content: dict[str, Any]) -> None:
        """Write the state; the state before it stays as state.previous.pt. OSError where it cannot be written: both
        files are then as they were."""
        content = {**content, "identity": json.dumps(self.identity, sort_keys=True)}
        buffer = io.BytesIO()  # torch's own file writer turns a full disk into a message about its internals
        torch.save(content | {"checksum": checksum(content)}, buffer)
        write_atomically(self.path, buffer.getbuffer(), keep_as=self.previous)

    def load(self) -> dict[str, Any] | None:
        """The newest sound state, or None where there is none; a damaged file is reported in `warnings`."""
        for left in self.folder.glob(".*.part"):  # of a process that was killed while writing
            left.unlink(missing_ok=True)
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                identity = json.loads(content["identity"])
                found = content.pop("checksum")
                if found != checksum(content):
                    raise ValueError("its checksum is wrong")
            except Exception as error:  # whatever a damaged file makes the loader raise: said, the one before is used
                self.warnings.append(f"{path} cannot be read ({type(error).__name__}: {str(error)[:120]}); not used")
                continue
            self._check(identity, path)
            return content
        if self.warnings:
            raise CheckpointError("; ".join(self.warnings) + f". Delete {self.folder} to start the run anew")
        return None

    def settle_best(self, epoch: int | None) -> None:
        """best/ becomes the checkpoint that the state speaks of, of that epoch; call it after every save and load."""
        best, new, old = self.folder / "best", self.new_best, self.folder / "best.old"
        if epoch is not None and best_epoch(new) == epoch:
            shutil.rmtree(old, ignore_errors=True)
            if best.exists():
                os.replace(best, old)
            os.replace(new, best)
        elif old.exists() and not best.exists():  # killed between the two renames, and the state was lost, too
            os.replace(old, best)
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)

    def _check(self, found: dict[str, Any], path: Path) -> None:
        for key in sorted({*found, *self.identity} - NO_MATTER):
            if found.get(key) != self.identity.get(key):
                raise ConfigError(
                    f"{path.parent} holds a run with {key}={found.get(key)!r}, this one has "
                    f"{key}={self.identity.get(key)!r}; give another out_dir, or delete that folder"
                )


def best_row(folder: Path) -> dict[str, Any] | None:
    """The epoch's row that a best checkpoint was saved with; None where there is no whole checkpoint."""
    try:
        return json.loads((folder / "model.json").read_text(encoding="utf-8"))["metrics"]
    except (OSError, ValueError, KeyError):
        return None


def best_epoch(folder: Path) -> int | None:
    """The epoch of a best checkpoint."""
    return (best_row(folder) or {}).get("epoch")


def restore_trained(model: Recognizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put saved trained weights back; CheckpointError where they are not those of this model."""
    wanted, known = set(model.trainable_state()), set(model.state_dict())
    if not wanted <= set(tensors) <= known:
        strange = sorted(wanted - set(tensors)) or sorted(set(tensors) - known)
        raise CheckpointError(
            f"the saved weights do not fit the model, for instance {strange[0]}; give another out_dir"
        )
    model.load_state_dict(tensors, strict=False)
