"""Exercises of the lessons 00 to 03: a first recognition, signs and data, CTC by hand, what the encoder sees."""

from __future__ import annotations

from typing import Any

from slakit.lessons.exercises import Exercise, whole_number


def _steps_for_know_know_bad(answer: Any) -> str:
    count, needed = whole_number(answer), 3 + 1
    if count < needed:
        return "KNOW KNOW would be merged into one KNOW; what must stand between them?"
    return "" if count == needed else "it can be done in fewer steps"


EXERCISES = {
    "ctc-1": Exercise(
        (
            "One of the steps must say that the first KNOW has ended.",
            "Write a path of letters, a step each: K for KNOW, B for BAD, - for the blank. How short can it be?",
        ),
        _steps_for_know_know_bad,
    ),
}
