"""How unlike its training clips a video looks: the measure, where it is kept, what it says of drawn and real clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import survival
from media import write_video

import slakit
from slakit.models.checkpoints import read_description
from slakit.recognition import Likeness, likeness, log_probs, recognize_frames, training_features
from slakit.recognition.likeness import DIRECTIONS, KEY, TrainingFeatures, _distances
from slakit.recognition.streaming import stream_frames
from slakit.records import CheckpointError, ConfigError
from slakit.show.video_app import answer_html

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "msl150"
SHORT = replace(survival.SETTINGS, epochs=1, start_from=None)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    return survival.train(place, tmp_path_factory.mktemp("run"), SHORT)


def test_the_distance_is_mahalanobis_under_the_model_of_probabilistic_pca(run, place):
    """Against the dense inverse of C = sum of (spread^2 - rest^2) v v' + rest^2 I, in float64."""
    clips = survival.corpus(place)
    known = TrainingFeatures(**{
        name: tuple(map(tuple, value)) if name == "directions" else tuple(value) if isinstance(value, list) else value
        for name, value in run.model.about[KEY].items()
    })  # fmt: skip
    means = np.stack([clip.features for clip in log_probs(run.model, clips.train)]).astype(np.float64)
    centred, (count, channels) = means - means.mean(0), means.shape
    spreads, axes = np.linalg.eigh(centred.T @ centred / (count - 1))
    spreads, axes = spreads[::-1], axes[:, ::-1]
    kept = min(DIRECTIONS, (count - 1) // 2)
    rest = spreads[kept:].sum() / (channels - kept)
    inverse = np.linalg.inv((axes[:, :kept] * (spreads[:kept] - rest)) @ axes[:, :kept].T + rest * np.eye(channels))
    apart = means[:3] + np.random.default_rng(0).normal(0, 0.1, (3, channels)) - means.mean(0)
    expected = np.sqrt(np.einsum("ni,ij,nj->n", apart, inverse, apart) / channels)
    assert _distances(known, apart + means.mean(0)) == pytest.approx(expected, rel=2e-3)
    assert len(known.directions) == kept and len(known.distances) == len(clips.train) + len(clips.dev)


def test_training_writes_it_once_and_the_loaded_model_says_it(run, place, capsys):
    file = run.out_dir / "best.safetensors"
    loaded = slakit.load_checkpoint(file)
    assert loaded.about[KEY] == run.model.about[KEY] and KEY not in read_description(run.out_dir / "last")
    clip = survival.corpus(place).train[0]
    result = slakit.recognize(loaded, clip)
    assert result.likeness and result.likeness.like and "pictures like the training data" in result.table()
    assert json.loads(result.json())["likeness"] == {**vars(result.likeness), "like": True}
    before = file.read_bytes()
    survival.train(place, run.out_dir, SHORT)
    assert "are lost" not in capsys.readouterr().out and file.read_bytes() == before


def test_a_run_that_died_before_it_was_written_gets_it_with_the_next_call(place, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(
            "slakit.training.run.training_features", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            survival.train(place, tmp_path, SHORT)
    assert KEY not in read_description(tmp_path / "best")
    again = survival.train(place, tmp_path, SHORT)
    assert "lost" not in capsys.readouterr().out and read_description(tmp_path / "best")[KEY] == again.model.about[KEY]


def test_a_stream_and_a_cut_video_say_the_same(run, tmp_path):
    frames = np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3), np.uint8)
    whole = recognize_frames(run.model, frames)
    streamed, _ = stream_frames(run.model, frames, chunk_frames=8)
    assert whole.likeness and streamed.likeness
    assert streamed.likeness.distance == pytest.approx(whole.likeness.distance, rel=1e-4)
    cut = recognize_frames(run.model, frames, pauses=0.2)
    assert cut.likeness and cut.likeness.distance >= whole.likeness.distance - 1e-4
    path = write_video(tmp_path / "noise.mp4", np.repeat(np.repeat(frames, 2, 1), 2, 2))
    assert slakit.recognize(run.model, path).likeness


def test_what_is_far_away_is_said_and_what_is_not_known_is_not(run):
    channels = run.model.encoder.feature_dim
    far = likeness(run.model, np.full(channels, 50, np.float32))
    assert far and not far.like and far.quantile == 1 and "UNLIKE the training data" in str(far)
    assert "nearer to its middle than 25 % of it" in str(Likeness(1.0, 0.75))
    kept, result = run.model.about, recognize_frames(run.model, np.zeros((20, 32, 32, 3), np.uint8))
    shown = answer_html(replace(result, spans=(), glosses=("G0",), likeness=far))
    assert "UNLIKE" in shown and "color" in shown
    try:
        run.model.about = {**kept, KEY: None}
        assert likeness(run.model, np.zeros(channels, np.float32)) is None
        run.model.about = {**kept, KEY: {**kept[KEY], "mean": kept[KEY]["mean"][1:]}}
        with pytest.raises(CheckpointError, match="do not fit its model"):
            likeness(run.model, np.zeros(channels, np.float32))
        run.model.about = {**kept, KEY: {**kept[KEY], "rest": "wide"}}
        with pytest.raises(ConfigError, match=r"training_features\.rest"):
            likeness(run.model, np.zeros(channels, np.float32))
    finally:
        run.model.about = kept


def test_clips_that_are_all_the_same_tell_nothing(run, place):
    clip = survival.corpus(place).train[0]
    same = [replace(clip, id=f"c{n}") for n in range(4)]
    assert training_features(run.model, same, show_progress=False) == {}
    assert training_features(run.model, same[:2], show_progress=False) == {}


@pytest.mark.parametrize("method", ["sla-lora", pytest.param("sla-adapter", marks=pytest.mark.thorough)])
def test_demo_models_call_the_camera_unlike(method):
    """Clips of real people; all five, and MiniSign's unseen signers, are counted in papermill_runs/results."""
    if not REAL.is_dir():
        pytest.skip(f"{REAL} is not beside the project")
    model = slakit.load_checkpoint(method)
    for video in sorted(REAL.glob("*.mp4"))[::4]:
        found = slakit.recognize(model, video).likeness
        assert found and not found.like, video.name


def test_the_demo_model_knows_what_it_was_trained_on(tmp_path):
    corpus = slakit.load_corpus("minisign", root=tmp_path, train=1, dev=1, test=1, progress=False)
    found = slakit.recognize(slakit.load_checkpoint("sla-lora"), corpus.train[0]).likeness
    assert found and found.like
