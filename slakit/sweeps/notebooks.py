"""One notebook under papermill, its parameters checked by name and type first.

papermill itself only logs a misspelt parameter and goes on with the defaults, and YAML reads 1e-4 as a string.
"""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any, cast

import nbformat
import papermill
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from slakit.config import nearest
from slakit.machine import checkout, shipped
from slakit.records import ConfigError
from slakit.sweeps.kernels import papermill_options


def check_parameters(notebook: str | Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with their values in the notebook's types; a wrong name, type or notebook is a ConfigError.

    The type of a parameter is its annotation in the cell tagged `parameters` (`epochs: int = 1`), or its default's.
    A string such as "1e-4" is taken as the float it spells where a float is wanted, never the other way round.
    """
    notebook = Path(notebook)
    if not notebook.is_file():
        raise ConfigError(f"there is no notebook {notebook}")
    try:
        known = papermill.inspect_notebook(str(notebook))
    except (ValueError, KeyError, nbformat.ValidationError) as error:
        raise ConfigError(f"{notebook} cannot be read as a notebook: {error}") from error
    if not known:
        raise ConfigError(f"{notebook} has no parameters: tag one cell 'parameters'")
    checked = {}
    for name, value in parameters.items():
        if name not in known:
            raise ConfigError(f"{notebook.name} has no parameter {name!r}{nearest(name, known)}")
        checked[name] = _as_type(name, value, known[name])
    return checked


def _as_type(name: str, value: Any, known: dict[str, Any]) -> Any:
    """`value` as JSON spells the parameter's type: a whole number passes for a float, a list for a tuple."""
    default = ast.literal_eval(known["default"]) if known["default"] not in ("", None) else None
    annotation = known["inferred_type_name"]
    if annotation in ("", "None"):
        annotation = "Any" if default is None else type(default).__name__
    elif default is None:
        annotation += " | None"
    number = isinstance(default, int | float) and not isinstance(default, bool)
    try:
        text = value if isinstance(value, str) and number else to_json(value, inf_nan_mode="constants")
        return TypeAdapter(cast(Any, annotation)).validate_json(text, strict=True)
    except PydanticUserError as error:
        raise ConfigError(f"the parameter {name} is of an unknown type, {annotation}; use str, int, list, …") from error
    except (ValidationError, PydanticSerializationError):
        raise ConfigError(
            f"the parameter {name}={value!r} must be of type {annotation} (default {known['default']})"
        ) from None


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
