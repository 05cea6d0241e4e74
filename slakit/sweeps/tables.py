"""The runs of a spec as tables: every run, means over seeds beside the paper's figures, learning curves; exports."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from slakit.records import SlakitError, visible, write_files
from slakit.scoring import csv_text, escapes
from slakit.sweeps.checks import checked_points
from slakit.sweeps.paired import errors_of_clips
from slakit.sweeps.runs import read_run, status
from slakit.sweeps.spec import Point, Spec

# metrics.json's own figures beside "dev" and "test": column -> key there
_COSTS = {
    "trainable": "trainable", "encoder_gflops": "encoder_gflops", "step_seconds": "step_seconds",
    "frames_per_second": "frames_per_second", "kept_mb_per_frame": "kept_mb_per_frame",
    "peak_memory_mb": "peak_memory_mb", "training_seconds": "training_seconds", "epochs": "epochs",
    "best_epoch": "best_epoch", "warm_start_wer": "warm_start_wer",
}  # fmt: skip
_DIGITS = {"encoder_gflops": 4, "step_seconds": 3, "kept_mb_per_frame": 2, "training_hours": 3}
_PARTS = ("wer", "substitutions", "deletions", "insertions", "words")


@dataclass
class Results:
    """The tables of one spec.

    runs: one row a finished run: what varies, seed, WER and its parts, costs, device, versions. Costs hold
    peak_memory_mb for runs on a GPU only; kept_mb_per_frame says the same of every device. curves: one row an
    epoch of a run. missing: names of runs that are not done, with how they stand. clips: a row a clip of dev and test
    (split, clip, words), and for each configuration, by its number in the summary, the clip's errors, mean over seeds.
    """

    spec: Spec
    runs: pd.DataFrame
    curves: pd.DataFrame
    missing: dict[str, str]
    clips: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def varied(self) -> list[str]:
        """The columns that tell the configurations apart."""
        return [column for column in ("case", *varied_names(self.spec).values()) if column in self.runs]

    def summary(self) -> pd.DataFrame:
        """One row a configuration, in the spec's order: mean and spread over seeds, and the paper's figures.

        Columns: what varies, runs, dev_wer and test_wer (mean), …_std (sample standard deviation; empty for one run),
        trainable, …, and paper_dev_wer, … where the spec expects figures.
        """
        if self.runs.empty:
            return pd.DataFrame()
        keys = self.varied or ["spec"]
        figures = {"dev_wer", "test_wer", "training_hours", *_COSTS} - {"best_epoch", "warm_start_wer", *keys}
        numbers = [column for column in self.runs.dropna(axis="columns", how="all") if column in figures]
        groups = self.runs.groupby(keys, sort=False, dropna=False)
        table = pd.DataFrame({"runs": groups.size()}).join(pd.DataFrame(groups[numbers].mean()))
        for column in [name for name in ("dev_wer", "test_wer") if name in table]:
            table.insert(list(table).index(column) + 1, f"{column}_std", groups[column].std())
        papers = [column for column in self.runs if column.startswith("paper_")]
        table = table.join(pd.DataFrame(groups[papers].first())).reset_index()
        return self._increases(table) if "paper_wer_increase" in papers else table

    def _increases(self, table: pd.DataFrame) -> pd.DataFrame:
        """With dev_increase and test_increase: the WER above that of the spec's first case, all else equal."""
        others = [column for column in self.varied if column != "case"]
        first = table.loc[table["case"] == next(iter(self.spec.cases))]
        for split in [name for name in ("dev", "test") if f"{name}_wer" in table]:
            if others:
                base = table[others].merge(first[[*others, f"{split}_wer"]], on=others, how="left")[f"{split}_wer"]
            else:
                base = first[f"{split}_wer"].iloc[0] if len(first) else float("nan")
            table[f"{split}_increase"] = table[f"{split}_wer"] - base
        return table

    def write(self, folder: str | Path) -> list[Path]:
        """runs.csv, curves.csv, clips.csv, summary.csv, .md and .tex in FOLDER/SPEC; returns their paths.

        They are written together or not at all. SlakitError where no run is finished (empty tables never replace those
        that are there) or where the folder cannot be written.
        """
        folder = Path(folder) / self.spec.name
        if self.runs.empty:
            raise SlakitError(f"no run of {self.spec.name} is finished: {folder} is left as it is; run the sweep first")
        summary = self.summary()
        shown = readable(summary)
        contents = {
            "runs.csv": csv_text(self.runs.round(5)),
            "curves.csv": csv_text(self.curves.round(4)),
            "clips.csv": csv_text(self.clips.round(3)),
            "summary.csv": csv_text(summary.round(5)),
            "summary.md": as_markdown(shown, self.spec),
            "summary.tex": as_latex(shown, self.spec),
        }
        write_files({folder / name: content for name, content in contents.items()})
        return sorted(folder / name for name in contents)

    def __str__(self) -> str:
        lines = [f"{self.spec.name}: {self.spec.title}", f"{len(self.runs)} runs, {len(self.missing)} not done"]
        lines += [f"  {name}: {state}" for name, state in self.missing.items() if state.startswith("done")]
        if len(self.runs):
            lines.append(readable(self.summary()).to_string(index=False))
        return visible("\n".join(lines), keep="\n")


