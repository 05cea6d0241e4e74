"""Figures of maps beside the strips of figures.py: energy over time, neighbours, curves. Each has a caption."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from slakit.decoding import GlossSpan
from slakit.explain.curves import Curve
from slakit.explain.gradients import frame_energy
from slakit.models.packing import STRIDE, seconds_of, steps
from slakit.records import Span
from slakit.scoring.escapes import as_label
from slakit.show.figures import with_caption
from slakit.show.palette import (
    BELOW,
    LINE,
    TEXT,
    WIDTH,
    apart,
    colour_of,
    line_colour,
    room,
    shortened,
    text_widths,
    time_axes,
)  # fmt: skip

DIVERGING = "PuOr_r"  # two hues that differ without red-green vision


def energy_figure(
    energies: Mapping[str, np.ndarray],
    spans: Sequence[Span | GlossSpan],
    fps: float,
    caption: str,
    width: float = WIDTH,
) -> Figure:
    """Each frame's share of a map over time, one line a name; glosses as grey bands with their names.

    A line of a gloss has the gloss' colour ("GIVE (2)" that of GIVE), and the axis of time is `timeline`'s.
    """
    frames = max([len(energy) for energy in energies.values()] + [span.end for span in spans])
    seconds = STRIDE * steps(frames) / fps  # as far as a timeline of the same clip
    names = [as_label(shortened(span.gloss)) for span in spans]
    centres = [(span.start + span.end) / 2 / fps / seconds * room(width) for span in spans]
    places, lanes = apart(centres, text_widths(names), room(width))
    above, high = LINE * (1 + max(lanes, default=-1)), 1.7
    lines = [as_label(shortened(name)) for name in energies]
    columns = max(1, int(room(width) / (max(text_widths(lines)) + 0.5)))
    below = BELOW + (LINE * 1.2 * -(-len(lines) // columns) + 0.1 if len(lines) > 1 else 0)
    figure, (axis,) = time_axes([high + above], seconds, width, below, above=0.1)
    for number, (name, energy) in enumerate(energies.items()):
        gloss = re.sub(r" \(\d+\)$", "", name)
        style = ["-", "--", ":", "-."][number % 4]
        colour = line_colour(colour_of(gloss))
        axis.plot(seconds_of(np.arange(len(energy)), fps, 1), 100 * energy, style, color=colour)
    top = 106 * max([float(e.max()) for e in energies.values()] + [1e-11])
    for span, name, x, lane in zip(spans, names, places, lanes, strict=True):
        axis.axvspan(span.start / fps, span.end / fps, facecolor="0.92", edgecolor="white", linewidth=3, zorder=0)
        line = top * (1 + LINE * (lane + 0.5) / high)
        axis.text(x / room(width) * seconds, line, name, ha="center", va="center", fontsize=TEXT)
    axis.set(ylabel="share of the map (%)", ylim=(0, top * (1 + above / high)))
    axis.yaxis.set_label_coords(-0.06, 0.5)
    if len(lines) > 1:
        place = (0, -(BELOW - 0.02) / (high + above))
        handles = axis.lines[: len(lines)]
        axis.legend(handles, lines, loc="upper left", bbox_to_anchor=place, ncols=columns, borderaxespad=0)
    return with_caption(figure, caption)


def neighbour_strip(
    frames: np.ndarray, gates: np.ndarray, offsets: Sequence[int], chosen: Sequence[int], caption: str
) -> Figure:
    """AdaptSign Fig. 4: frame t in the middle of each row, its neighbours coloured by the gate of each patch.

    gates: [T, K, h, w] from cross_frame_maps(). Purple is taken away, orange added; one scale for the clip.
    """
    top = max(float(np.abs(gates).max()), 1e-9)
    size = (WIDTH, 1.75 * len(chosen))
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
            axis.set_title(f"frame {t + k}" + (" (asks)" if k == 0 else ""))
    figure.colorbar(image, ax=axes.ravel().tolist(), fraction=0.02, pad=0.01, label="gate")
    figure.canvas.draw()  # settles the layout before the caption is placed
    return with_caption(figure, caption)


def curve_figure(curves: Sequence[Curve], caption: str, width: float = WIDTH) -> Figure:
    """Deletion and insertion curves, one panel each: the map's order, and random orders in grey."""
    size = (width, min(3.3, width / 2))
    figure, axes = plt.subplots(
        1, len(curves), figsize=size, squeeze=False, sharey=True, layout=ConstrainedLayoutEngine(wspace=0.08)
    )
    for axis, curve in zip(axes[0], curves, strict=True):
        x = 100 * curve.fractions
        axis.fill_between(x, curve.random.min(0), curve.random.max(0), color="0.85")
        axis.plot(x, curve.random.mean(0), "--", color="0.4", label="random order")
        axis.plot(x, curve.scores, marker="o", markersize=4, label="the map's order")
        verb = "masked" if curve.kind == "deletion" else "shown"
        axis.set(xlabel=f"{curve.unit} {verb} (%)", xlim=(-4, 104), ylim=(-0.03, 1.03))
        axis.set_title(f"{curve.kind}: gain {curve.gain:+.2f}")
    axes[0, 0].set_ylabel("probability of the gloss")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
    figure.canvas.draw()  # settles the layout before the caption is placed
    return with_caption(figure, caption)


def energies_of(maps: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, np.ndarray]:
    """{name: frame_energy(map)}; a name that occurs twice is numbered."""
    energies: dict[str, np.ndarray] = {}
    for name, values in zip(names, maps, strict=True):
        again = sum(key == name or key.startswith(f"{name} (") for key in energies)
        energies[f"{name} ({again + 1})" if again else name] = frame_energy(values)
    return energies
