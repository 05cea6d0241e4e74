"""Glosses against references: word error rate as sclite counts it, how sure it is, and where the errors are.

In: references and hypotheses, each {video id: "gloss gloss ..."}, and the corpus, whose name chooses the clean-up. Out:
a `Score` (.wer in percent, .correct, .substitutions, .deletions, .insertions, .words, .per_video with the alignments);
from it intervals, tests, tables and aligned sentences.

>>> from slakit.scoring import aligned_sentences, bootstrap_interval, score
>>> result = score({"a": "MORGEN REGEN", "b": "SONNE"}, {"a": "MORGEN WIND REGEN", "b": "SONNE"})
>>> round(result.wer, 1), result.insertions, bootstrap_interval(result).low
(33.3, 1, 0.0)
>>> print(aligned_sentences(result, n=1))
a  WER 50.0 % (0 S, 0 D, 1 I, 2 glosses)
reference  MORGEN ∗∗∗  REGEN
recognised MORGEN WIND REGEN
                  I

In reading order:
  cleanup.py     the official rules (preprocess.sh)
  alignment.py   sclite's alignment of two sentences
  wer.py         score: its counts
  tables.py      variants of the WER, per signer and length, confusions; CSV
  statistics.py  bootstrap intervals, paired tests
  render.py      aligned sentences in colour
  escapes.py     glosses and names in HTML, LaTeX, Markdown, CSV and figures
  files.py       STM and CTM, and NIST's own program as a check

It imports slakit.records alone: it knows words and numbers, nothing that makes them.
"""

from slakit.scoring.alignment import align_words
from slakit.scoring.cleanup import REPEATS_FLOOR, clean_gloss, clean_up
from slakit.scoring.files import Stm, read_ctm, read_stm, sclite_command, sclite_counts, write_ctm, write_stm
from slakit.scoring.render import AlignedSentences, aligned_sentences
from slakit.scoring.statistics import (
    Interval,
    PairedTest,
    bootstrap_interval,
    bootstrap_mean,
    matched_pairs,
    paired_bootstrap,
    paired_errors,
)
from slakit.scoring.tables import (
    confusion_matrix,
    confusions,
    csv_text,
    never_recognised,
    per_length,
    per_signer,
    plain_wer,
    variants,
)
from slakit.scoring.wer import Counts, Score, VideoScore, score

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
    "bootstrap_mean",
    "clean_gloss",
    "clean_up",
    "confusion_matrix",
    "confusions",
    "csv_text",
    "matched_pairs",
    "never_recognised",
    "paired_bootstrap",
    "paired_errors",
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
