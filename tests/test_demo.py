"""What `make demo` says of its own result, and that the ranges that are promised are those that were measured."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from slakit.sweeps.demo import measured_runs, verdict
from slakit.sweeps.runs import device

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def results(tmp_path):
    rows = [("sla-lora/minisign", 8.0, 7.0, 0), ("sla-lora/minisign", 9.04, 7.4, 1), ("frozen/minisign", 15.0, 14.0, 0)]
    for name, more in (("demo_spread", 0.0), ("demo_spread-other", 0.5)):
        table = pd.DataFrame(rows, columns=["preset", "dev_wer", "test_wer", "seed"])
        (tmp_path / name).mkdir()
        table.assign(test_wer=table["test_wer"] + more).to_csv(tmp_path / name / "runs.csv", index=False)
    return tmp_path


def test_a_result_is_held_against_the_measured_runs(results):
    assert len(measured_runs(results)) == 4
    inside = verdict({"dev": 8.5, "test": 7.9}, results)
    assert inside.startswith("as it should be: within dev 8.0 to 9.0 % and test 7.0 to 7.9 % of 4 runs"), inside
    assert "(2 seeds, 2 kinds of processor)" in inside
    assert verdict({"dev": 9.04, "test": 6.96}, results).startswith("as it should be"), "as printed, with one decimal"
    assert verdict({"dev": 9.2, "test": 7.5}, results).startswith("dev outside dev 8.0 to 9.0 %")
    assert verdict({"dev": 7.0, "test": 8.0}, results).startswith("dev and test outside")


def test_the_first_page_and_the_quickstart_promise_what_was_measured():
    """The README's range holds every shipped run, and is no wider than whole points ask for."""
    runs = measured_runs()
    assert runs["seed"].nunique() >= 3 and runs["threads"].nunique() == 2
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"dev (\d+) to (\d+) %, test (\d+) to (\d+) %", text)
    assert found is not None
    low_dev, high_dev, low_test, high_test = map(int, found.groups())
    for split, low, high in (("dev", low_dev, high_dev), ("test", low_test, high_test)):
        wer = runs[f"{split}_wer"]
        assert 0 <= wer.min() - low < 1 and 0 <= high - wer.max() < 1, (split, wer.min(), wer.max())


def test_a_processor_that_is_held_to_fewer_instructions_is_named_so(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    plain = device()
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert plain.endswith(", 1 thread") and device() == plain.replace(", 1 thread", ", held to AVX2, 1 thread")