def paper_table(spec: Spec) -> pd.DataFrame:
    """What the paper reports, one row a configuration of the spec, whether or not it was run here."""
    names, rows = varied_names(spec), {}
    for point in spec.points():
        label = ({"case": point.case} if spec.cases else {}) | {c: _cell(point, name) for name, c in names.items()}
        rows.setdefault(tuple(label.values()), label | _paper(spec, point))
    return pd.DataFrame(list(rows.values()))


def read_results(spec: Spec, folder: str | Path) -> Results | None:
    """The tables that Results.write() left in FOLDER/SPEC, as they ship with the project; None where there are none."""
    folder = Path(folder) / spec.name
    if not (folder / "runs.csv").is_file() or not (folder / "runs.csv").read_text(encoding="utf-8").strip():
        return None
    runs = pd.read_csv(folder / "runs.csv", keep_default_na=False, na_values=[""]).map(escapes.from_csv)
    curves, clips = (_table(folder / f"{name}.csv") for name in ("curves", "clips"))
    return Results(spec, runs, curves, {}, clips)


def _table(file: Path) -> pd.DataFrame:
    """A file of Results.write(); an empty table where there is none, or nothing in it."""
    there = file.is_file() and bool(file.read_text(encoding="utf-8").strip())
    return pd.read_csv(file).map(escapes.from_csv) if there else pd.DataFrame()


def varied_names(spec: Spec) -> dict[str, str]:
    """The dotted parameters that a spec's grid varies -> their columns: the last part, where that is enough.

    One that takes a single value wherever it is given goes along with another one and tells nothing apart. What the
    cases change is told by the case's name.
    """
    values: dict[str, set[str]] = {}
    for grid in spec.grid:
        for key, given in grid.items():
            values.setdefault(key, set()).update(map(str, given if isinstance(given, list) else [given]))
    names = [key for key, given in values.items() if len(given) > 1]
    last = [name.rsplit(".", 1)[-1] for name in names]
    return {name: short if last.count(short) == 1 else name for name, short in zip(names, last, strict=True)}


def collect(spec: Spec, out: str | Path) -> Results:
    """Read the finished runs of `spec` below OUT/SPEC. Runs of other parameters in that folder are not looked at."""
    sweep_folder = Path(out) / spec.name
    names, rows, curves, missing, clips = varied_names(spec), [], [], {}, {}
    for point in checked_points(spec):
        folder = sweep_folder / point.name
        state = status(folder)
        metrics = _metrics(folder) if state == "done" else None
        if metrics is None:
            missing[point.name] = state if state != "done" else "done, but without a readable metrics.json"
            continue
        label = {"run": point.name} | ({"case": point.case} if spec.cases else {})
        label |= {column: _cell(point, name) for name, column in names.items()} | {"seed": point.seed}
        rows.append(label | _figures(metrics) | _paper(spec, point) | _machine(read_run(folder)))
        clips.setdefault(tuple(v for k, v in label.items() if k not in ("run", "seed")), []).append(metrics)
        history = folder / "run" / "history.jsonl"
        if history.is_file():
            lines = history.read_text(encoding="utf-8").splitlines()
            curves += [label | _scalars(json.loads(line)) for line in lines]
    return Results(spec, pd.DataFrame(rows), pd.DataFrame(curves), missing, errors_of_clips(list(clips.values())))


