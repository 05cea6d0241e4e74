"""A recognition as ELAN (.eaf), WebVTT, JSON or CTM, for annotation tools, video players and scoring tools.

`as_elan`, `as_webvtt`, `as_json` and `as_ctm` give the text, `write_…` write it: the whole file or, with a ConfigError,
nothing.
"""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from slakit.decoding.alignment import GlossSpan
from slakit.records import ConfigError, CorpusError, control_in, write_files
from slakit.scoring.files import ctm_word, word_for

_MIME = {".mp4": "video/mp4", ".mov": "video/quicktime", ".avi": "video/x-msvideo", ".mpg": "video/mpeg"}


def _checked(spans: Sequence[GlossSpan], where: str) -> list[tuple[str, int, int]]:
    """(gloss, start, end) in whole milliseconds; ConfigError where a span is empty, overlaps or cannot be written."""
    result, before = [], 0
    for span in spans:
        start, end = round(span.start_seconds * 1000), round(span.end_seconds * 1000)
        times = f"{start} to {end} ms"
        if start < 0 or end <= start:
            raise ConfigError(f"{where}: {span.gloss!r} spans {times}; a span must have a positive duration")
        if start < before:
            raise ConfigError(f"{where}: {span.gloss!r} starts at {start} ms, before the gloss before it ends")
        result.append((_text(span.gloss, f"{where}: the gloss"), start, end))
        before = end
    return result


def _text(text: str, what: str) -> str:
    """Text that a file can carry, in XML too; ConfigError for none and for what neither XML nor UTF-8 has."""
    if not text.strip() or control_in(text) or "\ufffe" in text or "\uffff" in text:
        raise ConfigError(f"{what} {text!r} is empty or holds control characters; rename it")
    return text


def write_elan(
    path: str | Path,
    tiers: Mapping[str, Sequence[GlossSpan]],
    video: str | Path | None = None,
    author: str = "slakit",
    date: datetime | None = None,
) -> None:
    """Write an ELAN annotation document (EAF 3.0): one tier a name, one annotation a gloss, times in milliseconds.

    tiers: as {"recognised": spans, "truth": spans}; spans of a tier may touch but not overlap. video: linked as the
    media file, absolute and relative to `path`. date: now, if not given. Raises ConfigError for no
    tier, empty or overlapping spans, control characters, and where the file cannot be written.
    """
    write_files({Path(path): as_elan(tiers, video, author, date, beside=Path(path))})


