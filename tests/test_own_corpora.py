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
from slakit.training.optimizers import READY, epochs_of
from slakit.training.state import TrainingRun

FIRST = {"steps": 160, "patience": 16}
OWN = replace(SETTINGS, epochs=0, steps=4, start_from=FIRST)


def rows(*wers: float | None) -> list[dict]:
    return [{"epoch": n} | ({} if wer is None else {"wer": wer}) for n, wer in enumerate(wers)]


@pytest.mark.parametrize(("clips", "processes", "warm", "adapt"), [(60, 1, 267, 30), (320, 1, 50, 6), (60, 2, 534, 60)])
def test_steps_become_whole_epochs_of_any_corpus(clips, processes, warm, adapt):
    """4 clips a step in the run, and in the one that comes first."""
    settings = TrainConfig(epochs=0, steps=450, start_from={"steps": 4000}, batch_size=4)
    assert epochs_of(settings.first_run(), clips, processes)[0] == warm
    assert epochs_of(settings, clips, processes) == (adapt, 1)
    assert epochs_of(TrainConfig(epochs=7, start_from={"epochs": 3}).first_run(), clips)[0] == 3


def test_a_run_ends_where_dev_stops_improving():
    settings = TrainConfig(epochs=0, steps=1000, patience=40, batch_size=4)
    history = rows(*[None, 90.0] * 6)  # of 10 steps an epoch: scored after each, patient for four
    assert epochs_of(settings, 40, 1, history) == (100, 1), "a head that knows nothing yet is not done"
    for wers, end in (
        ((80, 50, 45, 46, 45, 45), 100), ((80, 50, 45, 46, 45, 45, 47), 7), ((READY, 70, 70, 70, 70, 70), 100),
    ):  # fmt: skip
        assert epochs_of(settings, 40, 1, rows(*wers))[0] == end


@pytest.mark.parametrize(
    "start", [{}, {"evaluate_every": 3}, {"epochs": 3, "feature_views": 0}, {"epochs": 3, "start_from": "x"}]
)
def test_a_start_that_trains_nothing_first_is_refused(start):
    with pytest.raises(ConfigError, match="trains nothing first; give its epochs or steps"):
        TrainConfig(start_from=start)


def test_a_wrong_name_in_a_start_is_refused_with_its_place():
    with pytest.raises(ConfigError, match=r"start_from\.epoch.* did you mean 'epochs'"):
        TrainConfig(start_from={"epoch": 3})
    with pytest.raises(ConfigError, match="'start_from' has no parts"):
        override(preset("frozen/minisign").train, {"start_from.epochs": 3})
    assert override(preset("sla-lora/minisign").train, {"start_from.epochs": 3}).first_run().head_learning_rate == 2e-3


def test_epochs_and_steps_are_not_both_given():
    with pytest.raises(ConfigError, match=r"epochs=20 and steps=300: .* for epochs set steps=null, for steps epochs=0"):
        override(preset("sla-lora/folder"), {"train.epochs": 20})
    with pytest.raises(ConfigError, match="epochs=3 and steps=1600"):
        override(preset("sla-lora/folder").train, {"start_from.epochs": 3})
    assert override(preset("sla-lora/folder"), {"train.epochs": 20, "train.steps": None}).train.epochs == 20


