"""Glosses, ids and names as they are written into a page, a document, a table or a figure: as the text that they are.

Each function takes any text and gives what the other program shows as that text: no markup, no mathematics, no formula.
What cannot be seen or steers a terminal is spelled first (`slakit.records.visible`).
"""

from __future__ import annotations

import html
import re
from typing import Any

from slakit.records import visible

# "[" and "*" are read as arguments of the line break before them, "<" and ">" are other letters in TeX's old fonts,
# and '"' is a command in German documents.
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}",
    "`": r"\textasciigrave{}", '"': r"{\char34}", "±": r"$\pm$",
} | {letter: f"\\{letter}" for letter in "&%$#_"}  # fmt: skip

# What begins or ends Markdown's markup; "_" within a word is none, "-" and "1." begin lists.
_MARKDOWN = re.compile(r"[\\`*<>\[\]|$~&#]|(?<![^\W_])_|_(?![^\W_])|^[-+](?=[-\s]|$)|^\d+[.)](?=\s|$)")
# Cells that a spreadsheet takes for a formula (OWASP, "CSV injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_html(text: object) -> str:
    """For the text of an element or a quoted attribute."""
    return html.escape(visible(text))


def as_latex(text: object) -> str:
    """For LaTeX's running text, a caption or a cell of a table."""
    return visible(text).translate(str.maketrans(_LATEX))


def as_markdown(text: object) -> str:
    """For a line or a cell of a table in Markdown (CommonMark and GitHub's)."""
    return _MARKDOWN.sub(lambda match: f"{match[0][:-1]}\\{match[0][-1]}", visible(text))


def as_csv(value: Any) -> Any:
    """A cell that no spreadsheet computes: what would be a formula gets an apostrophe, which `from_csv` removes."""
    return f"'{value}" if isinstance(value, str) and value.lstrip("'").startswith(_FORMULA) else value


def from_csv(value: Any) -> Any:
    """What `as_csv` was given."""
    return value[1:] if isinstance(value, str) and value[:1] == "'" and as_csv(value[1:]) == value else value


def as_label(text: object) -> str:
    """For matplotlib: no mathematics."""
    return visible(text).replace("$", r"\$")
