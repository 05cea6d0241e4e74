"""Figures of a sweep's tables; each returns the Figure. The tables come from collect() or read_results()."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slakit.scoring.escapes import as_label
from slakit.show.figures import line_colour
from slakit.show.pictures import HEAT

SPLITS = {"dev_wer": "dev WER (%)", "test_wer": "test WER (%)"}


def heat_map(
    table: pd.DataFrame, rows: str, columns: str, value: str, *, axis: Axes, title: str = "", spread: str | None = None
) -> None:
    """One grid of numbers onto `axis`, dark is good, white was not run; spread: a column that is written below as ±."""

    def grid(column: str) -> pd.DataFrame:
        cells = table.pivot_table(index=rows, columns=columns, values=column, sort=False)
        return cells.reindex(index=sorted(table[rows].unique(), key=_layers), columns=sorted(table[columns].unique()))

    numbers = grid(value).rename(index=_label, columns=_label)
    text = numbers.map(lambda number: "" if pd.isna(number) else f"{number:.1f}")
    if spread is not None and bool(table[spread].notna().any()):
        deviations = grid(spread).rename(index=_label, columns=_label)
        text = text + deviations.map(lambda number: "" if pd.isna(number) else f"\n±{number:.1f}")
    split = value.removeprefix("paper_")
    sns.heatmap(
        numbers, annot=text, fmt="", cmap=HEAT, ax=axis, linewidths=1, cbar_kws={"label": SPLITS.get(split, split)}
    )
    axis.set(title=as_label(title), xlabel=as_label(columns), ylabel=as_label(rows))
    axis.tick_params(rotation=0)
    axis.grid(visible=False)


def _label(value: object) -> object:
    """Text as matplotlib may draw it, numbers as they are."""
    return as_label(value) if isinstance(value, str) else value


def _layers(label: object) -> tuple:
    """Sorts "1-12" before "10-12"."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in str(label).split("-"))


def heat_maps(summary: pd.DataFrame, rows: str, columns: str, value: str = "test_wer", width: float = 12.0) -> Figure:
    """Mean WER over a grid of two parameters, ours with the deviation over seeds, and the paper's beside it.

    Each has its own colours: the corpora differ, so only the patterns can be compared.
    """
    parts: list[tuple[str, str, str | None]] = [("ours (mean ± deviation over seeds)", value, f"{value}_std")]
    if f"paper_{value}" in summary and bool(summary[f"paper_{value}"].notna().any()):
        parts.append(("the paper", f"paper_{value}", None))
    height = 0.62 * summary[rows].nunique() + 1.5
    figure, axes = plt.subplots(1, len(parts), figsize=(width, height), squeeze=False)
    for axis, (title, column, spread) in zip(axes[0], parts, strict=True):
        heat_map(summary, rows, columns, column, axis=axis, title=title, spread=spread)
    figure.tight_layout()
    return figure


def wer_against_parameters(summary: pd.DataFrame, label: str, value: str = "test_wer", width: float = 12.0) -> Figure:
    """WER against trainable parameters, one mark a configuration (CLIP-SLA Fig. 1b): low and left is good.

    Bars: standard deviation over seeds. Where the paper gives both figures, a second panel shows its own.
    """
    panels: list[tuple[str, str, float, str, str | None]] = []
    if "trainable" in summary:
        panels.append(("ours", "trainable", 1e-6, value, f"{value}_std"))
    if {"paper_trainable_millions", f"paper_{value}"} <= set(summary):
        panels.append(("the paper", "paper_trainable_millions", 1, f"paper_{value}", None))
    figure, axes = plt.subplots(1, len(panels), figsize=(width, 4.0), squeeze=False)
    labels = list(summary[label].unique())
    colours = dict(zip(labels, sns.color_palette(n_colors=len(labels)), strict=True))
    for axis, (title, size, unit, column, spread) in zip(axes[0], panels, strict=True):
        for _, row in summary.iterrows():
            x, y = unit * row[size], row[column]
            if bool(pd.isna(x)) or bool(pd.isna(y)):
                continue
            error = row[spread] if spread and bool(pd.notna(row[spread])) else None
            axis.errorbar(x, y, yerr=error, fmt="o", markersize=8, capsize=4, color=colours[row[label]])
            axis.annotate(as_label(row[label]), (x, y), xytext=(7, 6), textcoords="offset points", fontsize=9)
        axis.set(title=title, xlabel="trainable parameters (millions)", ylabel=SPLITS.get(value, value))
        axis.margins(x=0.25, y=0.15)
    figure.tight_layout()
    return figure


