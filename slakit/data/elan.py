"""ELAN documents (.eaf) read: tiers, the times of their annotations, the video that they are about.

read_elan("monday.eaf").tiers["glosses"]        # (Annotation(start=1200, end=3400, text="HELLO YOU"), …)
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote, urlsplit

from slakit.config import nearest
from slakit.data.corpora.reading import inside
from slakit.records import CorpusError, read_text

MAX_ANNOTATIONS = 1_000_000


@dataclass(frozen=True)
class Annotation:
    """Times in milliseconds of the video."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Elan:
    """A document. tiers: name -> annotations in the order of time; participants: name -> who signs there, or ""."""

    path: Path
    media: tuple[str, ...]
    tiers: dict[str, tuple[Annotation, ...]]
    participants: dict[str, str]

    def tier(self, name: str | None) -> tuple[Annotation, ...]:
        """The tier of that name; None: the only one that holds anything. CorpusError where that is not clear."""
        full = [tier for tier, annotations in self.tiers.items() if annotations]
        if name is None and len(full) == 1:
            return self.tiers[full[0]]
        if name is None:
            listed = ", ".join(full[:10]) or "none"
            raise CorpusError(
                f"{self.path}: which tier holds the glosses? Name it; those with annotations are {listed}"
            )
        if name not in self.tiers:
            raise CorpusError(f"{self.path}: no tier {name!r}{nearest(name, self.tiers)}")
        return self.tiers[name]

    def video(self) -> Path:
        """The video beside the document or below its folder; CorpusError where there is none."""
        folder = self.path.parent
        for name in self.media:
            path = inside(folder, name)
            if path.is_file():
                return path
        listed = ", ".join(self.media) or "none is named"
        raise CorpusError(f"{self.path}: its video is not beside it ({listed}); copy it into {folder}")


def read_elan(path: str | Path) -> Elan:
    """The document; CorpusError for what is none. It is parsed without document types and entities, which ELAN does not
    write: they are how a small file fills the memory or reads another one."""
    path = Path(path)
    text = read_text(path)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CorpusError(
            f"{path}: holds a document type or entities, which ELAN does not write; save it from ELAN anew"
        )
    try:
        document = ElementTree.fromstring(text.encode() if text.startswith("<?xml") else text)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CorpusError(f"{path}: no XML ({error}); save it from ELAN anew") from None
    if document.tag != "ANNOTATION_DOCUMENT":
        raise CorpusError(f"{path}: <{document.tag[:40]}> is no ELAN document; give an .eaf file")
    origin, media = _media(document)
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in document.iter("TIME_SLOT")}
    found = {str(a.get("ANNOTATION_ID")): a for a in document.iter() if a.tag.endswith("_ANNOTATION")}
    if len(found) > MAX_ANNOTATIONS:
        raise CorpusError(f"{path}: {len(found):,} annotations, more than {MAX_ANNOTATIONS:,}; look what it is")
    tiers, participants = {}, {}
    for tier in document.iter("TIER"):
        name = str(tier.get("TIER_ID"))
        rows = []
        for element in (a for a in tier.iter() if a.tag.endswith("_ANNOTATION")):
            start, end = (_time(path, element, number, found, slots) + origin for number in (1, 2))
            text = (element.findtext("ANNOTATION_VALUE") or "").strip()
            if end <= start or start < 0:
                raise CorpusError(f"{path}, tier {name}: {text[:40]!r} lasts from {start} to {end} ms; mend it in ELAN")
            rows.append(Annotation(start, end, text))
        tiers[name] = tuple(sorted(rows, key=lambda row: (row.start, row.end)))
        participants[name] = (tier.get("PARTICIPANT") or "").strip()
    return Elan(path, media, tiers, participants)


def _media(document: ElementTree.Element) -> tuple[int, tuple[str, ...]]:
    """(milliseconds that the video begins before the annotation, names below the document's folder)."""
    names, origin = [], 0
    for entry in document.iter("MEDIA_DESCRIPTOR"):
        if str(entry.get("TIME_ORIGIN", "0")).isdecimal():
            origin = origin or int(str(entry.get("TIME_ORIGIN", "0"))[:12])
        relative = str(entry.get("RELATIVE_MEDIA_URL") or "").removeprefix("file:")
        while relative.startswith("./"):
            relative = relative[2:]
        absolute = unquote(urlsplit(str(entry.get("MEDIA_URL") or "").replace("\\", "/")).path)
        for name in (relative, unquote(relative), PureWindowsPath(relative).name, PureWindowsPath(absolute).name):
            if name and not name.startswith(("/", "..")) and name not in names:
                names.append(name)
    return origin, tuple(names)


def _time(path: Path, element: ElementTree.Element, number: int, found: dict, slots: dict) -> int:
    """A time of an annotation in milliseconds, or of the one that it belongs to."""
    for _ in range(100):  # more would be a circle
        if (slot := element.get(f"TIME_SLOT_REF{number}")) is not None:
            value = slots.get(slot)
            if value is None or not value.isascii() or not value.isdecimal() or len(value) > 12:
                raise CorpusError(f"{path}: the time {slot[:40]!r} is {value!r}; give it a time in ELAN")
            return int(value)
        parent = found.get(str(element.get("ANNOTATION_REF")))
        if parent is None:
            break
        element = parent
    raise CorpusError(f"{path}: an annotation has no time and belongs to none that has; mend it in ELAN")
