"""Exercises of the lessons 00 to 03: a first recognition, signs and data, CTC by hand, what the encoder sees."""

from __future__ import annotations

from itertools import groupby, pairwise, product
from typing import Any

from slakit.lessons.exercises import Exercise, number, one_of, whole_number, words_of
from slakit.minisign.lexicon import LEXICON, differing
from slakit.scoring import score

TABLE = ((0.5, 0.4, 0.1), (0.5, 0.3, 0.2), (0.05, 0.15, 0.8))  # lesson 02's, its last step changed by exercise 3
NAMES = "-AB"


def read(path: str) -> str:
    """CTC's two moves: merge equal neighbours, drop blanks."""
    return " ".join(name for name, _ in groupby(path) if name != "-")


def _spellings(steps: int) -> dict[str, list[str]]:
    """All paths of so many steps over blank, A and B, by what they spell."""
    found: dict[str, list[str]] = {}
    for path in product(NAMES, repeat=steps):
        found.setdefault(read("".join(path)), []).append("".join(path))
    return found


def _probability(path: str) -> float:
    p = 1.0
    for row, name in zip(TABLE, path, strict=True):
        p *= row[NAMES.index(name)]
    return p


def _exceeds_one_hundred(answer: Any) -> str:
    wer = score({"clip": "A B"}, {"clip": " ".join(words_of(answer))}).wer
    return "" if wer > 100 else f"its WER is {wer:.0f} %; errors may also be glosses that nobody signed"


def _trained_at_rank_8(answer: Any) -> str:
    count, at_16 = whole_number(answer), 82944
    if count == at_16:
        return "that is rank 16's; what happens to A and B if the rank is halved?"
    return "" if count == at_16 // 2 else "both A [rank, in] and B [out, rank] are as large as the rank says"


def _water_with_another_mouth(answer: Any) -> str:
    gloss = one_of(answer, LEXICON)
    parts = differing("WATER", gloss)
    if not parts:
        return "that is WATER itself"
    return "" if parts == ("mouth",) else f"WATER and {gloss} differ in {', '.join(parts)}"


def _steps_of(frames: int, also: str):
    def judge(answer: Any) -> str:
        count, right = whole_number(answer), -(-frames // 4)
        if count == frames // 4 != right:
            return f"{4 * count} frames give {count}; what happens to the frames that are left?"
        return "" if count == right else also

    return judge


def _three_glosses_five_steps(answer: Any) -> str:
    glosses = words_of(answer)
    if len(glosses) != 3:
        return f"three glosses are wanted, these are {len(glosses)}"
    needed = 3 + sum(a == b for a, b in pairwise(glosses))
    return "" if needed == 5 else f"these need {needed} steps"


def _padding(answer: Any) -> str:
    lengths = (100, 20, 20, 20)
    right = max(lengths) * len(lengths) / sum(lengths)
    return "" if abs(number(answer) - right) < 0.01 else "every clip is made as long as the longest: count both ways"


def _steps_for_know_know_bad(answer: Any) -> str:
    count, needed = whole_number(answer), 3 + 1
    if count < needed:
        return "KNOW KNOW would be merged into one KNOW; what must stand between them?"
    return "" if count == needed else "it can be done in fewer steps"


def _paths_of_a_b(answer: Any) -> str:
    count, right = whole_number(answer), len(_spellings(4)["A B"])
    if count == len(_spellings(3)["A B"]):
        return "that is the count for three steps"
    return "" if count == right else f"there are {'more' if count < right else 'fewer'}"


def _winner(answer: Any) -> str:
    sums = {text: sum(map(_probability, paths)) for text, paths in _spellings(3).items()}
    text = " ".join("".join(words_of(answer)).replace("(NOTHING)", ""))  # "AB" is "A B": names are single letters
    if text not in sums:
        return f"no path of three steps over blank, A and B spells {text!r}"
    if sums[text] == max(sums.values()):
        return ""
    best = max(map("".join, product(NAMES, repeat=3)), key=_probability)
    return (
        "that is what the best single path spells; sum over all paths"
        if text == read(best)
        else "another one is more probable"
    )


def _tokens(answer: Any) -> str:
    count = whole_number(answer)
    if count == (224 // 16) ** 2:
        return "these are the patches; which token is missing?"
    return (
        "" if count == (224 // 16) ** 2 + 1 else "how many patches of 16 pixels lie side by side, and how many below?"
    )


def _frames_for_twenty_steps(answer: Any) -> str:
    count = whole_number(answer)
    if count == 80:
        return "80 give 20, but fewer do, too: a step that has begun counts"
    return (
        ""
        if -(-count // 4) == 20 and -(-(count - 1) // 4) == 19
        else f"{count} frames give {max(0, -(-count // 4))} steps"
    )


EXERCISES = {
    "first-1": Exercise(
        (
            "WER is (substituted + missing + inserted) / true glosses. Which of the three has no upper limit?",
            "Write more wrong glosses than there are true ones.",
        ),
        _exceeds_one_hundred,
    ),
    "first-2": Exercise(
        (
            "LoRA adds a matrix A of [rank, in] and a matrix B of [out, rank] beside each frozen one.",
            "Both grow in proportion to the rank. At rank 16 they have 82,944 numbers in all.",
        ),
        _trained_at_rank_8,
    ),
    "signs-1": Exercise(
        (
            "Look for rows of the table that are equal to WATER's in everything but the last column.",
            "The sign has the same claw at the cheek, and a closed mouth.",
        ),
        _water_with_another_mouth,
    ),
    "data-1": Exercise(
        ("A step is four frames. Divide.", "What is left at the end gets a step of its own."),
        _steps_of(50, "divide the frames by four, and mind what is left"),
    ),
    "data-2": Exercise(
        (
            "Every gloss needs a step, and two equal neighbours one more between them.",
            "Five is three and two: how many pairs of neighbours do three glosses have?",
        ),
        _three_glosses_five_steps,
    ),
    "data-3": Exercise(
        ("Padded, all four clips have 100 frames.", "Divide the padded frames by the real ones."), _padding
    ),
    "ctc-1": Exercise(
        (
            "One of the steps must say that the first KNOW has ended.",
            "Write a path of letters, a step each: K for KNOW, B for BAD, - for the blank. How short can it be?",
        ),
        _steps_for_know_know_bad,
    ),
    "ctc-2": Exercise(
        (
            "Nine of them begin or end with a blank; or use itertools.product(range(3), repeat=4) as the lesson does.",
            "In the lattice: the first A, the last A, the first B and the last B are four places in order, and between "
            "the last A and the first B there may be blanks. Count the ways to place them.",
        ),
        _paths_of_a_b,
    ),
    "ctc-3": Exercise(
        (
            "The best single path is --B now. But count what A-B, -AB, AAB and ABB weigh together.",
            "Put the new row into `table` and run the listing.",
        ),
        _winner,
    ),
    "encoder-1": Exercise(
        ("224 pixels by patches of 16: how many in a row?", "Rows times columns, and one token that is no patch."),
        _tokens,
    ),
    "encoder-2": Exercise(
        ("The last step needs only its first frame.", "19 steps are full with 76 frames."), _frames_for_twenty_steps
    ),
    "encoder-3": Exercise(
        ("Every second frame of 62 are 31.", "Four frames a step, and what is left counts."),
        _steps_of(31, "first count the frames that are left, then the steps"),
    ),
}
