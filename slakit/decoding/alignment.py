"""Forced alignment (Viterbi over CTC) and the time spans of recognised glosses, in frames and seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from slakit.decoding.hypothesis import LOG_PROB_LIMIT, bad_value, check_input, check_nats
from slakit.records import ConfigError, Span, Vocabulary


@dataclass(frozen=True)
class TokenSpan:
    """One token of an alignment: time steps `start` (included) to `end` (excluded), and its mean probability there."""

    token: int
    start: int
    end: int
    confidence: float


@dataclass(frozen=True)
class GlossSpan:
    """One recognised gloss in time: frames `start` (included) to `end` (excluded), in seconds too; mean probability."""

    gloss: str
    start: int
    end: int
    confidence: float
    fps: float

    @property
    def start_seconds(self) -> float:
        return self.start / self.fps

    @property
    def end_seconds(self) -> float:
        return self.end / self.fps


def align(
    log_probs: torch.Tensor | np.ndarray, length: int | None, tokens: Sequence[int], blank: int = 0
) -> list[TokenSpan]:
    """The most probable CTC path that spells `tokens` (Viterbi), as one span of time steps a token.

    log_probs [T', V] natural logs of one clip, length: time steps that count (None: all). A span covers the steps in
    which the path emits the token, so blanks lie between spans. Of equal paths the one that emits later is taken.
    Raises ConfigError where `length` steps cannot spell the tokens (one step each, and one between equal neighbours),
    and for wrong shapes, tokens, NaN.
    """
    if getattr(log_probs, "ndim", None) != 2:
        raise ConfigError(
            f"log_probs has shape {list(getattr(log_probs, 'shape', []))}; align one clip, [time, classes]"
        )
    tensor, sizes = check_input(log_probs[None], None if length is None else [length], blank)
    steps, classes = int(sizes[0]), tensor.shape[2]
    scores = tensor[0, :steps].cpu().numpy().astype(np.float64)
    wrong = np.argwhere(~(scores <= LOG_PROB_LIMIT))
    if wrong.size:
        raise bad_value(tensor, 0, int(wrong[0, 0]))
    labels = list(tokens)
    for token in labels:
        if (
            isinstance(token, bool)
            or not isinstance(token, int | np.integer)
            or not 0 <= token < classes
            or token == blank
        ):
            raise ConfigError(
                f"token {token!r} cannot be aligned; tokens are class indices 0 to {classes - 1}, not blank"
            )
    if not labels:
        return []
    needed = len(labels) + sum(a == b for a, b in pairwise(labels))
    if steps < needed:
        raise ConfigError(f"{steps} time steps cannot hold {len(labels)} glosses; at least {needed} are needed")

    states = np.full(2 * len(labels) + 1, blank)
    states[1::2] = labels
    skip = np.zeros(len(states), bool)  # from the token two states before, over the blank
    skip[2:] = (states[2:] != blank) & (states[2:] != states[:-2])
    best = np.full(len(states), -np.inf)
    best[:2] = scores[0, states[:2]]
    back = np.zeros((steps, len(states)), np.int8)
    for t in range(1, steps):
        moves = np.full((3, len(states)), -np.inf)  # stay, from the state before, from two before
        moves[0], moves[1, 1:], moves[2, 2:] = best, best[:-1], best[:-2]
        moves[2, ~skip] = -np.inf
        back[t] = moves.argmax(0)
        best = moves.max(0) + scores[t, states]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    if best[state] == -np.inf:
        raise ConfigError("no path through log_probs spells these tokens: some of them have probability 0 throughout")
    path = np.zeros(steps, int)
    for t in range(steps - 1, -1, -1):
        path[t] = state
        state -= int(back[t, state])  # int8: NumPy 2 would count in it, too
    spans = []
    for i, token in enumerate(labels):
        where = np.flatnonzero(path == 2 * i + 1)
        spans.append(TokenSpan(token, int(where[0]), int(where[-1]) + 1, float(np.exp(scores[where, token]).mean())))
    return spans


def hypothesis_spans(
    log_probs: torch.Tensor | np.ndarray,
    length: int | None,
    tokens: Sequence[int],
    glosses: Vocabulary,
    num_frames: int,
    fps: float = 25.0,
    blank: int = 0,
    fill: float = 0.0,
    frames_per_step: int = 4,
) -> list[GlossSpan]:
    """When each gloss of a hypothesis is signed: forced alignment, then time steps to frames and seconds.

    log_probs [T', V], length and tokens as for `align`; num_frames and fps of the clip. fill: the share of the blanks
    between two glosses that is given to them, half of it to each (0: only the steps where CTC emits the gloss, which
    are few; 1: no gap between glosses). frames_per_step: step i stands for so many frames from frame i times that on
    (`slakit.models.packing.STRIDE`). Raises ConfigError as `align` does.
    """
    if not 0.0 <= fill <= 1.0:
        raise ConfigError(f"fill is {fill!r}; it is a share, 0 to 1")
    if num_frames < 1 or not fps > 0:
        raise ConfigError(f"the clip has {num_frames} frames at {fps} a second; both must be above 0")
    steps = align(log_probs, length, tokens, blank)
    if steps and (steps[-1].end - 1) * frames_per_step >= num_frames:
        raise ConfigError(f"{steps[-1].end} time steps do not fit {num_frames} frames; give the frames of this clip")
    edges = [[s.start * frames_per_step, min(s.end * frames_per_step, num_frames)] for s in steps]
    for left, right in pairwise(edges):
        gap = right[0] - left[1]
        share = round(gap * fill / 2)
        left[1], right[0] = left[1] + min(share, gap), right[0] - min(share, gap - min(share, gap))
    if edges and fill:
        edges[0][0] -= round(edges[0][0] * fill / 2)
        edges[-1][1] += round((num_frames - edges[-1][1]) * fill / 2)
    names = glosses.decode(span.token for span in steps)
    return [
        GlossSpan(name, start, end, span.confidence, float(fps))
        for name, (start, end), span in zip(names, edges, steps, strict=True)
    ]


@dataclass(frozen=True)
class SpanAgreement:
    """Predicted against true spans: mean |boundary error| in frames (starts and ends), shares of glosses 0 to 1."""

    boundary_error: float
    overlap_half: float  # at least half of the true span is covered
    iou_half: float  # intersection over union at least one half
    glosses: int


def span_agreement(predicted: Sequence[GlossSpan | Span], truth: Sequence[GlossSpan | Span]) -> SpanAgreement:
    """Compare the spans of one clip or of many put together; both list the same glosses in the same order."""
    if [p.gloss for p in predicted] != [t.gloss for t in truth]:
        raise ConfigError("predicted and true spans name different glosses; align the true glosses, then compare")
    if not truth:
        raise ConfigError("there are no spans to compare; this corpus has none (MiniSign has)")
    p = np.array([(s.start, s.end) for s in predicted], float)
    t = np.array([(s.start, s.end) for s in truth], float)
    shared = np.clip(np.minimum(p[:, 1], t[:, 1]) - np.maximum(p[:, 0], t[:, 0]), 0, None)
    true_size, union = t[:, 1] - t[:, 0], (p[:, 1] - p[:, 0]) + (t[:, 1] - t[:, 0]) - shared
    return SpanAgreement(
        float(np.abs(p - t).mean()),
        float((shared >= true_size / 2).mean()),
        float((shared >= union / 2).mean()),
        len(t),
    )


PRIOR_FLOOR = 1e-4  # classes that never appear in a clip have no larger say than this


def scaled_likelihoods(log_probs: torch.Tensor | np.ndarray, prior_weight: float = 1.0) -> np.ndarray:
    """ln (posterior / prior ** prior_weight), normalised in each frame: float64 [T, V].

    log_probs [T, V] of one clip; the prior of a class is its mean posterior over the clip, at least `PRIOR_FLOOR`.
    prior_weight 0 gives log_probs back. Raises ConfigError for a wrong shape or weight.
    """
    if getattr(log_probs, "ndim", None) != 2:
        raise ConfigError(
            f"log_probs has shape {list(getattr(log_probs, 'shape', []))}; give one clip, [frames, classes]"
        )
    prior_weight = check_nats("prior_weight", prior_weight, 0)
    values = torch.as_tensor(log_probs).detach().cpu().double().numpy()
    if len(values) == 0:
        return values
    prior = np.maximum(np.exp(values).mean(0), PRIOR_FLOOR)  # [V]
    return torch.from_numpy(values - prior_weight * np.log(prior)).log_softmax(-1).numpy()


def frame_spans(
    log_probs: torch.Tensor | np.ndarray,
    tokens: Sequence[int],
    glosses: Vocabulary,
    fps: float = 25.0,
    prior_weight: float = 1.0,
    blank: int = 0,
) -> list[GlossSpan]:
    """When each gloss is signed, to the frame: Viterbi alignment of `tokens` with one row of log probabilities a frame.

    log_probs [T, V]: of the auxiliary head, frame by frame (`slakit.recognition.log_probs`). prior_weight: see
    `scaled_likelihoods`. confidence: the mean posterior over the span, the prior still in it. Raises ConfigError
    as `align` does.
    """
    if not fps > 0:
        raise ConfigError(f"fps is {fps!r}; it must be above 0")
    values = scaled_likelihoods(log_probs, prior_weight)
    posteriors = torch.as_tensor(log_probs).detach().cpu().double().exp().numpy()
    return [
        GlossSpan(gloss, s.start, s.end, float(posteriors[s.start : s.end, s.token].mean()), float(fps))
        for s in align(values, None, tokens, blank)
        for gloss in glosses.decode([s.token])
    ]
