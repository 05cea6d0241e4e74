"""Figures of a sweep's tables; each returns the Figure. The tables come from collect() or read_results()."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from slakit.scoring.escapes import as_label
from slakit.show.palette import LINE, TEXT, WIDTH, colour_of, shortened, text_colour, text_widths
from slakit.show.pictures import HEAT

MARKERS = "osD^vPX*<>"
SPLITS = {"dev_wer": "dev WER (%)", "test_wer": "test WER (%)"}


def heat_map(
    table: pd.DataFrame,
    rows: str,
    columns: str,
    value: str,
    *,
    axis: Axes,
    title: str = "",
    spread: str | None = None,
    narrow: bool = False,
) -> None:
    """One grid of numbers onto `axis`, dark is good, white was not run; spread: a column that is written below as ±.

    narrow: for many columns, numbers and names stand upright and without their spread.
    """

    def grid(column: str) -> pd.DataFrame:
        cells = table.pivot_table(index=rows, columns=columns, values=column, sort=False)
        return cells.reindex(index=sorted(table[rows].unique(), key=_layers), columns=sorted(table[columns].unique()))

    numbers = grid(value).rename(index=_label, columns=_label)
    text = numbers.map(lambda number: "" if pd.isna(number) else f"{number:.1f}")
    if spread is not None and not narrow and bool(table[spread].notna().any()):
        deviations = grid(spread).rename(index=_label, columns=_label)
        text = text + deviations.map(lambda number: "" if pd.isna(number) else f"\n±{number:.1f}")
    split = value.removeprefix("paper_")
    upright = {"rotation": 90, "fontsize": TEXT - 2} if narrow else {}
    bar = {"label": SPLITS.get(split, split), "fraction": 0.04, "pad": 0.02}
    sns.heatmap(numbers, annot=text, fmt="", cmap=HEAT, ax=axis, linewidths=1, annot_kws=upright, cbar_kws=bar)
    axis.set(title=as_label(title), xlabel=as_label(columns), ylabel=as_label(rows))
    axis.tick_params(rotation=0)
    axis.tick_params(axis="x", rotation=90 if narrow else 0)
    axis.grid(visible=False)


def _label(value: object) -> object:
    """Text as matplotlib may draw it, numbers as they are."""
    return as_label(shortened(value, 28)) if isinstance(value, str) else value


def _layers(label: object) -> tuple:
    """Sorts "1-12" before "10-12"."""
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in str(label).split("-"))


def heat_maps(summary: pd.DataFrame, rows: str, columns: str, value: str = "test_wer", width: float = WIDTH) -> Figure:
    """Mean WER over a grid of two parameters, ours with the deviation over seeds, and the paper's beside it.

    Each has its own colours: the corpora differ, so only the patterns can be compared.
    """
    parts: list[tuple[str, str, str | None]] = [("ours (mean ± deviation over seeds)", value, f"{value}_std")]
    if f"paper_{value}" in summary and bool(summary[f"paper_{value}"].notna().any()):
        parts.append(("the paper", f"paper_{value}", None))
    beside = max(text_widths([str(_label(name)) for name in summary[rows].unique()])) + 0.3
    column = max(0.75, *(text_widths([str(_label(name)) for name in summary[columns].unique()])))
    count_across = len(set(summary[columns]))
    across = len(parts) * (beside + 0.9 + column * count_across) > width
    shape = (len(parts), 1) if across else (1, len(parts))  # side by side where there is room for it
    lying = column * count_across > width - beside - 1.3
    below = column if lying else LINE
    size = (width, shape[0] * (0.45 * summary[rows].nunique() + 1.0 + below))
    figure, axes = plt.subplots(*shape, figsize=size, squeeze=False, layout="constrained")
    for axis, (title, name, spread) in zip(axes.ravel(), parts, strict=True):
        heat_map(summary, rows, columns, name, axis=axis, title=title, spread=spread, narrow=lying)
    return figure


def wer_against_parameters(summary: pd.DataFrame, label: str, value: str = "test_wer", width: float = WIDTH) -> Figure:
    """WER against trainable parameters, one mark a configuration (CLIP-SLA Fig. 1b): low and left is good.

    Bars: standard deviation over seeds. Where the paper gives both figures, a second panel shows its own.
    """
    panels: list[tuple[str, str, float, str, str | None]] = []
    if "trainable" in summary:
        panels.append(("ours", "trainable", 1e-6, value, f"{value}_std"))
    if {"paper_trainable_millions", f"paper_{value}"} <= set(summary):
        panels.append(("the paper", "paper_trainable_millions", 1, f"paper_{value}", None))
    labels = [str(name) for name in summary[label].unique()]
    named = [as_label(shortened(name)) for name in labels]
    columns = max(1, int(width / (max(text_widths(named)) + 0.5)))
    size = (width, 3.6 + LINE * 1.3 * -(-len(labels) // columns))
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    found = {}
    for axis, (title, size, unit, column, spread) in zip(axes[0], panels, strict=True):
        for _, row in summary.iterrows():
            x, y, number = unit * row[size], row[column], labels.index(str(row[label]))
            if bool(pd.isna(x)) or bool(pd.isna(y)):
                continue
            error = row[spread] if spread and bool(pd.notna(row[spread])) else None
            found[named[number]] = axis.errorbar(
                x, y, yerr=error, fmt=MARKERS[number % len(MARKERS)], markersize=8, capsize=4,
                color=colour_of(labels[number])
            )  # fmt: skip
        axis.set(title=title, xlabel="trainable parameters (millions)", ylabel=SPLITS.get(value, value))
        axis.margins(x=0.1, y=0.15)
    figure.legend(found.values(), found.keys(), loc="outside lower left", ncols=columns)
    return figure


def ours_beside_paper(summary: pd.DataFrame, label: str, value: str = "test_wer", width: float = WIDTH) -> Figure:
    """Two columns of marks, ours and the paper's, a line a configuration: lines that cross are orders that differ."""
    rows = summary.dropna(subset=[value, f"paper_{value}"])
    low = rows[[value, f"paper_{value}"]].min()
    span = (rows[[value, f"paper_{value}"]].max() - low).replace(0, 1)
    ours, paper = (((rows[c] - low[c]) / span[c]).tolist() for c in (value, f"paper_{value}"))
    left, right = _apart(ours), _apart(paper)
    top = max([1.0, *left, *right])
    named = [as_label(shortened(str(name))) for name in rows[label]]
    beside = max(text_widths([f"{name}  00.0" for name in named] or [""])) + 0.1
    between = max(width - 2 * beside, 1.0)
    figure = plt.figure(figsize=(2 * beside + between, UNIT * (top + 0.2) + 0.4))
    axis = figure.add_axes((0, 0.4 / figure.get_figheight(), 1, 1 - 0.4 / figure.get_figheight()))
    for (_, row), name, y, x, *texts in zip(rows.iterrows(), named, ours, paper, left, right, strict=True):
        colour = text_colour(colour_of(str(row[label])))
        axis.plot([0, 1], [y, x], marker="o", color=colour)
        axis.text(-0.05 / between, texts[0], f"{name}  {row[value]:.1f}", ha="right", va="center", color=colour)
        axis.text(1 + 0.05 / between, texts[1], f"{row[f'paper_{value}']:.1f}  {name}", va="center", color=colour)
    axis.set(xlim=(-beside / between, 1 + beside / between), ylim=(-0.1, top + 0.1))
    axis.set(yticks=[], xticks=[0, 1])
    axis.set_xticklabels([f"ours, {SPLITS.get(value, value)}", "the paper"])
    axis.grid(visible=False)
    return figure


