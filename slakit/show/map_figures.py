"""Figures of maps: strips, methods side by side, neighbours, timeline with posteriors, curves. Each has a caption."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.figure import Figure

from slakit.decoding import GlossSpan
from slakit.explain.curves import Curve
from slakit.explain.gradients import frame_energy
from slakit.models.packing import seconds_of
from slakit.records import Span
from slakit.show.figures import line_colour
from slakit.show.film import overlay, scale_of

DIVERGING = "PuOr_r"  # two hues that differ without red-green vision


def with_caption(figure: Figure, caption: str) -> Figure:
    """A line or two under the figure that say what is shown."""
    width = int(figure.get_size_inches()[0] * 14)
    lines = textwrap.wrap(caption, width)
    figure.text(0.01, -0.01, "\n".join(lines), ha="left", va="top", fontsize=9, color="0.25")
    return figure


def map_strip(
    frames: np.ndarray,
    rows: Mapping[str, np.ndarray],
    chosen: Sequence[int],
    caption: str,
    titles: Sequence[str] | None = None,
    width: float = 12.0,
) -> Figure:
    """The chosen frames, and under them one row for each map [T, h, w]: methods, kinds or glosses side by side.

    Every row has one scale of its own for the whole clip. The papers' figures: CLIP-SLA Fig. 5, AdaptSign Fig. 3.
    """
    chosen = list(chosen)
    side = (width - 1.0) / len(chosen)
    figure, axes = plt.subplots(
        1 + len(rows), len(chosen), figsize=(width, side * (1 + len(rows)) + 0.3), squeeze=False
    )
    shown = {"frames": frames[chosen]}
    for name, maps in rows.items():
        shown[name] = overlay(frames[chosen], maps[chosen], 3, scale_of(maps))
    for line, (name, pictures) in zip(axes, shown.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            sns.despine(ax=axis, left=True, bottom=True)
        line[0].set_ylabel(name.replace(" ", "\n", 1), fontsize=9)
    for column, index in enumerate(chosen):
        axes[0, column].set_title(titles[column] if titles else f"frame {index}", fontsize=8)
    figure.tight_layout(pad=0.25)
    return with_caption(figure, caption)


def energy_figure(
    energies: Mapping[str, np.ndarray], spans: Sequence[Span | GlossSpan], fps: float, caption: str, width: float = 12.0
) -> Figure:
    """Each frame's share of a map over time, one line a name; glosses as grey bands with their names."""
    figure, axis = plt.subplots(figsize=(width, 2.4))
    for (name, energy), style in zip(energies.items(), ["-", "--", ":", "-."] * len(energies), strict=False):
        axis.plot(np.arange(len(energy)) / fps, 100 * energy, style, label=name)
    top = max(float(e.max()) for e in energies.values()) * 100
    for span in spans:
        axis.axvspan(span.start / fps, span.end / fps, facecolor="0.92", edgecolor="white", linewidth=3, zorder=0)
        axis.text((span.start + span.end) / 2 / fps, 1.06 * top, span.gloss, ha="center", fontsize=8)
    axis.set(xlabel="seconds", ylabel="share of the map (%)", ylim=(0, 1.18 * max(top, 1e-9)))
    axis.legend(fontsize=8, loc="upper right", bbox_to_anchor=(1.0, 0.88))
    figure.tight_layout()
    return with_caption(figure, caption)


def neighbour_strip(
    frames: np.ndarray, gates: np.ndarray, offsets: Sequence[int], chosen: Sequence[int], caption: str
) -> Figure:
    """AdaptSign Fig. 4: frame t in the middle of each row, its neighbours coloured by the gate of each patch.

    gates: [T, K, h, w] from cross_frame_maps(). Purple is taken away, orange added; one scale for the clip.
    """
    top = max(float(np.abs(gates).max()), 1e-9)
    size = (9.5, 2.0 * len(chosen))
    figure, axes = plt.subplots(len(chosen), len(offsets), figsize=size, squeeze=False, layout="compressed")
    for line, t in zip(axes, chosen, strict=True):
        for axis, i, k in zip(line, range(len(offsets)), offsets, strict=True):
            axis.set(xticks=[], yticks=[])
            if not 0 <= t + k < len(frames):
                axis.set_visible(False)
                continue
            picture = frames[t + k]
            axis.imshow(picture.mean(-1), cmap="gray", vmin=0, vmax=255)
            extent = (-0.5, picture.shape[1] - 0.5, picture.shape[0] - 0.5, -0.5)
            image = axis.imshow(gates[t, i], cmap=DIVERGING, vmin=-top, vmax=top, alpha=0.6, extent=extent)
            axis.set_title(f"frame {t + k}" + (" (asks)" if k == 0 else ""), fontsize=8)
    figure.colorbar(image, ax=axes.ravel().tolist(), fraction=0.02, pad=0.01, label="gate")
    figure.canvas.draw()  # settles the layout before the caption is placed
    return with_caption(figure, caption)


