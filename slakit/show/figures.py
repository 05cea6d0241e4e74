"""Pictures for notebooks: every function draws on matplotlib and returns the Figure; nothing is shown or saved here."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from slakit.records import Span

sns.set_theme(style="whitegrid", context="notebook", palette="colorblind", rc={"figure.dpi": 80})
HEAT = "inferno"  # readable without colour vision: brightness rises with the value


def line_colour(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """The colour, made darker until a line of it on white has the contrast 3:1 that WCAG 2.2 asks of graphics."""
    made = tuple(float(c) for c in colour[:3])
    while 1.05 / (_luminance(made) + 0.05) < 3:
        made = tuple(0.95 * c for c in made)
    return made


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance (WCAG 2.2, definition)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def frame_strip(
    frames: np.ndarray, count: int = 10, titles: Sequence[str] | None = None, width: float = 12.0
) -> Figure:
    """`count` frames of a clip, evenly spaced. frames: uint8 [T, H, W, 3]; titles: one per frame drawn, or None."""
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    figure, axes = plt.subplots(1, len(chosen), figsize=(width, width / len(chosen) + 0.35), squeeze=False)
    for k, (axis, index) in enumerate(zip(axes[0], chosen, strict=True)):
        axis.imshow(frames[index])
        axis.set_title(titles[k] if titles else f"frame {index}", fontsize=8)
        axis.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


def enlarge(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps [T, h, w] -> [T, height, width], smoothly."""
    small = torch.from_numpy(np.ascontiguousarray(maps)).float()[:, None]
    return F.interpolate(small, (height, width), mode="bicubic", align_corners=False)[:, 0].clamp_min(0).numpy()


def overlay_strip(
    frames: np.ndarray, maps: np.ndarray, count: int = 10, titles: Sequence[str] | None = None, width: float = 12.0
) -> Figure:
    """Frames (upper row) and the same frames, grey, under their heat maps (lower row); one scale for the whole clip.

    frames: uint8 [T, H, W, 3]; maps: [T, h, w], not negative. Where a map is low it is transparent.
    """
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
    heat = enlarge(maps / max(float(maps.max()), 1e-12), *frames.shape[1:3])
    figure, axes = plt.subplots(2, len(chosen), figsize=(width, 2 * width / len(chosen) + 0.4), squeeze=False)
    for k, index in enumerate(chosen):
        axes[0, k].imshow(frames[index])
        axes[0, k].set_title(titles[k] if titles else f"frame {index}", fontsize=8)
        axes[1, k].imshow(frames[index].mean(-1), cmap="gray", vmin=0, vmax=255)
        visible = np.clip(1.6 * np.sqrt(np.clip(heat[index], 0, 1)), 0, 0.85)
        axes[1, k].imshow(heat[index], cmap=HEAT, vmin=0, vmax=1, alpha=visible)
        for axis in axes[:, k]:
            axis.axis("off")
    figure.tight_layout(pad=0.3)
    return figure


def timeline(rows: dict[str, Sequence[Span]], fps: float = 25.0, width: float = 12.0) -> Figure:
    """Gloss spans as bars over time, one row per name ("truth", "predicted", …); the same gloss has the same colour."""
    figure, axis = plt.subplots(figsize=(width, 0.5 + 0.55 * len(rows)))
    _bars(axis, rows, fps, _colours(rows))
    axis.set(xlabel="seconds", xlim=(0, None))
    figure.tight_layout()
    return figure


def _colours(rows: dict[str, Sequence[Span]]) -> dict[str, tuple]:
    glosses = list(dict.fromkeys(span.gloss for spans in rows.values() for span in spans))
    return dict(zip(glosses, sns.color_palette("husl", max(len(glosses), 1)), strict=False))


def _bars(axis: Axes, rows: dict[str, Sequence[Span]], fps: float, colours: dict[str, tuple]) -> None:
    for row, spans in enumerate(rows.values()):
        for span in spans:
            start, length = span.start / fps, (span.end - span.start) / fps
            axis.barh(row, length, left=start, height=0.8, color=colours[span.gloss], edgecolor="white")
            axis.text(start + length / 2, row, span.gloss, ha="center", va="center", fontsize=8, clip_on=True)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)


