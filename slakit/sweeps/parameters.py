"""A notebook's parameters: their names, types and defaults, and what papermill puts in their place.

papermill itself only logs a misspelt parameter and goes on with the defaults, and YAML reads 1e-4 as a string.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nbformat
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from slakit.config import nearest
from slakit.records import ConfigError


@dataclass(frozen=True)
class Parameter:
    """One line of the cell tagged `parameters`. annotation: its type as it is written, "" for none."""

    annotation: str
    default: Any


def parameters_of(notebook: str | Path) -> dict[str, Parameter]:
    """The parameters of a notebook by name; ConfigError where it is no notebook or has none."""
    notebook = Path(notebook)
    if not notebook.is_file():
        raise ConfigError(f"there is no notebook {notebook}")
    try:
        cells = nbformat.read(notebook, 4).cells
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError) as error:
        raise ConfigError(f"{notebook} cannot be read as a notebook: {error}") from error
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise ConfigError(f"{notebook} has no parameters: tag one cell 'parameters'")
    return _assigned(tagged[0])


def check_parameters(notebook: str | Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with their values in the notebook's types; a wrong name, type or notebook is a ConfigError.

    The type of a parameter is its annotation in the cell tagged `parameters` (`epochs: int = 1`), or its default's.
    A string such as "1e-4" is taken as the float it spells where a float is wanted, never the other way round.
    """
    return _checked(Path(notebook).name, parameters_of(notebook), parameters)


def check_injected(cells: Sequence[str]) -> None:
    """Stop a notebook whose parameters do not fit its cell of parameters: ConfigError with the nearest right name.

    cells: `In`, the sources that the kernel has run. papermill puts a cell behind that of the parameters, which begins
    with "# Parameters"; without one (the notebook was opened by hand) nothing is checked.
    """
    injected = [number for number, source in enumerate(cells) if number and source.startswith("# Parameters\n")]
    if injected:
        given = {name: found.default for name, found in _assigned(cells[injected[-1]]).items()}
        _checked("this notebook", _assigned(cells[injected[-1] - 1]), given)


def _assigned(source: str) -> dict[str, Parameter]:
    """The assignments of a cell: name -> its annotation and value."""
    found = {}
    for line in ast.parse(source).body:
        if not isinstance(line, ast.AnnAssign | ast.Assign):
            continue
        targets = [line.target] if isinstance(line, ast.AnnAssign) else line.targets
        target, value = targets[0], line.value
        if len(targets) == 1 and isinstance(target, ast.Name) and value is not None:
            annotation = ast.unparse(line.annotation) if isinstance(line, ast.AnnAssign) else ""
            found[target.id] = Parameter(annotation, _value(target.id, value))
    return found


def _value(name: str, value: ast.expr) -> Any:
    text = ast.unparse(value)
    if text in ("float('nan')", "float('inf')", "float('-inf')"):  # as papermill writes them
        return float(text[7:-2])
    try:
        return ast.literal_eval(value)
    except ValueError:
        raise ConfigError(f"the parameter {name} = {text} is no plain value; write a number, a text, a list…") from None


def _checked(notebook: str, known: Mapping[str, Parameter], parameters: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for name, value in parameters.items():
        if name not in known:
            raise ConfigError(f"{notebook} has no parameter {name!r}{nearest(name, known)}")
        checked[name] = _as_type(name, value, known[name])
    return checked


def _as_type(name: str, value: Any, known: Parameter) -> Any:
    """`value` as JSON spells the parameter's type: a whole number passes for a float, a list for a tuple."""
    default, annotation = known.default, known.annotation
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
            f"the parameter {name}={value!r} must be of type {annotation} (default {default!r})"
        ) from None
