"""Figures of maps beside the strips of figures.py: energy over time, neighbours, curves. Each has a caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from slakit.decoding import GlossSpan
from slakit.explain.curves import Curve
from slakit.explain.gradients import frame_energy
from slakit.models.packing import seconds_of
from slakit.records import Span
from slakit.scoring.escapes import as_label
from slakit.show.figures import with_caption

DIVERGING = "PuOr_r"  # two hues that differ without red-green vision


def energy_figure(
    energies: Mapping[str, np.ndarray], spans: Sequence[Span | GlossSpan], fps: float, caption: str, width: float = 12.0
) -> Figure:
    """Each frame's share of a map over time, one line a name; glosses as grey bands with their names."""
    figure, axis = plt.subplots(figsize=(width, 2.4))
    for (name, energy), style in zip(energies.items(), ["-", "--", ":", "-."] * len(energies), strict=False):
        axis.plot(seconds_of(np.arange(len(energy)), fps, 1), 100 * energy, style, label=as_label(name))
    top = max(float(e.max()) for e in energies.values()) * 100
    for span in spans:
        axis.axvspan(span.start / fps, span.end / fps, facecolor="0.92", edgecolor="white", linewidth=3, zorder=0)
        axis.text((span.start + span.end) / 2 / fps, 1.06 * top, as_label(span.gloss), ha="center", fontsize=8)
    axis.set(xlabel="seconds", ylabel="share of the map (%)", ylim=(0, 1.18 * max(top, 1e-9)))
    axis.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncol=6, frameon=False)
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
    energies: dict[str, np.ndarray] = {}
    for name, values in zip(names, maps, strict=True):
        again = sum(key == name or key.startswith(f"{name} (") for key in energies)
        energies[f"{name} ({again + 1})" if again else name] = frame_energy(values)
    return energies