@pytest.mark.parametrize("method", ["sla-lora", "sla-adapter", "adaptsign", "frozen"])
def test_presets_for_own_videos(method):
    laptop, gpu, t4 = (preset(f"{method}/folder{machine}") for machine in ("", "@gpu", "@t4"))
    assert laptop.corpus == gpu.corpus == t4.corpus == "folder" and t4.name == f"{method}/folder@t4"
    assert laptop.model.backbone == "tiny-clip" and gpu.model == preset(f"{method}/phoenix2014").model
    assert gpu.train.augment.crop_size == 224 and gpu.train.steps == laptop.train.steps
    assert t4.train.precision == "float16" and t4.train.batch_size == 1 and t4.model.backbone == "ViT-B-16"
    assert laptop.train.steps and laptop.train.epochs == 0
    assert isinstance(laptop.train.start_from, dict) == (method != "frozen") == (not laptop.train.feature_views)
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
    warm = straight.start
    scored = [row["wer"] for row in warm if "wer" in row]
    assert 8 < len(warm) < 80 and min(scored) < READY and scored[-1] >= min(scored), "ended before its steps were done"
    assert len(straight.history) == 2 and "wer" in warm[-1]
    save, at = TrainingRun.save, [("start", len(warm) - 1), ("start", len(warm)), (tmp_path.name, 1)]

    def stop(self, within_epoch=False):
        save(self, within_epoch)
        if at and not within_epoch and (self.folder.path.name, self.cursor.epoch) == at[0]:
            at.pop(0)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                train(place, tmp_path)
        run = train(place, tmp_path)
    assert same(weights(tmp_path), weights(straight.out_dir)) and not at
    for mine, wanted in ((run.history, straight.history), (run.start, straight.start)):
        assert [row.get("wer") for row in mine] == [row.get("wer") for row in wanted]


def test_a_run_that_has_begun_does_not_need_its_start(straight, place, tmp_path):
    shutil.copytree(straight.out_dir, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "start")
    run = train(place, tmp_path / "run", steps=8)
    assert run.start == [] and len(run.history) == 4


def test_a_finished_run_is_trained_longer_in_steps(straight, place, tmp_path, capsys):
    shutil.copytree(straight.out_dir, tmp_path / "run")
    run = train(place, tmp_path / "run", steps=8)
    assert "train.steps=4 so far, and goes on with 8" in capsys.readouterr().out
    assert len(run.history) == len(straight.history) + 2


def test_a_head_that_has_learnt_nothing_is_said(place, tmp_path, capsys):
    train(place, tmp_path / "a", start_from={"steps": 2})
    assert "% of the head alone: adaptation will not help yet; look at the pictures" in capsys.readouterr().out
    train(place, tmp_path / "b", start_from=None, feature_views=1, steps=2)
    assert "the head has not learnt the glosses" in capsys.readouterr().out


def test_a_head_that_is_ready_is_not_warned_of(place, tmp_path, capsys):
    train(place, tmp_path, start_from=None, feature_views=1, **FIRST)
    assert "of the head alone" not in capsys.readouterr().out


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


def test_of_a_frozen_encoder_all_but_the_encoder_is_taken(tmp_path):
    source, model = tiny("frozen", auxiliary_head=True), tiny("sla-lora", auxiliary_head=True, rank=2)
    stir(source)
    slakit.save_checkpoint(source, tmp_path / "frozen")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert "temporal convolution and BiLSTM are taken over" in start_from(model, tmp_path / "frozen")
    theirs, heads = source.state_dict(), 0
    for name, value in model.state_dict().items():
        inside = name.startswith("encoder.")
        heads += not inside
        assert torch.equal(value, before[name] if inside else theirs[name]), name
    assert heads > 20
    with pytest.raises(CheckpointError, match="hidden_size=32, this model hidden_size=16"):
        start_from(tiny("sla-lora", hidden_size=16), tmp_path / "frozen")


def test_a_run_knows_its_start_by_the_weights(straight, place, tmp_path, capsys):
    old = straight.out_dir / "start" / "best"
    start = tmp_path / "elsewhere.safetensors"
    run = train(place, tmp_path / "run", start_from=str(old))
    assert "encoder, temporal convolution and BiLSTM are taken over" in capsys.readouterr().out
    assert run.start == [] and len(run.history) == 2
    assert same(weights(tmp_path / "run"), weights(straight.out_dir)), "the run that comes first gives its best weights"
    shutil.copy(f"{old}.safetensors", start)
    train(place, tmp_path / "run", start_from=str(start))
    said = capsys.readouterr().out
    assert "nothing to train" in said and "starting from" not in said
    assert weights_checksum(start) != weights_checksum(tmp_path / "run" / "best")
    with pytest.raises(ConfigError, match=r"a run with train\.start_from="):
        train(place, tmp_path / "run", start_from=str(tmp_path / "run" / "best"))
    with pytest.raises(CheckpointError, match="is missing"):
        train(place, tmp_path / "other", start_from=str(tmp_path / "nowhere"))
