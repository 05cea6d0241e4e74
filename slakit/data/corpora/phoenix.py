"""RWTH-PHOENIX-Weather 2014, multisigner (`phoenix2014`) and signer-independent (`phoenix2014-si5`), and 2014 T.

Phoenix-2014: <root>/annotations/manual/{train,dev,test}[.SI5].corpus.csv with id|folder|signer|annotation, the frames
in <root>/features/fullFrame-210x260px/<split>/<id>/1/*.png (Koller, Forster, Ney: CVIU 2015).
Phoenix-2014-T (`phoenix2014-t`; Camgöz et al., CVPR 2018): PHOENIX-2014-T.{train,dev,test}.corpus.csv with
name|video|start|end|speaker|orth|translation, frames in <split>/<name>/*.png. The video column says <name>/1/*.png, but
the extracted frames have no folder 1/: both are found.
"""

from __future__ import annotations

from pathlib import Path

from slakit.data.corpora.reading import Row, clean_id, find_root, first_folder, inside, make_corpus, read_table, unique
from slakit.records import Corpus, Sample

FEATURES = ("features/fullFrame-210x260px", "features/fullFrame-256x256px")
BROKEN = (
    "13April_2011_Wednesday_tagesschau_default-14"  # row 2390 of the official training file; every repository drops it
)


def load(
    root: str | Path | None,
    name: str = "phoenix2014",
    vocabulary: str = "published",
    keep_broken: bool = False,
    allow_outside: bool = False,
) -> Corpus:
    """Phoenix-2014; root is the folder of the release, or the one below it that holds `annotations`.

    name: "phoenix2014", or "phoenix2014-si5", the signer-independent release, in which Signer05 alone is in dev and
    test. vocabulary: see make_corpus. keep_broken: keep the one training clip that is known to be broken. Glosses are
    the raw ones. Frames folders are looked for with and without the `1/` at their end. Raises CorpusError.
    """
    si5 = name == "phoenix2014-si5"
    part = "phoenix-2014-signerindependent-SI5" if si5 else "phoenix-2014-multisigner"
    suffix = ".SI5.corpus.csv" if si5 else ".corpus.csv"
    folder = find_root(
        root, name, f"annotations/manual/train{suffix}", (part, f"phoenix2014-release/{part}", f"phoenix2014/{part}")
    )
    features, notes, splits = first_folder(folder, FEATURES), [], {}
    for split in ("train", "dev", "test"):
        rows = read_table(folder / "annotations/manual" / f"{split}{suffix}", ("id", "folder", "signer", "annotation"))
        samples = []
        for row in unique(rows, "id"):
            clip = clean_id(row, "id")
            if clip == BROKEN and not keep_broken:
                notes.append(f"{split}: {clip} is left out, it is known to be broken (keep_broken=True keeps it)")
                continue
            source = frames_folder(folder, features / split, row.fields["folder"], row, allow_outside)
            glosses = tuple(row.fields["annotation"].split())  # some annotations hold double blanks
            samples.append(Sample(clip, source, glosses, row.fields["signer"].strip()))
        splits[split] = samples
    notes.append(f"frames from {features.relative_to(folder)}")
    return make_corpus(name, folder, splits, vocabulary, notes)


def frames_folder(home: Path, features: Path, pattern: str, row: Row, allow_outside: bool) -> Path:
    """The folder that a pattern like `<id>/1/*.png` or `<id>/*.png` means: with the `1/` where that exists."""
    base = pattern.strip()
    for end in ("/*.png", "/*.jpg"):
        base = base.removesuffix(end)
    if "*" in base:
        raise row.error(f"the folder {pattern[:80]!r} is no pattern like <id>/1/*.png; correct the line")
    plain = inside(features, base.removesuffix("/1"), row, allow_outside, home)
    nested = plain / "1"
    return nested if nested.is_dir() or (base.endswith("/1") and not plain.is_dir()) else plain


COLUMNS_T = ("name", "video", "speaker", "orth")


def load_t(root: str | Path | None, vocabulary: str = "published", allow_outside: bool = False) -> Corpus:
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
        for row in unique(read_table(table, COLUMNS_T), "name"):
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
