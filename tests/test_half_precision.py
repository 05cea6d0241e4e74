"""float16 with a gradient scaler: steps that are left out are counted and limited, a resumed run keeps the scale."""

from __future__ import annotations

from dataclasses import replace

import pytest
import survival
import torch
from survival import SETTINGS, model, rows, same, weights

import slakit
from slakit.records import SlakitError
from slakit.training.state import TrainingRun

# Eight clips, a step each. The scaler starts at 2^16 and halves it at every step that is left out.
HALF = replace(
    SETTINGS, precision="float16", start_from=None, epochs=3, batch_size=1, accumulate=1, checkpoint_steps=0,
    schedule="constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return survival.corpus(tmp_path_factory.mktemp("clips"))


def state(folder):
    return torch.load(folder / "state.pt", weights_only=True)


@pytest.fixture(scope="module")
def straight(clips, tmp_path_factory):
    return slakit.fit(model(), clips, tmp_path_factory.mktemp("straight"), HALF, show_progress=False)


def test_weights_move_after_the_search_for_a_scale(straight):
    begin, after = model().trainable_state(), weights(straight.out_dir)
    for part in ("lora_A", "lora_B", "lstm.weight", "classifier.weight"):
        names = [name for name in begin if part in name]
        assert names and all(not torch.equal(begin[name], after[name]) for name in names), part
    skipped = [row["steps_skipped"] for row in straight.history]
    assert 0 < skipped[0] < 8 and skipped[1:] == [0, 0], "2^16 is too much for this loss, some halvings are not"
    assert state(straight.out_dir)["scaler"]["scale"] == 2.0 ** (16 - sum(skipped))
    assert not any(row["skipped"] for row in straight.history), "a search is no fault of the clips"


def test_one_gradient_that_is_not_finite_is_one_step_less_and_half_the_scale(clips, straight, tmp_path):
    broken, calls = model(), []
    broken.sequence.classifier.weight.register_hook(
        lambda gradient: gradient * float("nan") if calls.append(0) or len(calls) == 20 else gradient
    )
    run = slakit.fit(broken, clips, tmp_path, replace(HALF, max_bad_clips=0), show_progress=False)
    wanted = [row["steps_skipped"] for row in straight.history]
    assert [row["steps_skipped"] for row in run.history] == [wanted[0], wanted[1], wanted[2] + 1]
    assert state(tmp_path)["scaler"]["scale"] == state(straight.out_dir)["scaler"]["scale"] / 2


def test_gradients_that_are_never_finite_stop_the_run_with_the_clips(clips, tmp_path):
    broken, begin = model(), model().trainable_state()
    broken.sequence.classifier.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(SlakitError, match=r"the gradient's norm is nan for 4 clips \(clip\d, .*look at these clips"):
        slakit.fit(broken, clips, tmp_path, replace(HALF, max_bad_clips=3), show_progress=False)
    saved = state(tmp_path)
    assert [row["steps_skipped"] for row in saved["history"]] == [8, 8] and saved["scaler"]["scale"] == 1.0
    moved = [name for name, value in saved["weights"].items() if not torch.equal(value, begin[name])]
    assert moved and all("running" in name or "num_batches" in name for name in moved), "batch norm's counts alone"


@pytest.mark.parametrize("saves", [2, 13])
def test_a_resumed_run_is_the_same_to_the_bit_scale_included(clips, straight, tmp_path, monkeypatch, saves):
    """Stopped within the search for the scale, and after it."""
    original, made = TrainingRun.save, []

    def stop_after(self, *arguments, **options):
        original(self, *arguments, **options)
        made.append(self.scaler.get_scale())
        if len(made) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop_after)
        with pytest.raises(KeyboardInterrupt):
            slakit.fit(model(), clips, tmp_path, HALF, checkpoint_steps=1, show_progress=False)
    final = state(straight.out_dir)["scaler"]
    assert state(tmp_path)["scaler"]["scale"] == made[-1] and (made[-1] > final["scale"]) == (saves == 2)
    slakit.fit(model(), clips, tmp_path, HALF, show_progress=False)
    assert state(tmp_path)["scaler"] == final
    assert same(weights(tmp_path), weights(straight.out_dir)) and rows(tmp_path) == rows(straight.out_dir)


def test_a_run_that_began_without_a_scaler_goes_on_with_one(clips, tmp_path, monkeypatch):
    """precision="auto": float32 on a CPU, and later float16 on an older GPU."""
    from slakit.training import state as run_state

    auto = replace(HALF, precision="auto")
    original = TrainingRun.save

    def stop(self, *arguments, **options):
        original(self, *arguments, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            slakit.fit(model(), clips, tmp_path, auto, show_progress=False)
    assert not state(tmp_path)["scaler"]
    monkeypatch.setattr(run_state, "half_precision", lambda precision, device: torch.float16)
    slakit.fit(model(), clips, tmp_path, auto, show_progress=False)
    assert state(tmp_path)["scaler"]["scale"] > 0