def gloss_timeline(
    rows: Mapping[str, Sequence[Span | GlossSpan]],
    probabilities: np.ndarray,
    glosses: Sequence[str],
    fps: float,
    caption: str,
    width: float = 12.0,
) -> Figure:
    """Glosses as bars over time, one row a name, and under them the posteriors of the model on the same time axis.

    probabilities: [T', V], blank in column 0. The same gloss has the same colour everywhere, and its name beside it.
    """
    leading = [int(g) for g in np.unique(probabilities.argmax(1)) if g]
    names = list(dict.fromkeys([s.gloss for spans in rows.values() for s in spans] + [glosses[g - 1] for g in leading]))
    palette = sns.color_palette("colorblind", max(len(names), 1))
    colours = dict(zip(names, palette, strict=False))  # one colour is there without names, too
    figure, (bars, lines) = plt.subplots(
        2, 1, sharex=True, figsize=(width, 2.4 + 0.5 * len(rows)), height_ratios=[0.5 * len(rows), 2.0]
    )
    for row, spans in enumerate(rows.values()):
        for s in spans:
            start, length = s.start / fps, (s.end - s.start) / fps
            bars.barh(row, length, left=start, height=0.85, color=colours[s.gloss], edgecolor="white", alpha=0.75)
            bars.text(start + length / 2, row, s.gloss, ha="center", va="center", fontsize=8, clip_on=True)
    bars.set_yticks(range(len(rows)), list(rows))
    bars.invert_yaxis()
    bars.grid(visible=False)
    seconds = seconds_of(np.arange(len(probabilities)), fps)
    lines.fill_between(seconds, probabilities[:, 0], color="0.88", label="blank")
    for g in leading:
        line = probabilities[:, g]
        lines.plot(seconds, line, marker=".", color=line_colour(colours[glosses[g - 1]]))
        lines.text(seconds[line.argmax()], line.max() + 0.04, glosses[g - 1], ha="center", fontsize=8)
    lines.set(xlabel="seconds", ylabel="probability", ylim=(0, 1.15), xlim=(0, None))
    figure.tight_layout()
    return with_caption(figure, caption)


def curve_figure(curves: Sequence[Curve], caption: str, width: float = 9.0) -> Figure:
    """Deletion and insertion curves, one panel each: the map's order, and random orders in grey."""
    figure, axes = plt.subplots(1, len(curves), figsize=(width, 2.9), squeeze=False, sharey=True)
    for axis, curve in zip(axes[0], curves, strict=True):
        x = 100 * curve.fractions
        axis.fill_between(x, curve.random.min(0), curve.random.max(0), color="0.85")
        axis.plot(x, curve.random.mean(0), "--", color="0.4", label="random order")
        axis.plot(x, curve.scores, marker="o", markersize=4, label="the map's order")
        verb = "masked" if curve.kind == "deletion" else "shown"
        axis.set(xlabel=f"{curve.unit} {verb} (%)", title=f"{curve.kind}: gain {curve.gain:+.2f}", ylim=(-0.03, 1.03))
    axes[0, 0].set_ylabel("probability of the gloss")
    axes[0, 0].legend(fontsize=8)
    figure.tight_layout()
    return with_caption(figure, caption)


def energies_of(maps: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """{name: frame_energy(map)}; a name that occurs twice is numbered."""
    found: dict[str, np.ndarray] = {}
    for name, values in zip(names, maps, strict=True):
        again = sum(key == name or key.startswith(f"{name} (") for key in found)
        found[f"{name} ({again + 1})" if again else name] = frame_energy(values)
    return found
