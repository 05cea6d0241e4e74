"""Lessons, a guest room: what the notebooks of the course share, so that each shows only what it teaches.

In: the name of a part, an exercise or a word. Out: a drawing, a hint, a verdict on an answer, an explanation.

>>> from slakit.lessons import check, hint, pipeline, word
>>> drawing = pipeline("ctc")  # an SVG with CTC in colour; as text, for those who cannot see it:
>>> print(drawing.text[:60])
From a video to glosses, the shapes for tiny-clip. Now: CTC.
>>> hint("ctc-1", 1)
hint 1 of 2: One of the steps must say that the first KNOW has ended.
>>> check("ctc-1", 3)
not yet: KNOW KNOW would be merged into one KNOW; what must stand between them?
>>> print(word("blank"))
The class of CTC that stands for "nothing new here". ...

In reading order:
    drawing.py     the whole way of a clip, with the part of the day in colour
    glossary.py    words of the field; they stand in notebooks/glossary.ipynb
    exercises.py   hints and verdicts
    first_lessons.py, method_lessons.py, paper_lessons.py    the exercises of 00 to 03, of 04 to 09, of 10 and above

Nothing in slakit imports it.
"""

from slakit.lessons.drawing import TINY, VIT_B16, Drawing, Sizes, pipeline
from slakit.lessons.exercises import Exercise, check, hint, verdict
from slakit.lessons.glossary import word, words

__all__ = [
    "TINY", "VIT_B16", "Drawing", "Exercise", "Sizes", "check", "hint", "pipeline", "verdict", "word", "words",
]  # fmt: skip
