"""Greedy and prefix beam search over CTC log probabilities.

`beam_search` equals ctcdecode (the decoder that VAC, CorrNet, SlowFastSign and AdaptSign use: width 10, 40 tokens a
frame, no language model) in labels, time steps and scores. In particular
- a prefix is one beam entry with two probabilities, ending in blank and ending in its last token (Hannun et al. 2014,
  "First-Pass Large Vocabulary Continuous Speech Recognition using Bi-Directional Recurrent DNNs", algorithm 1);
- only the `top_tokens` most probable classes of a frame count, blank ranked among them; a class left out gets nothing
  in that frame, not even the continuation of a token;
- the time step of a token is the frame where it was most probable while its prefix was in the beam;
- of equal scores the smaller last token comes first.
It differs in two things: an impossible class (log probability -inf) stays impossible, where ctcdecode gives it
log(1.2e-38), and impossible hypotheses are left out instead of being returned with the score 3.4e38.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from slakit.decoding.beam import search
from slakit.decoding.hypothesis import (
    LOG_PROB_LIMIT,
    Hypothesis,
    bad_value,
    check_input,
    check_nats,
    check_positive,
    collapse,
)  # fmt: skip
from slakit.decoding.language_model import NO_LANGUAGE_MODEL, NgramLanguageModel
from slakit.decoding.select import select
from slakit.records import ConfigError

IMPOSSIBLE = "every class of some frame has probability 0 in this clip; pass logits.log_softmax(-1)"
MAX_BEAM, MAX_NODES = 10_000, 10**8  # prefixes at a time; over a whole clip, 3 GB of them
LogProbs = torch.Tensor | np.ndarray
Lengths = Sequence[int] | torch.Tensor | np.ndarray | None


def greedy_search(
    log_probs: LogProbs, lengths: Lengths = None, blank: int = 0, collapse_repeats: bool = False
) -> list[list[Hypothesis]]:
    """The best path: the most probable class of each frame, runs merged, blanks removed (Graves et al. 2006).

    log_probs [B, T', V] natural logs; lengths [B] time steps, None for all. -> one Hypothesis in a list a clip, as
    `beam_search` returns them; its score is the log probability of that path, a token's time step the frame of its run
    where it was most probable. Raises ConfigError for wrong shapes, lengths, NaN and values above 0.
    """
    tensor, sizes = check_input(log_probs, lengths, blank)
    if tensor.shape[1] == 0:
        return [[Hypothesis((), 0.0, (), 0.0)] for _ in sizes]
    best, index = (x.cpu().numpy() for x in tensor.max(dim=2))  # [B, T'], NaN wins a maximum
    result = []
    for clip, size in enumerate(sizes):
        value, token = best[clip, :size].astype(np.float64), index[clip, :size]
        wrong = np.flatnonzero(~(value <= LOG_PROB_LIMIT))
        if wrong.size:
            raise bad_value(tensor, clip, int(wrong[0]))
        if np.isneginf(value).any():
            raise ConfigError(IMPOSSIBLE)
        starts = np.flatnonzero(np.r_[True, token[1:] != token[:-1]]) if size else np.zeros(0, int)
        runs = [(a, b) for a, b in zip(starts, np.r_[starts[1:], size], strict=True) if token[a] != blank]
        tokens = tuple(int(token[a]) for a, _ in runs)
        steps = tuple(int(a + value[a:b].argmax()) for a, b in runs)
        if collapse_repeats:
            tokens, steps = collapse(tokens, steps)
        score = float(value.sum())
        result.append([Hypothesis(tokens, score, steps, score)])
    return result


def beam_search(
    log_probs: LogProbs,
    lengths: Lengths = None,
    beam_width: int = 10,
    top_tokens: int = 40,
    blank: int = 0,
    n_best: int = 1,
    collapse_repeats: bool = False,
    *,
    language_model: NgramLanguageModel | None = None,
    lm_weight: float = 0.5,
    insertion_bonus: float = 0.0,
    hot_words: Mapping[int, float] | None = None,
) -> list[list[Hypothesis]]:
    """The `n_best` most probable labellings of each clip, best first (fewer where fewer are possible).

    log_probs: [B, T', V] natural log probabilities (log_softmax), torch (any device) or NumPy.
    lengths: [B] time steps that count; None for all T'. What lies beyond is not read.
    beam_width, top_tokens: prefixes kept, classes of a frame looked at (10 and 40 as published).
    collapse_repeats: the published second collapse of equal neighbours, off by default: a gloss signed twice in a row
        can then not come out, which alone costs up to 1.67 % WER on CSL-Daily (`collapse` has the table).
    language_model, lm_weight: shallow fusion: a prefix is ranked by its CTC score plus lm_weight * ln P(prefix).
    insertion_bonus: nats added for each token, hot_words: nats added for each occurrence of a class index.
    -> one list a clip; `Hypothesis.score` is the natural log probability under CTC. A clip of length 0 gives one empty
    hypothesis with score 0. Raises ConfigError for wrong shapes, lengths, settings, NaN and values above 0.
    """
    tensor, sizes = check_input(log_probs, lengths, blank)
    check_positive(MAX_BEAM, beam_width=beam_width, n_best=n_best)
    check_positive(top_tokens=top_tokens)
    if (nodes := tensor.shape[1] * beam_width) > MAX_NODES:
        raise ConfigError(f"beam_width={beam_width} over {tensor.shape[1]} steps keeps {nodes:,} prefixes; lower it")
    if n_best > beam_width:
        raise ConfigError(f"n_best is {n_best} but the beam holds {beam_width}; raise beam_width to {n_best} or more")
    classes = tensor.shape[2]
    bonus = _token_bonus(classes, blank, insertion_bonus, hot_words)
    if language_model is not None and not isinstance(language_model, NgramLanguageModel):
        raise ConfigError(f"language_model is a {type(language_model).__name__}; give an NgramLanguageModel")
    if language_model is not None and language_model.classes != classes:
        raise ConfigError(
            f"the language model knows {language_model.classes} classes but log_probs has {classes}; "
            "build it from the vocabulary of this recognizer"
        )
    lm_weight = check_nats("lm_weight", lm_weight, 0)
    if len(sizes) == 0:
        return []
    lm = language_model.arrays if language_model is not None and lm_weight > 0 else NO_LANGUAGE_MODEL
    keep = beam_width if collapse_repeats else n_best  # the collapse can make two hypotheses equal
    settings = (beam_width, blank, keep, bonus, lm_weight, lm)
    values, tokens, clip, step = select(tensor, sizes, top_tokens, LOG_PROB_LIMIT)
    if clip >= 0:
        raise bad_value(tensor, clip, step)
    beams = search(values, tokens, sizes, classes, *settings)
    return [_hypotheses([part[clip] for part in beams], n_best, collapse_repeats) for clip in range(len(sizes))]


def _hypotheses(beam: Sequence[np.ndarray], n_best: int, collapse_repeats: bool) -> list[Hypothesis]:
    """One clip's arrays, tokens and steps [N, T'], sizes, scores, totals [N], as records."""
    tokens, steps, sizes, scores, totals = beam
    result: list[Hypothesis] = []
    sequences: set[tuple[int, ...]] = set()
    for n, size in enumerate(sizes):
        if size < 0 or len(result) == n_best:
            continue
        sequence, times = tuple(tokens[n, :size].tolist()), tuple(steps[n, :size].tolist())
        if collapse_repeats:
            sequence, times = collapse(sequence, times)
            if sequence in sequences:
                continue
            sequences.add(sequence)
        result.append(Hypothesis(sequence, float(scores[n]), times, float(totals[n])))
    if not result:
        raise ConfigError(IMPOSSIBLE)
    return result


def _token_bonus(classes: int, blank: int, insertion_bonus: float, hot_words: Mapping[int, float] | None) -> np.ndarray:
    """What each token adds to a prefix, float64 [V]; empty where nothing does."""
    insertion_bonus = check_nats("insertion_bonus", insertion_bonus)
    if hot_words is not None and not isinstance(hot_words, Mapping):
        raise ConfigError(f"hot_words is a {type(hot_words).__name__}; give {{class index: nats}}")
    if not insertion_bonus and not hot_words:
        return np.zeros(0)
    bonus = np.full(classes, insertion_bonus)
    for token, nats in (hot_words or {}).items():
        if isinstance(token, bool) or not isinstance(token, (int, np.integer)) or not 0 <= token < classes:
            raise ConfigError(f"hot word {token!r} is no class index; give Vocabulary.encode([gloss])[0]")
        if token == blank:
            raise ConfigError(f"hot word {token} is the blank; only glosses can be hot words")
        bonus[token] += check_nats(f"the bonus of hot word {token}", nats)
    return bonus
