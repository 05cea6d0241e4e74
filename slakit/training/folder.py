"""A run's folder: held by one process, its state written atomically, read safely, refused when it is another run's."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from slakit.config import TrainConfig, to_dict
from slakit.machine import locked
from slakit.models.checkpoints import load_tensors, read_description
from slakit.models.description import checksum as checkpoint_checksum
from slakit.recognition.likeness import KEY
from slakit.recognition.pictures import picture_facts
from slakit.records import CheckpointError, ConfigError, Corpus, SlakitError, write_atomically

START = "start"  # the folder of the run that comes first, in the run's own


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The folder, made and held for this process alone. ConfigError where it cannot be written, SlakitError where
    another process trains in it."""
    with ExitStack() as stack:
        try:
            free = stack.enter_context(locked(folder, 5.0))  # a killed batch run takes its kernel along, a little later
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name, or half of a character
            reason = getattr(error, "strerror", error)
            raise ConfigError(f"{folder} cannot be written ({reason}); give another out_dir") from error
        if not free:
            raise SlakitError(f"another process is training in {folder}; wait for it, or give another out_dir")
        yield


# What a run may go on with in another value: it decides how long, how often scored and how decoded, not what is learnt.
MAY_CHANGE = ("train.epochs", "train.steps", "train.evaluate_every", "train.max_bad_clips", "train.decode")


class RunFolder:
    """`state.pt` and the one before it, `state.previous.pt`, in the folder `path`.

    identity: what makes this run this run (settings, model, corpus); another identity in the folder is a ConfigError
    that names the first difference, but for MAY_CHANGE, of which it is said. Files are read with torch's weights-only
    loader: no code in them is executed.
    """

    def __init__(self, path: Path, identity: dict[str, Any]):
        self.path, self.identity = path, identity
        self.state, self.previous = path / "state.pt", path / "state.previous.pt"

    def begun(self) -> bool:
        """Whether a state is there, sound or not."""
        return self.state.exists() or self.previous.exists()

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
        for key in sorted({*saved, *self.identity} - {"model.recompute"}, key=lambda key: (key in MAY_CHANGE, key)):
            before, now = saved.get(key), self.identity.get(key)
            if before == now:
                continue
            if key not in MAY_CHANGE:
                raise ConfigError(
                    f"{self.path} holds a run with {key}={before!r}, this one has {key}={now!r}; give another out_dir, "
                    "or delete that folder"
                )
            print(f"{self.path} was trained with {key}={before!r} so far, and goes on with {now!r}{_note(key, self)}")


def history_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's history.jsonl; none where it is not there."""
    file = folder / "history.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []


def best_on_disk(path: Path, known: dict[str, Any], crc: int | None, epoch: int) -> tuple[dict[str, Any], int]:
    """(row, mark) of the best checkpoint `path`; CheckpointError where it is not this run's.

    known, crc: the same as the state has them. The file is written before the state, so it may be of a later epoch than
    the state's `epoch`, which is not done yet; and its description may say more than then.
    """
    row, found = read_description(path).get("metrics", {}), mark_of(path)
    if row.get("epoch") == known["epoch"] and found == (found if crc is None else crc):
        return known, found
    if row.get("epoch", -1) >= epoch:
        print(f"{path.name} is of epoch {row['epoch'] + 1}, later than the state; it is kept")
        return row, found
    raise CheckpointError(f"{path} is damaged or another run's")


def mark_of(path: Path) -> int:
    """CRC-32 of a checkpoint, of what was added to its description afterwards apart; CheckpointError where it cannot be
    read, or is not as it was written."""
    tensors, description = load_tensors(path), read_description(path)
    if description.pop("checksum", None) != checkpoint_checksum(description, tensors):
        raise CheckpointError(f"{path} is damaged")
    description.pop(KEY, None)
    return checksum([description, [[name, tensors[name]] for name in sorted(tensors)]])


def _note(key: str, folder: RunFolder) -> str:
    if key == "train.decode":
        return "; word error rates until here are of the other decoding"
    if key in ("train.epochs", "train.steps") and folder.identity.get("train.schedule") == "cosine":
        return "; the learning rates follow the cosine of the new number from here on"
    return ""


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


def about(corpus: Corpus, trained: int, settings: TrainConfig, row: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint says of its training, `trained` clips and the epoch's row: by it the model is evaluated, and
    recognises, afterwards."""
    return {
        "corpus": corpus.name, "corpus_options": dict(corpus.options), "train": to_dict(settings),
        "pictures": picture_facts(corpus.train), "metrics": {"dev_wer": row["wer"], **row},
        "clips": {"train": trained, "dev": len(corpus.dev)},
    }  # fmt: skip