def as_elan(
    tiers: Mapping[str, Sequence[GlossSpan]],
    video: str | Path | None = None,
    author: str = "slakit",
    date: datetime | None = None,
    beside: Path | None = None,
) -> bytes:
    """What `write_elan` writes, as XML; beside: where the document will lie."""
    if not tiers:
        raise ConfigError("an ELAN document needs a tier; give {'recognised': spans}")
    schema = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
    ElementTree.register_namespace("xsi", "http://www.w3.org/2001/XMLSchema-instance")
    stamp = (date or datetime.now(UTC)).isoformat(timespec="seconds")
    document = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {"AUTHOR": _text(author, "the author"), "DATE": stamp, "FORMAT": "3.0", "VERSION": "3.0"}
        | {schema: "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"},
    )
    header = ElementTree.SubElement(document, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if video is not None:
        video = Path(video).absolute()
        media = {"MEDIA_URL": video.as_uri(), "MIME_TYPE": _MIME.get(video.suffix.lower(), "unknown")}
        if beside is not None and not control_in(str(video)):  # other names have the absolute address alone
            with suppress(ValueError):  # on another drive
                relative = Path(os.path.relpath(video, beside.absolute().parent)).as_posix()
                media["RELATIVE_MEDIA_URL"] = relative if relative.startswith("..") else f"./{relative}"
        ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    times = ElementTree.SubElement(document, "TIME_ORDER")
    slots, annotations = 0, 0
    for name, spans in tiers.items():
        if not name.strip():
            raise ConfigError("a tier has no name; ELAN needs one")
        about = {"TIER_ID": _text(name, "the name of a tier"), "LINGUISTIC_TYPE_REF": "gloss"}
        tier = ElementTree.SubElement(document, "TIER", about)
        for gloss, start, end in _checked(spans, f"tier {name}"):
            for value in (start, end):
                slots += 1
                ElementTree.SubElement(times, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{slots}", "TIME_VALUE": str(value)})
            annotations += 1
            outer = ElementTree.SubElement(tier, "ANNOTATION")
            ids = {"ANNOTATION_ID": f"a{annotations}"}
            ids |= {"TIME_SLOT_REF1": f"ts{slots - 1}", "TIME_SLOT_REF2": f"ts{slots}"}
            inner = ElementTree.SubElement(outer, "ALIGNABLE_ANNOTATION", ids)
            ElementTree.SubElement(inner, "ANNOTATION_VALUE").text = gloss
    kind = {"LINGUISTIC_TYPE_ID": "gloss", "TIME_ALIGNABLE": "true", "GRAPHIC_REFERENCES": "false"}
    ElementTree.SubElement(document, "LINGUISTIC_TYPE", kind)
    ElementTree.indent(document)
    return ElementTree.tostring(document, encoding="UTF-8", xml_declaration=True)


def write_webvtt(path: str | Path, spans: Sequence[GlossSpan]) -> None:
    """Write subtitles for a web player: one cue a gloss (W3C WebVTT, UTF-8)."""
    write_files({Path(path): as_webvtt(spans)})


def as_webvtt(spans: Sequence[GlossSpan]) -> str:
    """What `write_webvtt` writes."""
    cues = ["WEBVTT\n"]
    for number, (gloss, start, end) in enumerate(_checked(spans, "WebVTT"), 1):
        text = gloss.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{number}\n{_clock(start)} --> {_clock(end)}\n{text}\n")
    return "\n".join(cues)


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest:03}"


def as_json(spans: Sequence[GlossSpan], /, **details: object) -> str:
    """A recognition as JSON: `glosses`, `spans` (gloss, start and end in seconds and frames, confidence), `details`."""
    clash = {"glosses", "spans"} & set(details)
    if clash:
        raise ConfigError(f"{sorted(clash)[0]!r} is written from the spans; give the detail another name")
    names = ("gloss", "start", "end", "start_frame", "end_frame", "confidence")
    values = [(s.gloss, s.start_seconds, s.end_seconds, s.start, s.end, s.confidence) for s in spans]
    rows = [dict(zip(names, row, strict=True)) for row in values]
    content = {**details, "glosses": [span.gloss for span in spans], "spans": rows}
    text = json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False)
    return text.encode(
        "utf-8", "backslashreplace"
    ).decode()  # a file's name that is no UTF-8: \\udcff, as JSON spells it


def write_json(path: str | Path, spans: Sequence[GlossSpan], /, **details: object) -> None:
    """Write `as_json` to a file (UTF-8); details: what else belongs to it, as video="clip.mp4", score=-3.2."""
    write_files({Path(path): as_json(spans, **details) + "\n"})


def write_ctm_spans(path: str | Path, spans: Mapping[str, Sequence[GlossSpan]]) -> None:
    """Write a CTM file with real times: `<id> 1 <start> <duration> <gloss> <confidence>`, sorted by id and start."""
    write_files({Path(path): as_ctm(spans)})


def as_ctm(spans: Mapping[str, Sequence[GlossSpan]]) -> str:
    """What `write_ctm_spans` writes; ConfigError for ids and glosses that a CTM file cannot carry."""
    lines = []
    try:
        for video in sorted(spans):
            name = word_for(video, "id")
            for span, (gloss, start, end) in zip(spans[video], _checked(spans[video], video), strict=True):
                times = f"{start / 1000:.3f} {(end - start) / 1000:.3f}"
                lines.append(f"{name} 1 {times} {ctm_word(gloss, video)} {span.confidence:.4f}\n")
    except CorpusError as error:
        raise ConfigError(str(error)) from None
    return "".join(lines)
