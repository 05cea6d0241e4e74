"""Scoring: clean-up, word error rate as sclite counts it, intervals, tests, tables, aligned sentences, STM and CTM."""

from slakit.scoring.cleanup import REPEATS_FLOOR, clean_gloss, clean_up
from slakit.scoring.files import Stm, read_ctm, read_stm, write_ctm, write_stm
from slakit.scoring.render import AlignedSentences, aligned_sentences
from slakit.scoring.sclite import sclite_command, sclite_counts
from slakit.scoring.statistics import Interval, PairedTest, bootstrap_interval, matched_pairs, paired_bootstrap
from slakit.scoring.tables import (
    confusion_matrix,
    confusions,
    never_recognised,
    per_length,
    per_signer,
    plain_wer,
    variants,
)
from slakit.scoring.wer import Counts, Score, VideoScore, align_words, score

__all__ = [
    "REPEATS_FLOOR",
    "AlignedSentences",
    "Counts",
    "Interval",
    "PairedTest",
    "Score",
    "Stm",
    "VideoScore",
    "align_words",
    "aligned_sentences",
    "bootstrap_interval",
    "clean_gloss",
    "clean_up",
    "confusion_matrix",
    "confusions",
    "matched_pairs",
    "never_recognised",
    "paired_bootstrap",
    "per_length",
    "per_signer",
    "plain_wer",
    "read_ctm",
    "read_stm",
    "sclite_command",
    "sclite_counts",
    "score",
    "variants",
    "write_ctm",
    "write_stm",
]
