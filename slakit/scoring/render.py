"""Aligned sentences in colour, as in CLIP-SLA's table 6: HTML in notebooks, ANSI colours in a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from slakit.records import ConfigError, visible
from slakit.scoring.escapes import as_html
from slakit.scoring.wer import Score, VideoScore, right

# kind: (letter, ANSI colour, text and background in HTML); the letter says it without colours too
_LOOK = {
    "correct": ("", "32", "#14532d", "#dcfce7"),
    "substitution": ("S", "33", "#713f12", "#fef08a"),
    "deletion": ("D", "31", "#7f1d1d", "#fecaca"),
    "insertion": ("I", "36", "#1e3a8a", "#bfdbfe"),
}
_GAP = "∗∗∗"


def _kind(reference: str | None, recognised: str | None) -> str:
    if reference is None:
        return "insertion"
    if recognised is None:
        return "deletion"
    return "correct" if right(reference, recognised) else "substitution"


def _width(text: str) -> int:
    """Columns in a terminal: East Asian wide characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
        if unicodedata.category(c) not in ("Cf", "Mn", "Me")
    )


class AlignedSentences:
    """Videos with their alignments: shows itself as HTML in a notebook, `print` gives text.

    `text(colour)` and `html()` give the two forms.
    """

    def __init__(self, videos: Sequence[VideoScore]):
        self.videos = tuple(videos)

    def text(self, colour: bool = True) -> str:
        """Three lines a video: reference, recognised, and S, D or I below each error."""
        blocks = []
        for video in self.videos:
            rows: list[list[str]] = [[], [], []]
            for reference, recognised in video.pairs:
                letter, ansi, _, _ = _LOOK[_kind(reference, recognised)]
                cells = [visible(reference or _GAP), visible(recognised or _GAP), letter]
                size = max(_width(cell) for cell in cells)
                for row, cell in zip(rows, cells, strict=True):
                    padding = " " * (size - _width(cell))
                    row.append(f"\033[{ansi}m{cell}\033[0m{padding}" if colour and cell else cell + padding)
            names = ("reference ", "recognised", "          ")
            lines = [f"{name} {' '.join(row)}".rstrip() for name, row in zip(names, rows, strict=True)]
            blocks.append("\n".join([f"{visible(video.id)}  {_summary(video)}", *lines]))
        return "\n\n".join(blocks)

    def html(self) -> str:
        """A table a video; safe for any gloss, right-to-left glosses keep their direction within a cell."""
        parts = []
        for video in self.videos:
            rows = {"reference": "", "recognised": "", "": ""}
            for reference, recognised in video.pairs:
                letter, _, text, ground = _LOOK[_kind(reference, recognised)]
                style = f"color:{text};background:{ground};padding:2px 6px;text-align:center;border:1px solid #fff"
                for name, cell in zip(rows, (reference or _GAP, recognised or _GAP, letter), strict=True):
                    plain = "padding:0 6px;text-align:center"
                    look = style if name else plain
                    rows[name] += f'<td dir="auto" style="{look}">{as_html(cell)}</td>'
            body = "".join(
                f'<tr><th scope="row" style="text-align:left">{name}</th>{cells}</tr>' for name, cells in rows.items()
            )
            caption = as_html(f"{video.id}: {_summary(video)}")
            parts.append(
                f'<table style="border-collapse:collapse;margin:8px 0"><caption style="text-align:left">{caption}'
                f"</caption>{body}</table>"
            )
        return '<div style="overflow-x:auto">' + "".join(parts) + "</div>"

    _repr_html_ = html

    def __str__(self) -> str:
        return self.text(colour=False)

    __repr__ = __str__


def _summary(video: VideoScore) -> str:
    wer = f"WER {video.wer:.1f} %" if video.words else "no reference gloss"
    return f"{wer} ({video.substitutions} S, {video.deletions} D, {video.insertions} I, {video.words} glosses)"


def aligned_sentences(result: Score, ids: Iterable[str] | None = None, n: int = 5) -> AlignedSentences:
    """The videos `ids` in that order, or the n with most errors; ConfigError for an id that was not scored."""
    if ids is None:
        videos = sorted(result.per_video.values(), key=lambda video: (-video.errors, video.id))[:n]
        return AlignedSentences(videos)
    chosen = []
    for video in ids:
        if video not in result.per_video:
            raise ConfigError(f"{video!r} was not scored; ids are those of the references")
        chosen.append(result.per_video[video])
    return AlignedSentences(chosen)
