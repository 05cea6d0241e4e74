"""One notebook under papermill, its parameters checked by name and type first."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import papermill

from slakit.machine import checkout, shipped
from slakit.sweeps.kernels import papermill_options
from slakit.sweeps.parameters import check_parameters

_NO_NEWS = ("Executing ", "Ending Cell", "Input Notebook", "Output Notebook", "<Figure", "<IPython", "[IPKernelApp]")
_EXERCISE = "no answer yet"  # how the cell of an exercise ends that nobody has solved


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of papermill's log says something about the run, not about papermill."""
    message = record.getMessage().strip()
    return bool(message) and not message.startswith(_NO_NEWS) and not message.endswith(_EXERCISE)


def run_notebook(notebook: str | Path, output: str | Path, parameters: dict[str, Any], *, log: bool = True) -> Path:
    """Execute a notebook in its own folder with checked parameters; what its cells print goes to the terminal.

    One that came in a wheel is executed in the current folder. Raises papermill's PapermillExecutionError where a cell
    fails; `output` then shows which.
    """
    notebook, output = Path(notebook), Path(output)
    parameters = check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
    wheels = checkout() is None and notebook.is_relative_to(shipped("notebooks"))
    logger = logging.getLogger("papermill")
    if log and not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        handler.addFilter(_is_news)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters=parameters,
        cwd=str(Path.cwd() if wheels else notebook.parent),
        log_output=log,
        progress_bar=False,
        kernel_name="python3",
        **papermill_options(),
    )
    return output
