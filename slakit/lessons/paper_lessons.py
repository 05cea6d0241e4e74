"""Exercises of the lessons 10 and above, for papers: scoring, ablations, many GPUs, other systems, true maps."""

from __future__ import annotations

import math
from statistics import fmean, variance
from typing import Any

import numpy as np

from slakit.config import nearest
from slakit.lessons.exercises import Exercise, number, one_of, whole_number, words_of
from slakit.machine import shipped
from slakit.records import read_text
from slakit.scoring import plain_wer, score


def _punished_harder(answer: Any) -> str:
    pair = {"x": "A B C D E F G"}, {"x": " ".join(words_of(answer))}
    ours, plain = score(*pair).wer, plain_wer(*pair)
    return "" if ours > plain else f"both count {plain:.0f} %"


def _collapsed(answer: Any) -> str:
    wer = number(answer)
    if abs(100 * wer - 100 / 3) < 1:
        return "that is a share; a WER is given in per cent"
    return "" if abs(wer - 100 / 3) < 0.5 else "of the three true glosses, how many can still be recognised?"


def _printed_twice(answer: Any) -> str:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ValueError(f'a width and blocks are wanted, such as (64, "2-6"), not {answer!r}')
    note = " ".join(read_text(shipped("specs/clip_sla_table4.yaml")).split())
    return "" if f"width {answer[0]} in layers {answer[1]} twice" in note else "the spec's note says which, in words"


def _clearly_apart(answer: Any) -> str:
    if not isinstance(answer, bool | np.bool_):
        raise ValueError(f"True or False is wanted, not {answer!r}")
    ones, others = (16.0, 17.5, 16.9), (15.8, 16.1, 17.0)
    difference = abs(fmean(ones) - fmean(others))
    apart = difference > 2 * math.sqrt((variance(ones) + variance(others)) / 3)
    return "" if answer == apart else f"the means are {difference:.1f} apart; what is twice the standard error?"


def _lora_of_rank_1(answer: Any) -> str:
    a_block = 4 * (96 + 96) + 2 * (96 + 384)
    right, given = 3 * a_block, whole_number(answer)
    return "" if given == right else "that is one block" if given == a_block else "count r (m + n) for all six matrices"


def _shift_off(answer: Any) -> str:
    if not isinstance(answer, dict) or len(answer) != 1:
        raise ValueError(f'one option and its value are wanted, such as {{"rank": 4}}, not {answer!r}')
    ((name, value),) = answer.items()
    if name != "temporal_shift":
        return f"sla-lora has no such switch {name!r}{nearest(name, ['temporal_shift'])}"
    return "" if value is False else "it is the right one, and still on"


def _steps_on_four(answer: Any) -> str:
    batches = math.ceil(math.ceil(5671 / 2) / 4)  # of each process
    return "" if whole_number(answer) == math.ceil(batches / 2) else "batches first, then processes, then accumulation"


def _writing(answer: Any) -> str:
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise ValueError(f"a share in per cent and minutes are wanted, such as (9.9, 99), not {answer!r}")
    share, minutes = (number(value) for value in answer)
    if abs(share - 100 * 10 / 310) > 0.25:  # 3 is right, too
        return "ten seconds of writing come after five minutes of training"
    return "" if 5 <= minutes <= 6 else "what was trained since the last state is lost, the writing included"


def _reach(answer: Any) -> str:
    published, asked = (sum(max(n, 4) + 3 for n in neighbours) for neighbours in ((1, 3, 5), (1, 5, 7)))
    count = whole_number(answer)
    if count == published:
        return "that is with 1, 3 and 5"
    return "" if count == asked else "a stage: the farther of 4 and its correlation, and 3"


def _hand_found(answer: Any) -> str:
    said = one_of(answer, ("more", "less", "equally"))
    return "" if said == "less" else "compare the printed per cent of section 4 at tau = 2 and at tau = 6"


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
    "ablations-1": Exercise(
        (
            "Look into papermill_runs/specs/clip_sla_table4.yaml, or load_spec(specs['clip_sla_table4']).note.",
            "Its first sentence says what is printed twice: write the width, and the layers in quotation marks.",
        ),
        _printed_twice,
    ),
    "ablations-2": Exercise(
        ("The standard error of a mean is the standard deviation over the root of three.", "Add the squares of both."),
        _clearly_apart,
    ),
    "run-1": Exercise(
        ("With rank 1 a matrix of m x n numbers adds m + n.", "Four of 96 x 96, two of 96 x 384, in three blocks."),
        _lora_of_rank_1,
    ),
    "run-2": Exercise(("The message names the option that was meant.", "Its value is True or False."), _shift_off),
    "gpus-1": Exercise(
        (
            "2,836 batches of two, the last one shorter.",
            "Each process takes a quarter of them, rounded up.",
        ),
        _steps_on_four,
    ),
    "gpus-2": Exercise(
        ("300 seconds of training, then 10 of writing.", "It can die just before the end of a write."), _writing
    ),
    "systems-1": Exercise(
        ("Stage by stage: max(1, 4) + 3 comes first.", "Three such numbers are added up."),
        _reach,
    ),
    "systems-2": Exercise(
        ("How far does a hand go in two frames, how far in six?", "Set tau = 6 and run section 4: what does it print?"),
        _hand_found,
    ),
}