def alignment(
    rows: dict[str, Sequence[Span]],
    tracks: dict[str, tuple[np.ndarray, int]],
    glosses: Sequence[str],
    fps: float = 25.0,
    width: float = 12.0,
) -> Figure:
    """Spans as bars and, under them on the same time axis, what the heads say: the glosses of the bars, blank in grey.

    rows: as in `timeline`. tracks: title -> (probabilities [n, V] with blank in column 0, frames that a row stands for:
    4 for the sequence head, 1 for the auxiliary head). glosses: names of the columns 1 and above.
    """
    colours = _colours(rows)
    heights = [0.3 + 0.5 * len(rows), *[1.3] * len(tracks)]
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(width, 0.4 + sum(heights)), sharex=True, height_ratios=heights, squeeze=False
    )
    _bars(axes[0, 0], rows, fps, colours)
    end = 0.0
    for axis, (title, (probabilities, step)) in zip(axes[1:, 0], tracks.items(), strict=True):
        seconds = (np.arange(len(probabilities)) + 0.5) * step / fps
        axis.fill_between(seconds, probabilities[:, 0], color="0.9")
        for column, gloss in enumerate(glosses, 1):
            if gloss in colours:
                colour = line_colour(colours[gloss])
                axis.plot(seconds, probabilities[:, column], color=colour, marker=".", markersize=5)
        axis.set(ylim=(0, 1.05), yticks=(0, 1))
        axis.set_title(title, fontsize=9, loc="left", pad=2)
        end = max(end, len(probabilities) * step / fps)
    axes[-1, 0].set(xlabel="seconds", xlim=(0, end or None))
    figure.tight_layout(h_pad=0.4)
    return figure


def confusion_map(table: pd.DataFrame, width: float = 9.0) -> Figure:
    """Heat map of `slakit.scoring.confusion_matrix`: rows were signed, columns were recognised; right ones in grey."""
    figure, axis = plt.subplots(figsize=(width, 1.2 + 0.32 * max(len(table), 3)))
    if len(table) == 0:
        axis.text(0.5, 0.5, "no gloss of the references was missed", ha="center", va="center")
        axis.axis("off")
        return figure
    if "(other)" in table and not table["(other)"].any():
        table = table.drop(columns="(other)")
    right = np.array([[row == column for column in table.columns] for row in table.index])
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
    axis.set_yticks(range(count), [names[state] for state in states])
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
    right.set(ylabel="dev WER (%)", xlabel="epoch", ylim=(0, 1.15 * max([*scored.get("wer", []), 10])))
    warm = table[table.get("phase", pd.Series(dtype=str)) == "warm start"]
    if len(warm):
        for axis in (left, right):
            axis.axvspan(warm.epoch.min() - 0.5, warm.epoch.max() + 0.5, color="0.9", zorder=0)
        right.text(
            warm.epoch.mean(), right.get_ylim()[1] * 0.97, "warm start:\nhead only", ha="center", va="top", fontsize=8
        )
    figure.tight_layout()
    return figure


def posteriors(probabilities: np.ndarray, glosses: Sequence[str], fps: float = 25.0, width: float = 12.0) -> Figure:
    """Probability of every gloss that ever leads, over time. probabilities: [T', V] with blank in column 0."""
    leading = [g for g in np.unique(probabilities.argmax(1)) if g != 0]
    seconds = (np.arange(len(probabilities)) * 4 + 2) / fps  # one output step covers four frames
    figure, axis = plt.subplots(figsize=(width, 2.2))
    axis.fill_between(seconds, probabilities[:, 0], color="0.9", label="blank")
    for gloss in leading:
        axis.plot(seconds, probabilities[:, gloss], marker=".", label=glosses[gloss - 1])
    axis.set(xlabel="seconds", ylabel="probability", ylim=(0, 1.02))
    axis.legend(fontsize=7, ncol=8, loc="upper center", bbox_to_anchor=(0.5, 1.25))
    figure.tight_layout()
    return figure
