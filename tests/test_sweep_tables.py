"""Tables of a sweep from hand-made runs: means, the paper's figures, increases, orders, exports, explorer, figures."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from slakit.show import sweep_figures as figures
from slakit.show.sweep_explorer import run_explorer, slice_runs
from slakit.sweeps import load_spec, orders, orders_in_words, paper_table, read_results
from slakit.sweeps.paired import errors_of_clips
from slakit.sweeps.tables import Results, as_latex, readable

TEXT = """
title: "Parts & ranks"
source: A paper
notebook: notebooks/12_ablation_run.ipynb
base: {preset: sla-lora/minisign}
cases: {whole: {}, no shift: {model_options.temporal_shift: false}}
grid: {model_options.rank: [4, 16]}
seeds: [0, 1, 2]
expect:
  - {rank: 4, case: whole, dev_wer: 20.0, test_wer: 21.0, trainable_millions: 1.5}
  - {rank: 16, case: whole, dev_wer: 19.0, test_wer: 19.5}
  - {case: no shift, wer_increase: 0.7}
"""
WER = {
    ("whole", 4): (15, 16, 17),
    ("whole", 16): (10, 11, 12),
    ("no shift", 4): (18, 19, 20),
    ("no shift", 16): (9, 9, 9),
}


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(TEXT)
    spec = load_spec(path)
    rows = []
    for point in spec.points():
        wer = float(WER[point.case, point.value("rank")][point.seed])
        row = {"run": point.name, "case": point.case, "rank": point.value("rank")}
        row |= {"seed": point.seed, "dev_wer": wer, "test_wer": wer + 1, "trainable": 1000 * point.value("rank")}
        rows.append(row | {f"paper_{key}": value for key, value in spec.expected(point).items()})
    curves = pd.DataFrame([{**rows[0], "epoch": epoch, "loss_total": 9.0 - epoch, "wer": 20.0} for epoch in (0, 1)])
    return Results(spec, pd.DataFrame(rows), curves, {})


def test_a_cost_that_the_spec_varies_stands_once_in_the_summary(tmp_path):
    path = tmp_path / "length.yaml"
    lines = [line for line in TEXT.splitlines() if not line.startswith(("cases", "expect", "  - "))]
    path.write_text("\n".join(lines).replace("model_options.rank: [4, 16]", "train_options.epochs: [1, 2]"))
    spec = load_spec(path)
    rows = [
        {"run": point.name, "epochs": point.value("epochs"), "seed": point.seed, "dev_wer": 20.0, "test_wer": 21.0}
        for point in spec.points()
    ]
    table = Results(spec, pd.DataFrame(rows), pd.DataFrame(), {}).summary()
    assert table[["epochs", "runs"]].to_numpy().tolist() == [[1, 3], [2, 3]]


def test_summary_has_means_spreads_the_papers_figures_and_increases(results):
    table = results.summary().set_index(["case", "rank"])
    assert list(table.index) == [("whole", 4), ("whole", 16), ("no shift", 4), ("no shift", 16)], "the spec's order"
    whole = table.loc[("whole", 4)]
    assert (whole.runs, whole.dev_wer, whole.test_wer, whole.paper_test_wer) == (3, 16.0, 17.0, 21.0)
    assert whole.dev_wer_std == pytest.approx(np.std([15, 16, 17], ddof=1))
    assert table["dev_increase"].tolist() == [0, 0, 3, -2], "against the first case at the same rank"
    assert table.loc[("no shift", 16)].paper_wer_increase == 0.7


def test_orders_say_undecided_where_the_spread_is_larger(results):
    found = orders(results.summary(), "dev_wer", ["case", "rank"])
    (row,) = found.to_dict("records")
    assert (row["better"], row["worse"], row["paper"], row["ours"]) == ("whole 16", "whole 4", 1.0, 5.0)
    assert row["error"] == pytest.approx((1 / 3 + 1 / 3) ** 0.5) and row["verdict"] == "same"
    table = results.summary()
    assert orders(table.assign(dev_wer=-table["dev_wer"]), "dev_wer")["verdict"].item() == "opposite"
    assert orders(table.assign(dev_wer_std=9.0), "dev_wer")["verdict"].item() == "undecided"
    assert orders(table.assign(dev_wer_std=float("nan")), "dev_wer")["verdict"].item() == "undecided", "one run each"


def clips_like(results, bad: str, good: str, more: int) -> pd.DataFrame:
    """Errors of 40 clips of dev: of configuration `bad` one more than `good` in the first `more`, one less in two."""
    errors = np.arange(40) % 3
    worse = errors + (np.arange(40) < more) - (np.arange(40) >= 38)
    return pd.DataFrame({"split": "dev", "clip": [f"c{i}" for i in range(40)], "words": 5, bad: worse, good: errors})


def test_orders_need_clips_that_agree_too(results):
    table = results.summary()
    sure, unsure = (orders(table, "dev_wer", ["rank"], clips_like(results, "0", "1", more)) for more in (15, 3))
    assert sure["verdict"].item() == "same" and sure["p"].item() < 0.01
    assert unsure["verdict"].item() == "undecided" and unsure["p"].item() > 0.3
    assert "in a paired test over clips" in orders_in_words(sure) and ", p 0.0" in orders_in_words(sure)
    assert np.isnan(orders(table, "test_wer", ["rank"], clips_like(results, "0", "1", 15))["p"].item()), "of dev alone"


def test_errors_of_clips_are_means_over_runs():
    runs = [{"dev": {"clips_errors": {"a": [errors, 4], "b": [1, 3]}}, "test": {"wer": 1.0}} for errors in (0, 1)]
    other = [{"dev": {"clips_errors": {"a": [2, 4], "b": [0, 3]}}}]
    strange = [{"dev": {"clips_errors": {"x": [2, 4]}}}]
    table = errors_of_clips([[{"dev": {"wer": 3.0}}], runs, strange, other])
    assert table.to_dict("list") == {
        "split": ["dev", "dev"], "clip": ["a", "b"], "words": [4, 3], "1": [0.5, 1.0], "3": [2.0, 0.0],
    }  # fmt: skip
    assert errors_of_clips([[{}]]).empty


def test_orders_in_words_come_from_the_verdicts(results):
    found = orders(results.summary(), "dev_wer", ["case", "rank"])
    text = orders_in_words(found)
    assert "Of 1 orders in the paper 1 hold" in text
    assert "hold: whole 16 better than whole 4 (paper +1.0, here +5.0 ± 0.8)" in text
    text = orders_in_words(found.assign(verdict="opposite"))
    assert "0 hold" in text and "1 are the other way round" in text
    assert "no pair" in orders_in_words(found.iloc[:0])


def test_written_tables_are_read_again(results, tmp_path):
    results.write(tmp_path)
    again = read_results(results.spec, tmp_path)
    pd.testing.assert_frame_equal(again.summary(), results.summary(), check_dtype=False)
    assert len(again.curves) == 2 and read_results(results.spec, tmp_path / "nowhere") is None
    latex = as_latex(readable(results.summary()), results.spec)
    assert r"Parts \& ranks" in latex and r"WER \%" in latex and latex.count(r"\\") == 5


def test_the_papers_table_needs_no_runs(results):
    table = paper_table(results.spec)
    assert len(table) == 4 and table.loc[0, "paper_trainable_millions"] == 1.5


def test_explorer_follows_its_widgets(results):
    view = run_explorer(results.runs, results.varied)
    axes, keep = view.children[0].children, view.children[1].children
    first = view.children[2].value
    assert view.children[3].value == "12 of 12 runs"
    keep[0].value = ("whole",)
    assert view.children[3].value == "6 of 12 runs" and view.children[2].value != first
    axes[1].value = "trainable"
    assert view.children[2].value[:4] == b"\x89PNG"
    assert len(slice_runs(results.runs, {"rank": (4,), "seed": (0, 1)})) == 4


def test_figures_show_every_number(results):
    summary = results.summary()
    figure = figures.heat_maps(summary, "case", "rank", "dev_wer")
    texts = {text.get_text() for axis in figure.axes for text in axis.texts}
    assert {"16.0\n±1.0", "11.0\n±1.0", "20.0", "19.0"} <= texts
    figure = figures.wer_against_parameters(summary.assign(name=["a", "b", "c", "d"]), "name", "dev_wer")
    assert [len(axis.containers) for axis in figure.axes] == [4, 1]
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b", "c", "d"]
    figures.sweep_curves(results.curves, "rank", pd.Series([30.0]))
    close = pd.DataFrame({"name": list("abc"), "test_wer": [18.0, 18.1, 22.0], "paper_test_wer": [19.0, 19.0, 30.0]})
    figure = figures.ours_beside_paper(close, "name")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 6 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2)), "all can be read"
    plt.close("all")


def test_no_module_hides_a_name_of_the_package():
    import slakit.sweeps as package

    modules = {path.stem for path in Path(package.__file__).parent.glob("*.py")}
    assert not modules & set(package.__all__)
