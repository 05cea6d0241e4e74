"""Exercises of the lessons 10 and above, for papers: scoring, ablations, many GPUs, other systems, true maps."""

from __future__ import annotations

from typing import Any

from slakit.lessons.exercises import Exercise, number, words_of
from slakit.scoring import plain_wer, score


def _punished_harder(answer: Any) -> str:
    pair = {"x": "A B C D E F G"}, {"x": " ".join(words_of(answer))}
    ours, plain = score(*pair).wer, plain_wer(*pair)
    return "" if ours > plain else f"both count {plain:.0f} %"


def _collapsed(answer: Any) -> str:
    return "" if abs(number(answer) - 100 / 3) < 0.5 else "of the three true glosses, how many can still be recognised?"


EXERCISES = {
    "scoring-1": Exercise(
        (
            "sclite pays 4 for a substitution and 3 for a deletion or an insertion: two substitutions cost more than "
            "one of each, 8 against 6.",
            "So it gives up substitutions where that lets it keep right glosses: let the hypothesis begin with the end "
            "of the reference.",
            "With k right glosses moved to the front and n glosses in all: n substitutions cost 4 n; keeping the k "
            "costs 6 (n - k). Choose k so that the second is cheaper, although it has more errors: 2 (n - k) > n.",
        ),
        _punished_harder,
    ),
    "scoring-2": Exercise(("After the collapse the answer is A B.", "One of three glosses is missing."), _collapsed),
}
