"""Tables and print() in a notebook, shown as the text that they hold, and a notebook's own files, written whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.core.formatters import DisplayFormatter
from IPython.core.getipython import get_ipython

from slakit.records import visible, write_files
from slakit.scoring import csv_text


def plain_output() -> None:
    """From now on this notebook shows tables and prints as text: no mathematics, nothing hidden. Elsewhere nothing.

    HTML is escaped by pandas itself, but a browser would typeset $x$, and a right-to-left override in a printed gloss
    would turn the rest of the line.
    """
    shell = get_ipython()
    if shell is None or not isinstance(shell.display_formatter, DisplayFormatter):
        return
    formatters = shell.display_formatter.formatters
    formatters["text/html"].for_type(pd.DataFrame, table_html)
    for kind in (pd.DataFrame, pd.Series):
        formatters["text/plain"].for_type(kind, lambda table, printer, _: printer.text(visible(repr(table), keep="\n")))
    stream: Any = sys.stdout
    if not hasattr(stream.write, "__wrapped__"):
        stream.write = _writing_visibly(stream.write)


def _writing_visibly(write: Callable[[str], int]) -> Callable[[str], int]:
    @wraps(write)
    def write_visibly(text: str) -> int:
        return write(visible(text, keep="\n\t\r") if isinstance(text, str) else text)

    return write_visibly


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table with everything visible that steers or hides: cells, and names of rows and columns."""

    def text(value: Any) -> Any:
        return visible(value) if isinstance(value, str) else value

    return table.map(text).rename(index=text, columns=text)


def table_html(table: pd.DataFrame) -> str | None:
    """The table in HTML as pandas shows it in a notebook, with its options, as text alone."""
    plain = shown(table)
    with pd.option_context("display.html.use_mathjax", "$" not in plain.to_string() and "\\" not in plain.to_string()):
        return plain._repr_html_()  # what Jupyter calls


def save_results(folder: str | Path, contents: Mapping[str, Any]) -> list[Path]:
    """Write files of that name into a folder, all of them or none: a table as CSV, text and bytes as they are, all
    else as JSON. ConfigError names what is in the way."""
    files = {Path(folder) / name: _content(value) for name, value in contents.items()}
    write_files(files)
    return list(files)


def _content(value: Any) -> str | bytes:
    if isinstance(value, pd.DataFrame):
        return csv_text(value)
    return value if isinstance(value, (str, bytes)) else json.dumps(value, indent=1) + "\n"
