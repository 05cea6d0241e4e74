"""Training on own videos: budgets in steps, a head that is trained until dev stops improving, a start from a checkpoint
that knows other glosses."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import survival
import torch
from survival import SETTINGS, same, weights
from tiny_models import stir, tiny

import slakit
from slakit.config import TrainConfig, override
from slakit.models.transfer import start_from, weights_checksum
from slakit.records import CheckpointError, ConfigError
from slakit.training import preset
from slakit.training.optimizers import READY, phases_of
from slakit.training.state import TrainingRun

OWN = replace(SETTINGS, epochs=0, steps=4, warm_start_epochs=0, warm_start_steps=160, warm_start_patience=16)


def rows(*wers: float | None, phase: str = "warm start") -> list[dict]:
    return [{"epoch": n, "phase": phase} | ({} if wer is None else {"wer": wer}) for n, wer in enumerate(wers)]


@pytest.mark.parametrize(("clips", "processes", "warm", "adapt"), [(60, 1, 267, 30), (320, 1, 50, 6), (60, 2, 534, 60)])
def test_steps_become_whole_epochs_of_any_corpus(clips, processes, warm, adapt):
    """4 clips a step in the adaptation, and in the warm start."""
    settings = TrainConfig(epochs=0, steps=450, warm_start_epochs=0, warm_start_steps=4000, batch_size=4)
    first, second = phases_of(settings, clips, processes)
    assert (first.epochs, second.epochs, second.first) == (warm, adapt, warm)
    assert first.evaluates_after(warm - 1) and not first.evaluates_after(warm - 2)
    plain = phases_of(TrainConfig(epochs=7, warm_start_epochs=3), clips)
    assert [(phase.first, phase.epochs) for phase in plain] == [(0, 3), (3, 7)]


def test_a_warm_start_ends_where_dev_stops_improving():
    settings = TrainConfig(epochs=5, warm_start_steps=1000, warm_start_patience=40, batch_size=4)
    history = rows(*[None, 90.0] * 6)  # of 10 steps an epoch: scored after each, patient for four
    assert phases_of(settings, 40, 1, history)[0].end == 100, "a head that knows nothing yet is not done"
    assert phases_of(settings, 40)[0].evaluate_every == 1
    for wers, end in (
        ((80, 50, 45, 46, 45, 45), 100), ((80, 50, 45, 46, 45, 45, 47), 7), ((READY, 70, 70, 70, 70, 70), 100),
    ):  # fmt: skip
        warm, adapt = phases_of(settings, 40, 1, rows(*wers))
        assert warm.end == adapt.first == end and adapt.end == end + 5
    later = [*rows(80, 50, 45, 46, 45, 45, 47), {"epoch": 7, "phase": "adapt", "wer": 1.0}]
    assert phases_of(settings, 40, 1, later)[0].end == 7, "what comes after changes nothing"


def test_epochs_and_steps_are_not_both_given():
    with pytest.raises(ConfigError, match=r"epochs=20 and steps=300: .* for epochs set steps=null, for steps epochs=0"):
        override(preset("sla-lora/folder"), {"train.epochs": 20})
    with pytest.raises(ConfigError, match="warm_start_epochs=3 and warm_start_steps=1600"):
        override(preset("sla-lora/folder").train, {"warm_start_epochs": 3})
    assert override(preset("sla-lora/folder"), {"train.epochs": 20, "train.steps": None}).train.epochs == 20


@pytest.mark.parametrize("method", ["sla-lora", "sla-adapter", "adaptsign", "frozen"])
def test_presets_for_own_videos(method):
    laptop, gpu, t4 = (preset(f"{method}/folder{machine}") for machine in ("", "@gpu", "@t4"))
    assert laptop.corpus == gpu.corpus == t4.corpus == "folder" and t4.name == f"{method}/folder@t4"
    assert laptop.model.backbone == "tiny-clip" and gpu.model == preset(f"{method}/phoenix2014").model
    assert gpu.train.augment.crop_size == 224 and gpu.train.warm_start_steps == laptop.train.warm_start_steps
    assert t4.train.precision == "float16" and t4.train.batch_size == 1 and t4.model.backbone == "ViT-B-16"
    assert bool(laptop.train.steps) == (method != "frozen") and laptop.train.epochs == 0
    with pytest.raises(ConfigError, match="@gpu"):
        preset(f"{method}/minisign@gpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


def known(place):
    """The clips of dev are those of train: a head can learn them."""
    clips = survival.corpus(place)
    return replace(clips, dev=tuple(replace(sample, id=f"{sample.id}-dev") for sample in clips.train[:4]))


def train(place, out, **changes):
    torch.set_num_threads(1)
    settings = replace(OWN, **{"learning_rate": 1e-2, "schedule": "constant", **changes})
    return slakit.fit(survival.model(0.0), known(place), out, settings, show_progress=False)


@pytest.fixture(scope="module")
def straight(place, tmp_path_factory):
    return train(place, tmp_path_factory.mktemp("straight"))


def test_a_run_stopped_around_the_early_end_goes_on_to_the_same_bits(straight, place, tmp_path, monkeypatch):
    warm = [row for row in straight.history if row["phase"] == "warm start"]
    scored = [row["wer"] for row in warm if "wer" in row]
    assert 8 < len(warm) < 80 and min(scored) < READY and scored[-1] >= min(scored), "ended before its steps were done"
    assert len(straight.history) == len(warm) + 2 and "wer" in warm[-1]
    save, at = TrainingRun.save, [len(warm) - 1, len(warm), len(warm) + 1]

    def stop(self, within_epoch=False):
        save(self, within_epoch)
        if at and (self.cursor.epoch, within_epoch) == (at[0], False):
            at.pop(0)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                train(place, tmp_path)
        run = train(place, tmp_path)
    assert same(weights(tmp_path), weights(straight.out_dir)) and not at
    assert [row.get("wer") for row in run.history] == [row.get("wer") for row in straight.history]


def test_a_finished_run_is_trained_longer_in_steps(straight, place, tmp_path, capsys):
    shutil.copytree(straight.out_dir, tmp_path / "run")
    run = train(place, tmp_path / "run", steps=8)
    assert "train.steps=4 so far, and goes on with 8" in capsys.readouterr().out
    assert len(run.history) == len(straight.history) + 2


def test_a_head_that_has_learnt_nothing_is_said(place, tmp_path, capsys):
    train(place, tmp_path / "a", warm_start_steps=2, warm_start_patience=None)
    assert "% after the warm start: adaptation will not help yet; look at the pictures" in capsys.readouterr().out
    train(place, tmp_path / "b", warm_start_steps=2, warm_start_patience=None, steps=None)
    assert "the head has not learnt the glosses" in capsys.readouterr().out


def test_a_head_that_is_ready_is_not_warned_of(place, tmp_path, capsys):
    train(place, tmp_path, steps=None)
    assert "after the warm start" not in capsys.readouterr().out


# ------------------------------------------------------------------------------------ from a checkpoint


@pytest.mark.parametrize("options", [{}, {"classifier": "linear", "share_classifier": False}], ids=["shared", "own"])
def test_a_start_takes_all_but_the_rows_of_new_glosses(tmp_path, options):
    source = tiny("sla-lora", auxiliary_head=True, **options)
    stir(source)
    slakit.save_checkpoint(source, tmp_path / "old")
    settings = {"hidden_size": 32, "dropout": 0.0, "auxiliary_head": True, "seed": 3, **options}
    model = slakit.create_model("sla-lora", ["G3", "NEW", "G1"], source.config.backbone, None, **settings)
    model.encoder.backbone.load_state_dict(source.encoder.backbone.state_dict())
    model.encoder.backbone.base_checksum = source.encoder.backbone.base_checksum
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said = start_from(model, tmp_path / "old")
    assert "of 3 glosses it knows 2, new are NEW" in said
    ours, theirs, classes = model.state_dict(), source.state_dict(), 0
    for name, value in ours.items():
        if value.shape == theirs[name].shape:
            assert torch.equal(value, theirs[name]), name
            continue
        classes += 1
        axis = value.shape.index(4)  # blank, G1, G3, NEW
        ours_of, its_of = ([0, *v.encode(["G1", "G3"])] for v in (model.vocabulary, source.vocabulary))
        for mine, its in zip(ours_of, its_of, strict=True):
            assert torch.equal(value.select(axis, mine), theirs[name].select(axis, its)), name
        (new,) = model.vocabulary.encode(["NEW"])
        assert torch.equal(value.select(axis, new), before[name].select(axis, new)), name
    assert classes == (5 if options else 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 16}, "has hidden_size=32, this model hidden_size=16; start from a checkpoint of the same"),
        ({"rank": 4}, "options.rank=16, this model options.rank=4"),
        ({"seed": 5}, "base weights"),
    ],
)
def test_a_start_from_another_model_is_refused(tmp_path, change, message):
    slakit.save_checkpoint(tiny("sla-lora"), tmp_path / "old")
    with pytest.raises(CheckpointError, match=message):
        start_from(tiny("sla-lora", **change), tmp_path / "old")
    with pytest.raises(CheckpointError, match="method='sla-lora', this model method='frozen'"):
        start_from(tiny("frozen"), tmp_path / "old")


def test_a_run_knows_its_start_by_the_weights(straight, place, tmp_path, capsys):
    old = straight.out_dir / "best"
    start = tmp_path / "elsewhere.safetensors"
    run = train(place, tmp_path / "run", init_from=str(old), warm_start_steps=None)
    assert "encoder, temporal convolution and BiLSTM are taken over" in capsys.readouterr().out
    assert not same(weights(tmp_path / "run"), weights(straight.out_dir)) and len(run.history) == 2
    shutil.copy(f"{old}.safetensors", start)
    train(place, tmp_path / "run", init_from=str(start), warm_start_steps=None)
    said = capsys.readouterr().out
    assert "nothing to train" in said and "starting from" not in said
    assert weights_checksum(start) != weights_checksum(tmp_path / "run" / "best")
    with pytest.raises(ConfigError, match="a run with init_from="):
        train(place, tmp_path / "run", init_from=str(tmp_path / "run" / "best"), warm_start_steps=None)
    with pytest.raises(CheckpointError, match="is missing"):
        train(place, tmp_path / "other", init_from=str(tmp_path / "nowhere"))
