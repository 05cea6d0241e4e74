"""What all widgets share: sizes of their own, no empty pictures, a picture in their place on the web."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from slakit.explain.curves import Curve
from slakit.records import Span
from slakit.show import clip_player, curve_figure, run_explorer
from slakit.show.player import TALLEST, picture, put
from slakit.show.sweep_explorer import _scatter

ROOT = Path(__file__).resolve().parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"


def clip(count: int = 37, size: tuple[int, int] = (96, 96)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def test_an_empty_picture_is_hidden_and_a_full_one_shown():
    image = picture(300)
    assert image.layout.display == "none" and image.layout.width == "300px" and image.layout.max_width == "100%"
    put(image, b"PNG")
    assert image.layout.display == "" and bytes(image.value) == b"PNG"
    put(image, b"")
    assert image.layout.display == "none"


@pytest.mark.parametrize("size", [(96, 96), (260, 210), (120, 640)])
def test_a_clip_is_never_taller_than_a_laptop_allows_and_keeps_its_shape(size):
    player = clip_player(clip(5, size), [Span("GIVE", 0, 5)])
    width = float(player.image.layout.width.removesuffix("px"))
    assert width * size[0] / size[1] <= TALLEST + 1 and player.image.layout.align_self == "flex-start"
    player.slider.value = 4
    assert player.slider.max == player.play.max == 4 and "0.16 s" in player.caption.value


def test_a_clip_of_one_frame():
    player = clip_player(clip(1))
    player.slider.value = 1
    assert bytes(player.image.value[:4]) == b"\x89PNG"


def test_the_stored_notebook_keeps_the_picture_and_not_the_widget(tmp_path):
    runs = pd.DataFrame({"rank": [4, 16, 8], "seed": [0, 0, 0], "test_wer": [20.0, 19.0, 18.0]})
    cells = []
    for widget in (clip_player(clip()), run_explorer(runs, ["rank"])):
        data = widget._repr_mimebundle_()
        shown = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
        assert WIDGET in data and shown.width > 600
        out = nbformat.v4.new_output("execute_result", data, execution_count=1)
        cells.append(nbformat.v4.new_code_cell("widget", outputs=[out], execution_count=1))
    alone = nbformat.v4.new_output("display_data", {WIDGET: {}, "text/plain": "VBox()"})
    cells.append(nbformat.v4.new_code_cell("widget", outputs=[alone], execution_count=3))
    path = tmp_path / "a.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    subprocess.run([sys.executable, str(ROOT / "tests" / "clean_notebooks.py"), str(path)], check=True)
    kept = [[sorted(out.data) for out in cell.outputs] for cell in nbformat.read(path, 4).cells]
    assert kept == [[["image/png", "text/plain"]], [["image/png", "text/plain"]], []]


def test_values_of_a_sweep_stand_in_their_order():
    runs = pd.DataFrame({"rank": [4, 16, 32, 8], "blocks": ["2-4", "1-4", "1-4", "2-4"], "seed": 0, "test_wer": 20.0})
    keep = run_explorer(runs, ["rank", "blocks"]).children[1].children
    assert [value for _, value in keep[0].options] == [4, 8, 16, 32]
    assert [value for _, value in keep[1].options] == ["1-4", "2-4"]


def test_the_legend_of_a_sweep_is_in_the_order_of_the_values():
    runs = pd.DataFrame({"rank": [4, 16, 32, 8], "blocks": ["1-4", "1-4", "2-4", "2-4"], "test_wer": 20.0})
    for across in ("blocks", "test_wer"):
        figure = _scatter(runs, across, "test_wer", "rank")
        assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["4", "8", "16", "32"]
        plt.close(figure)


def test_two_panels_of_curves_share_a_narrow_figure():
    line = np.linspace(1, 0, 6)
    curves = [Curve("deletion", unit, line, line, np.stack([line, line**2])) for unit in ("patches", "frames")]
    figure = curve_figure(curves, "A caption.", width=5.2)
    one, other = (axis.get_position() for axis in figure.axes)
    assert one.width > 0.35 and abs(one.width - other.width) < 0.02 and one.y1 == pytest.approx(other.y1)
    plt.close(figure)
