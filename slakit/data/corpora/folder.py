"""One's own videos: a CSV file with path, glosses and split for each clip, and the videos beside it.

annotations.csv:
    path,glosses,split,signer
    videos/monday_1.mp4,HELLO MY NAME,train,anna
    frames/monday_2,NAME YOU WHAT,dev,ben
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

from slakit.data.corpora.reading import Row, clean_id, find_root, inside, make_corpus
from slakit.records import Corpus, CorpusError, Sample, read_text

REQUIRED, OPTIONAL = ("path", "glosses", "split"), ("id", "signer", "num_frames", "fps")


def load(
    root: str | Path | None,
    annotations: str = "annotations.csv",
    vocabulary: str = "published",
    allow_outside: bool = False,
) -> Corpus:
    """A folder with a CSV file of one's own (UTF-8, comma separated, quoted where needed, first line the columns).

    Columns: path (a video file or a folder of frames, relative to the folder), glosses (separated by blanks), split
    (train, dev or test); signer, id (letters, digits, - and _; default: the path without its ending), num_frames and
    fps are optional.
    root: the folder, or the CSV file itself. vocabulary: see make_corpus. Raises CorpusError with file and line.
    """
    if root is not None and Path(root).suffix.lower() == ".csv":
        root, annotations = Path(root).parent, Path(root).name
    folder = find_root(root, "folder", annotations, ())
    splits: dict[str, list[Sample]] = {"train": [], "dev": [], "test": []}
    lines: dict[str, int] = {}
    for row in _rows(folder / annotations):
        sample = _sample(folder, row, allow_outside)
        if sample.id in lines:
            raise row.error(f"the clip {sample.id!r} stands in line {lines[sample.id]} already; give it another id")
        lines[sample.id] = row.line
        split = row.fields["split"].strip()
        if split not in splits:
            raise row.error(f"split {split[:40]!r} is none of train, dev, test; correct the line")
        splits[split].append(sample)
    return make_corpus("folder", folder, splits, vocabulary, [f"annotation from {annotations}"])


def _rows(path: Path) -> list[Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)  # a line break in a cell stays
    rows: list[Row] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in REQUIRED if name not in header]
        if missing or len(set(header)) != len(header):
            raise CorpusError(
                f"{path}, line 1: {'no column ' + repr(missing[0]) if missing else 'a column comes twice'} in "
                f"{','.join(header)[:80]!r}; expected {','.join(REQUIRED)} and perhaps {','.join(OPTIONAL)}"
            )
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                raise CorpusError(f"{path}, line {reader.line_num}: {len(fields)} fields instead of {len(header)}")
            rows.append(Row(path, reader.line_num, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}; check the quotes") from None
    if not rows:
        raise CorpusError(f"{path}: no rows; write one line for each clip")
    return rows


def _sample(folder: Path, row: Row, allow_outside: bool) -> Sample:
    path = row.fields["path"].strip()
    source = inside(folder, path, row, allow_outside)
    name = row.fields.get("id", "").strip() and clean_id(row, "id")
    if not name:
        plain = Path(path) if source.is_dir() else Path(path).with_suffix("")
        name = re.sub(r"[\s/\\:*?\"<>|\x00-\x1f]+", "_", str(plain)).lstrip(".")
    if not 0 < len(name) <= 200:
        raise row.error(f"the path {path[:80]!r} gives no clip name of 1 to 200 letters; write an id column")
    glosses = tuple(row.fields["glosses"].split())
    if not glosses:
        raise row.error(f"the clip {path[:80]!r} has no glosses; write them, separated by blanks")
    sample = Sample(name, source, glosses, row.fields.get("signer", "").strip())
    if row.fields.get("num_frames", "").strip():
        sample = replace(sample, num_frames=row.number("num_frames", 1))
    if text := row.fields.get("fps", "").strip():
        try:
            fps = float(text)
        except ValueError:
            fps = 0.0
        if not 0 < fps < 1000:
            raise row.error(f"fps is {text[:40]!r}, expected frames a second; correct the line")
        sample = replace(sample, fps=fps)
    return sample
