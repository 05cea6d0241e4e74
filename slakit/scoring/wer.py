"""Word error rate as NIST sclite counts it: `score()`, the headline number of every result.

The alignment and its costs are in alignment.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from slakit.records import Corpus, CorpusError
from slakit.scoring.alignment import Pairs, align_words, fold
from slakit.scoring.cleanup import EMPTY, clean_up, has_clean_up, words_of
from slakit.scoring.cleanup import collapse_repeats as collapse

Sentences = Mapping[str, str | Sequence[str]]

NULL = "@"  # no word, for sclite
COUNTS = ("correct", "substitutions", "deletions", "insertions", "words")


@dataclass(frozen=True)
class Counts:
    """Correct, substituted, deleted, inserted glosses and the number of reference glosses (`words`)."""

    correct: int
    substitutions: int
    deletions: int
    insertions: int
    words: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def wer(self) -> float:
        """Word error rate in percent, not rounded: 100 (S + D + I) / words. CorpusError where there are no words."""
        if self.words == 0:
            raise CorpusError("there is no reference gloss, so there is no word error rate; check the references")
        return 100.0 * self.errors / self.words

    @property
    def official_wer(self) -> float:
        """The number that sclite prints and papers quote: percent with one decimal."""
        return float(f"{self.wer:.1f}")

    @classmethod
    def of(cls, alignment: Pairs, **further: Any) -> Self:
        """Count an alignment of (reference gloss or None, recognised gloss or None); further: a subclass's fields."""
        correct = sum(right(*pair) for pair in alignment)
        deletions = sum(recognised is None for _, recognised in alignment)
        insertions = sum(reference is None for reference, _ in alignment)
        words = len(alignment) - insertions
        return cls(correct, words - correct - deletions, deletions, insertions, words, **further)

    @classmethod
    def total(cls, parts: Iterable[Counts], **further: Any) -> Self:
        """The sum over videos; further: a subclass's fields."""
        parts = list(parts)
        return cls(*(sum(getattr(part, name) for part in parts) for name in COUNTS), **further)


@dataclass(frozen=True)
class VideoScore(Counts):
    """One video: its counts, and `pairs`, the alignment as (reference gloss or None, recognised gloss or None)."""

    id: str = ""
    pairs: Pairs = ()


@dataclass(frozen=True)
class Score(Counts):
    """All videos: the counts, `wer` in percent (unrounded), `official_wer` (one decimal), `per_video` by id.

    cleaned: whether preprocess.sh's rules were applied. unknown: recognised glosses that the corpus' vocabulary lacks,
    with their number (empty where no vocabulary was given); they count as any other wrong word. unreadable: clips that
    could not be read, with the reason; they count as nothing recognised.
    """

    per_video: dict[str, VideoScore] = field(default_factory=dict, repr=False)
    cleaned: bool = False
    unknown: dict[str, int] = field(default_factory=dict, repr=False)
    unreadable: dict[str, str] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        unread = f"; {len(self.unreadable)} of them could not be read" if self.unreadable else ""
        return (
            f"WER {self.wer:.2f} % ({self.official_wer} as sclite prints it): {self.substitutions} substituted, "
            f"{self.deletions} deleted, {self.insertions} inserted, {self.correct} correct of {self.words} glosses "
            f"in {len(self.per_video)} videos{unread}"
        )


def right(reference: str | None, recognised: str | None) -> bool:
    """Whether a pair of an alignment is a gloss recognised rightly."""
    return reference is not None and recognised is not None and fold(reference) == fold(recognised)


def sclite_words(glosses: Sequence[str]) -> list[str]:
    """Glosses as sclite reads them from an STM or CTM file: what follows ";" is a comment, a trailing "*" is dropped.

    A gloss that begins with ";" is a word without letters, here ";": it equals every other such word. No gloss of the
    known corpora has these characters, nor is any "@" alone, which stands for no word (`NULL`).
    """
    words = []
    for gloss in glosses:
        word = gloss.split(";", 1)[0]
        if len(word) > 1:
            word = word.removesuffix("*")
        words.append(word or ";")
    return words


def check_ids(references: Sentences, hypotheses: Sentences) -> None:
    """CorpusError unless both name the same videos and there is at least one."""
    for name, sentences in (("references", references), ("hypotheses", hypotheses)):
        if not isinstance(sentences, Mapping):
            raise CorpusError(f"{name} is a {type(sentences).__name__}; give a dict of video id to glosses")
    missing = [i for i in references if i not in hypotheses]
    extra = [i for i in hypotheses if i not in references]
    if missing or extra:
        what = [f"{len(missing)} videos have no hypothesis ({', '.join(map(str, missing[:3]))})"] if missing else []
        what += [f"{len(extra)} hypotheses have no reference ({', '.join(map(str, extra[:3]))})"] if extra else []
        raise CorpusError(f'{" and ".join(what)}; give both the same ids, and "" where nothing was recognised')
    if not references:
        raise CorpusError("there are no videos to score; check the split and the ids")


def prepare(
    references: Sentences,
    hypotheses: Sentences,
    corpus: str | Corpus | None,
    clean_references: bool,
    collapse_repeats: bool,
) -> dict[str, tuple[list[str], list[str]]]:
    """id -> (reference words, recognised words) as they are aligned; see `score` for the steps."""
    cleaned = has_clean_up(corpus)
    check_ids(references, hypotheses)
    result = {}
    for video, sentence in references.items():
        reference, hypothesis = words_of(sentence), words_of(hypotheses[video])
        if collapse_repeats:
            hypothesis = collapse(hypothesis)
        if cleaned and clean_references:
            reference = clean_up(reference)
        if cleaned:
            hypothesis = clean_up(hypothesis) or [EMPTY]
        result[video] = (sclite_words(reference), sclite_words(hypothesis))
    return result


def score(
    references: Sentences,
    hypotheses: Sentences,
    corpus: str | Corpus | None = None,
    *,
    clean_references: bool = False,
    collapse_repeats: bool = False,
) -> Score:
    """Score recognised glosses: correct, substitutions, deletions, insertions for each video exactly as sclite counts.

    references, hypotheses: {video id: "gloss gloss ..."} (or lists of glosses); both must have the same ids, "" where
    nothing was recognised. corpus: a Corpus or its name chooses the clean-up: preprocess.sh's rules on the hypotheses
    for the Phoenix and CSL corpora (a hypothesis without glosses then becomes the one word [EMPTY]), none for the
    others or None. clean_references: the same rules on the references too (not comparable with published numbers);
    collapse_repeats: the published second collapse of equal neighbours in a hypothesis, before the clean-up.
    Words are split at ASCII white space and compared with ASCII upper case folded; no Unicode normalisation.
    -> Score; `wer` is in percent and not rounded. An empty reference is allowed: what is recognised there is inserted.
    Raises CorpusError where ids differ or no reference holds a gloss, ConfigError for an unknown corpus.
    """
    words = prepare(references, hypotheses, corpus, clean_references, collapse_repeats)
    alignments = {video: align_words(*pair, NULL) for video, pair in words.items()}
    per_video = {video: VideoScore.of(pairs, id=video, pairs=pairs) for video, pairs in alignments.items()}
    unknown: Counter[str] = Counter()
    if isinstance(corpus, Corpus):
        glosses = (gloss for sentence in hypotheses.values() for gloss in words_of(sentence))
        unknown = Counter(gloss for gloss in glosses if gloss not in corpus.glosses)
    result = Score.total(per_video.values(), per_video=per_video, cleaned=has_clean_up(corpus), unknown=dict(unknown))
    _ = result.wer  # no reference glosses at all: say so now
    return result
