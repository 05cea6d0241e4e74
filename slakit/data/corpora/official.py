"""Official sizes of the corpora: clips of each split and classes (blank included, glosses of all splits).

Counted in the annotation files (Phoenix, CSL-Daily, CSL, CE-CSL, GSL) or published (Isharah: paper, then challenge
files where they differ). Phoenix without its broken clip. None: not published.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Accepted numbers of clips for train, dev and test, of classes (both forms of CE-CSL's), frames of each split."""

    train: tuple[int, ...]
    dev: tuple[int, ...]
    test: tuple[int, ...]
    classes: tuple[int, ...] = ()
    frames: tuple[int | None, int | None, int | None] = (None, None, None)


OFFICIAL = {
    "phoenix2014": Size((5671,), (540,), (629,), (1296,), (798_990, 75_186, 89_472)),
    "phoenix2014-si5": Size((4375,), (111,), (180,)),
    "phoenix2014-t": Size((7096,), (519,), (642,), (1116,), (827_354, 55_775, 64_627)),
    "csl-daily": Size((18401,), (1077,), (1176,), (2001,), (None, 131_931, 150_248)),
    "csl": Size((20000,), (5000,), (0,), (180,), (4_621_010, 1_194_367, None)),
    "isharah-500": Size((5000,), (500, 450), (2000,), (389,)),
    "isharah-1000": Size((10000,), (1000, 949), (4000,)),
    "isharah-2000": Size((20000, 19500), (2000, 1950), (8000, 7800)),
    "ce-csl": Size((4973,), (515,), (500,), (3516, 3863)),
    "gsl-si": Size((8821,), (588,), (881,), (311,)),
    "gsl-sd": Size((8189,), (1063,), (1043,), (311,)),
}
