"""Pictures for notebooks: every function draws on matplotlib and returns the Figure; nothing is shown or saved here."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from slakit.decoding import GlossSpan
from slakit.models.packing import seconds_of
from slakit.records import Span
from slakit.scoring.escapes import as_label
from slakit.show.palette import (
    LINE,
    TEXT,
    WIDTH,
    apart,
    bar_colour,
    colour_of,
    line_colour,
    room,
    shortened,
    style_of,
    text_colour,
    text_widths,
    time_axes,
)  # fmt: skip
from slakit.show.pictures import overlay, scale_of

TERMS = {  # what the terms of the loss are called
    "total": "all, weighted", "sequence": "CTC after the BiLSTM", "conv": "CTC after the convolution",
    "distillation": "distillation", "clip": "CTC of single frames",
}  # fmt: skip


def with_caption(figure: Figure, caption: str) -> Figure:
    """A line or two under the figure that say what is shown; nothing where the caption is empty."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(as_label(caption), int(width * 13.5))
    if lines:
        lowest = min(0.0, figure.get_tightbbox(FigureCanvasAgg(figure).get_renderer()).y0)
        place = (0.01, (lowest - 0.08) / height)
        figure.text(*place, "\n".join(lines), ha="left", va="top", fontsize=TEXT, color="0.25")
    return figure


def frame_strip(
    frames: np.ndarray,
    chosen: int | Sequence[int] | np.ndarray = 10,
    maps: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    titles: Sequence[str] | None = None,
    caption: str = "",
    width: float = WIDTH,
) -> Figure:
    """Frames of a clip side by side; under them the same frames, grey, with maps laid over.

    frames: uint8 [T, H, W, 3]. chosen: how many, evenly spaced, or which. maps: [T, h, w], or {name: maps} for a row
    each (methods, kinds or glosses one above the other, as in CLIP-SLA Fig. 5 and AdaptSign Fig. 3), not negative; each
    has one scale for the whole clip. titles: one a frame drawn.
    """
    if isinstance(chosen, int):
        chosen = np.linspace(0, len(frames) - 1, min(chosen, len(frames))).round().astype(int)
    chosen, named = [int(index) for index in chosen], isinstance(maps, Mapping)
    layers = maps if isinstance(maps, Mapping) else {} if maps is None else {"maps": maps}
    rows = {"frames": frames[chosen]}
    rows |= {name: overlay(frames[chosen], values[chosen], 3, scale_of(values)) for name, values in layers.items()}
    names = [textwrap.fill(as_label(shortened(name, 60)), 12) if named else "" for name in rows]
    heads = [as_label(titles[k]) if titles else f"frame {index}" for k, index in enumerate(chosen)]
    beside = max(text_widths(names)) if named else 0.05
    side = (width - beside) / len(chosen)
    high = side * frames.shape[1] / frames.shape[2]
    lanes = _lanes(heads, side, width - beside)
    above = LINE * (1 + max(lanes)) + 0.08
    figure = plt.figure(figsize=(width, above + len(rows) * high))
    for r, (name, pictures) in enumerate(zip(names, rows.values(), strict=True)):
        top = above + r * high
        for c, picture in enumerate(pictures):
            place = (beside + c * side + 0.015, top + 0.015, side - 0.03, high - 0.03)
            axis = figure.add_axes(_fractions(figure, place))
            axis.imshow(picture, aspect="auto")
            axis.axis("off")
            if r == 0:
                middle = (beside + (c + 0.5) * side) / width
                line = 1 - (above - 0.04 - LINE * lanes[c]) / figure.get_figheight()
                figure.text(middle, line, heads[c], ha="center", va="bottom", fontsize=TEXT)
        size = min(TEXT, 60 * high / (0.85 * (1 + name.count("\n"))))  # a row is never lower than its name
        figure.text(
            (beside - 0.06) / width,
            1 - (top + high / 2) / figure.get_figheight(),
            name,
            ha="right",
            va="center",
            fontsize=size,
        )
    return with_caption(figure, caption)