UNIT = 3.0  # inches from the lowest to the highest WER


def _apart(places: list[float], gap: float = LINE / UNIT) -> list[float]:
    """Heights for labels, each at its place or moved up so far that it does not touch the one below."""
    moved, below = dict.fromkeys(range(len(places)), 0.0), float("-inf")
    for number in sorted(moved, key=places.__getitem__):
        below = moved[number] = max(places[number], below + gap)
    return list(moved.values())


def sweep_curves(results: pd.DataFrame, colour: str, start: pd.Series | None = None, width: float = WIDTH) -> Figure:
    """Loss and dev WER over the epochs, one colour a configuration, the band over its seeds.

    start: WER on dev of the heads that the runs started from; its mean is drawn as a dotted line.
    """
    table = results.assign(**{colour: results[colour].map(lambda name: as_label(shortened(str(name))))})
    names = [*table[colour].unique()]
    columns = max(1, int(width / (max(text_widths(names)) + 0.5)))
    size = (width, 3.4 + LINE * 1.3 * -(-len(names) // columns))
    figure, (left, right) = plt.subplots(1, 2, figsize=size, sharex=True, layout="constrained")
    kinds = {"hue": colour, "style": colour, "palette": {name: colour_of(name) for name in names}, "dashes": False}
    kinds |= {"markers": {name: MARKERS[k % len(MARKERS)] for k, name in enumerate(names)}, "errorbar": "sd"}
    sns.lineplot(table, x="epoch", y="loss_total", ax=left, legend=False, **kinds)
    wide = bool(table["loss_total"].max() > 10 * table["loss_total"].min())
    left.set(ylabel="training loss", yscale="log" if wide else "linear")
    dots = [Line2D([], [], color=kinds["palette"][name], marker=kinds["markers"][name]) for name in names]
    figure.legend(dots, names, loc="outside lower left", ncols=columns)
    scored = table.dropna(subset=["wer"]) if "wer" in table else table.iloc[:0]
    sns.lineplot(scored, x="epoch", y="wer", ax=right, legend=False, **kinds)
    if start is not None and bool(start.notna().any()):
        right.axhline(start.mean(), color="0.3", linestyle=":")
        right.set_title("dotted: before adaptation", loc="left")
    right.set(ylabel="dev WER (%)", ylim=(0, None))
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure


def cost_bars(table: pd.DataFrame, label: str, width: float = WIDTH) -> Figure:
    """Bars of what a method costs: step time (and how often the first row's), memory kept, operations."""
    names = {
        "step_seconds": ("training step", "seconds"),
        "kept_mb_per_frame": ("kept for the backward pass", "MiB a frame"),
        "encoder_gflops": ("operations of the encoder", "GFLOP a frame"),
    }
    labels = [as_label(shortened(str(name), 28)) for name in table[label]]
    beside, height = max(text_widths(labels)) + 0.1, 0.34 * len(table)
    panel = (width - beside) / len(names) - 0.45
    figure = plt.figure(figsize=(width, height + 0.9))
    for number, (column, (title, unit)) in enumerate(names.items()):
        left = beside + number * (panel + 0.45)
        axis = figure.add_axes((left / width, 0.55 / (height + 0.9), panel / width, height / (height + 0.9)))
        texts = [
            f"{v:.3g}" + (f"  ({v / table[column].iloc[0]:.2f} x)" if column == "step_seconds" else "")
            for v in table[column]
        ]
        axis.barh(range(len(table)), table[column], height=0.7, color=sns.color_palette()[0])
        for row, (v, text) in enumerate(zip(table[column], texts, strict=True)):
            axis.annotate(text, (v, row), xytext=(4, 0), textcoords="offset points", va="center")
        most = max([float(v) for v in table[column]] + [1e-12])
        axis.set(title=title, xlabel=unit, xlim=(0, most * panel / max(panel - max(text_widths(texts)), 0.3)))
        axis.set(ylim=(len(table) - 0.5, -0.5), yticks=range(len(table)), yticklabels=[] if number else labels)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="y", visible=False)
    return figure
