"""Where the rows of a training run go: one row an epoch, the same to every logger.

history.jsonl is always written. TrainConfig.track names the others: "auto", its default, is TensorBoard where that is
installed (`pip install "slakit[track]"`) and nothing elsewhere; Weights & Biases and MLflow are used where they are
named. Anything with these three methods can be given to fit(loggers=[…]).
"""

from __future__ import annotations

import importlib
import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from slakit.config import nearest
from slakit.records import ConfigError, write_atomically


class Logger(Protocol):
    """start(settings, rows so far) once, epoch(row) after every epoch, close() at the end, after an error too.

    settings: flat, name -> value. A row holds numbers, and lists of clip ids ("skipped", "left_out"). A run that goes
    on calls start() with the rows that it has already: what was logged after them is to be forgotten.
    """

    def start(self, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None: ...
    def epoch(self, row: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


def numbers(row: dict[str, Any]) -> dict[str, float]:
    """The numbers of a row; of lists their lengths."""
    values = {key: len(value) if isinstance(value, list) else value for key, value in row.items()}
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float) and key != "epoch"}


class JsonLines:
    """history.jsonl: one JSON object a line. The whole file is replaced at once, so no reader sees half a line."""

    def __init__(self, folder: Path):
        self.path, self.rows = folder / "history.jsonl", []

    def start(self, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        self.rows = list(rows)
        if rows:
            self._write()

    def epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self._write()

    def _write(self) -> None:
        write_atomically(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows))

    def close(self) -> None:
        pass


class TensorBoard:
    """Event files in `tensorboard/` of the run's folder: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path):
        self.module = _needed("torch.utils.tensorboard", "tensorboard", 'pip install "slakit[track]"')
        self.folder, self.writer = folder / "tensorboard", None

    def start(self, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        self.writer = self.module.SummaryWriter(str(self.folder), purge_step=len(rows))
        text = "\n".join(f"    {key} = {value}" for key, value in settings.items())
        self.writer.add_text("settings", text, len(rows))

    def epoch(self, row: dict[str, Any]) -> None:
        assert self.writer is not None, "start() comes first"
        for name, value in numbers(row).items():
            self.writer.add_scalar(name, value, row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        if self.writer:
            self.writer.close()


class WandB:
    """Weights & Biases; the run's id is kept in run_id.txt, so that a resumed run goes on in the same curve."""

    def __init__(self, folder: Path):
        self.module = _needed("wandb", "wandb", "pip install wandb")
        self.folder, self.run = folder, None

    def start(self, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        note = self.folder / "run_id.txt"
        if not note.exists():
            write_atomically(note, secrets.token_hex(4))
        self.run = self.module.init(
            project="slakit", id=note.read_text(encoding="utf-8").strip(), resume="allow", dir=str(self.folder),
            config=settings, name=self.folder.name,
        )  # fmt: skip

    def epoch(self, row: dict[str, Any]) -> None:
        assert self.run is not None, "start() comes first"
        self.run.log(numbers(row), step=row["epoch"])

    def close(self) -> None:
        if self.run:
            self.run.finish()


class MLflow:
    """MLflow, at its tracking URI (by default ./mlruns)."""

    def __init__(self, folder: Path):
        self.module = _needed("mlflow", "mlflow", "pip install mlflow")
        self.folder, self.started = folder, False

    def start(self, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        note = self.folder / "mlflow_run.txt"
        known = note.read_text(encoding="utf-8").strip() if note.exists() else None
        run = self.module.start_run(run_id=known, run_name=self.folder.name)
        note.write_text(run.info.run_id, encoding="utf-8")
        self.started = True
        if known is None:
            self.module.log_params({key: str(value)[:500] for key, value in settings.items()})

    def epoch(self, row: dict[str, Any]) -> None:
        self.module.log_metrics(numbers(row), step=row["epoch"])

    def close(self) -> None:
        if self.started:
            self.module.end_run()


AUTO = "auto"
TRACKERS = {"tensorboard": TensorBoard, "wandb": WandB, "mlflow": MLflow}


def make_loggers(names: Sequence[str], folder: Path) -> list[Logger]:
    """history.jsonl and the trackers named, each once; ConfigError for an unknown one or one that is not installed."""
    trackers: dict[str, Logger] = {}
    for name in names:
        if name not in (AUTO, *TRACKERS):
            raise ConfigError(f"track={name!r} is no tracker{nearest(name, (AUTO, *TRACKERS))}")
        kind = "tensorboard" if name == AUTO else name
        try:
            trackers.setdefault(kind, TRACKERS[kind](folder))
        except ConfigError:
            if name != AUTO:
                raise
    return [JsonLines(folder), *trackers.values()]


def _needed(module: str, package: str, way_out: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(f"track needs the package {package} ({error}); {way_out}, or leave it out of track") from None