def ours_beside_paper(summary: pd.DataFrame, label: str, value: str = "test_wer", width: float = 12.0) -> Figure:
    """Two columns of marks, ours and the paper's, a line a configuration: lines that cross are orders that differ."""
    rows = summary.dropna(subset=[value, f"paper_{value}"])
    figure, axis = plt.subplots(figsize=(width, 4.2))
    low = rows[[value, f"paper_{value}"]].min()
    span = (rows[[value, f"paper_{value}"]].max() - low).replace(0, 1)
    ours, paper = (((rows[c] - low[c]) / span[c]).tolist() for c in (value, f"paper_{value}"))
    colours = [line_colour(colour) for colour in sns.color_palette(n_colors=len(rows))]
    for colour, *ends in zip(colours, ours, paper, strict=True):
        axis.plot([0, 1], ends, marker="o", color=colour)
    for (_, row), left, right, colour in zip(rows.iterrows(), _apart(ours), _apart(paper), colours, strict=True):
        axis.text(-0.02, left, f"{as_label(row[label])}  {row[value]:.1f}", ha="right", va="center", color=colour)
        axis.text(1.02, right, f"{row[f'paper_{value}']:.1f}  {as_label(row[label])}", va="center", color=colour)
    axis.set(xlim=(-0.6, 1.6), ylim=(-0.1, max([1.1, *(y + 0.05 for y in _apart(ours) + _apart(paper))])))
    axis.set(yticks=[], xticks=[0, 1])
    axis.set_xticklabels([f"ours, {SPLITS.get(value, value)}", "the paper"])
    axis.grid(visible=False)
    figure.tight_layout()
    return figure


def _apart(places: list[float], gap: float = 0.075) -> list[float]:
    """Heights for labels, each at its place or moved up so far that it does not touch the one below."""
    moved, below = dict.fromkeys(range(len(places)), 0.0), float("-inf")
    for number in sorted(moved, key=places.__getitem__):
        below = moved[number] = max(places[number], below + gap)
    return list(moved.values())


def sweep_curves(results: pd.DataFrame, colour: str, start: pd.Series | None = None, width: float = 12.0) -> Figure:
    """Loss and dev WER over the epochs, one colour a configuration, the band over its seeds.

    start: WER on dev of the heads that the runs started from; its mean is drawn as a dotted line.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(width, 3.8), sharex=True)
    table = results.assign(**{colour: results[colour].map(as_label)})
    sns.lineplot(table, x="epoch", y="loss_total", hue=colour, ax=left, marker="o", errorbar="sd")
    wide = bool(table["loss_total"].max() > 10 * table["loss_total"].min())
    left.set(ylabel="training loss", yscale="log" if wide else "linear")
    scored = table.dropna(subset=["wer"]) if "wer" in table else table.iloc[:0]
    sns.lineplot(scored, x="epoch", y="wer", hue=colour, ax=right, marker="o", errorbar="sd", legend=False)
    if start is not None and bool(start.notna().any()):
        right.axhline(start.mean(), color="0.3", linestyle=":")
        right.text(
            0.02, start.mean(), "before adaptation", transform=right.get_yaxis_transform(), va="bottom", fontsize=9
        )
    right.set(ylabel="dev WER (%)", ylim=(0, None))
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    figure.tight_layout()
    return figure


def cost_bars(table: pd.DataFrame, label: str, width: float = 12.0) -> Figure:
    """Bars of what a method costs: step time (and how often the first row's), memory kept, operations."""
    names = {
        "step_seconds": ("training step", "seconds"),
        "kept_mb_per_frame": ("kept for the backward pass", "MiB a frame"),
        "encoder_gflops": ("operations of the encoder", "GFLOP a frame"),
    }
    figure, axes = plt.subplots(1, len(names), figsize=(width, 0.42 * len(table) + 1.2), sharey=True)
    for axis, (column, (title, unit)) in zip(axes, names.items(), strict=True):
        sns.barplot(x=table[column], y=table[label].map(as_label), ax=axis, color=sns.color_palette()[0], orient="h")
        for row, number in enumerate(table[column]):
            times = f"  ({number / table[column].iloc[0]:.2f} x)" if column == "step_seconds" else ""
            text = f"{number:.3g}{times}"
            axis.annotate(text, (number, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
        axis.set(title=title, xlabel=unit, ylabel="")
        axis.margins(x=0.35 if column == "step_seconds" else 0.2)
    figure.tight_layout()
    return figure
