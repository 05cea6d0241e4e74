"""Log probabilities -> glosses and times: arrays in, arrays and small records out.

In: natural log probabilities [B, T', V] of a batch (torch or NumPy; class 0 is the blank) and the lengths [B] in time
steps, None for all of T'. Out: for each clip a list of `Hypothesis`, best first (.tokens, .score, .timesteps), and by
forced alignment `GlossSpan`s (.gloss, .start, .end in frames, .start_seconds, .end_seconds, .confidence).

>>> import numpy as np
>>> from slakit.decoding import align, beam_search, greedy_search
>>> log_probs = np.log([[[0.5, 0.4, 0.1], [0.5, 0.3, 0.2], [0.45, 0.15, 0.4]]])  # one clip, three steps; blank, A, B
>>> greedy_search(log_probs)[0][0].tokens  # the best path says nothing
()
>>> best = beam_search(log_probs)[0][0]  # the best labelling is A: several paths spell it, together 0.29
>>> best.tokens, round(float(np.exp(best.score)), 2), best.timesteps
((1,), 0.29, (0,))
>>> [(span.token, span.start, span.end) for span in align(log_probs[0], None, [1, 2])]  # where A B would stand
[(1, 0, 1), (2, 2, 3)]

In reading order:
  hypothesis.py      what a decoder returns, and the checks of its input
  search.py          greedy_search, beam_search: ctcdecode's answers
  beam.py, select.py the compiled search, and its choice of tokens
  stream.py          the search that goes on while steps arrive
  language_model.py  n-grams for shallow fusion
  alignment.py       Viterbi alignment, spans, how well they agree with true ones

It imports slakit.records alone: no model, no clip, no file of a corpus.
"""

from slakit.decoding.alignment import (
    GlossSpan,
    SpanAgreement,
    TokenSpan,
    align,
    frame_spans,
    hypothesis_spans,
    scaled_likelihoods,
    span_agreement,
)
from slakit.decoding.hypothesis import Hypothesis, collapse
from slakit.decoding.language_model import NgramLanguageModel
from slakit.decoding.search import beam_search, greedy_search
from slakit.decoding.stream import BeamStream

__all__ = [
    "BeamStream",
    "GlossSpan",
    "Hypothesis",
    "NgramLanguageModel",
    "SpanAgreement",
    "TokenSpan",
    "align",
    "beam_search",
    "collapse",
    "frame_spans",
    "greedy_search",
    "hypothesis_spans",
    "scaled_likelihoods",
    "span_agreement",
]
