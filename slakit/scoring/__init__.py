"""Scoring: clean-up, word error rate as sclite counts it, intervals, tests, tables, aligned sentences, STM and CTM."""

from slakit.scoring.cleanup import clean_gloss, clean_up
from slakit.scoring.wer import Counts, Score, VideoScore, align_words, score

__all__ = ["Counts", "Score", "VideoScore", "align_words", "clean_gloss", "clean_up", "score"]
