"""From what people have to what load_corpus("folder") reads: ELAN files, file names or any table -> annotations.csv.

    annotate("clips", tier="glosses")                       # the .eaf files of the folder, videos cut at the tier
    annotate("clips", names="{signer}_{number}_{glosses}")  # anna_01_HELLO-YOU.mp4
    annotate("clips", table="clips/list.csv")               # semicolons or tabs, other names of columns

Splits by sentence (no sentence in two), by signer or at random, with a seed; a finding for whatever will be hard.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slakit.config import nearest
from slakit.data.annotation_checks import check_annotation
from slakit.data.corpora.folder import load
from slakit.data.corpora.reading import inside, sniffed
from slakit.data.elan import Elan, read_elan
from slakit.data.findings import Report
from slakit.data.prepare import SPLITS
from slakit.data.video.cutting import cut
from slakit.records import ConfigError, CorpusError, read_text, write_atomically

VIDEOS = {".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".3gp", ".ogv", ".wmv"}
KNOWN = {  # what people call the columns
    "path": ("path", "file", "filename", "video", "clip", "name", "datei", "fichier", "archivo"),
    "glosses": ("glosses", "gloss", "sentence", "annotation", "signs", "text", "glossen", "gloses", "glosas"),
    "signer": ("signer", "person", "participant", "speaker", "subject"),
    "split": ("split", "set", "part"),
}
WAYS = ("sentence", "signer", "random")


@dataclass(frozen=True)
class Clip:
    """A row of annotations.csv; path: below the folder, with forward slashes; split "": not yet chosen."""

    path: str
    glosses: tuple[str, ...]
    signer: str = ""
    split: str = ""


def annotate(
    folder: str | Path,
    table: str | Path | None = None,
    names: str | None = None,
    tier: str | None = None,
    utterances: str | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    dev: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    out: str = "annotations.csv",
    overwrite: bool = False,
) -> Report:
    """Write folder/annotations.csv and say what will be hard; Report.text() has it in words.

    table: a CSV file with a column for the video and one for the glosses; columns: what they are called there, as in
    {"glosses": "Satz"}. names: how the videos below the folder are named, with {signer}, {glosses}, {split} and
    {number} or {any} for the rest; glosses are joined by -, + or blanks. Otherwise the folder's .eaf files are read: a
    clip for each annotation of `tier`, or with `utterances` for each of that tier, its glosses those of `tier` within.
    split: "sentence", "signer" or "random"; None keeps a column of splits, else "sentence". dev, test: shares of clips.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; give the one that holds the videos")
    if split not in (None, *WAYS):
        raise ConfigError(f"split={split!r} is none of {', '.join(WAYS)}")
    if not (0 <= dev < 1 and 0 <= test < 1 and dev + test < 1):
        raise ConfigError(f"dev={dev}, test={test}: shares of the clips, from 0 to 1, that leave some for train")
    if Path(out).name != out or not out.endswith(".csv"):
        raise ConfigError(f"{out!r} is no name of a CSV file in {folder}; leave it out for annotations.csv")
    target = folder / out
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} is there already; --overwrite it, or give another name with --out")
    if table is not None and names is not None:
        raise ConfigError("a table and names: give the one that holds the glosses")
    if table is not None:
        clips = from_table(folder, Path(table), columns or {})
    else:
        clips = from_names(folder, names) if names is not None else from_elan(folder, tier, utterances)
    if split is not None or not all(clip.split for clip in clips):
        clips = splits_by(split or "sentence", clips, dev, test, seed)
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["path", "glosses", "split", "signer"])
    writer.writerows([clip.path, " ".join(clip.glosses), clip.split, clip.signer] for clip in clips)
    write_atomically(target, rows.getvalue())
    corpus = load(folder, out)
    report = Report("folder", str(folder), deep=False)
    for name in SPLITS:
        samples = corpus.split(name)
        tokens = [gloss for sample in samples for gloss in sample.glosses]
        report.splits[name] = {"clips": len(samples), "tokens": len(tokens), "glosses": len(set(tokens))}
        report.splits[name] |= {"official": "", "frames": 0, "bytes": 0}
    report.add("ok", "written", f"{target}: {len(clips)} clips, splits by {split or 'its column or by sentence'}")
    check_annotation(corpus, report)
    return report


