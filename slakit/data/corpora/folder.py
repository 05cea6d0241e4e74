"""One's own videos: a CSV file with path, glosses and split for each clip, and the videos beside it.

annotations.csv:
    path,glosses,split,signer
    videos/monday_1.mp4,HELLO MY NAME,train,anna
    frames/monday_2,NAME YOU WHAT,dev,ben
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from slakit.data.corpora.reading import Row, clean_id, find_root, inside, make_corpus, read_csv
from slakit.records import Corpus, Sample

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
    for row in read_csv(folder / annotations, REQUIRED, OPTIONAL):
        sample = _sample(folder, row, allow_outside)
        if sample.id in lines:
            raise row.error(f"the clip {sample.id!r} stands in line {lines[sample.id]} already; give it another id")
        lines[sample.id] = row.line
        split = row.fields["split"].strip()
        if split not in splits:
            raise row.error(f"split {split[:40]!r} is none of train, dev, test; correct the line")
        splits[split].append(sample)
    return make_corpus("folder", folder, splits, vocabulary, [f"annotation from {annotations}"])


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
