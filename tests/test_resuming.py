"""Runs that go on: longer than planned, without their best checkpoint, on other pictures, on a disk that went away."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import survival
import torch
from media import pictures, write_frames
from survival import SETTINGS, same, weights

import slakit
from slakit.data.loader import LeftOutWarning
from slakit.data.prepare import prepare
from slakit.records import ConfigError, Corpus, SlakitError
from slakit.training.looks import compare_looks, looks

SHORT = replace(SETTINGS, epochs=2, start_from=None, schedule="steps", milestones=(1, 2), checkpoint_steps=0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def finished(place, tmp_path_factory):
    """Three epochs without a break."""
    folder = tmp_path_factory.mktemp("three")
    return survival.train(place, folder, replace(SHORT, epochs=3))


def train(place, out, settings=SHORT, **changes):
    return survival.train(place, out, replace(settings, **changes))


def test_a_finished_run_goes_on_to_more_epochs_to_the_same_bits(finished, place, tmp_path, capsys):
    train(place, tmp_path)
    run = train(place, tmp_path, epochs=3, evaluate_every=3, max_bad_clips=20)
    said = capsys.readouterr().out
    assert "train.epochs=2 so far, and goes on with 3" in said and "train.max_bad_clips=0 so far" in said
    assert same(weights(tmp_path), weights(finished.out_dir)) and len(run.history) == 3
    assert [row["learning_rate"] for row in run.history] == [row["learning_rate"] for row in finished.history]
    last = [(folder / "last.safetensors").read_bytes()[-1000:] for folder in (tmp_path, finished.out_dir)]
    assert last[0] == last[1]
    with pytest.raises(ConfigError, match=r"holds 3 epochs of training.*epochs=2 is less"):
        train(place, tmp_path)
    train(place, tmp_path, epochs=3, schedule="steps", decode=replace(SHORT.decode, beam_width=3))
    assert "word error rates until here are of the other decoding" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="learning_rate"):
        train(place, tmp_path, epochs=4, learning_rate=1e-5)


def test_more_epochs_move_a_cosine_and_that_is_said(place, tmp_path, capsys):
    train(place, tmp_path, schedule="cosine", epochs=1)
    train(place, tmp_path, schedule="cosine", epochs=2)
    assert "the learning rates follow the cosine of the new number" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["gone", "cut", "one bit", "another run's"])
def test_a_lost_best_checkpoint_costs_no_training(finished, place, tmp_path, capsys, damage):
    """The state's weights take its place, and the next call finds all as it should be."""
    train(place, tmp_path)
    best = tmp_path / "best.safetensors"
    content = bytearray(best.read_bytes())
    content[-40] ^= 1
    if damage == "gone":
        best.unlink()
    else:
        other = (finished.out_dir / "best.safetensors").read_bytes()
        best.write_bytes({"cut": content[:5000], "one bit": content, "another run's": other}[damage])
    before = weights(tmp_path)
    run = train(place, tmp_path)
    said = capsys.readouterr().out
    assert "the best weights so far" in said and "those of epoch 2 take their place" in said
    assert run.best["epoch"] == 1 and same(run.model.trainable_state(), before)
    again = train(place, tmp_path)
    assert "are lost" not in capsys.readouterr().out and same(again.model.trainable_state(), before)


def test_a_best_checkpoint_lost_in_the_middle_is_replaced_by_the_next(place, tmp_path, capsys, monkeypatch):
    from slakit.training.state import TrainingRun

    save = TrainingRun.save

    def stop(self, within_epoch=False):
        save(self, within_epoch)
        if within_epoch and self.cursor.epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            train(place, tmp_path, checkpoint_steps=1)
    (tmp_path / "best.safetensors").unlink()
    run = train(place, tmp_path)
    assert "the lowest WER from here on is kept" in capsys.readouterr().out and run.best["epoch"] == 1
    assert slakit.load_checkpoint(tmp_path / "best").about["metrics"]["epoch"] == 1


