"""Settings: strict names and types, JSON round trip, presets."""

from __future__ import annotations

import json

import pytest

from slakit.config import (
    AugmentConfig,
    DecodeConfig,
    LossWeights,
    ModelConfig,
    RunConfig,
    TrainConfig,
    from_dict,
    from_json,
    override,
    to_json,
)
from slakit.models.methods import chosen_blocks, find_method
from slakit.models.recognizer import create_model  # noqa: F401  (registers the methods)
from slakit.records import ConfigError
from slakit.training.presets import load_run, preset, preset_names


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (TrainConfig, {"epoch": 3}, ["'epoch'", "did you mean 'epochs'"]),
        (TrainConfig, {"epochs": "3"}, ["epochs='3'", "type str", "expected int"]),
        (TrainConfig, {"epochs": 2.0}, ["epochs=2.0", "expected int"]),
        (TrainConfig, {"epochs": True}, ["epochs=True"]),
        (TrainConfig, {"learning_rate": "1e-4"}, ["learning_rate='1e-4'", "expected float"]),
        (TrainConfig, {"learning_rate": float("nan")}, ["learning_rate=nan"]),
        (TrainConfig, {"milestones": [20, "x"]}, ["milestones[1]='x'"]),
        (TrainConfig, {"optimizer": "adan"}, ["adan", "did you mean 'adam'"]),
        (TrainConfig, {"decode": {"beamwidth": 5}}, ["'decode.beamwidth'", "did you mean 'beam_width'"]),
        (ModelConfig, {"pretrained": 3}, ["pretrained=3", "str | None"]),
        (TrainConfig, [1], ["expected a mapping"]),
    ],
)
def test_strict(kind, values, words):
    with pytest.raises(ConfigError) as caught:
        from_dict(kind, values)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", ["batch_size", "accumulate", "evaluate_every", "patience", "learning_rate"])
@pytest.mark.parametrize("value", [0, -1])
def test_numbers_that_no_training_can_have(name, value):
    with pytest.raises(ConfigError, match=f"{name}={value}.*; it is "):
        from_dict(TrainConfig, {name: value})


def test_none_and_zero_where_they_mean_something():
    given = {"epochs": 0, "num_workers": None, "checkpoint_seconds": 0, "max_frames_per_batch": None, "clip_norm": 0}
    assert from_dict(TrainConfig, given).epochs == 0
    with pytest.raises(ConfigError, match="epochs=-2; it is 0 or more"):
        from_dict(TrainConfig, {"epochs": -2})


def test_what_is_converted():
    config = from_dict(TrainConfig, {"learning_rate": 1, "milestones": [3, 5], "decode": {"beam_width": 4}})
    assert (config.learning_rate, config.milestones, config.decode.beam_width) == (1.0, (3, 5), 4)
    assert isinstance(config.learning_rate, float)


def test_override():
    changed = override(TrainConfig(), {"epochs": 2, "decode.beam_width": 1, "augment": {"flip": 0.0}})
    assert (changed.epochs, changed.decode.beam_width, changed.augment.flip) == (2, 1, 0.0)
    assert changed.augment.crop_size == 224
    for wrong, word in (("epochz", "epochz"), ("epochs.x", "no parts"), ("decode.beam", "decode.beam")):
        with pytest.raises(ConfigError, match=word):
            override(TrainConfig(), {wrong: 2})


@pytest.mark.parametrize("name", preset_names())
def test_presets(name):
    """Read back from JSON they are equal, print readably, and their options are options of the method."""
    run = preset(name)
    assert from_json(RunConfig, to_json(run)) == run
    assert name in str(run) and f"learning_rate: {run.train.learning_rate}" in str(run)
    options = from_dict(find_method(run.model.method).options, run.model.options)
    assert chosen_blocks(getattr(options, "blocks", None), 12)
    if run.corpus not in ("minisign", "folder") and not find_method(run.model.method).network:
        published = (run.train.batch_size, run.train.learning_rate, run.train.milestones, run.train.gamma)
        assert published == (2, 1e-4, (20, 30), 0.2)
    assert run.model_options()["method"] == run.model.method


def test_published_settings():
    lora, adapter = preset("sla-lora/phoenix2014-t"), preset("sla-adapter/phoenix2014-t")
    assert (lora.train.epochs, lora.model.options["rank"], lora.published_wer) == (35, 32, (19.8, 19.4))
    assert (adapter.train.epochs, adapter.model.options["blocks"]) == (40, "3-12")
    with pytest.raises(ConfigError, match="did you mean 'sla-lora/phoenix2014'"):
        preset("sla-lora/phoenix")


def test_a_run_from_a_file(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"preset": "sla-lora/csl-daily", "root": "/data", "train": {"batch_size": 4}}))
    run = load_run(path)
    assert (run.corpus, run.root, run.train.batch_size, run.train.epochs) == ("csl-daily", "/data", 4, 35)
    path.write_text(json.dumps({"preset": "sla-adapter/phoenix2014", "model": {"options": {"width": 128}}}))
    assert load_run(path).model.options == {**preset("sla-adapter/phoenix2014").model.options, "width": 128}
    path.write_text(json.dumps({"preset": "sla-adapter/phoenix2014", "model": {"options.width": 128, "seed": 1}}))
    assert load_run(path).model.options == {**preset("sla-adapter/phoenix2014").model.options, "width": 128}
    path.write_text(json.dumps({"preset": "sla-adapter/phoenix2014", "model": {"method": "frozen"}}))
    assert load_run(path).model.options == {}
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json"):
        load_run(path)
    path.write_text(json.dumps({"modle": {}}))
    with pytest.raises(ConfigError, match="did you mean 'model'"):
        load_run(path)


def test_a_switch_that_takes_a_word_too_names_all_of_them():
    assert from_dict(TrainConfig, {"compile": False}).compile is False
    with pytest.raises(ConfigError, match=r"compile='yes' is not possible; known: auto, false, true"):
        from_dict(TrainConfig, {"compile": "yes"})
    with pytest.raises(ConfigError, match="compile is the word 'true'; write true without quotation marks"):
        from_dict(TrainConfig, {"compile": "true"})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ModelConfig, {"hidden_size": 3}),
        (ModelConfig, {"hidden_size": -1}),
        (ModelConfig, {"hidden_size": 10**9}),
        (ModelConfig, {"lstm_layers": 10**9}),
        (AugmentConfig, {"crop_size": 10**9}),
        (ModelConfig, {"lstm_layers": 0}),
        (ModelConfig, {"dropout": 3.0}),
        (ModelConfig, {"seed": 2**70}),
        (TrainConfig, {"seed": -1}),
        (TrainConfig, {"gamma": 1e30}),
        (TrainConfig, {"weight_decay": 1e30}),
        (TrainConfig, {"distillation_temperature": -1.0}),
        (LossWeights, {"conv": -1.0}),
        (DecodeConfig, {"beam_width": 0}),
        (DecodeConfig, {"top_tokens": 0}),
    ],
)
def test_numbers_that_cannot_work_are_refused_before_anything_runs(kind, values):
    (name, value) = next(iter(values.items()))
    with pytest.raises(ConfigError, match=f"{name}={value}".replace("+", r"\+").replace("**", "")):
        kind(**values)
