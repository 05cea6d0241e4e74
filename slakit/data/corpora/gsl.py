"""GSL, the continuous part of the Greek Sign Language dataset (Adaloglou et al., TMM 2021): 7 signers, 15 scenarios.

`gsl-si`: signer 3 alone is in dev and test. `gsl-sd`: all signers, and no sentence of dev or test in training.
Layout: <root>/GSL_continuous/<scenario>/<scenario>_signer<1-7>_rep<1-5>_sentences/sentences<4 digits>/frame_0000.jpg,
30 frames a second; lists without a header, `<path below GSL_continuous>|<glosses>`, named
gsl_split_SI_{train,dev,test}.csv and GSL_SD_{train,dev,test}.csv, in GSL_continuous_files (in a folder GSL_SI or GSL_SD
or not), in GSL_continuous or beside it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from slakit.data.corpora.reading import Row, find_root, first_folder, inside, make_corpus, read_lines, unique
from slakit.records import Corpus, Sample

FRAMES = ("GSL_continuous", ".")
CLIP = re.compile(r"(\w+)/(\1_signer([0-9]+)_rep[0-9]+_sentences)/(sentences[0-9]+)/?")


def load(
    root: str | Path | None, name: str = "gsl-si", vocabulary: str = "published", allow_outside: bool = False
) -> Corpus:
    """GSL; root holds `GSL_continuous` and the lists.

    name: "gsl-si" signer-independent, "gsl-sd" unseen sentences. A clip's id is the last two folders of its path with
    "_" between them. vocabulary: see make_corpus. Raises CorpusError.
    """
    setup = name.removeprefix("gsl-").upper()
    pattern = {"SI": "gsl_split_SI_{}.csv", "SD": "GSL_SD_{}.csv"}[setup]
    files = "GSL_continuous_files"
    lists = find_root(root, name, pattern.format("train"), (f"{files}/GSL_{setup}", files, "GSL_continuous"))
    folder = Path(str(root))
    frames, splits = first_folder(folder, FRAMES), {}
    for split in ("train", "dev", "test"):
        rows = unique(map(_clip, read_lines(lists / pattern.format(split))), "clip")
        splits[split] = [_sample(folder, frames, row, allow_outside) for row in rows]
    notes = [f"lists from {lists.relative_to(folder)}, frames from {frames.relative_to(folder)}"]
    return make_corpus(name, folder, splits, vocabulary, notes)


def _clip(row: Row) -> Row:
    """The row with the fields path, clip (the id), signer and glosses."""
    path, separator, glosses = row.fields["line"].partition("|")
    clip = CLIP.fullmatch(path.strip())
    if not separator or not clip:
        raise row.error(
            f"{row.fields['line'][:80]!r} is not <scenario>/<scenario>_signer1_rep1_sentences/sentences0000|<glosses>; "
            "correct the line"
        )
    if not glosses.split():
        raise row.error(f"the clip {path[:80]} has no glosses; get the official list")
    name, place = f"{clip[2]}_{clip[4]}", clip[0].rstrip("/")
    return replace(row, fields={"clip": name, "path": place, "signer": clip[3], "glosses": glosses})


def _sample(folder: Path, frames: Path, row: Row, allow_outside: bool) -> Sample:
    source = inside(frames, row.fields["path"], row, allow_outside, folder)
    return Sample(row.fields["clip"], source, tuple(row.fields["glosses"].split()), row.fields["signer"], fps=30.0)