def test_other_pictures_under_the_same_ids_are_refused_and_prepared_ones_are_the_same(place, tmp_path):
    train(place, tmp_path / "run", epochs=1)
    clips = survival.corpus(place)
    ready = prepare(clips, tmp_path / "packed", size=36)
    slakit.fit(survival.model(), ready, tmp_path / "run", replace(SHORT, epochs=1), show_progress=False)
    for number, sample in enumerate(clips.train):
        write_frames(tmp_path / "other" / f"{number:02d}", pictures(sample.num_frames, 36, 36, seed=number + 50))
    moved = [replace(s, source=tmp_path / "other" / f"{n:02d}") for n, s in enumerate(clips.train)]
    with pytest.raises(ConfigError, match=r"a run on other pictures: .* grey levels of 255, most in clip\d"):
        other = replace(clips, train=tuple(moved))
        slakit.fit(survival.model(), other, tmp_path / "run", replace(SHORT, epochs=1), show_progress=False)
    seen = looks(clips, slakit.data.clips.ClipStore(), SHORT)
    near = {name: [min(255, value + 3) for value in values] for name, values in seen.items()}
    compare_looks(near, seen, tmp_path)
    assert len(seen) == 6 and all(len(values) == 8 * 8 * 3 for values in seen.values())


@pytest.mark.parametrize("empty", ["none", "without glosses"])
def test_a_corpus_without_dev_is_refused_before_the_first_step(place, tmp_path, empty):
    clips = survival.corpus(place)
    dev = () if empty == "none" else tuple(replace(sample, glosses=()) for sample in clips.dev)
    with pytest.raises(ConfigError, match=r"dev clips.*lowest WER on dev, so give some clips with glosses to dev"):
        slakit.fit(survival.model(), replace(clips, dev=dev), tmp_path / "run", SHORT, show_progress=False)
    assert not (tmp_path / "run").exists()


def broken(clips: Corpus, split: str, count: int, folder) -> Corpus:
    """The corpus with the first `count` clips of a split gone from the disk."""
    samples = getattr(clips, split)
    gone = tuple(replace(sample, source=folder / "gone") for sample in samples[:count])
    return replace(clips, **{split: gone + samples[count:]})


@pytest.mark.filterwarnings("ignore::slakit.data.loader.LeftOutWarning")
@pytest.mark.parametrize(("split", "views", "count"), [("train", 0, 2), ("train", 1, 2), ("dev", 0, 1)])
def test_more_unreadable_clips_than_allowed_stop_training(place, tmp_path, split, views, count):
    clips = broken(survival.corpus(place), split, count, tmp_path)
    settings = replace(SHORT, epochs=1, feature_views=views, max_bad_clips=count - 1, keep_in_memory=False)
    with pytest.raises(SlakitError, match=rf"{count} clips cannot be read, and max_bad_clips={count - 1} \(clip\d: "):
        slakit.fit(survival.model(), clips, tmp_path / "run", settings, show_progress=False)
    assert not (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.filterwarnings("ignore::slakit.data.loader.LeftOutWarning")
def test_the_epochs_line_and_the_score_say_how_many_could_not_be_read(place, tmp_path, capsys):
    clips = broken(broken(survival.corpus(place), "train", 2, tmp_path), "dev", 1, tmp_path)
    settings = replace(SHORT, epochs=1, max_bad_clips=2, keep_in_memory=False)
    run = slakit.fit(survival.model(), clips, tmp_path / "run", settings, show_progress=False)
    said = capsys.readouterr().out
    assert "left out 2" in said and "(1 unreadable)" in said
    assert run.history[0]["left_out"] == ["clip0", "clip1"] and run.history[0]["dev_unreadable"] == ["clip8"]
    found = slakit.evaluate(run.model, clips.dev, show_progress=False)
    assert list(found.unreadable) == ["clip8"] and "2 videos; 1 of them could not be read" in str(found)


def test_nothing_readable_at_all_is_said_with_its_reason(place, tmp_path):
    clips = broken(survival.corpus(place), "train", 8, tmp_path)
    settings = replace(SHORT, epochs=1, max_bad_clips=50, keep_in_memory=False)
    with pytest.warns(LeftOutWarning), pytest.raises(SlakitError, match=r"none of the 8 clips can be used; clip\d"):
        slakit.fit(survival.model(), clips, tmp_path / "run", settings, show_progress=False)


def test_a_folder_below_home_is_found(place, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert train(place, "~/runs/a", epochs=1).out_dir == tmp_path / "runs" / "a"
    assert np.isfinite(torch.load(tmp_path / "runs" / "a" / "state.pt", weights_only=True)["seconds"])
