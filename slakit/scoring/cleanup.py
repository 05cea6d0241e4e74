"""Clean-up of recognised glosses before scoring, as the official evaluation script does it (preprocess.sh).

The script rewrites the hypotheses only, never the references, and the published repositories run it for every corpus.
It works on a CTM file with one gloss a line, so only the rules for a single gloss ever take effect; the script's rules
for several words (joining spelled letters, WIE AUSSEHEN, repeated words) never fire there and are not applied here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from slakit.records import ConfigError, Corpus

EMPTY = "[EMPTY]"  # stands for a hypothesis without any gloss in the official pipeline
BLANKS = re.compile(r"[ \t\n\r\f\v]+")

# The corpora whose published numbers went through preprocess.sh; the others are scored as they are.
OFFICIAL = frozenset({"phoenix2014", "phoenix2014-si5", "phoenix2014-t", "csl-daily", "csl"})
AS_THEY_ARE = frozenset(
    {"minisign", "isharah-500", "isharah-1000", "isharah-2000", "ce-csl", "gsl-si", "gsl-sd", "folder"}
)

# What the published second collapse of equal neighbours costs a recogniser without any error, WER in percent, dev and
# test: references where a gloss is signed twice in a row cannot be met.
REPEATS_FLOOR = {"phoenix2014": (0.09, 0.15), "phoenix2014-t": (0.03, 0.12), "csl-daily": (1.54, 1.67)}

_DELETED_FIRST = ("loc-", "cl-", "qu-", "poss-", "lh-")
_REPLACED = (("S0NNE", "SONNE"), ("HABEN2", "HABEN"), ("__EMOTION__", ""), ("__PU__", ""), ("__LEFTHAND__", ""))
_DROPPED = ("__LEFTHAND__", "__EPENTHESIS__", "__EMOTION__")
_RAUM = re.compile("([A-Z][A-Z])RAUM")


def words_of(sentence: str | Sequence[str]) -> list[str]:
    """The glosses of a sentence: a string is split at runs of blanks, tabs and line ends; a list is taken as it is."""
    if isinstance(sentence, str):
        return [word for word in BLANKS.split(sentence) if word]
    if not isinstance(sentence, Sequence):
        raise ConfigError(f'{sentence!r} is no sentence; give text, a list of glosses, or "" for nothing')
    for word in sentence:
        if not isinstance(word, str) or not word or BLANKS.search(word):
            raise ConfigError(f"{word!r} is no gloss; a gloss is text without blanks")
    return list(sentence)


def clean_gloss(gloss: str) -> str:
    """One gloss after preprocess.sh; "" where the script drops it."""
    for part in _DELETED_FIRST:
        gloss = gloss.replace(part, "")
    for part, new in _REPLACED:
        gloss = gloss.replace(part, new)
    if gloss.endswith("ZEIGEN"):
        gloss += "-BILDSCHIRM"
    gloss = _RAUM.sub(r"\1", gloss)
    gloss = gloss.replace("-PLUSPLUS", "")
    return "" if any(part in gloss for part in _DROPPED) else gloss


def clean_up(glosses: Sequence[str]) -> list[str]:
    """A hypothesis after preprocess.sh, without the glosses that it drops."""
    return [cleaned for gloss in glosses if (cleaned := clean_gloss(gloss))]


def collapse_repeats(glosses: Sequence[str]) -> list[str]:
    """One gloss for each run of equal neighbours, as the published repositories do after decoding.

    It has a price: `REPEATS_FLOOR`; for references of your own it is score(them, them, collapse_repeats=True).wer.
    """
    return [gloss for gloss, _ in groupby(glosses)]


def has_clean_up(corpus: str | Corpus | None) -> bool:
    """Whether the corpus' published numbers are made with preprocess.sh; ConfigError for an unknown name."""
    if corpus is None:
        return False
    name = (corpus if isinstance(corpus, str) else corpus.name).lower()
    if name not in OFFICIAL | AS_THEY_ARE:
        known = ", ".join(sorted(OFFICIAL | AS_THEY_ARE))
        raise ConfigError(f"no clean-up rules are known for the corpus {name!r}; known: {known}; None: no clean-up")
    return name in OFFICIAL