def _fractions(figure: Figure, place: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    """(left, top, width, height) in inches from the upper left corner -> what add_axes() takes."""
    (left, top, wide, high), (width, height) = place, figure.get_size_inches()
    return left / width, 1 - (top + high) / height, wide / width, high / height


def _lanes(heads: Sequence[str], side: float, width: float) -> list[int]:
    """The line of each title over columns of `side` inches: the first where it touches no other one."""
    centres = [(column + 0.5) * side for column in range(len(heads))]
    return apart(centres, text_widths(heads), width)[1]


def timeline(
    rows: Mapping[str, Sequence[Span | GlossSpan]],
    tracks: Mapping[str, tuple[np.ndarray, int]] | None = None,
    glosses: Sequence[str] = (),
    fps: float = 25.0,
    *,
    caption: str = "",
    width: float = WIDTH,
) -> Figure:
    """Glosses as bars over time, one row a name, and under them, on the same axis, the probabilities of the heads.

    rows: {"truth": spans, "predicted": spans, …}, may be empty. tracks: title -> (probabilities [n, V] with blank in
    column 0, frames that a row stands for: 4 for the sequence head, 1 for the auxiliary head); drawn are the glosses of
    the bars and those that ever lead (beside bars: with more than one half), blank as a grey area. glosses: names of
    the columns 1 and above. A gloss has the same colour in all figures (palette.py), which share one axis of time.
    """
    tracks = tracks or {}
    spelled = [span.gloss for spans in rows.values() for span in spans]
    leading = {title: _leading(probabilities, 0.5 if rows else 0.0) for title, (probabilities, _) in tracks.items()}
    ends = [span.end / fps for spans in rows.values() for span in spans]
    ends += [len(probabilities) * frames / fps for probabilities, frames in tracks.values()]
    scale = room(width) / max([*ends, 1e-9])  # inches a second
    bars = {name: _bar_labels(spans, scale / fps, room(width)) for name, spans in rows.items()}
    labels = [textwrap.fill(as_label(shortened(name, 60)), 14) for name in rows]
    tall = [
        max(LINE * (1 + max(lanes, default=0)) + 0.12, LINE * (1 + label.count("\n")))
        for label, (_, lanes) in zip(labels, bars.values(), strict=True)
    ]
    peaks = {
        title: _peak_labels(probabilities, frames / fps * scale, leading[title], glosses, room(width))
        for title, (probabilities, frames) in tracks.items()
    }
    heights = ([sum(tall) + 0.1] if rows else []) + [1.25 + LINE * lines for *_, lines in peaks.values()]
    figure, axes = time_axes(heights or [0.3], max([*ends, 1e-9]), width, above=0.08 if rows else 0.3)
    top = 0.0
    for (name, spans), high in zip(rows.items(), tall, strict=True):  # the axis of the bars counts in inches
        for span, x, lane in zip(spans, *bars[name], strict=True):
            start, length = span.start / fps, (span.end - span.start) / fps
            colour = bar_colour(colour_of(span.gloss))
            axes[0].barh(top + high / 2, length, left=start, height=high - 0.06, color=colour, edgecolor="white")
            line = top + 0.06 + LINE * (lane + 0.5) + max(high - 0.12 - LINE * (1 + max(bars[name][1])), 0) / 2
            axes[0].text(x / scale, line, as_label(shortened(span.gloss)), ha="center", va="center", fontsize=TEXT)
        top += high
    if rows:
        middles = np.cumsum([0, *tall[:-1]]) + np.asarray(tall) / 2
        axes[0].set_yticks(middles, labels)
        axes[0].set_ylim(top + 0.05, -0.05)
        axes[0].grid(axis="y", visible=False)
    for axis, (title, (probabilities, frames)) in zip(axes[bool(rows) :], tracks.items(), strict=False):
        seconds = np.asarray(seconds_of(np.arange(len(probabilities)), fps, frames))
        axis.fill_between(seconds, probabilities[:, 0], color="0.88")
        for column, gloss in enumerate(glosses, 1):
            if gloss in spelled or column in leading[title]:
                colour = line_colour(colour_of(gloss))
                style = {"linestyle": style_of(gloss), "marker": ".", "markersize": 5, "linewidth": 1.5}
                axis.plot(seconds, probabilities[:, column], color=colour, **style)
        columns, places, lanes, lines = peaks[title]
        unit = 1.05 / 1.25  # of probability, an inch
        for column, x, lane in zip(columns, places, lanes, strict=True):
            gloss, line = glosses[column - 1], 1.05 + unit * LINE * (lane + 0.5)
            colour = text_colour(colour_of(gloss))
            axis.text(
                x / scale, line, as_label(shortened(gloss)), ha="center", va="center", color=colour, fontsize=TEXT
            )
        axis.set(ylabel="probability", ylim=(0, 1.05 + unit * LINE * lines), yticks=(0, 0.5, 1))
        axis.yaxis.set_label_coords(-0.06, 0.5 * 1.25 / (1.25 + LINE * lines))
        axis.set_title(as_label(title), loc="left", pad=4)
    return with_caption(figure, caption)


def _bar_labels(spans: Sequence[Span | GlossSpan], scale: float, width: float) -> tuple[list[float], list[int]]:
    """Places (inches) and lanes of the names of bars; scale: inches a frame."""
    centres = [(span.start + span.end) / 2 * scale for span in spans]
    return apart(centres, text_widths([as_label(shortened(span.gloss)) for span in spans]), width)


def _peak_labels(
    probabilities: np.ndarray, scale: float, columns: list[int], glosses: Sequence[str], width: float
) -> tuple[list[int], list[float], list[int], int]:
    """Columns, places (inches), lanes and the number of lanes of the names over their peaks; scale: inches a row."""
    centres = [(float(probabilities[:, column].argmax()) + 0.5) * scale for column in columns]
    places, lanes = apart(centres, text_widths([as_label(shortened(glosses[c - 1])) for c in columns]), width)
    return columns, places, lanes, max(lanes, default=-1) + 1


def _leading(probabilities: np.ndarray, least: float) -> list[int]:
    """The columns, blank aside, that are the largest of some row and there above `least`, first come first."""
    winners = zip(probabilities.argmax(1), probabilities.max(1), strict=True)
    return list(dict.fromkeys(int(column) for column, value in winners if column and value > least))


def confusion_map(table: pd.DataFrame, width: float = WIDTH) -> Figure:
    """Heat map of `slakit.scoring.confusion_matrix`: rows were signed, columns were recognised; right ones in grey."""
    if len(table) == 0:
        figure, axis = plt.subplots(figsize=(width, 1.2))
        axis.text(0.5, 0.5, "no gloss of the references was missed", ha="center", va="center")
        axis.axis("off")
        return figure
    if "(other)" in table and not bool(table["(other)"].any()):
        table = table.drop(columns="(other)")
    right = np.array([[row == column for column in table.columns] for row in table.index])
    table = table.rename(
        index=lambda name: as_label(shortened(name, 28)), columns=lambda name: as_label(shortened(name, 28))
    )
    beside = max(text_widths([*table.index])) + 0.5
    below = max(text_widths([*table.columns])) + 0.4
    cell = min((width - beside - 0.1) / len(table.columns), 0.55)
    size, high = min(TEXT, 58 * cell), max(cell * 0.6, 0.24)
    figure = plt.figure(figsize=(beside + cell * len(table.columns) + 0.1, high * len(table) + below + 0.1))
    axis = figure.add_axes(_fractions(figure, (beside, 0.1, cell * len(table.columns), high * len(table))))
    options = {"annot": True, "fmt": "d", "linewidths": 0.5, "cbar": False, "ax": axis, "annot_kws": {"fontsize": size}}
    sns.heatmap(table, mask=~right, cmap="Greys", vmin=0, vmax=4 * max(1, table.to_numpy().max()), **options)
    most = max(1, table.where(~right, 0).to_numpy().max())
    sns.heatmap(table, mask=right | (table == 0), cmap="Reds", vmin=-most / 2, vmax=1.5 * most, **options)
    axis.set_xticks(np.arange(len(table.columns)) + 0.5, [*table.columns], rotation=90, fontsize=size)
    axis.set_yticks(np.arange(len(table)) + 0.5, [*table.index], rotation=0)
    axis.set(xlabel="recognised", ylabel="signed")
    axis.grid(visible=False)
    return figure


def ctc_lattice(probabilities: np.ndarray, target: Sequence[int], names: Sequence[str], width: float = WIDTH) -> Figure:
    """All CTC paths of `target` through probabilities [T, V]: blanks and tokens from top to bottom, time to the right.

    Blank is column 0, names are those of the columns. Each node shows the probability of its column; only moves that
    some whole path makes are drawn.
    """
    states = [0] + [s for token in target for s in (token, 0)]
    steps, count = len(probabilities), len(states)
    jumps = [i for i in range(2, count) if states[i] != 0 and states[i] != states[i - 2]]
    moves = [(i, j) for i in range(count) for j in (i, i + 1, i + 2) if j < count and (j < i + 2 or j in jumps)]
    ahead, behind = [set(range(min(2, count)))], [set(range(max(0, count - 2), count))]
    for _ in range(steps - 1):
        ahead.append({j for i, j in moves if i in ahead[-1]})
        behind.insert(0, {i for i, j in moves if j in behind[0]})
    beside = max(text_widths([as_label(shortened(names[state])) for state in states])) + 0.15
    side = min(1.2, (width - beside) / steps)  # inches a step
    dot = min(0.55, 0.8 * side)
    size = min(TEXT, 22 * dot)
    figure = plt.figure(figsize=(beside + side * steps, 0.8 * dot * 1.6 * count + 0.4))
    axis = figure.add_axes(_fractions(figure, (beside, 0.05, side * steps, 0.8 * dot * 1.6 * count)))
    for t in range(steps):
        for state in ahead[t] & behind[t]:
            p = float(probabilities[t][states[state]])
            axis.scatter(t, state, s=(72 * dot) ** 2, color=sns.color_palette("crest", 101)[int(100 * p)], zorder=3)
            axis.text(t, state, f"{p:.2g}", ha="center", va="center", color="white", zorder=4, fontsize=size)
            for i, j in moves if t + 1 < steps else ():
                if i == state and j in ahead[t + 1] & behind[t + 1]:
                    axis.plot([t, t + 1], [i, j], color="0.6", zorder=1)
    axis.set_xticks(range(steps), [f"step {t + 1}" if side > 0.75 else f"{t + 1}" for t in range(steps)])
    axis.tick_params(axis="x", labelsize=min(TEXT, 40 * side))
    axis.set_yticks(range(count), [as_label(shortened(names[state])) for state in states])
    axis.set(xlim=(-0.5, steps - 0.5), ylim=(count - 0.5, -0.5))
    axis.grid(visible=False)
    sns.despine(figure, left=True, bottom=True)
    return figure


def training_curves(history: Sequence[dict], width: float = WIDTH) -> Figure:
    """Loss terms (left), dev WER (right) over fit()'s history; of [*run.start, *run.history] the start is shaded."""
    start = [row for row in history if row["trained"] == "head"]
    later = [row | {"epoch": row["epoch"] + len(start)} for row in history if row["trained"] != "head"]
    table = pd.DataFrame(start + later)
    figure, (left, right) = plt.subplots(1, 2, figsize=(width, 3.8), layout="constrained")
    terms = [column for column in table.columns if column.startswith("loss_")]
    for term in terms:
        name = term.removeprefix("loss_")
        sns.lineplot(table, x="epoch", y=term, ax=left, label=TERMS.get(name, name), marker="o", markersize=4)
    left.set(yscale="log", ylabel="loss (each term before its weight)", xlabel="epoch")
    if terms:
        handles, names = left.get_legend_handles_labels()
        left.get_legend().remove()
        figure.legend(handles, names, loc="outside upper left", ncols=3)
    scored = table.dropna(subset=["wer"]) if "wer" in table else table.iloc[:0]
    if len(scored):  # a run that is being watched may have none yet
        sns.lineplot(scored, x="epoch", y="wer", ax=right, marker="o", color="black")
    right.set(ylabel="dev WER (%)", xlabel="epoch", ylim=(0, 1.05 * max([*scored["wer"], 10] if len(scored) else [10])))
    if start and later:
        right.set_title("grey: the warm start, which trains the head alone", loc="left")
    for axis in (left, right):
        axis.axvspan(-0.5, len(start) * bool(later) - 0.5, color="0.9", zorder=0)
        axis.set_xlim(table.epoch.min() - 0.6, table.epoch.max() + 0.6)
        axis.xaxis.get_major_locator().set_params(integer=True)
    return figure
