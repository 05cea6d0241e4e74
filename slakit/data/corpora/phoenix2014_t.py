"""RWTH-PHOENIX-Weather 2014 T (Camgöz et al., CVPR 2018).

Layout: <root>/annotations/manual/PHOENIX-2014-T.{train,dev,test}.corpus.csv with
name|video|start|end|speaker|orth|translation, and frames in <root>/features/fullFrame-210x260px/<split>/<name>/*.png.
The video column says <name>/1/*.png, but the extracted frames have no folder 1/: both are found.
"""

from __future__ import annotations

from pathlib import Path

from slakit.data.corpora.annotations import clean_id, find_root, first_folder, make_corpus, read_table, unique
from slakit.data.corpora.phoenix2014 import FEATURES, frames_folder
from slakit.data.samples import Corpus, Sample

COLUMNS = ("name", "video", "speaker", "orth")


def load(root: str | Path | None, vocabulary: str = "published", allow_outside: bool = False) -> Corpus:
    """Phoenix-2014-T; root is the folder of the release, or the one below it that holds `annotations`.

    vocabulary: see make_corpus. Raises CorpusError.
    """
    folder = find_root(
        root,
        "phoenix2014-t",
        "annotations/manual/PHOENIX-2014-T.train.corpus.csv",
        ("PHOENIX-2014-T", "PHOENIX-2014-T-release-v3/PHOENIX-2014-T"),
    )
    features, splits, nested = first_folder(folder, FEATURES), {}, 0
    for split in ("train", "dev", "test"):
        table = folder / "annotations/manual" / f"PHOENIX-2014-T.{split}.corpus.csv"
        samples = []
        for row in unique(read_table(table, COLUMNS), "name"):
            clip = clean_id(row, "name")
            source = frames_folder(folder, features / split, row.fields["video"], row, allow_outside)
            nested += source.name == "1"
            samples.append(Sample(clip, source, tuple(row.fields["orth"].split()), row.fields["speaker"].strip()))
        splits[split] = samples
    total = sum(map(len, splits.values()))
    notes = [
        f"frames from {features.relative_to(folder)}, "
        + ("in <name>/1/" if nested == total else "in <name>/" if not nested else f"{nested} of {total} in <name>/1/")
    ]
    return make_corpus("phoenix2014-t", folder, splits, vocabulary, notes)
