"""Pictures for notebooks: every function draws on matplotlib and returns the Figure; nothing is shown or saved here."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from slakit.decoding import GlossSpan
from slakit.models.packing import seconds_of
from slakit.records import Span
from slakit.scoring.escapes import as_label
from slakit.show.pictures import overlay, scale_of

sns.set_theme(style="whitegrid", context="notebook", palette="colorblind", rc={"figure.dpi": 80})
Colour = tuple[float, float, float]


def line_colour(colour: Colour) -> Colour:
    """The colour, made darker until a line of it on white has the contrast 3:1 that WCAG 2.2 asks of graphics."""
    red, green, blue = (float(c) for c in colour[:3])
    while 1.05 / (_luminance((red, green, blue)) + 0.05) < 3:
        red, green, blue = 0.95 * red, 0.95 * green, 0.95 * blue
    return red, green, blue


def bar_colour(colour: Colour) -> Colour:
    """A tint of the colour, so light that dark text on it has the contrast 4.5:1 that WCAG 2.2 asks of text."""
    red, green, blue = (0.45 + 0.55 * float(c) for c in colour[:3])
    return red, green, blue


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance (WCAG 2.2, definition)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def with_caption(figure: Figure, caption: str) -> Figure:
    """A line or two under the figure that say what is shown; nothing where the caption is empty."""
    lines = textwrap.wrap(as_label(caption), int(figure.get_size_inches()[0] * 14))
    if lines:
        figure.text(0.01, -0.01, "\n".join(lines), ha="left", va="top", fontsize=9, color="0.25")
    return figure


def frame_strip(
    frames: np.ndarray,
    chosen: int | Sequence[int] | np.ndarray = 10,
    maps: np.ndarray | Mapping[str, np.ndarray] | None = None,
    *,
    titles: Sequence[str] | None = None,
    caption: str = "",
    width: float = 12.0,
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
    side = (width - named) / len(chosen)  # an inch for the names
    height = side * len(rows) * frames.shape[1] / frames.shape[2] + 0.3 + 0.05 * len(rows)
    figure, axes = plt.subplots(len(rows), len(chosen), figsize=(width, height), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
        if named:
            label = textwrap.fill(as_label(name), 10, break_long_words=False, break_on_hyphens=False)
            line[0].set_ylabel(label, fontsize=9)
    for column, index in enumerate(chosen):
        axes[0, column].set_title(as_label(titles[column]) if titles else f"frame {index}", fontsize=8)
    figure.tight_layout(pad=0.25)
    return with_caption(figure, caption)


def timeline(
    rows: Mapping[str, Sequence[Span | GlossSpan]],
    tracks: Mapping[str, tuple[np.ndarray, int]] | None = None,
    glosses: Sequence[str] = (),
    fps: float = 25.0,
    *,
    caption: str = "",
    width: float = 12.0,
) -> Figure:
    """Glosses as bars over time, one row a name, and under them, on the same axis, the probabilities of the heads.

    rows: {"truth": spans, "predicted": spans, …}, may be empty. tracks: title -> (probabilities [n, V] with blank in
    column 0, frames that a row stands for: 4 for the sequence head, 1 for the auxiliary head); drawn are the glosses of
    the bars and those that ever lead (beside bars: with more than one half), blank as a grey area. glosses: names of
    the columns 1 and above. The same gloss has the same colour everywhere.
    """
    tracks = tracks or {}
    spelled = [span.gloss for spans in rows.values() for span in spans]
    leading = {title: _leading(probabilities, 0.5 if rows else 0.0) for title, (probabilities, _) in tracks.items()}
    names = list(dict.fromkeys(spelled + [glosses[c - 1] for columns in leading.values() for c in columns]))
    palette = sns.color_palette("colorblind" if len(names) <= 10 else "husl", max(len(names), 1))
    colours = dict(zip(names, palette, strict=False))  # there is one colour without names, too
    heights = ([0.3 + 0.45 * len(rows)] if rows else []) + [1.6] * len(tracks)
    figure, axes = plt.subplots(
        len(heights), 1, sharex=True, figsize=(width, 0.4 + sum(heights)), height_ratios=heights, squeeze=False
    )
    for row, spans in enumerate(rows.values()):
        for span in spans:
            start, length = span.start / fps, (span.end - span.start) / fps
            colour = bar_colour(colours[span.gloss])
            axes[0, 0].barh(row, length, left=start, height=0.85, color=colour, edgecolor="white")
            name = as_label(span.gloss)
            axes[0, 0].text(start + length / 2, row, name, ha="center", va="center", fontsize=8, clip_on=True)
    if rows:
        axes[0, 0].set_yticks(range(len(rows)), [as_label(name) for name in rows])
        axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
        axes[0, 0].grid(axis="y", visible=False)
    ends = [span.end / fps for spans in rows.values() for span in spans]
    for axis, (title, (probabilities, frames)) in zip(axes[bool(rows) :, 0], tracks.items(), strict=True):
        seconds = np.asarray(seconds_of(np.arange(len(probabilities)), fps, frames))
        axis.fill_between(seconds, probabilities[:, 0], color="0.88")
        for column, gloss in enumerate(glosses, 1):
            if gloss in spelled or column in leading[title]:
                values, colour = probabilities[:, column], line_colour(colours[gloss])
                axis.plot(seconds, values, color=colour, marker=".", markersize=5)
                if column in leading[title]:
                    place = seconds[values.argmax()], values.max() + 0.05
                    axis.text(*place, as_label(gloss), ha="center", fontsize=8)
        axis.set(ylabel="probability", ylim=(0, 1.2), yticks=(0, 0.5, 1))
        axis.set_title(as_label(title), fontsize=9, loc="left", pad=3)
        ends.append(len(probabilities) * frames / fps)
    axes[-1, 0].set(xlabel="seconds", xlim=(0, 1.01 * max(ends, default=1.0)))
    figure.tight_layout(h_pad=0.4)
    return with_caption(figure, caption)


def _leading(probabilities: np.ndarray, least: float) -> list[int]:
    """The columns, blank aside, that are the largest of some row and there above `least`, first come first."""
    winners = zip(probabilities.argmax(1), probabilities.max(1), strict=True)
    return list(dict.fromkeys(int(column) for column, value in winners if column and value > least))


def confusion_map(table: pd.DataFrame, width: float = 9.0) -> Figure:
    """Heat map of `slakit.scoring.confusion_matrix`: rows were signed, columns were recognised; right ones in grey."""
    figure, axis = plt.subplots(figsize=(width, 1.2 + 0.32 * max(len(table), 3)))
    if len(table) == 0:
        axis.text(0.5, 0.5, "no gloss of the references was missed", ha="center", va="center")
        axis.axis("off")
        return figure
    if "(other)" in table and not bool(table["(other)"].any()):
        table = table.drop(columns="(other)")
    right = np.array([[row == column for column in table.columns] for row in table.index])
    table = table.rename(index=as_label, columns=as_label)
    options = {"annot": True, "fmt": "d", "linewidths": 0.5, "cbar": False, "ax": axis, "annot_kws": {"fontsize": 8}}
    sns.heatmap(table, mask=~right, cmap="Greys", vmin=0, vmax=4 * max(1, table.to_numpy().max()), **options)
    most = max(1, table.where(~right, 0).to_numpy().max())
    sns.heatmap(table, mask=right | (table == 0), cmap="Reds", vmin=-most / 2, vmax=1.5 * most, **options)
    axis.set(xlabel="recognised", ylabel="signed")
    axis.tick_params(axis="x", rotation=60, labelsize=8)
    axis.tick_params(axis="y", labelsize=8)
    plt.setp(axis.get_xticklabels(), ha="right", rotation_mode="anchor")
    figure.tight_layout()
    return figure


def ctc_lattice(probabilities: np.ndarray, target: Sequence[int], names: Sequence[str], width: float = 7.0) -> Figure:
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
    figure, axis = plt.subplots(figsize=(width, 0.8 * count))
    for t in range(steps):
        for state in ahead[t] & behind[t]:
            p = float(probabilities[t][states[state]])
            axis.scatter(t, state, s=900, color=sns.color_palette("crest", 101)[int(100 * p)], zorder=3)
            axis.text(t, state, f"{p:.2g}", ha="center", va="center", color="white", zorder=4, fontsize=10)
            for i, j in moves if t + 1 < steps else ():
                if i == state and j in ahead[t + 1] & behind[t + 1]:
                    axis.plot([t, t + 1], [i, j], color="0.6", zorder=1)
    axis.set_xticks(range(steps), [f"step {t + 1}" for t in range(steps)])
    axis.set_yticks(range(count), [as_label(names[state]) for state in states])
    axis.set(xlim=(-0.4, steps - 0.6), ylim=(count - 0.4, -0.6))
    axis.grid(visible=False)
    sns.despine(figure, left=True, bottom=True)
    figure.tight_layout()
    return figure


def training_curves(history: Sequence[dict], width: float = 11.0) -> Figure:
    """Loss terms (left) and dev WER (right) over the epochs of fit()'s history; the warm start is shaded."""
    table = pd.DataFrame(history)
    figure, (left, right) = plt.subplots(1, 2, figsize=(width, 3.6))
    terms = [column for column in table.columns if column.startswith("loss_")]
    for term in terms:
        sns.lineplot(table, x="epoch", y=term, ax=left, label=term.removeprefix("loss_"), marker="o", markersize=3)
    left.set(yscale="log", ylabel="loss (each term before its weight)", xlabel="epoch")
    left.legend(fontsize=8)
    scored = table.dropna(subset=["wer"]) if "wer" in table else table.iloc[:0]
    if len(scored):  # a run that is being watched may have none yet
        sns.lineplot(scored, x="epoch", y="wer", ax=right, marker="o", color="black")
    right.set(ylabel="dev WER (%)", xlabel="epoch", ylim=(0, 1.15 * max([*scored["wer"], 10] if len(scored) else [10])))
    warm = table[table.get("phase", pd.Series(dtype=str)) == "warm start"]
    if len(warm):
        for axis in (left, right):
            axis.axvspan(warm.epoch.min() - 0.5, warm.epoch.max() + 0.5, color="0.9", zorder=0)
        right.text(
            warm.epoch.mean(), right.get_ylim()[1] * 0.97, "warm start:\nhead only", ha="center", va="top", fontsize=8
        )
    figure.tight_layout()
    return figure
