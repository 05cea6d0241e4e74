"""How every figure looks: one gloss, one colour in all figures of a notebook; sizes that suit a page; labels apart.

Glosses take their colours in the order in which a process first draws them, and keep them. The first nine are safe for
colour-blind readers (seaborn's "colorblind" without its grey, which is blank's); then come darker and lighter ones and
other line styles, and every gloss is named beside its colour anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

Colour = tuple[float, float, float]

WIDTH = 9.0  # inches of a figure: as wide as a notebook's page, where 10 points are then as large as its text
TEXT = 10.0  # points
LINE = 0.19  # inches of a line of text, with air
LEFT, RIGHT, BELOW = 1.25, 0.15, 0.5  # inches beside and below the axes of time
sns.set_theme(
    style="whitegrid", context="notebook", palette="colorblind",
    rc={"figure.dpi": 150, "legend.frameon": False} | dict.fromkeys(
        ("font.size", "axes.labelsize", "axes.titlesize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize",
         "legend.title_fontsize", "figure.titlesize"), TEXT,
    ),
)  # fmt: skip

_SAFE: list[Colour] = [colour for k, colour in enumerate(sns.color_palette("colorblind")) if k != 7]
_STYLES = ("-", "--", ":", "-.")
_places: dict[str, int] = {}


def _place(name: str) -> int:
    return _places.setdefault(name, len(_places))


def colour_of(name: str) -> Colour:
    """The colour of a gloss (or of whatever is named), the same for as long as the process lives."""
    times, number = divmod(_place(name), len(_SAFE))
    red, green, blue = _SAFE[number]
    if times % 3 == 1:
        return 0.6 * red, 0.6 * green, 0.6 * blue
    if times % 3 == 2:
        return 0.4 + 0.6 * red, 0.4 + 0.6 * green, 0.4 + 0.6 * blue
    return red, green, blue


def style_of(name: str) -> str:
    """The line style that goes with `colour_of`: another one each time that the colours come round."""
    return _STYLES[_place(name) // len(_SAFE) % len(_STYLES)]


def line_colour(colour: Colour) -> Colour:
    """The colour, made darker until a line of it on white has the contrast 3:1 that WCAG 2.2 asks of graphics."""
    return _darker(colour, 3.0)


def text_colour(colour: Colour) -> Colour:
    """The colour, made darker until text of it on white has the contrast 4.5:1 that WCAG 2.2 asks of text."""
    return _darker(colour, 4.5)


def _darker(colour: Colour, contrast: float) -> Colour:
    red, green, blue = (float(c) for c in colour[:3])
    while 1.05 / (_luminance((red, green, blue)) + 0.05) < contrast:
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


def shortened(text: str, most: int = 36) -> str:
    """A label that still fits: of longer ones, how they begin and end."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[most // 2 - most + 1 :]}"


def text_widths(texts: Sequence[str], size: float = TEXT) -> list[float]:
    """Inches that each text takes on one line, 0.1 of air included."""
    figure = Figure(dpi=72)
    renderer = FigureCanvasAgg(figure).get_renderer()
    words = [Text(0, 0, text, fontsize=size, figure=figure) for text in texts]
    return [word.get_window_extent(renderer).width / 72 + 0.1 for word in words]


def apart(centres: Sequence[float], widths: Sequence[float], room: float) -> tuple[list[float], list[int]]:
    """Centres of labels, moved inside 0 … room, and the lane of each: no two labels of one lane touch.

    All in inches. Labels stay in one lane where they can; there are as many lanes as are needed.
    """
    moved, lanes, ends = [0.0] * len(centres), [0] * len(centres), []
    for k in np.argsort(np.asarray(centres), kind="stable"):
        half = widths[k] / 2
        moved[k] = float(np.clip(centres[k], min(half, room / 2), max(room - half, room / 2)))
        lanes[k] = next((lane for lane, end in enumerate(ends) if end <= moved[k] - half), len(ends))
        ends[lanes[k] : lanes[k] + 1] = [moved[k] + half]
    return moved, lanes


def time_axes(
    heights: Sequence[float], seconds: float, width: float = WIDTH, below: float = BELOW, above: float = 0.3
) -> tuple[Figure, list[Axes]]:
    """(figure, axes): axes one under the other on one axis of time, each `heights` inches high and of one width.

    Every figure that is drawn with it has its axes at the same place from the left, so that figures of one clip line up
    on a page, too; the frame that holds the place is not seen. below, above: inches under the last axis and
    over the first.
    """
    gaps = [above, *[0.3] * (len(heights) - 1)]
    height = sum(heights) + sum(gaps) + below
    figure = plt.figure(figsize=(width, height))
    axes, top = [], height
    for inches, gap in zip(heights, gaps, strict=True):
        top -= gap + inches
        place = (LEFT / width, top / height, (width - LEFT - RIGHT) / width, inches / height)
        axes.append(figure.add_axes(place, sharex=axes[0] if axes else None))
    for axis in axes[:-1]:
        axis.tick_params(labelbottom=False)
    axes[-1].set(xlabel="seconds", xlim=(0, max(seconds, 1e-9)))
    figure.add_artist(Rectangle((0, 0), 1, 1, transform=figure.transFigure, fill=False, edgecolor="none"))
    return figure, axes


def room(width: float = WIDTH) -> float:
    """Inches between the ends of an axis of time."""
    return width - LEFT - RIGHT


def legend_above(axis: Axes, width: float, title: str | None = None) -> None:
    """The legend of an axis outside its data: above it, in as many columns as fit into `width` inches."""
    handles, labels = axis.get_legend_handles_labels()
    if old := axis.get_legend():
        old.remove()
    if handles:
        columns = max(1, int(width / (max(text_widths(labels)) + 0.55)))
        axis.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, title=title, borderaxespad=0.2,
            handlelength=1.6, columnspacing=1.0, alignment="left",
        )  # fmt: skip
