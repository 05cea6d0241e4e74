"""The grammar of MiniSign: which gloss follows which, and which split a sentence belongs to. Word classes follow a
bigram table, glosses have favourites."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256

import numpy as np

from slakit.minisign.lexicon import LEXICON

MIN_GLOSSES, MAX_GLOSSES = 3, 7
REPEAT = 0.05  # probability that a gloss is signed twice in a row
FAVOURITE = 2.5  # weight of a favourite successor against any other

# word class -> {next word class: weight}; "end" ends the sentence
SUCCESSORS = {
    "start": {"time": 5, "person": 4, "number": 1, "thing": 1},
    "time": {"person": 5, "thing": 2, "number": 2},
    "person": {"verb": 7, "quality": 2, "number": 2, "thing": 1, "person": 1},
    "number": {"thing": 5, "person": 2, "time": 1},
    "thing": {"verb": 6, "quality": 3, "end": 4},
    "verb": {"thing": 2, "person": 1, "number": 1, "verb": 1, "quality": 1, "end": 6},
    "quality": {"verb": 2, "person": 1, "time": 1, "end": 6},
}
_RANK = {gloss: rank for rank, gloss in enumerate(LEXICON)}


def favours(gloss: str, successor: str) -> bool:
    """Whether `successor` is one of the glosses that often follow `gloss`."""
    return (_RANK[gloss] * 7 + _RANK[successor] * 3) % 5 == 0


def _choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    cumulative = np.cumsum([float(weights[name]) for name in names])
    return names[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]


def sample_sentence(rng: np.random.Generator, words: Collection[str] = LEXICON) -> tuple[str, ...]:
    """A sentence of MIN_GLOSSES to MAX_GLOSSES of these glosses; of a word class there are none of them or several."""
    by_kind: dict[str, list[str]] = {}
    for gloss in words:
        by_kind.setdefault(LEXICON[gloss].kind, []).append(gloss)
    while True:
        kind, sentence = "start", []
        while len(sentence) <= MAX_GLOSSES:
            possible = by_kind if len(sentence) < MIN_GLOSSES else {*by_kind, "end"}
            successors = {name: weight for name, weight in SUCCESSORS[kind].items() if name in possible}
            kind = _choose(rng, successors)
            if kind == "end":
                return tuple(sentence)
            candidates = {g: FAVOURITE if sentence and favours(sentence[-1], g) else 1.0 for g in by_kind[kind]}
            if sentence:
                candidates.pop(sentence[-1], None)  # a gloss is said twice only on purpose, below
            sentence.append(_choose(rng, candidates))
            if rng.random() < REPEAT:
                sentence.append(sentence[-1])


def split_of(sentence: Sequence[str]) -> str:
    """The split that a sentence belongs to, in every corpus of any size: six tenths of all are train's, two tenths
    dev's and two test's, by the SHA-256 of its words."""
    tenth = int.from_bytes(sha256(" ".join(sentence).encode()).digest()[:8]) % 10
    return "train" if tenth < 6 else "dev" if tenth < 8 else "test"


def sample_sentences(
    rng: np.random.Generator, counts: dict[str, int], words: Collection[str] = LEXICON
) -> dict[str, list[tuple[str, ...]]]:
    """{split: sentences}, all different; a smaller count gives the first ones of a larger, whatever the others are."""
    found: dict[str, dict[tuple[str, ...], None]] = {split: {} for split in counts}
    while any(len(found[split]) < count for split, count in counts.items()):
        sentence = sample_sentence(rng, words)
        split = split_of(sentence)
        if len(found.get(split, ())) < counts.get(split, 0):
            found[split].setdefault(sentence)
    return {split: list(sentences) for split, sentences in found.items()}
