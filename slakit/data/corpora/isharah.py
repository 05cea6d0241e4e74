"""Isharah, Saudi sign language: 500, 1000 or 2000 sentences, signer-independent (SI) or unseen sentences (US).

Annotation: <root>/annotations_v2/[isharah<size>/]{SI,US}/{train,dev,test}.{csv,txt} with id|gloss[|text]; the test
files of the challenge have only ids. Frames: <root>/[isharah<size>/]<signer>/<id>/frame0000.jpg, or <root>/<id>/*.jpg.
An id is <signer>_<sentence>, 00_0001 to 17_2000.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from slakit.data.corpora.reading import Row, clean_id, find_root, inside, make_corpus, read_table, unique
from slakit.records import ConfigError, Corpus, CorpusError, Sample


def load(
    root: str | Path | None,
    name: str = "isharah-1000",
    setup: str = "SI",
    vocabulary: str = "published",
    allow_outside: bool = False,
) -> Corpus:
    """Isharah; name: its size, isharah-500, -1000 or -2000; root holds `annotations_v2`.

    setup: "SI" signer-independent, "US" unseen sentences. Isharah-500 is cut out of the Isharah-1000 files (sentences 1
    to 500) where it has none of its own. Test clips without glosses are kept, with no glosses, and noted. vocabulary:
    see make_corpus. Raises CorpusError, and ConfigError for a setup that does not exist.
    """
    if setup not in ("SI", "US"):
        raise ConfigError(f"setup={setup!r} is none of SI, US")
    size = int(name.removeprefix("isharah-"))
    folder = find_root(root, name, "annotations_v2", ("Isharah", "isharah", "data"))
    labels, complete = _labels(folder / "annotations_v2", size, setup)
    bases = [folder / f"isharah{size}", folder / "frames", *sorted(folder.glob("isharah*")), folder]
    bases = [base for base in bases if base.is_dir()]
    splits: dict[str, list[Sample]] = {}
    notes = [f"annotation from {labels.relative_to(folder)}, setup {setup}"]
    if not complete:
        notes.append("Isharah-500 is rebuilt from the Isharah-1000 files: sentences 1 to 500")
    variants: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for split in ("train", "dev", "test"):
        tables = [table for end in (".csv", ".txt") if (table := labels / f"{split}{end}").exists()]
        if not tables:
            if split == "train":
                raise CorpusError(f"{labels}: no train.csv or train.txt; extract annotations_v2 again")
            notes.append(f"{split}: there is no list")
            continue
        samples = []
        for row in unique(read_table(tables[0], ("id",), ("gloss",)), "id"):
            clip = clean_id(row, "id")
            parts = re.fullmatch(r"([0-9]{2})_([0-9]{4})", clip)
            if not parts:
                raise row.error(f"id {clip[:40]!r} is not <signer>_<sentence> such as 00_0001; correct the line")
            if not complete and int(parts[2]) > size:
                continue
            glosses = tuple(row.fields.get("gloss", "").split())  # double and edge blanks occur
            if glosses:
                variants[parts[2]].add(glosses)
            samples.append(Sample(clip, _source(folder, bases, parts[1], clip, row, allow_outside), glosses, parts[1]))
        bare = sum(not sample.glosses for sample in samples)
        if bare:
            notes.append(f"{split}: {bare} of {len(samples)} clips have no glosses; they cannot be scored")
        splits[split] = samples
    several = sum(len(glosses) > 1 for glosses in variants.values())
    if several:
        notes.append(f"{several} of {len(variants)} sentences are annotated in more than one way, kept as they are")
    return make_corpus(name, folder, splits, vocabulary, notes)


def _labels(annotations: Path, size: int, setup: str) -> tuple[Path, bool]:
    """The folder with the lists, and whether they are this size's own."""
    folder = annotations / f"isharah{size}" / setup
    if folder.is_dir():
        return folder, True
    for candidate in (annotations / "isharah1000" / setup, annotations / setup):
        if candidate.is_dir() and size in (500, 1000):
            return candidate, size == 1000
    missing = f"isharah{size}/{setup}"
    raise CorpusError(f"{annotations}: no lists in {missing}; extract the annotation of Isharah-{size} there")


def _source(home: Path, bases: list[Path], signer: str, clip: str, row: Row, allow_outside: bool) -> Path:
    for base in bases:
        for relative in (f"{signer}/{clip}", clip):
            if (base / relative).is_dir():
                return inside(base, relative, row, allow_outside, home)
    return bases[0] / signer / clip
