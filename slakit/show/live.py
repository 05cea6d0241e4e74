"""A run that is watched: curves that grow in a notebook, and training in other processes started from a cell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from slakit.config import RunConfig, to_json
from slakit.machine import progress
from slakit.records import SlakitError, write_atomically
from slakit.show.figures import training_curves
from slakit.training.folder import START, history_of

# How lines of torchrun and of its processes begin that say nothing about the run.
NO_NEWS = ("Setting OMP_NUM_THREADS", "*****", "W1", "I1", "[W", "[Gloo]", "warnings.warn", "FutureWarning")


class LiveCurves:
    """A Logger for fit(loggers=[LiveCurves()]): one picture under the cell, drawn anew after every epoch.

    It is an ordinary display that is updated, so it needs no widget: it works under papermill and in Colab, and the
    stored notebook holds the last picture.
    """

    def __init__(self):
        self.rows, self.handle = [], None

    def start(self, settings: dict[str, Any], rows: Sequence[dict[str, Any]]) -> None:
        self.rows = [*(row for row in self.rows if row not in rows), *rows]  # a second run goes on behind the first
        self._draw()

    def epoch(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        self._draw()

    def close(self) -> None:
        self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        if not self.rows:
            return
        figure = training_curves(self.rows)
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
    train, starts = config.train, isinstance(config.train.start_from, dict)
    parts = (train.first_run(), train) if starts else (train,)
    total = 0 if any(part.steps for part in parts) else sum(part.epochs for part in parts)
    history = history_of(out / START) + history_of(out)
    for logger in loggers:
        logger.start({}, history)
    environment = {"OMP_NUM_THREADS": "1"} | os.environ | {"PYTHONUNBUFFERED": "1"}
    run = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, start_new_session=True
    )
    output: list[str] = []
    bar = progress(range(total) if total else (), "epochs", show_progress)  # steps: nobody has counted the clips yet
    try:
        for line, finished in _lines(run.stdout):
            if not finished:
                bar.set_postfix_str(line[:60], refresh=True)
                continue
            output.append(line)
            if not line.strip().startswith(NO_NEWS):
                bar.write(line)
            rows = history_of(out / START) + history_of(out)
            for row in rows[len(history) :]:
                for logger in loggers:
                    logger.epoch(row)
            history = rows
            bar.update(len(history) - bar.n)
        code = run.wait()
    finally:
        bar.close()
        if run.poll() is None:  # an interrupted cell: torchrun tells its processes
            run.terminate()
            run.wait()
        for logger in loggers:
            logger.close()
    if code:
        reasons = [line for line in output if line.startswith("slakit:")] or output
        raise SlakitError(f"{' '.join(command[1:])} ended with {code}: {' | '.join(reasons[-5:])}")
    return history_of(out)


def _lines(stream) -> Iterator[tuple[str, bool]]:
    """(text, whether the line is finished) as it comes; a bar's line ends with a return and is not finished."""
    text = b""
    while piece := stream.read(4096):
        *parts, text = re.split(rb"([\r\n])", text + piece)
        for part, end in zip(parts[::2], parts[1::2], strict=True):
            line = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", part.decode("utf-8", "replace")).rstrip()
            if line:
                yield line, end == b"\n"
