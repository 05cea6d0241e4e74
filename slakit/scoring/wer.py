"""Word error rate as NIST sclite counts it: `score()`, the headline number of every result.

sclite aligns with the costs 4 for a substitution and 3 for a deletion or insertion (SCTK, net_dp.c), so its counts can
exceed the plain edit distance: it prefers three deletions and three insertions (18) to five substitutions (20).
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from slakit.records import Corpus, CorpusError
from slakit.scoring.cleanup import EMPTY, clean_up, has_clean_up, words_of
from slakit.scoring.cleanup import collapse_repeats as collapse

Sentences = Mapping[str, str | Sequence[str]]
Pairs = tuple[tuple[str | None, str | None], ...]

MAX_CELLS = 100_000_000  # of one video's alignment, 10,000 words by 10,000: 100 MB and a minute
NULL = "@"  # no word, for sclite
COUNTS = ("correct", "substitutions", "deletions", "insertions", "words")

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


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


def fold(gloss: str) -> str:
    """Upper-case ASCII letters become lower case, nothing else does: sclite's idea of the same word."""
    return gloss.translate(_LOWER)


def right(reference: str | None, recognised: str | None) -> bool:
    """Whether a pair of an alignment is a gloss recognised rightly."""
    return reference is not None and recognised is not None and fold(reference) == fold(recognised)


def sclite_words(glosses: Sequence[str]) -> list[str]:
    """Glosses as sclite reads them from an STM or CTM file: what follows ";" is a comment, a trailing "*" is dropped.

    No gloss of the known corpora has these characters, nor is any "@" alone, which stands for no word (`NULL`).
    """
    words = []
    for gloss in glosses:
        word = gloss.split(";", 1)[0]
        if len(word) > 1:
            word = word.removesuffix("*")
        if word:
            words.append(word)
    return words


def align_words(reference: Sequence[str], hypothesis: Sequence[str], null: str | None = None) -> Pairs:
    """sclite's alignment: (reference word or None for an insertion, recognised word or None for a deletion), in order.

    Costs 4 / 3 / 3; in a cell the diagonal wins if it is no worse than both others, then a deletion if it is better
    than an insertion, then the insertion. null: a word that stands for none: it costs 0.001 to delete or insert and 1
    to meet itself (SCTK, word.c), which can decide between alignments that cost the same; it is left out of the answer.
    """
    rows, columns = len(reference), len(hypothesis)
    if rows * columns > MAX_CELLS:
        raise CorpusError(
            f"{rows:,} words cannot be aligned with {columns:,}: the table is too large; score sentence by sentence"
        )
    left = [fold(word) for word in reference]
    top = [fold(word) for word in hypothesis]
    # whole numbers, but single precision as in sclite where thousandths come in
    number = np.float32 if null in left or null in top else int
    down = [number(0.001 if word == null else 3) for word in left]
    across = [number(0.001 if word == null else 3) for word in top]
    same, other, both_null = number(0), number(4), number(1)
    above = [number(0)]
    for step in across:
        above.append(above[-1] + step)
    move = ["I" * (columns + 1)]
    for i in range(1, rows + 1):
        row, moves = [above[0] + down[i - 1]], ["D"]
        for j in range(1, columns + 1):
            equal = left[i - 1] == top[j - 1]
            diagonal = above[j - 1] + (other if not equal else both_null if top[j - 1] == null else same)
            deletion, insertion = above[j] + down[i - 1], row[j - 1] + across[j - 1]
            if diagonal <= deletion and diagonal <= insertion:
                row.append(diagonal)
                moves.append("S")
            elif deletion < insertion:
                row.append(deletion)
                moves.append("D")
            else:
                row.append(insertion)
                moves.append("I")
        above = row
        move.append("".join(moves))
    pairs: list[tuple[str | None, str | None]] = []
    i, j = rows, columns
    while i or j:
        step = move[i][j]
        if step == "S":
            i, j = i - 1, j - 1
            pairs.append((reference[i], hypothesis[j]))
        elif step == "D":
            i -= 1
            pairs.append((reference[i], None))
        else:
            j -= 1
            pairs.append((None, hypothesis[j]))
    return tuple(pair for pair in reversed(pairs) if null is None or null not in pair)


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
