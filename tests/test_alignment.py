"""Forced alignment against all paths, and the mapping of time steps to frames against a real convolution."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoding import random_log_probs

from slakit.decoding import (
    GlossSpan,
    align,
    beam_search,
    hypothesis_spans,
    span_agreement,
)
from slakit.models.packing import frames_of, receptive_field, seconds_of, steps
from slakit.records import ConfigError, CorpusError, Span, Vocabulary

GLOSSES = Vocabulary(["A", "B", "C", "D"])


def path_log_prob(log_probs: np.ndarray, spans, blank: int) -> float:
    """The path that the spans describe: their token inside, blank outside."""
    path = np.full(len(log_probs), blank)
    for span in spans:
        path[span.start : span.end] = span.token
    return float(sum(log_probs[t, k] for t, k in enumerate(path)))


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_alignment_is_the_best_of_all_paths(data):
    steps, classes = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 4))
    blank = data.draw(st.integers(0, classes - 1))
    log_probs = random_log_probs(steps, classes, seed=data.draw(st.integers(0, 10**6))).numpy()
    best: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(classes), repeat=steps):
        label = tuple(k for k, _ in itertools.groupby(path) if k != blank)
        score = sum(log_probs[t, k] for t, k in enumerate(path))
        best[label] = max(best.get(label, -math.inf), score)
    tokens = data.draw(st.sampled_from(sorted(best)))
    spans = align(log_probs, None, tokens, blank)
    assert tuple(s.token for s in spans) == tokens
    assert all(s.start < s.end for s in spans)
    for left, right in itertools.pairwise(spans):
        assert left.end + (left.token == right.token) <= right.start
    assert path_log_prob(log_probs, spans, blank) == pytest.approx(best[tokens], abs=1e-9)
    for s in spans:
        assert s.confidence == pytest.approx(np.exp(log_probs[s.start : s.end, s.token]).mean())


def test_alignment_reads_only_the_clip():
    log_probs = random_log_probs(9, 5, seed=2)
    expected = align(log_probs[:6], 6, [1, 3])
    log_probs[6:] = float("nan")
    assert align(log_probs, 6, [1, 3]) == expected
    assert align(log_probs.float().numpy(), 6, [1, 3])[1].start == expected[1].start


@pytest.mark.parametrize(
    "tokens,length,message",
    [
        ([1, 1], 2, "at least 3 are needed"),
        ([1, 2, 3], 2, "at least 3 are needed"),
        ([0], 4, "token 0"),
        ([7], 4, "token 7"),
        ([1], 0, "0 time steps"),
        ([1], 9, "length of clip 0 is 9"),
    ],
)
def test_alignment_errors(tokens, length, message):
    with pytest.raises(ConfigError, match=message):
        align(random_log_probs(4, 5), length, tokens)


def test_alignment_errors_of_values():
    with pytest.raises(ConfigError, match="shape"):
        align(random_log_probs(1, 4, 5), 4, [1])
    with pytest.raises(ConfigError, match="NaN"):
        align(torch.full((4, 5), float("nan")), 4, [1])
    impossible = torch.full((2, 3), -1.0)
    impossible[:, 2] = -math.inf
    with pytest.raises(ConfigError, match="probability 0 throughout"):
        align(impossible, 2, [2])
    assert align(random_log_probs(4, 5), 4, []) == []


@pytest.mark.parametrize("num_frames", [1, 3, 4, 5, 16, 37, 100])
def test_a_time_step_sees_its_receptive_field(num_frames):
    """Padding, kernels and strides as published (6 copies in front; K5 P2 K5 P2): who sees frame f? Measured."""
    steps = math.ceil(num_frames / 4)
    padded = steps * 4 + 12  # reported length
    frames = torch.arange(num_frames, dtype=torch.float64)
    index = torch.tensor([0] * 6 + list(range(num_frames)) + [num_frames - 1] * (padded - 6 - num_frames))
    for frame in range(num_frames):
        signal = (frames[index] == frame).double()[None, None]
        x = torch.nn.functional.conv1d(signal, torch.ones(1, 1, 5, dtype=torch.float64))
        x = torch.nn.functional.max_pool1d(x, 2)
        x = torch.nn.functional.conv1d(x, torch.ones(1, 1, 5, dtype=torch.float64))
        x = torch.nn.functional.max_pool1d(x, 2)
        assert x.shape[-1] == steps
        for step in range(steps):
            start, end = receptive_field(step)
            seen = {int(index[i + 6]) for i in range(start, end)}
            assert (x[0, 0, step] > 0) == (frame in seen)


def test_time_steps_tile_the_clip_around_the_centres():
    for num_frames in range(1, 60):
        spans = [frames_of(i, num_frames) for i in range(math.ceil(num_frames / 4))]
        covered = [f for start, end in spans for f in range(start, end)]
        assert covered == list(range(num_frames)) and len(spans) == steps(num_frames)
    for step in range(20):
        start, end = frames_of(step)
        low, high = receptive_field(step)
        assert (start + end - 1) / 2 == (low + high - 1) / 2 == 4 * step + 1.5
        assert seconds_of(step, 25.0) == pytest.approx((start + end) / 2 / 25.0)  # on an axis of frames' edges


def peaks(*tokens: int) -> torch.Tensor:
    log_probs = torch.full((len(tokens), 5), -8.0)
    for step, token in enumerate(tokens):
        log_probs[step, token] = math.log(0.9)
    return log_probs


def test_spans_in_frames_and_seconds():
    log_probs = peaks(0, 1, 1, 0, 0, 2, 3)  # 7 steps, 26 frames
    spans = hypothesis_spans(log_probs, 7, [1, 2, 3], GLOSSES, num_frames=26, fps=50.0)
    assert [(s.gloss, s.start, s.end) for s in spans] == [("A", 4, 12), ("B", 20, 24), ("C", 24, 26)]
    assert [(s.start_seconds, s.end_seconds) for s in spans] == [(0.08, 0.24), (0.4, 0.48), (0.48, 0.52)]
    assert spans[0].confidence == pytest.approx(0.9)
    filled = hypothesis_spans(log_probs, 7, [1, 2, 3], GLOSSES, num_frames=26, fill=1.0)
    assert [(s.start, s.end) for s in filled] == [(2, 16), (16, 24), (24, 26)]
    half = hypothesis_spans(log_probs, 7, [1, 2, 3], GLOSSES, num_frames=26, fill=0.5)
    assert [(s.start, s.end) for s in half] == [(3, 14), (18, 24), (24, 26)]


@given(seed=st.integers(0, 10**6), num_frames=st.integers(1, 60), fill=st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_spans_of_any_hypothesis_are_ordered_and_inside(seed, num_frames, fill):
    steps = math.ceil(num_frames / 4)
    log_probs = random_log_probs(1, steps, 5, seed=seed)
    tokens = beam_search(log_probs)[0][0].tokens
    spans = hypothesis_spans(log_probs[0], steps, tokens, GLOSSES, num_frames, fill=fill)
    assert [s.gloss for s in spans] == GLOSSES.decode(tokens)
    edges = [edge for s in spans for edge in (s.start, s.end)]
    assert edges == sorted(edges) and all(s.start < s.end for s in spans)
    assert not edges or (edges[0] >= 0 and edges[-1] <= num_frames)


def test_a_long_recording_is_aligned():
    """Two states a gloss: beyond 64 glosses a state's number is no int8 any more."""
    tokens = [1, 2] * 100
    spans = align(peaks(*(step for token in tokens for step in (token, 0))), None, tokens)
    assert [s.token for s in spans] == tokens and [s.start for s in spans] == list(range(0, 400, 2))


