"""Pictures for notebooks: every function draws on matplotlib and returns the Figure; nothing is shown or saved here."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from slakit.data.samples import Span

sns.set_theme(style="whitegrid", context="notebook", palette="colorblind", rc={"figure.dpi": 80})
HEAT = "inferno"  # readable without colour vision: brightness rises with the value


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
    glosses = list(dict.fromkeys(span.gloss for spans in rows.values() for span in spans))
    colours = dict(zip(glosses, sns.color_palette("husl", max(len(glosses), 1)), strict=False))
    figure, axis = plt.subplots(figsize=(width, 0.5 + 0.55 * len(rows)))
    for row, spans in enumerate(rows.values()):
        for span in spans:
            start, length = span.start / fps, (span.end - span.start) / fps
            axis.barh(row, length, left=start, height=0.8, color=colours[span.gloss], edgecolor="white")
            axis.text(start + length / 2, row, span.gloss, ha="center", va="center", fontsize=8, clip_on=True)
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()
    axis.set(xlabel="seconds", xlim=(0, None))
    axis.grid(axis="y", visible=False)
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