def _metrics(folder: Path) -> dict[str, Any] | None:
    """A run's metrics.json; None where it is not there or damaged."""
    try:
        metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) else None


def _cell(point: Point, name: str) -> Any:
    try:
        value = point.value(name)
    except KeyError:
        return ""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _figures(metrics: dict[str, Any]) -> dict[str, Any]:
    row = {}
    for split in ("dev", "test"):
        part = metrics.get(split) or {}
        row |= {f"{split}_{key}": part[key] for key in _PARTS if key in part}
    row |= {column: metrics[key] for column, key in _COSTS.items() if metrics.get(key) is not None}
    return row | ({"training_hours": row["training_seconds"] / 3600} if "training_seconds" in row else {})


def _paper(spec: Spec, point: Point) -> dict[str, float]:
    return {f"paper_{key}": value for key, value in spec.expected(point).items()}


def _machine(run: dict[str, Any]) -> dict[str, Any]:
    versions = run.get("versions", {})
    return {
        "device": run.get("device"), "seconds": run.get("seconds"), "torch": versions.get("torch"),
        "commit": versions.get("commit"),
    }  # fmt: skip


def _scalars(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if not isinstance(value, list | dict)}


def readable(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary for people: "12.3 ± 0.4", parameters in millions, the paper's figures at the end."""
    table = summary.copy()
    for column in ("dev_wer", "test_wer"):
        if column in table:
            spread = table.pop(f"{column}_std")
            table[column] = [
                f"{mean:.1f}" + ("" if pd.isna(std) else f" ± {std:.1f}")
                for mean, std in zip(table[column], spread, strict=True)
            ]
    if "trainable" in table:
        table["trainable"] = (table["trainable"] / 1e6).map("{:.3f} M".format)
    for column, digits in _DIGITS.items():
        if column in table:
            table[column] = table[column].map(f"{{:.{digits}f}}".format)
    for column in ("frames_per_second", "training_seconds", "peak_memory_mb", "epochs"):
        if column in table:
            table[column] = table[column].map("{:.0f}".format)
    for column in table:
        if str(column).startswith("paper_"):
            table[column] = ["" if pd.isna(value) else f"{value:g}" for value in table[column]]
    return table.rename(columns=lambda name: str(name).replace("_", " ").replace("wer", "WER %"))


def as_markdown(table: pd.DataFrame, spec: Spec) -> str:
    """A Markdown table with the spec's title and note."""

    def row(cells: Any) -> str:
        return "| " + " | ".join(map(escapes.as_markdown, cells)) + " |"

    title, source, note = map(escapes.as_markdown, (spec.title or spec.name, spec.source or spec.notebook, spec.note))
    lines = [f"**{title}** ({source})", "", row(table.columns), f"|{' --- |' * len(table.columns)}"]
    lines += map(row, table.to_numpy())
    return "\n".join(lines + (["", note] if note else [])) + "\n"


def as_latex(table: pd.DataFrame, spec: Spec) -> str:
    """A LaTeX table for \\input, with booktabs rules, caption and label."""
    style = table.astype(str).style
    style.hide(axis="index").format(escapes.as_latex).format_index(escapes.as_latex, axis=1)
    title, label = escapes.as_latex(spec.title or spec.name), re.sub(r"[^\w.:-]", "-", spec.name, flags=re.ASCII)
    return style.to_latex(hrules=True, position_float="centering", caption=title, label=f"tab:{label}")
