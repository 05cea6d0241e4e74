"""One notebook under papermill, its parameters checked by name and type first.

papermill itself only logs a misspelt parameter and goes on with the defaults, and YAML reads 1e-4 as a string.
"""

from __future__ import annotations

import ast
import difflib
import logging
from pathlib import Path
from typing import Any

import nbformat
import papermill

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
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise ConfigError(f"{notebook.name} has no parameter {name!r}; {hint}")
        checked[name] = _as_type(name, value, known[name])
    return checked


def _as_type(name: str, value: Any, known: dict[str, Any]) -> Any:
    default = ast.literal_eval(known["default"]) if known["default"] not in ("", None) else None
    wanted = known["inferred_type_name"] if known["inferred_type_name"] not in ("", "None") else type(default).__name__
    wanted = wanted.split("|")[0].strip().split("[")[0]
    if value is None and (default is None or "None" in known["inferred_type_name"]):
        return None
    if wanted == "float" and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif wanted == "int" and not isinstance(value, bool):
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.lstrip("-").isdigit():
            return int(value)
    elif wanted in ("bool", "str", "list", "dict", "tuple"):
        if type(value).__name__ == wanted or (wanted == "tuple" and isinstance(value, list)):
            return value
    elif wanted == "NoneType":
        return value
    raise ConfigError(f"the parameter {name}={value!r} must be of type {wanted} (default {known['default']})")


_NO_NEWS = ("Executing ", "Ending Cell", "Input Notebook", "Output Notebook", "<Figure", "<IPython", "[IPKernelApp]")
_EXERCISE = "no answer yet"  # how the cell of an exercise ends that nobody has solved


def _is_news(record: logging.LogRecord) -> bool:
    """Whether a line of papermill's log says something about the run, not about papermill."""
    message = record.getMessage().strip()
    return bool(message) and not message.startswith(_NO_NEWS) and not message.endswith(_EXERCISE)


def run_notebook(notebook: str | Path, output: str | Path, parameters: dict[str, Any], *, log: bool = True) -> Path:
    """Execute a notebook in its own folder with checked parameters; what its cells print goes to the terminal.

    Raises papermill's PapermillExecutionError where a cell fails; `output` then shows which.
    """
    notebook, output = Path(notebook), Path(output)
    parameters = check_parameters(notebook, parameters)
    output.parent.mkdir(parents=True, exist_ok=True)
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
        cwd=str(notebook.parent),
        log_output=log,
        progress_bar=False,
        kernel_name="python3",
        **papermill_options(),
    )
    return output
