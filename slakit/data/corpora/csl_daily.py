"""CSL-Daily (Zhou et al., CVPR 2021): 30 frames a second, ten signers.

Layout: <root>/sentence_label/{csl2020ct_v2.pkl, split_1.txt, video_map.txt} and frames in
<root>/sentence/frames_512x512/<name>/000000.jpg. Names are S<sentence>_P<signer>_T<take>.
"""

from __future__ import annotations

import re
from pathlib import Path

from slakit.data.corpora.pickles import load_plain_pickle
from slakit.data.corpora.reading import Row, clean_id, find_root, first_folder, inside, make_corpus, read_table, unique
from slakit.records import Corpus, CorpusError, Sample

FRAMES = ("sentence/frames_512x512", "sentence_frames-512x512", "frames_512x512", "sentence")


def load(
    root: str | Path | None,
    vocabulary: str = "published",
    drop_last_sample: bool = False,
    annotation: str = "auto",
    allow_outside: bool = False,
) -> Corpus:
    """CSL-Daily; root holds `sentence_label`.

    annotation: "text" reads video_map.txt, "pickle" csl2020ct_v2.pkl (without executing code), "auto" the first that
    is there. Clips that split_1.txt lists without annotation are left out; annotated clips that it does not list go to
    train, as in every public repository; both are noted. vocabulary, drop_last_sample: see make_corpus. Raises
    CorpusError.
    """
    folder = find_root(root, "csl-daily", "sentence_label/split_1.txt", ("CSL-Daily", "csl-daily"))
    labels, frames = folder / "sentence_label", first_folder(folder, FRAMES)
    split_of: dict[str, str] = {}
    for row in unique(read_table(labels / "split_1.txt", ("name", "split")), "name"):
        if (split := row.fields["split"].strip()) not in ("train", "dev", "test"):
            raise row.error(f"split {split[:40]!r} is none of train, dev, test; correct the line")
        split_of[clean_id(row, "name")] = split
    text, pickled = labels / "video_map.txt", labels / "csl2020ct_v2.pkl"
    use_text = annotation == "text" or (annotation == "auto" and text.exists())
    annotated = _from_text(text) if use_text else _from_pickle(pickled)
    splits: dict[str, list[Sample]] = {"train": [], "dev": [], "test": []}
    unlisted = []
    for name, (length, glosses) in annotated.items():
        if name not in split_of:
            unlisted.append(name)
        signer = re.search(r"_P([0-9]+)_", name)
        source = inside(frames, name, None, allow_outside, folder)
        sample = Sample(name, source, glosses, signer.group(1).lstrip("0") or "0" if signer else "", length, 30.0)
        splits[split_of.get(name, "train")].append(sample)
    bare = [name for name in split_of if name not in annotated]
    notes = [f"annotation from {(text if use_text else pickled).name}, frames from {frames.relative_to(folder)}"]
    if bare:
        notes.append(f"{len(bare)} clips of split_1.txt have no annotation and are left out: {', '.join(bare[:5])}")
    if unlisted:
        notes.append(f"{len(unlisted)} annotated clips are in no split and put in train: {', '.join(unlisted[:5])}")
    return make_corpus("csl-daily", folder, splits, vocabulary, notes, drop_last_sample)


def _from_text(path: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    rows = unique(read_table(path, ("name", "length", "gloss")), "name")
    return {clean_id(r, "name"): (r.number("length", 1), tuple(r.fields["gloss"].split())) for r in rows}


def _from_pickle(path: Path) -> dict[str, tuple[int, tuple[str, ...]]]:
    content = load_plain_pickle(path)
    entries = content.get("info") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise CorpusError(f"{path}: no list 'info' in it, so it is not csl2020ct_v2.pkl; get the official file")
    annotated: dict[str, tuple[int, tuple[str, ...]]] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"name", "length", "label_gloss"} <= entry.keys():
            raise CorpusError(f"{path}, entry {number}: name, length or label_gloss is missing; get the official file")
        glosses = entry["label_gloss"]
        if not isinstance(glosses, (list, tuple)) or not all(isinstance(g, str) for g in glosses):
            raise CorpusError(f"{path}, entry {number}: label_gloss is no list of words; get the official file")
        fields = {"name": str(entry["name"]), "length": str(entry["length"]), "label_gloss": " ".join(glosses)}
        row = Row(path, number, fields)
        name = clean_id(row, "name")
        if name in annotated:
            raise row.error(f"name {name!r} comes twice; get the official file")
        annotated[name] = row.number("length", 1), tuple(row.fields["label_gloss"].split())
    return annotated