def videos_in(folder: Path) -> list[str]:
    """Paths of the video files below the folder, with forward slashes, sorted."""
    found = (p for p in folder.rglob("*") if p.suffix.lower() in VIDEOS and not p.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def from_names(folder: Path, pattern: str) -> list[Clip]:
    """The videos below the folder, their glosses and signers as the pattern finds them in the names."""
    fields = re.findall(r"\{(\w+)\}", pattern)
    known = {"signer", "glosses", "split", "number", "any"}
    if "glosses" not in fields or len(set(fields)) < len(fields):
        raise ConfigError(
            f"names={pattern!r} has no {{glosses}}, or a part twice; as in {{signer}}_{{number}}_{{glosses}}"
        )
    for field in fields:
        if field not in known:
            raise ConfigError(f"names={pattern!r}: {{{field}}} is no part of a name{nearest(field, known)}")
    parts = re.split(r"\{(\w+)\}", pattern)
    text = "".join(re.escape(part) if i % 2 == 0 else f"(?P<{part}>.+?)" for i, part in enumerate(parts))
    clips = []
    for path in videos_in(folder):
        match = re.fullmatch(text, Path(path).stem)
        if match is None:
            raise CorpusError(f"{folder / path}: its name is not {pattern}; rename it, or move it elsewhere")
        said = match.groupdict()
        glosses = tuple(re.split(r"[-+\s]+", said["glosses"].strip("-+ ")))
        clips.append(Clip(path, glosses, said.get("signer", ""), said.get("split", "")))
    return _some(clips, f"{folder}: no videos ({', '.join(sorted(VIDEOS))}) below it")


def from_table(folder: Path, table: Path, columns: Mapping[str, str]) -> list[Clip]:
    """The rows of a table with any separator; paths may be names of videos anywhere below the folder."""
    text = read_text(table)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=sniffed(text))
    try:
        rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CorpusError(f"{table}, line {lines.line_num}: {error}; check the quotes") from None
    if not rows:
        raise CorpusError(f"{table}: it is empty")
    header = [cell.strip() for cell in rows[0][1]]
    places = {}
    for column, names in KNOWN.items():
        wanted = columns.get(column)
        if wanted is not None and wanted not in header:
            raise CorpusError(f"{table}: no column {wanted!r}{nearest(wanted, header)}")
        places[column] = next(
            (i for i, name in enumerate(header) if (name == wanted if wanted else name.lower() in names)), None
        )
        if places[column] is None and column in ("path", "glosses"):
            what = "videos" if column == "path" else "glosses"
            raise CorpusError(
                f"{table}: which column has the {what}? It has {', '.join(header)}; say it with --column {column} NAME"
            )
    if strange := columns.keys() - KNOWN.keys():
        raise ConfigError(f"{sorted(strange)[0]!r} is no column of annotations.csv{nearest(sorted(strange)[0], KNOWN)}")
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for path in videos_in(folder):
        for name in {Path(path).name, Path(path).stem}:
            by_name[name].append(path)
    clips = []
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise CorpusError(f"{table}, line {number}: {len(row)} fields instead of {len(header)}; correct the line")
        said = {column: "" if place is None else row[place].strip() for column, place in places.items()}
        path, found = said["path"].replace("\\", "/"), by_name.get(Path(said["path"].replace("\\", "/")).name, [])
        if not inside(folder, path).exists():
            if len(found) != 1:
                problem = f"is in several folders ({', '.join(found[:3])})" if found else f"is not below {folder}"
                raise CorpusError(f"{table}, line {number}: the video {path[:80]!r} {problem}; write its path")
            path = found[0]
        clips.append(Clip(path, tuple(said["glosses"].split()), said["signer"], said["split"].lower()))
    return _some(clips, f"{table}: only a header, no rows")


def from_elan(folder: Path, tier: str | None, utterances: str | None) -> list[Clip]:
    """The clips of every .eaf file of the folder, cut out of its video into folder/clips."""
    clips, files = [], sorted(folder.glob("*.eaf"))
    for file in files:
        document = read_elan(file)
        video = document.video()
        for number, (start, end, glosses) in enumerate(_utterances(document, tier, utterances), start=1):
            path = f"clips/{file.stem}_{number:04}.mp4"
            if not (folder / path).is_file():  # an interrupted call goes on
                cut(video, start / 1000, end / 1000, folder / path)
            signer = next((document.participants[t] for t in (tier, utterances) if t and document.participants[t]), "")
            clips.append(Clip(path, glosses, signer or next(filter(None, document.participants.values()), "")))
    return _some(
        clips, f"{folder}: {'no glosses in its' if files else 'no'} .eaf files; give --names or --table, or --tier"
    )


def _utterances(document: Elan, tier: str | None, cut_at: str | None) -> Iterable[tuple[int, int, tuple[str, ...]]]:
    glosses = document.tier(tier)
    for part in document.tier(cut_at) if cut_at else glosses:
        inner = [g for g in glosses if part.start <= (g.start + g.end) / 2 < part.end] if cut_at else [part]
        words = tuple(word for annotation in inner for word in annotation.text.split())
        if words:
            yield part.start, part.end, words


def _some(clips: list[Clip], problem: str) -> list[Clip]:
    if not clips:
        raise CorpusError(problem)
    return clips


def splits_by(way: str, clips: Sequence[Clip], dev: float, test: float, seed: int) -> list[Clip]:
    """The clips with a split each: groups of one sentence, one signer or one clip, shuffled, go to test and dev until
    these have their share; a group with a gloss that would then be gone from train stays there (but a signer's)."""
    groups: defaultdict[object, list[int]] = defaultdict(list)
    for number, clip in enumerate(clips):
        groups[{"sentence": clip.glosses, "signer": clip.signer, "random": number}[way]].append(number)
    if way == "signer" and len(groups) < 2:
        raise ConfigError(f"all clips are of one signer ({clips[0].signer or 'unknown'}); split by sentence")
    order = sorted(groups, key=str)
    random.Random(seed).shuffle(order)
    left = Counter(gloss for clip in clips for gloss in set(clip.glosses))
    room, chosen = {"test": round(test * len(clips)), "dev": round(dev * len(clips))}, {}
    for key in order:
        members = groups[key]
        lost = Counter(gloss for number in members for gloss in set(clips[number].glosses))
        fits = way == "signer" or all(left[gloss] > count for gloss, count in lost.items())
        last = len(chosen) + len(members) >= len(clips)  # somebody must stay in train
        split = next((s for s, free in room.items() if free > 0 and (way == "signer" or len(members) <= free)), None)
        if split and fits and not last:
            room[split] -= len(members)
            left.subtract(lost)
            chosen |= dict.fromkeys(members, split)
    return [replace(clip, split=chosen.get(number, "train")) for number, clip in enumerate(clips)]
