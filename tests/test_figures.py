"""Every figure function with awkward data: no two texts touch, no legend covers data, nothing is too small to read."""

from __future__ import annotations

import itertools

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from slakit import show
from slakit.explain.curves import Curve
from slakit.records import Span
from slakit.scoring import confusion_matrix, score
from slakit.show import palette, sweep_explorer

LONG = [f"{'VERY-LONG-COMPOUND-' * (1 + k % 3)}GLOSS-{k}" for k in range(6)]
FORTY = [f"SIGN-{k}" for k in range(40)]
CASES = {"usual": ["GIVE", "TAKE", "YESTERDAY", "TREE"], "long": LONG, "forty": FORTY, "one": ["A"]}
CAPTION = "What is shown, in a sentence that is longer than one line of such a figure can ever be. " * 2


def spans(names, kind="even") -> list[Span]:
    length = {"even": 12, "short": 3}.get(kind, 8)
    return [Span(name, 0 if kind == "equal" else k * length, (0 if kind == "equal" else k * length) + length)
            for k, name in enumerate(names)]  # fmt: skip


def leading(names) -> np.ndarray:
    """Probabilities in which each name leads in a step of its own, [n + 2, 1 + n]."""
    table = np.full((len(names) + 2, len(names) + 1), 0.3 / (len(names) + 1))
    table[np.arange(1, len(names) + 1), np.arange(1, len(names) + 1)] = 0.7
    table[[0, -1], 0] = 0.7
    return table


def timeline(names, kind="even"):
    rows = {"signed": spans(names, kind), "what the model recognised": spans(names[::-1], kind)}
    tracks = {"of every step (grey: blank)": (leading(names), 4), "of every frame": (leading(names), 1)}
    return show.timeline(rows, tracks, names, 25.0, caption=CAPTION)


def strip(names):
    frames = np.zeros((max(len(names), 2), 24, 24, 3), np.uint8)
    maps = {name: np.random.default_rng(0).random((len(frames), 7, 7)) for name in names[:8]}
    return show.frame_strip(frames, min(len(names), 12), maps, titles=names[:12], caption=CAPTION)


def one_frame(names):
    return show.frame_strip(np.zeros((1, 24, 24, 3), np.uint8), 10, caption=names[0])


def energy(names, kind="even"):
    energies = {name: np.random.default_rng(k).random(max(12 * len(names), 1)) for k, name in enumerate(names[:12])}
    return show.energy_figure(energies, spans(names, kind), 25.0, CAPTION)


def confusions(names):
    signed = {f"v{k}": f"{a} {b}" for k, (a, b) in enumerate(zip(names, names[::-1], strict=True))}
    answers = {f"v{k}": f"{b} {a}" for k, (a, b) in enumerate(zip(names, names[1:] + names[:1], strict=True))}
    return show.confusion_map(confusion_matrix(score(signed, answers), n=len(names)))


def lattice(names):
    names = names[:6]
    steps = 2 * len(names) + 1
    return show.ctc_lattice(np.full((steps, len(names) + 1), 0.12), range(1, len(names) + 1), ["blank", *names])


def history(rows: int, scored: bool = True) -> list[dict]:
    terms = ("sequence", "conv", "distillation", "clip", "total")
    losses = [{f"loss_{t}": 10.0 ** (k % 3) / e for k, t in enumerate(terms)} for e in range(1, rows + 1)]
    wers = [90 / (1 + e) if scored else None for e in range(rows)]
    return [
        {"epoch": e, "trained": "all", "wer": wer} | loss
        for e, (wer, loss) in enumerate(zip(wers, losses, strict=True))
    ]


def curves(_):
    line = np.linspace(1, 0, 6)
    random = np.stack([line**0.5, line**0.6])
    return show.curve_figure([Curve("deletion", "patches", np.linspace(0, 1, 6), line, random)] * 3, CAPTION)


def neighbours(_):
    gates = np.random.default_rng(0).uniform(-1, 1, (9, 5, 7, 7))
    return show.neighbour_strip(np.zeros((9, 24, 24, 3), np.uint8), gates, range(-2, 3), [0, 4, 8], CAPTION)


def summary(names) -> pd.DataFrame:
    numbers = np.arange(len(names))
    columns = {"name": names, "rank": numbers % 3, "test_wer": 20 + (numbers % 5) / 10, "test_wer_std": 1.0}
    paper = {
        "trainable": 1e6 * (1 + numbers % 4),
        "paper_test_wer": 20.0 + numbers % 2,
        "paper_trainable_millions": 1 + numbers,
    }
    costs = {
        "step_seconds": 0.0123 * (1 + numbers),
        "kept_mb_per_frame": 1.0 + numbers,
        "encoder_gflops": 1e-3 + numbers,
    }
    return pd.DataFrame(columns | paper | costs)


def sweep_curves(names):
    rows = [{"name": n, "epoch": e, "seed": s, "loss_total": 9 / e + k, "wer": 50 / e + k}
            for k, n in enumerate(names) for e in (1, 2, 3) for s in (0, 1)]  # fmt: skip
    return show.sweep_curves(pd.DataFrame(rows), "name", start=pd.Series([60.0, 61.0]))


def scatter(names):
    return sweep_explorer._scatter(summary(names), "name", "test_wer", "name")


