"""What the training notebooks share: what a run will cost, said before; the paper's figures beside ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny

import slakit
from slakit.config import AugmentConfig, TrainConfig
from slakit.records import Corpus, Sample, Vocabulary
from slakit.sweeps.trainer import beside_paper, expected_cost
from slakit.training import totals
from slakit.training.totals import EpochTotals, Pace

SETTINGS = TrainConfig(epochs=3, batch_size=2, augment=AugmentConfig(36, 32, min_frames=16, max_frames=100))


def corpus(*lengths: int | None, source: Path = Path("nowhere.mp4")) -> Corpus:
    clips = tuple(Sample(f"c{i}", source, ("A",), num_frames=count) for i, count in enumerate(lengths))
    return Corpus("made", Path(), clips, clips[:1], (), Vocabulary(["A"]))


def test_what_a_run_will_cost_is_counted_from_the_clips():
    told = expected_cost(tiny("sla-lora", rank=2), corpus(40, 60, 50), SETTINGS, "cpu")
    assert "an epoch: 3 clips, 150 frames; 3 epochs" in told
    assert "the largest batch: 144 frames" in told, "two clips of 60 frames, a fifth longer by chance"
    assert told.startswith("cpu, float32") and "These fit" not in told
    capped = expected_cost(tiny("sla-lora", rank=2), corpus(40, 600, 50), SETTINGS, "cpu")
    assert "the largest batch: 200 frames" in capped, "max_frames caps a clip"


def test_frames_that_no_annotation_counts_are_counted_on_disk(tmp_path):
    for number in range(21):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{number:03d}.png")
    told = expected_cost(tiny("frozen"), corpus(*[None] * 150, source=tmp_path), SETTINGS, "cpu")
    assert "150 clips, about 3,150 frames" in told, "a hundred clips are counted, the rest follows"


def test_the_pace_is_told_once_after_a_hundred_batches(monkeypatch):
    clock = iter((100.0, 140.0))  # at the 20th and at the 100th batch
    monkeypatch.setattr(totals.time, "perf_counter", lambda: next(clock))
    pace, sums, told = Pace(), EpochTotals(), []
    for _ in range(250):
        sums.clips, sums.frames = sums.clips + 2, sums.frames + 100
        told.append(pace.count(sums, clips=1200, epochs=30))
    (line,) = [line for line in told if line]
    assert told.index(line) == 99
    # 160 clips and 8,000 frames in 40 s: 1,200 clips in 5 minutes, 30 epochs in 2.5 hours
    assert "200 frames/s" in line and "about 5.0 min, 30 of them 2.5 h" in line


def test_the_papers_figures_stand_beside_the_splits_that_were_scored():
    config = slakit.preset("sla-lora/phoenix2014")
    scores = {"test": slakit.score({"a": "A B C D"}, {"a": "A B X"})}
    table = beside_paper(scores, config)
    assert table.to_dict("index") == {
        "test": {
            "substitutions": 1,
            "deletions": 1,
            "insertions": 0,
            "words": 4,
            "WER %": 50.0,
            "the paper's WER %": 19.3,
        }
    }
    assert "the paper's WER %" not in beside_paper(scores, replace(config, published_wer=()))
    assert beside_paper({}, config).empty


@pytest.mark.parametrize("method", ["sla-lora", "sla-adapter", "adaptsign"])
def test_every_published_setting_of_a_training_notebook_can_be_chosen(method):
    from slakit.sweeps.trainer import chosen

    for name in slakit.preset_names():
        if name.startswith(f"{method}/"):
            config = chosen(f"{name}@t4", f"{method}/minisign", {"train_options": {"epochs": 1}})
            assert config.train == slakit.preset(f"{name}@t4").train
