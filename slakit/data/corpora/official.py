"""Official sizes of the corpora: clips of each split and classes (blank included, glosses of all splits).

Counted in the annotation files (Phoenix, CSL-Daily, CSL) or published (Isharah: paper, then challenge files where they
differ). Phoenix without its broken clip. None: not published.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Accepted numbers of clips for train, dev and test, and of classes."""

    train: tuple[int, ...]
    dev: tuple[int, ...]
    test: tuple[int, ...]
    classes: int | None = None


OFFICIAL = {
    "phoenix2014": Size((5671,), (540,), (629,), 1296),
    "phoenix2014-si5": Size((4375,), (111,), (180,)),
    "phoenix2014-t": Size((7096,), (519,), (642,), 1116),
    "csl-daily": Size((18401,), (1077,), (1176,), 2001),
    "csl": Size((20000,), (5000,), (0,), 180),
    "isharah-500": Size((5000,), (500, 450), (2000,), 389),
    "isharah-1000": Size((10000,), (1000, 949), (4000,)),
    "isharah-2000": Size((20000, 19500), (2000, 1950), (8000, 7800)),
}
