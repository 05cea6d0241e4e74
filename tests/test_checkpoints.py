"""Checkpoints: one file with its description in the header, folders of earlier days, everything wrong is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import stir, tiny

import slakit
from slakit.models.checkpoints import load_checkpoint, load_tensors, read_description, restore, save_checkpoint
from slakit.records import CheckpointError


@pytest.fixture
def model():
    built = tiny("frozen")
    stir(built)
    return built.eval()


def as_folder(file, folder):
    """The checkpoint as two files in a folder."""
    folder.mkdir()
    with safe_open(file, "pt") as content:
        text = content.metadata()["slakit"]
    (folder / "model.json").write_text(text, encoding="utf-8")
    save_file(load_tensors(file), folder / "model.safetensors")
    return folder


def equal(one, other) -> bool:
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_one_file_is_named_with_and_without_its_ending(model, tmp_path):
    file = save_checkpoint(model, tmp_path / "best", corpus="toy", metrics={"wer": 1.0})
    assert file == tmp_path / "best.safetensors" and [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]
    assert save_checkpoint(model, tmp_path / "other.safetensors") == tmp_path / "other.safetensors"
    for path in (tmp_path / "best", file, str(file)):
        assert equal(load_checkpoint(path), model) and load_checkpoint(path).about == read_description(path)
    description = read_description(file)
    assert description["corpus"] == "toy" and description["metrics"] == {"wer": 1.0}
    (tmp_path / "best.json").write_text(json.dumps(description))  # a note of what it is, and not half of a pair
    (tmp_path / "best").mkdir()
    assert equal(load_checkpoint(file), model) and equal(load_checkpoint(tmp_path / "best"), model)


def test_a_name_with_a_point_keeps_it(model, tmp_path):
    file = save_checkpoint(model, tmp_path / "rank.16")
    assert file.name == "rank.16.safetensors" and equal(load_checkpoint(tmp_path / "rank.16"), model)


def test_a_folder_of_two_files_still_loads(model, tmp_path):
    folder = as_folder(save_checkpoint(model, tmp_path / "one", corpus="toy"), tmp_path / "two")
    for path in (folder, folder / "model.safetensors", folder / "model.json"):
        assert equal(load_checkpoint(path), model) and read_description(path) == read_description(tmp_path / "one")


def test_the_description_is_read_without_the_weights(model, tmp_path, monkeypatch):
    file = save_checkpoint(model, tmp_path / "best")
    monkeypatch.setattr("slakit.models.checkpoints.load_file", None)
    assert read_description(file)["glosses"] == list(model.vocabulary.glosses)


def rewritten(file, **changes):
    """The same tensors under a description that says something else."""
    description = read_description(file) | changes
    save_file(load_tensors(file), file, {"slakit": json.dumps(description)})


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_damaged_checkpoints_are_named(model, tmp_path, folder):
    path = save_checkpoint(model, tmp_path / "model")
    config = read_description(path)["config"]
    rewritten(path, config={**config, "hidden_size": 16})
    path = as_folder(path, tmp_path / "folder") if folder else path
    weights = path / "model.safetensors" if folder else path
    with pytest.raises(CheckpointError, match="has shape"):
        load_checkpoint(path)
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read, it may be cut short"):
        load_checkpoint(path)
    weights.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read"):
        load_checkpoint(path)
    (path / "model.json" if folder else path).unlink()
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        load_checkpoint(path)
    assert not list(tmp_path.rglob(".*.part"))


def test_a_folder_without_its_weights_and_a_description_that_is_no_json(model, tmp_path):
    folder = as_folder(save_checkpoint(model, tmp_path / "one"), tmp_path / "two")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_checkpoint(folder)
    (folder / "model.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"model\.json cannot be read"):
        load_checkpoint(folder)


def test_a_foreign_or_newer_file_is_refused(model, tmp_path):
    save_file({"weight": torch.ones(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="is no slakit checkpoint: it lacks format"):
        load_checkpoint(tmp_path / "foreign.safetensors")
    file = save_checkpoint(model, tmp_path / "newer")
    rewritten(file, format=2)
    with pytest.raises(CheckpointError, match="has format 2, this slakit reads format 1; update slakit"):
        load_checkpoint(file)


def test_weights_that_do_not_fit_are_named(model, tmp_path):
    other = tiny("frozen", seed=5)
    restore(other, model.trainable_state(), "state.pt")
    assert torch.equal(other.sequence.classifier.weight, model.sequence.classifier.weight)
    part = dict(list(model.trainable_state().items())[1:])
    with pytest.raises(CheckpointError, match=r"state.pt lacks the tensor .*"):
        restore(other, part, "state.pt")
    with pytest.raises(CheckpointError, match=r"state.pt holds 'more', which this frozen model does not have"):
        restore(other, {**model.trainable_state(), "more": torch.ones(1)}, "state.pt")
    file = save_checkpoint(model, tmp_path / "best")
    tensors = load_tensors(file)
    text = json.dumps(read_description(file))
    save_file(tensors | {"more": torch.ones(1)}, file, {"slakit": text})
    with pytest.raises(CheckpointError, match=r"best\.safetensors holds 'more'"):
        load_checkpoint(file)
    tensors.popitem()
    save_file(tensors, file, {"slakit": text})
    with pytest.raises(CheckpointError, match=r"best\.safetensors lacks the tensor"):
        load_checkpoint(file)


def test_a_checkpoint_is_whole_or_not_there(model, tmp_path, monkeypatch):
    file = save_checkpoint(model, tmp_path / "best")
    before = file.read_bytes()
    monkeypatch.setattr("slakit.records.os.fsync", lambda number: (_ for _ in ()).throw(OSError(28, "No space left")))
    stir(model, seed=3)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(model, file)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["best.safetensors"]


def test_training_says_what_it_did(tmp_path):
    """The header of a run's checkpoint holds the whole setting and the score."""
    import survival

    settings = replace(survival.SETTINGS, epochs=1, start_from=None)
    run = survival.train(tmp_path, tmp_path / "run", settings)
    for name in ("best", "last"):
        description = read_description(tmp_path / "run" / name)
        assert slakit.config.from_dict(slakit.config.TrainConfig, description["train"]) == settings
        assert description["corpus"] == "folder" and description["config"]["method"] == "sla-lora"
        assert description["metrics"]["epoch"] == 0 and description["metrics"]["dev_wer"] == run.best["wer"]
