"""The grammar of MiniSign: which gloss follows which. Word classes follow a bigram table, glosses have favourites."""

from __future__ import annotations

from collections.abc import Mapping

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
_BY_KIND = {kind: [g for g, sign in LEXICON.items() if sign.kind == kind] for kind in SUCCESSORS if kind != "start"}
_RANK = {gloss: rank for rank, gloss in enumerate(LEXICON)}


def favours(gloss: str, successor: str) -> bool:
    """Whether `successor` is one of the glosses that often follow `gloss`."""
    return (_RANK[gloss] * 7 + _RANK[successor] * 3) % 5 == 0


def _choose(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    names = list(weights)
    cumulative = np.cumsum([float(weights[name]) for name in names])
    return names[int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))]


def sample_sentence(rng: np.random.Generator) -> tuple[str, ...]:
    """A sentence of MIN_GLOSSES to MAX_GLOSSES glosses."""
    while True:
        kind, sentence = "start", []
        while len(sentence) <= MAX_GLOSSES:
            successors = SUCCESSORS[kind]
            if len(sentence) < MIN_GLOSSES:
                successors = {name: weight for name, weight in successors.items() if name != "end"}
            kind = _choose(rng, successors)
            if kind == "end":
                return tuple(sentence)
            candidates = {g: FAVOURITE if sentence and favours(sentence[-1], g) else 1.0 for g in _BY_KIND[kind]}
            if sentence:
                candidates.pop(sentence[-1], None)  # a gloss is said twice only on purpose, below
            sentence.append(_choose(rng, candidates))
            if rng.random() < REPEAT:
                sentence.append(sentence[-1])


def sample_sentences(rng: np.random.Generator, counts: dict[str, int]) -> dict[str, list[tuple[str, ...]]]:
    """{split: sentences}: all sentences differ from each other, also between splits."""
    total, distinct = sum(counts.values()), {}
    while len(distinct) < total:
        distinct.setdefault(sample_sentence(rng))
    sentences = iter(distinct)
    return {split: [next(sentences) for _ in range(count)] for split, count in counts.items()}