def test_span_errors():
    with pytest.raises(ConfigError, match="fill"):
        hypothesis_spans(peaks(1), 1, [1], GLOSSES, 4, fill=2.0)
    with pytest.raises(ConfigError, match="frames"):
        hypothesis_spans(peaks(1), 1, [1], GLOSSES, 0)
    with pytest.raises(ConfigError, match="2 time steps"):  # the clip has frames for one step only
        hypothesis_spans(peaks(1, 2), 2, [1, 2], GLOSSES, 4)
    with pytest.raises(CorpusError, match="no gloss"):
        hypothesis_spans(torch.full((3, 9), -2.0), 3, [8], GLOSSES, 12)


def test_agreement_of_spans():
    truth = [Span("A", 0, 10), Span("B", 10, 20), Span("C", 30, 34)]
    predicted = [GlossSpan("A", 1, 10, 0.9, 25.0), GlossSpan("B", 10, 15, 0.9, 25.0), GlossSpan("C", 20, 32, 0.9, 25.0)]
    result = span_agreement(predicted, truth)
    assert result.boundary_error == pytest.approx((1 + 0 + 0 + 5 + 10 + 2) / 6)
    assert result.overlap_half == pytest.approx(1.0)  # 9 of 10, 5 of 10, 2 of 4
    assert result.iou_half == pytest.approx(2 / 3)  # 9/10, 5/10, 2/14
    assert result.glosses == 3
    with pytest.raises(ConfigError, match="different glosses"):
        span_agreement(predicted[:2], truth)
    with pytest.raises(ConfigError, match="no spans"):
        span_agreement([], [])
