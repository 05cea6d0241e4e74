"""fit(): resumes to the same weights, refuses foreign folders and vocabularies, warm start, learning rates."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import slakit
from slakit.config import AugmentConfig, DecodeConfig, TrainConfig
from slakit.recognition import log_probs, settings_for
from slakit.records import CheckpointError, ConfigError, SlakitError
from slakit.training.features import FeatureBatches
from slakit.training.optimizers import make_optimizer, set_rate

SETTINGS = TrainConfig(
    epochs=2, start_from={"epochs": 2}, batch_size=4, schedule="cosine", learning_rate=1e-3, keep_in_memory=True,
    augment=AugmentConfig(96, 84, min_frames=16, max_frames=120), decode=DecodeConfig(collapse_repeats=False),
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("minisign")
    return slakit.load_corpus("minisign", root=root, train=8, dev=3, test=3, progress=False)


def make(corpus, seed: int = 0, **options):
    options = {"hidden_size": 32, "rank": 4, **options}
    return slakit.create_model("sla-lora", glosses=corpus.glosses, backbone="tiny-clip", seed=seed, **options)


def weights(model):
    return {name: value.clone() for name, value in model.trainable_state().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def straight(corpus, tmp_path_factory):
    """An uninterrupted run."""
    return slakit.fit(make(corpus), corpus, tmp_path_factory.mktemp("straight"), SETTINGS, show_progress=False)


def test_history_and_files(straight, corpus):
    assert [row["trained"] for row in straight.start] == ["head"] * 2 and len(straight.history) == 2
    assert [row["trained"] for row in straight.history] == ["all"] * 2
    assert straight.seconds > straight.history[-1]["seconds"] > 0, "with the time of the run that came first"
    assert straight.best["wer"] == min(row["wer"] for row in straight.history if "wer" in row)
    assert (straight.out_dir / "history.jsonl").is_file() and (straight.out_dir / "best.safetensors").is_file()
    loaded = slakit.load_checkpoint(straight.out_dir / "best", glosses=corpus.glosses)
    assert same(weights(loaded), weights(straight.model))
    assert slakit.evaluate(loaded, corpus.dev, "minisign", settings=SETTINGS).wer == straight.best["wer"]


def test_a_finished_run_is_not_run_again_and_says_so(straight, corpus, capsys):
    begin = time.perf_counter()
    again = slakit.fit(make(corpus), corpus, straight.out_dir, SETTINGS, show_progress=False)
    assert "are done: nothing to train" in capsys.readouterr().out
    assert again.history == straight.history and same(weights(again.model), weights(straight.model))
    assert again.seconds == straight.seconds and time.perf_counter() - begin < 60


def state(folder) -> dict:
    return torch.load(folder / "state.pt", weights_only=True)


def losses(history) -> list[dict]:
    return [{key: value for key, value in row.items() if key.startswith("loss")} for row in history]


@pytest.mark.parametrize("saves", [3, 6])
def test_resuming_gives_the_same_weights_to_the_bit(straight, corpus, tmp_path, monkeypatch, saves):
    """Stopped after so many checkpoints, of which there is one a batch: in the middle of epochs, too."""
    from slakit.training.state import TrainingRun

    original, made = TrainingRun.save, []

    def stop_after(self, *arguments, **options):
        original(self, *arguments, **options)
        made.append(self.cursor.batch)
        if len(made) == saves:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop_after)
        with pytest.raises(KeyboardInterrupt):
            slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, checkpoint_steps=1, show_progress=False)
    assert len(made) == saves and any(made)
    run = slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, show_progress=False)
    assert same(state(tmp_path)["weights"], state(straight.out_dir)["weights"])
    assert losses(run.history) == losses(straight.history)
    assert [row.get("wer") for row in run.history] == [row.get("wer") for row in straight.history]


def test_a_damaged_state_falls_back_to_the_one_before(straight, corpus, tmp_path, capsys):
    run = slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, show_progress=False)
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:1000])
    again = slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, show_progress=False)
    assert "cannot be read" in capsys.readouterr().out
    assert same(weights(again.model), weights(run.model))
    for broken in (path, tmp_path / "state.previous.pt"):
        broken.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match=r"Delete .* to start the run anew"):
        slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, show_progress=False)


def test_a_state_with_code_in_it_is_not_executed(corpus, tmp_path):
    import pickle

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    (tmp_path / "state.pt").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(CheckpointError):
        slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, show_progress=False)
    assert not (tmp_path / "executed").exists()


def test_another_run_in_the_folder_is_refused(straight, corpus):
    with pytest.raises(ConfigError, match=r"train.learning_rate=0.001, this one has train.learning_rate=0.002"):
        slakit.fit(make(corpus), corpus, straight.out_dir, SETTINGS, learning_rate=2e-3)


def test_a_renamed_gloss_is_another_run(straight, corpus):
    """Of test alone, it moves the classes of all behind it in the alphabet."""
    assert not straight.model.training
    glosses = slakit.Vocabulary(["RENAMED" if gloss == "YEAR" else gloss for gloss in corpus.glosses.glosses])
    other = replace(corpus, glosses=glosses)
    with pytest.raises(ConfigError, match="a run with glosses="):
        slakit.fit(make(other), other, straight.out_dir, SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"learning_rte": 1}, "learning_rate"), ({"epochs": "12x"}, "12x"), ({"optimizer": "adma"}, "adam")],
)
def test_a_wrong_setting_names_value_and_way_out(corpus, tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, **change)


def test_a_checkpoint_is_evaluated_as_it_was_chosen(corpus, tmp_path):
    """The same pictures and the same decoding, without a word about them: whole frames here, and a narrow beam."""
    changes = {"augment": AugmentConfig(84, 84), "decode": DecodeConfig(beam_width=2, collapse_repeats=True)}
    run = slakit.fit(make(corpus), corpus, tmp_path, SETTINGS, **changes, show_progress=False)
    loaded = slakit.load_checkpoint(run.out_dir / "best", glosses=corpus.glosses)
    used = settings_for(loaded)
    assert {"augment": used.augment, "decode": used.decode} == changes and used.num_workers == 0
    assert slakit.evaluate(loaded, corpus.dev, corpus.name).wer == run.best["wer"]
    steps = [
        next(iter(log_probs(loaded, corpus.dev, settings=choice))).steps
        for choice in (None, used, TrainConfig(augment=AugmentConfig(96, 84)))
    ]
    assert np.array_equal(steps[0], steps[1]) and not np.allclose(steps[0], steps[2])


def test_another_vocabulary_is_refused(corpus, tmp_path):
    other = replace(corpus, glosses=slakit.Vocabulary(["A", "B"]))
    with pytest.raises(ConfigError, match=r"32 classes and minisign has 3"):
        slakit.fit(make(corpus), other, tmp_path, SETTINGS)


def test_clips_that_ctc_cannot_align_are_named(corpus, tmp_path, capsys):
    long = replace(corpus.train[0], id="too-long", glosses=corpus.train[0].glosses * 20)
    changed = replace(corpus, train=(*corpus.train, long))
    run = slakit.fit(make(corpus), changed, tmp_path, SETTINGS, epochs=1, show_progress=False)
    assert list(run.left_out) == ["too-long"] and "too-long" in capsys.readouterr().out
    with pytest.raises(SlakitError, match="no training clip"):
        slakit.fit(make(corpus), replace(corpus, train=(long,)), tmp_path / "none", SETTINGS, show_progress=False)


def test_a_loss_that_is_not_finite_stops_with_the_clips(corpus, tmp_path):
    model = make(corpus)
    with torch.no_grad():
        model.sequence.classifier.weight.fill_(float("nan"))
    with pytest.raises(SlakitError, match="nan for"):
        slakit.fit(model, corpus, tmp_path, SETTINGS, max_bad_clips=2, show_progress=False)


def test_cached_features_are_the_encoders(corpus):
    """They give the logits that the frames give, and training on them leaves the encoder alone."""
    from slakit.data.clips import ClipStore
    from slakit.data.loader import clip_loader

    model = make(corpus).eval()
    settings = replace(SETTINGS, feature_views=1, augment=replace(SETTINGS.augment, temporal_scale=None))
    store = ClipStore(keep_in_memory=True)
    cached = FeatureBatches(model, corpus.train, settings, store, torch.device("cpu"), show_progress=False)
    frames = clip_loader(
        corpus.train, corpus.glosses, replace(settings, seed=settings.seed + 7919), train=True, epoch=0, store=store
    )
    with torch.inference_mode():
        direct = {
            clip: logits[: length // 4]
            for batch in frames
            for clip, logits, length in zip(
                batch.ids, model(batch.frames, batch.lengths).sequence, batch.lengths.tolist(), strict=True
            )
        }
        for batch in cached.epoch(0):
            out = model.recognize_features(batch.frames, batch.lengths)
            for clip, logits, length in zip(batch.ids, out.sequence, batch.lengths.tolist(), strict=True):
                torch.testing.assert_close(logits[: length // 4], direct[clip], atol=2e-4, rtol=1e-3)
    rates = make_optimizer(model, settings)
    trained = {id(p) for group in rates.param_groups for p in group["params"]}
    assert not trained & {id(p) for p in model.encoder.parameters()} and trained


def test_learning_rates(corpus):
    optimizer = make_optimizer(make(corpus), replace(SETTINGS, learning_rate=1.0, head_learning_rate=0.5))
    steps = replace(SETTINGS, schedule="steps", milestones=(20, 30), gamma=0.2)
    for epoch, factor in ((0, 1), (19.9, 1), (20, 0.2), (29.5, 0.2), (30, 0.04), (39, 0.04)):
        set_rate(optimizer, steps, epoch, 40)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([factor, factor / 2])
    set_rate(optimizer, replace(SETTINGS, schedule="cosine"), 5, 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)


def test_running_out_of_memory_names_settings_that_fit(corpus, tmp_path, monkeypatch):
    model = make(corpus)

    def out_of_memory(*_):
        raise torch.OutOfMemoryError("tried to allocate 3 GiB")

    monkeypatch.setattr(model, "encode", out_of_memory)
    with pytest.raises(SlakitError, match=r"memory of cpu ran out \(tried to allocate 3 GiB\).*max_frames_per_batch="):
        slakit.fit(model, corpus, tmp_path / "run", SETTINGS, device="cpu", show_progress=False)
