"""CTC decoding: greedy, prefix beam search with language model, forced alignment and spans."""

from slakit.decoding.alignment import (
    GlossSpan,
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

__all__ = [
    "GlossSpan",
    "Hypothesis",
    "NgramLanguageModel",
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
