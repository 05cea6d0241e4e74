"""Times of glosses from the auxiliary head, log probabilities kept for many decodings, and the table of span errors."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_decoding import random_log_probs

import slakit
from slakit.decoding import GlossSpan, frame_spans, scaled_likelihoods
from slakit.recognition import fit_frames
from slakit.recognition.forward import ClipLogProbs, decode, log_probs, per_frame
from slakit.recognition.spans import recognised_pairs, span_table, spans_by
from slakit.records import ConfigError, CorpusError, Sample, Span, Vocabulary

GLOSSES = Vocabulary(["A", "B", "C"])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return slakit.load_corpus("minisign", root=tmp_path_factory.mktemp("c"), train=1, dev=1, test=3, progress=False)


def build(corpus, **options):
    return slakit.create_model(
        "sla-lora", glosses=corpus.glosses, backbone="tiny-clip", hidden_size=16, rank=2, **options
    )


def plateau(*spans: tuple[int, int, int], frames: int, inside: float = 0.2, seed: int = 0) -> np.ndarray:
    """Log probabilities [T, 4] as CTC leaves them: blank leads everywhere, a gloss stands out a little where it is."""
    random = np.random.default_rng(seed)
    values = random.uniform(0.001, 0.003, (frames, 4))
    for token, start, end in spans:
        values[start:end, token] = inside
    values[:, 0] = 0
    values[:, 0] = 1 - values.sum(1)
    return np.log(values)


def test_scaled_likelihoods_by_the_formula():
    log_probs = random_log_probs(7, 5, seed=3).numpy()
    prior = np.exp(log_probs).mean(0)
    for weight in (0.0, 0.5, 1.0):
        expected = np.exp(log_probs) / prior**weight
        np.testing.assert_allclose(
            np.exp(scaled_likelihoods(log_probs, weight)), expected / expected.sum(1, keepdims=True), atol=1e-12
        )
    impossible = np.log(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]) + 1e-300)
    assert np.isfinite(scaled_likelihoods(impossible)).all()
    assert scaled_likelihoods(np.zeros((0, 4))).shape == (0, 4)
    with pytest.raises(ConfigError, match="prior_weight"):
        scaled_likelihoods(log_probs, -1.0)
    with pytest.raises(ConfigError, match="shape"):
        scaled_likelihoods(log_probs[None])


def test_the_prior_turns_a_spike_into_the_whole_gloss():
    log_probs = plateau((1, 3, 9), (2, 12, 16), (1, 20, 25), frames=30)
    spans = frame_spans(log_probs, [1, 2, 1], GLOSSES, fps=50.0)
    assert [(s.gloss, s.start, s.end) for s in spans] == [("A", 3, 9), ("B", 12, 16), ("A", 20, 25)]
    assert spans[0].start_seconds == 0.06 and spans[0].confidence == pytest.approx(0.2)
    spikes = frame_spans(torch.from_numpy(log_probs).float(), [1, 2, 1], GLOSSES, prior_weight=0.0)
    assert [s.end - s.start for s in spikes] == [1, 1, 1], "blank leads in every frame: one frame a gloss"
    with pytest.raises(ConfigError, match="fps"):
        frame_spans(log_probs, [1], GLOSSES, fps=0)
    with pytest.raises(ConfigError, match="NaN"):
        frame_spans(np.full((4, 4), np.nan), [1], GLOSSES)
    assert frame_spans(log_probs, [], GLOSSES) == []


@pytest.mark.parametrize("auxiliary_lengths", ["padded", "frames"])
def test_a_row_for_every_frame_of_every_clip(corpus, auxiliary_lengths):
    """The rows are the auxiliary head on the features of the clip's own frames, whatever was padded around them."""
    model = build(corpus, auxiliary_lengths=auxiliary_lengths).eval()
    found = {clip.id: clip for clip in log_probs(model, corpus.test, show_progress=False)}
    for sample in corpus.test:
        frames = torch.from_numpy(fit_frames(slakit.read_frames(sample.source), model.image_size)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            features = model.encode(frames, torch.tensor([len(frames)]))
            expected = model.auxiliary(features)[0].log_softmax(-1)
        assert found[sample.id].frames.shape == (sample.num_frames, len(corpus.glosses))
        assert found[sample.id].steps.shape == (math.ceil(sample.num_frames / 4), len(corpus.glosses))
        np.testing.assert_allclose(found[sample.id].frames, expected, atol=2e-4)


def test_models_without_a_row_a_frame(corpus):
    for options in ({"auxiliary_lengths": "pooled"}, {"auxiliary_head": False}):
        model = build(corpus, **options)
        found = list(log_probs(model, corpus.test[:1], show_progress=False))
        assert found[0].id == corpus.test[0].id and found[0].frames is None
        table = span_table(found, corpus.test[:1], corpus.glosses)
        assert not table["by"].str.startswith("frames").any() and "even parts" in set(table["by"])
    result = slakit.recognize(model, corpus.test[0].source)
    assert [span.gloss for span in result.spans] == list(result.glosses)
    published = build(corpus, padding="published").eval()
    with torch.inference_mode():
        logits = published(torch.zeros(11, 3, 84, 84, dtype=torch.uint8), torch.tensor([4, 7]))
    assert [rows.shape[0] for rows in per_frame(published, logits, [4, 7])] == [4, 7]


def test_decoding_log_probs_is_transcribing(corpus):
    model = build(corpus)
    found = list(log_probs(model, corpus.test, show_progress=False))
    assert decode(found, corpus.glosses) == slakit.transcribe(model, corpus.test, show_progress=False)[1]
    widths = [decode(found, corpus.glosses, hot_words={1: bonus}) for bonus in (0.0, 50.0)]
    assert widths[0] != widths[1]


def test_a_clip_that_cannot_be_read_is_an_error_not_an_empty_hypothesis(corpus, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    sample = Sample("broken", broken, (), num_frames=20)
    with pytest.warns(match="broken"), pytest.raises(CorpusError, match=r"1 clips cannot be read; broken"):
        list(log_probs(build(corpus), [corpus.test[0], sample], show_progress=False))


def sample(*spans: Span, frames: int = 40, name: str = "x") -> Sample:
    return Sample(name, Path("x.mp4"), tuple(s.gloss for s in spans), num_frames=frames, fps=20.0, spans=spans)


def test_table_of_span_errors_by_hand():
    truth = sample(Span("A", 4, 12), Span("B", 20, 30))
    steps = np.full((10, 4), -9.0)
    steps[:, 0] = -0.01
    for step, token in ((2, 1), (5, 2)):  # frames 8 to 12 and 20 to 24
        steps[step] = -9.0
        steps[step, token] = -0.01
    found = [ClipLogProbs("x", steps, plateau((1, 4, 12), (2, 22, 30), frames=40))]
    table = span_table(found, [truth], GLOSSES).set_index(["aligned", "by"])
    for what in ("true glosses", "recognised"):
        row = table.loc[what, "frames"]
        assert (row["glosses"], row["boundary_error_frames"]) == (2, pytest.approx(2 / 4))
        assert row["boundary_error_seconds"] == pytest.approx(2 / 4 / 20)
        assert (row["overlap_half"], row["iou_half"]) == (1.0, 1.0)
        row = table.loc[what, "steps"]
        assert row["boundary_error_frames"] == pytest.approx((4 + 0 + 0 + 6) / 4)
        assert (row["overlap_half"], row["iou_half"]) == (0.5, 0.5)
        row = table.loc[what, "even parts"]  # 0 to 20 and 20 to 40
        assert row["boundary_error_frames"] == pytest.approx((4 + 8 + 0 + 10) / 4)
    with pytest.raises(ConfigError, match=r"1 clips have no true spans \(x\)"):
        span_table(found, [Sample("x", Path("x"), ("A",), num_frames=40)], GLOSSES)


def test_only_glosses_recognised_rightly_are_judged():
    truth = [Span("A", 0, 5), Span("B", 6, 9), Span("C", 10, 12)]
    guess = [GlossSpan(g, i, i + 1, 1.0, 25.0) for i, g in enumerate(("A", "C", "B", "C"))]
    guesses, trues = recognised_pairs(guess, truth)
    assert [(g.gloss, g.start) for g in guesses] == [("A", 0), ("B", 2), ("C", 3)]
    assert trues == truth
    guesses, trues = recognised_pairs(guess[1:2], truth)
    assert [g.gloss for g in guesses] == ["C"] and trues == truth[2:]
    assert recognised_pairs([], truth) == ([], [])


def test_a_clip_whose_frames_nobody_counted_is_as_long_as_its_log_probabilities():
    sample = Sample("a", Path("a.mp4"), ("A",), num_frames=None)
    clip = ClipLogProbs("a", np.log(np.full((5, 2), 0.5, np.float32)), np.log(np.full((18, 2), 0.5, np.float32)))
    (span,) = spans_by("even parts", sample, clip, [1], Vocabulary(["A"]))
    assert (span.start, span.end) == (0, 18)
    (span,) = spans_by("steps, gaps shared", sample, clip, [1], Vocabulary(["A"]))
    assert 0 <= span.start < span.end <= 18
