"""A run that is watched: curves that grow in a notebook, and training in other processes started from a cell."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from slakit.config import RunConfig, to_json
from slakit.machine import progress, write_atomically
from slakit.records import SlakitError
from slakit.show import figures as plots


class LiveCurves:
    """A Logger for fit(loggers=[LiveCurves()]): one picture under the cell, drawn anew after every epoch.

    It is an ordinary display that is updated, so it needs no widget: it works under papermill and in Colab, and the
    stored notebook holds the last picture. every: epochs between two drawings.
    """

    def __init__(self, every: int = 1):
        self.every, self.rows, self.handle = every, [], None

    def start(self, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        self.rows = list(rows)
        self._draw()

    def epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) % self.every == 0:
            self._draw()

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        if not self.rows:
            return
        figure = plots.training_curves(self.rows)
        plt.close(figure)  # the notebook would show it a second time
        if self.handle is None:
            self.handle = display(figure, display_id=True)
        else:
            self.handle.update(figure)


def launch(
    config: RunConfig,
    processes: int = 1,
    *,
    device: str | None = None,
    show_progress: bool | None = None,
    loggers: Sequence[Any] = (),
) -> list[dict[str, Any]]:
    """Train in `processes` new processes through torchrun and wait; returns the history, the rows of history.jsonl.

    The same as `torchrun --standalone --nproc-per-node N -m slakit train settings.json` in a terminal, with the file
    written into config.out_dir. The processes are clean: it does not matter what this kernel did to the GPU. Lines and
    bars of the run appear here as they come; interrupting the cell stops the run, calling again goes on with it.
    loggers: as in fit(), told of each row. Raises SlakitError with the last lines where the run fails.
    """
    out = Path(config.out_dir)
    settings = out / "settings.json"
    write_atomically(settings, to_json(config) + "\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "slakit", "train", str(settings), *(["--device", device] if device else [])]
    total = config.train.warm_start_epochs + config.train.epochs
    seen = _history(out)
    for logger in loggers:
        logger.start({}, seen)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"} | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True
    )
    said: list[str] = []
    bar = progress(range(total), "epochs", show_progress)
    try:
        for line, finished in _lines(run.stdout):
            if finished:
                said.append(line)
                if _is_news(line):
                    bar.write(line)
            else:
                bar.set_postfix_str(line[:60], refresh=True)
            rows = _history(out) if finished else seen
            for row in rows[len(seen) :]:
                for logger in loggers:
                    logger.epoch(row)
            seen = rows
            bar.update(len(seen) - bar.n)
        code = run.wait()
    finally:
        bar.close()
        if run.poll() is None:  # an interrupted cell: torchrun tells its processes
            os.killpg(run.pid, signal.SIGTERM)
            run.wait()
        for logger in loggers:
            logger.close()
    if code:
        told = [line for line in said if line.startswith("slakit:")] or said[-5:]
        raise SlakitError(f"{' '.join(command[1:])} ended with {code}: {' | '.join(told[-5:])}")
    return _history(out)


def _history(out: Path) -> list[dict[str, Any]]:
    path = out / "history.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _lines(stream) -> Iterator[tuple[str, bool]]:
    """(text, whether the line is finished) as it comes; a bar's line ends with a return and is not finished."""
    text = b""
    while piece := stream.read(4096):
        *parts, text = re.split(rb"([\r\n])", text + piece)
        for part, end in zip(parts[::2], parts[1::2], strict=True):
            line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", part.decode("utf-8", "replace")).rstrip()
            if line:
                yield line, end == b"\n"


_NO_NEWS = ("Setting OMP_NUM_THREADS", "*****", "W1", "I1", "[W", "[Gloo]", "warnings.warn", "FutureWarning")


def _is_news(line: str) -> bool:
    return not line.strip().startswith(_NO_NEWS)