FIGURES = {
    "timeline": timeline, "timeline, equal spans": lambda names: timeline(names, "equal"),
    "timeline, short spans": lambda names: timeline(names, "short"),
    "timeline, tracks alone": lambda names: show.timeline({}, {"of every step": (leading(names), 4)}, names),
    "timeline, one frame": lambda names: show.timeline(
        {"signed": [Span(names[0], 0, 1)]}, {"p": (leading(names)[:1], 1)}, names
    ),
    "strip": strip, "one frame": one_frame, "energy": energy,
    "energy, equal spans": lambda names: energy(names, "equal"), "confusions": confusions, "lattice": lattice,
    "training": lambda names: show.training_curves(history(len(names))),
    "training, no WER": lambda names: show.training_curves(history(len(names), False)),
    "curves": curves, "neighbours": neighbours,
    "heat maps": lambda names: show.heat_maps(summary(names), "rank", "name"),
    "heat maps, lying": lambda names: show.heat_maps(summary(names), "name", "rank"),
    "parameters": lambda names: show.wer_against_parameters(summary(names), "name"),
    "ours and the paper's": lambda names: show.ours_beside_paper(summary(names), "name"),
    "sweep curves": sweep_curves, "costs": lambda names: show.cost_bars(summary(names), "name"), "scatter": scatter,
}  # fmt: skip


def texts_of(figure, renderer) -> dict:
    """{text: its box in pixels} of all that is written and seen."""
    ticks, drawn, hidden = set(), set(), set()
    for axis in figure.axes:
        for one in (axis.xaxis, axis.yaxis):
            drawn |= {label for t in one._update_ticks() for label in (t.label1, t.label2) if label.get_visible()}
            ticks |= {label for t in one.majorTicks + one.minorTicks for label in (t.label1, t.label2)}
            hidden |= set() if axis.axison and axis.get_visible() else {one.label, one.offsetText}
        if not (axis.axison and axis.get_visible()):
            hidden |= ticks | drawn
    words = figure.findobj(lambda artist: isinstance(artist, matplotlib.text.Text))
    words = [w for w in words if w.get_text().strip() and w.get_visible() and (w.axes is None or w.axes.get_visible())]
    words = [w for w in words if w not in hidden and (w not in ticks or w in drawn)]
    return {word: word.get_window_extent(renderer) for word in words}


@pytest.mark.filterwarnings("error:.*layout not applied", "ignore:.*identical low and high")
@pytest.mark.parametrize("case", [c if c == "usual" else pytest.param(c, marks=pytest.mark.thorough) for c in CASES])
@pytest.mark.parametrize("kind", FIGURES)
def test_no_texts_touch_and_legends_cover_no_data(kind, case):
    figure = FIGURES[kind](list(CASES[case]))
    assert figure.dpi >= 150
    figure.set_dpi(100)  # quicker
    try:
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.canvas.draw()
        boxes = texts_of(figure, renderer)
        assert boxes
        for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            along = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across < 1 or along < 1, f"{one.get_text()!r} lies on {other.get_text()!r}"
        legends = [*figure.legends, *(axis.get_legend() for axis in figure.axes if axis.get_legend())]
        for legend in legends:
            box = legend.get_window_extent(renderer)
            for axis in figure.axes:
                data = axis.get_window_extent(renderer)
                inside = box.x0 < data.x1 - 1 and data.x0 < box.x1 - 1 and box.y0 < data.y1 - 1 and data.y0 < box.y1 - 1
                assert not inside, "a legend lies on the data"
        whole = figure.get_tightbbox(renderer).width
        usual = case == "usual"
        if usual:
            assert whole <= palette.WIDTH + 0.3, "a figure as wide as the page"
            assert min(word.get_fontsize() for word in boxes) >= palette.TEXT - 0.01, "as large as the page's text"
    finally:
        plt.close("all")


def test_axes_of_time_line_up():
    """Two figures of one clip have their axes at the same place from the left edge of what is stored."""
    names, places = CASES["usual"], []
    for figure in (timeline(names), energy(names), show.timeline({"signed": spans(names)})):
        renderer = FigureCanvasAgg(figure).get_renderer()
        left = figure.get_tightbbox(renderer).x0 * figure.dpi
        places += [(axis.get_window_extent(renderer).x0 - left, *axis.get_xlim()) for axis in figure.axes]
    plt.close("all")
    np.testing.assert_allclose(places, places[:1] * len(places), atol=0.5)


def test_a_gloss_has_one_colour_in_all_figures():
    names = CASES["usual"]
    first = show.timeline({"signed": spans(names)}, {"p": (leading(names), 4)}, names)
    second = show.timeline({}, {"p": (leading(names[::-1]), 4)}, names[::-1])
    third = energy(names[::-1])
    colours = [dict(zip(order, [line.get_color() for line in axis.lines], strict=True)) for order, axis in (
        (names, first.axes[1]), (names[::-1], second.axes[0]), (names[::-1], third.axes[0]))]  # fmt: skip
    plt.close("all")
    assert colours[0] == colours[1] == colours[2] and len(set(colours[0].values())) == len(names)


def test_the_first_twenty_seven_colours_and_styles_are_all_different(monkeypatch):
    monkeypatch.setattr(palette, "_places", {})
    drawn = [(palette.colour_of(name), palette.style_of(name)) for name in FORTY[:36]]
    assert len(set(drawn)) == 36 and len({colour for colour, _ in drawn}) == 27
    assert palette.colour_of(FORTY[3]) == drawn[3][0]


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_kept_apart(seed):
    rng = np.random.default_rng(seed)
    centres, widths = rng.uniform(0, 8, 30), rng.uniform(0.2, 3, 30)
    moved, lanes = palette.apart(centres, widths, 8.0)
    for i, j in itertools.combinations(range(30), 2):
        assert lanes[i] != lanes[j] or abs(moved[i] - moved[j]) >= (widths[i] + widths[j]) / 2 - 1e-9
    assert all(w / 2 - 1e-9 <= x <= 8 - w / 2 + 1e-9 for x, w in zip(moved, widths, strict=True))
