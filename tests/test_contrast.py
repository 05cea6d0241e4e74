"""Colours of our own against what lies behind them: WCAG 2.2 asks 4.5 to 1 for text and 3 to 1 for graphics."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest

import slakit.show.video_app as video_app
from slakit.records import Span
from slakit.show import figures

PACKAGE = Path(video_app.__file__).parent
SMALL = [path for path in sorted([*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.html")]) if "/data/" not in path.as_posix()]
WHITE = (1.0, 1.0, 1.0)


def luminance(colour) -> float:
    """Relative luminance (WCAG 2.2, definition)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in matplotlib.colors.to_rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_the_measure_itself():
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)  # the well-known grey that just fails


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_text_colours_in_html(path):
    """Every `color: x` in HTML of the package, against the background named beside it, or white."""
    for style in re.findall(r"style=['\"]([^'\"]*)['\"]", path.read_text(encoding="utf-8")):
        rules = dict(part.split(":", 1) for part in style.replace(" ", "").split(";") if ":" in part)
        colour = rules.get("color", "")
        if colour.startswith("#") or colour in matplotlib.colors.CSS4_COLORS:
            behind = rules.get("background", rules.get("background-color", "white"))
            assert contrast(colour, behind) >= 4.5, f"{path.name}: {style}"


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_text_in_html_has_the_pages_colour_or_a_background_of_its_own(path):
    """JupyterLab's page is white or nearly black: a colour alone cannot be read on both."""
    for style in re.findall(r"""["'][^"'\n]*(?<![\w-])color: ?[#{\w][^"'\n]*["']""", path.read_text(encoding="utf-8")):
        assert "background" in style or "--jp-" in style, f"{path.name}: {style} names no background"


def test_a_page_of_either_theme_can_be_read():
    """Why: the greys that suit white are too dark on JupyterLab's dark page, and no grey suits both well."""
    assert contrast("#595959", "white") > 7 and contrast("#595959", "#111111") < 3


def test_lines_of_any_palette_can_be_seen_on_white():
    for name, count in (("colorblind", 10), ("colorblind", 25), ("husl", 31)):
        for colour in figures.sns.color_palette(name, count):
            assert contrast(figures.line_colour(colour), "white") >= 3
    dark = (0.1, 0.2, 0.3)
    assert figures.line_colour(dark) == dark, "what is dark enough stays"


def test_lines_of_posteriors():
    """Every line of a timeline with bars and of one without, among 31 glosses."""
    glosses = [f"G{i}" for i in range(31)]
    spans = [Span(gloss, 4 * i, 4 * i + 4) for i, gloss in enumerate(glosses)]
    probabilities = np.eye(32)
    for figure in (
        figures.timeline({"signed": spans}, {"sequence": (probabilities, 4)}, glosses),
        figures.timeline({}, {"every frame": (probabilities, 1)}, glosses),
    ):
        lines = [line for axis in figure.axes for line in axis.lines if len(line.get_xdata()) == 32]
        assert len(lines) == 31
        for line in lines:
            assert contrast(line.get_color(), "white") >= 3
        figures.plt.close(figure)


def test_named_colours_of_the_widget():
    assert contrast(video_app.ERROR_COLOUR, "white") >= 4.5
    assert contrast(video_app.BOX_COLOUR, "white") >= 3


def test_labels_on_the_timeline():
    """The dark text of a bar against each colour that bars of 1 to 40 different glosses get."""
    for count in (1, 2, 5, 12, 40):
        spans = [Span(f"G{i}", 4 * i, 4 * i + 4) for i in range(count)]
        figure = figures.timeline({"truth": spans})
        axis = figure.axes[0]
        for bar, label in zip(axis.patches, axis.texts, strict=True):
            assert contrast(label.get_color(), bar.get_facecolor()[:3]) >= 4.5
        figures.plt.close(figure)
