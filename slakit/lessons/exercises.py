"""Exercises that can be solved where they stand: hints, one after the other, and a verdict that helps.

An exercise is its hints and a judge, which takes the answer and returns "" where it is right, otherwise what is wrong
with it, in a sentence that begins with a small letter. Judges compute what is right, or compare with a salted hash; a
lesson's cell shows no answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from slakit.config import nearest
from slakit.records import ConfigError


@dataclass(frozen=True)
class Exercise:
    """hints: from a nudge to the last step but one. judge: see above; it may raise ValueError with such a sentence."""

    hints: tuple[str, ...]
    judge: Callable[[Any], str]


_shown: dict[str, int] = {}


def exercises() -> dict[str, Exercise]:
    """All of them by name, "LESSON-NUMBER"."""
    from slakit.lessons import first_lessons, method_lessons, paper_lessons

    return first_lessons.EXERCISES | method_lessons.EXERCISES | paper_lessons.EXERCISES


def find(name: str) -> Exercise:
    """The exercise of that name; ConfigError names those that there are."""
    known = exercises()
    if name not in known:
        raise ConfigError(f"there is no exercise {name!r}{nearest(str(name), known)}; there are {', '.join(known)}")
    return known[name]


def hint(name: str, number: int | None = None) -> None:
    """Print a hint: the next one at every call, or the one of that number, from 1."""
    hints = find(name).hints
    if number is not None and not 1 <= number <= len(hints):
        raise ConfigError(f"{name} has the hints 1 to {len(hints)}, not {number!r}")
    index = number or min(_shown.get(name, 0) + 1, len(hints))
    _shown[name] = index
    print(f"hint {index} of {len(hints)}: {hints[index - 1]}")


def verdict(name: str, answer: Any) -> tuple[bool | None, str]:
    """(whether the answer is right, a sentence); (None, "no answer yet") where it is ..., None or empty."""
    exercise = find(name)
    if answer is None or answer is ... or (isinstance(answer, str | list | tuple | dict | set) and not answer):
        return None, "no answer yet"
    try:
        problem = exercise.judge(answer)
    except ValueError as error:
        problem = str(error)
    return (False, f"not yet: {problem}") if problem else (True, "right")


def check(name: str, answer: Any, *rest: Any) -> None:
    """Print the verdict on an answer. rest: what a number written with a comma, or names without a list, leave over."""
    find(name)
    several = "not yet: one answer is wanted, a number without commas (1234, not 1,234), names in one text or list"
    print(several if rest else verdict(name, answer)[1])


def number(answer: Any) -> float:
    """The answer as a number; ValueError for what is none."""
    try:
        return float(answer)
    except (TypeError, ValueError):
        raise ValueError(f"a number is wanted, not {answer!r}") from None


def whole_number(answer: Any) -> int:
    """The answer as a whole number; ValueError for what is none."""
    if not number(answer).is_integer():
        raise ValueError(f"a whole number is wanted, not {answer!r}")
    return int(number(answer))


def one_of(answer: Any, names: Iterable[str]) -> str:
    """The name that is meant, whether in capitals or not; ValueError with the nearest one where there is none."""
    known = {name.lower(): name for name in names}
    text = str(answer).strip().lower()
    if text not in known:
        raise ValueError(f"there is no {answer!r} here{nearest(text, known.values())}")
    return known[text]


def words_of(answer: Any) -> list[str]:
    """The glosses of an answer, a list or one text with blanks, in capitals; ValueError for what has none."""
    if not isinstance(answer, str | list | tuple):
        raise ValueError(f"glosses are wanted, in a text or a list, not {answer!r}")
    return [str(gloss).upper() for gloss in (answer.split() if isinstance(answer, str) else answer)]


def hashed(answer: Any, salt: str) -> str:
    """What stands in a judge in place of an answer that cannot be computed."""
    return hashlib.sha256(f"{salt}: {str(answer).strip().lower()}".encode()).hexdigest()[:16]
