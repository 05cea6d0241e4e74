"""What benchmarks/maps.py measured, as tables that say in words what the intervals allow to say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pandas as pd

REPEAT = "python benchmarks/maps.py"
ALIKE = 0.5  # a rank correlation above which a map is called nearly the same


def read_measured(path: str | Path) -> dict[str, dict[str, Any]]:
    """{method: its part of the file}; nothing where there is no file."""
    path = Path(path)
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: part for name, part in content.items() if isinstance(part, dict) and "curves" in part}


def another_model(part: dict[str, Any], about: dict[str, Any]) -> str:
    """A sentence where a part was measured with other weights than those that `about` describes; otherwise "".

    about: what a checkpoint says of itself (Recognizer.about). Compared are seed and metrics.
    """
    then = part.get("demo_model", {})
    differ = [key for key in ("seed", "metrics") if then.get(key) != about.get(key)]
    if not differ:
        return ""
    changes = ", ".join(f"{key} {then.get(key)} then, {about.get(key)} now" for key in differ)
    return f"measured with another model ({changes}); run `{REPEAT}` again"


def gains_table(measured: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Deletion and insertion: one row a method, map and curve, with the gain over random orders and its 95 % interval.

    verdict: "better than random" or "worse than random" where the interval leaves 0 out, else "no better than random".
    """
    verdicts = ("worse than random", "no better than random", "better than random")
    return _rows(measured, "curves", "curve", 0.0, verdicts)


def sanity_table(measured: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Randomised weights: one row a method, map and change, with the rank correlation to the true map.

    verdict: "another map" where the whole interval lies below ALIKE, "nearly the same map" where it lies above,
    otherwise "undecided". The same map after a change says that it does not depend on what was changed.
    """
    return _rows(measured, "sanity", "change", ALIKE, ("another map", "undecided", "nearly the same map"))


def _rows(
    measured: dict[str, dict[str, Any]], part: str, name: str, line: float, verdicts: tuple[str, str, str]
) -> pd.DataFrame:
    """verdicts: of an interval that lies below the line, on it, above it."""
    columns = ["method", "map", name, "mean", "low", "high", "clips"]
    rows = [
        {"method": method, "map": kind, name: label, **{key: figure[key] for key in columns[3:]}}
        for method, content in measured.items()
        for kind, figures in content.get(part, {}).items()
        for label, figure in figures.items()
    ]
    below, on, above = verdicts
    labels = [below if row["high"] < line else above if row["low"] > line else on for row in rows]
    return pd.DataFrame(rows, columns=pd.Index(columns)).assign(verdict=labels)


def spread(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table for people: a row a method and map, a column a curve or change, "0.12 [0.05, 0.20]" in the cells."""
    numbers = zip(table["mean"], table["low"], table["high"], strict=True)
    text = [f"{mean:.2f} [{low:.2f}, {high:.2f}]" for mean, low, high in numbers]
    return (
        table.assign(text=text)
        .pivot_table(index=["method", "map"], columns=name, values="text", aggfunc="first", sort=False)
        .fillna("")
    )


def in_words(table: pd.DataFrame, name: str) -> str:
    """One line a verdict and curve (or change): the methods and maps of which it is true."""
    if table.empty:
        return f"nothing is measured yet: {REPEAT}"
    lines = []
    for key, rows in table.groupby([name, "verdict"], sort=False):
        who = "; ".join(f"{method}: {', '.join(part['map'])}" for method, part in rows.groupby("method", sort=False))
        lines.append(f"{', '.join(cast('tuple[str, str]', key))}: {who}")
    return "\n".join(lines)
