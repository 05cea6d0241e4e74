"""Reads MiniSign, the generated demo corpus, and builds it where it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slakit.config import from_dict
from slakit.data.corpora.reading import clean_id, inside, read_table, unique
from slakit.machine import cache_folder
from slakit.minisign.clips import SPLITS, Settings, landmark_file
from slakit.minisign.corpus import MANIFEST, build, content_key, is_complete, read_manifest
from slakit.records import Corpus, CorpusError, Sample, Span, Vocabulary, read_text

BESIDE = ("progress", "workers", "prepared")  # options that change no clip


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Where things are in every frame of a clip, in pixels of its video (x right, y down), float32.

    right_hand, left_hand: palm centres [T, 2], the signer's own right and left, NaN at rest or out of the picture.
    mouth: [T, 2]. face: [T, 3], centre of the head and half its height.
    """

    right_hand: np.ndarray
    left_hand: np.ndarray
    mouth: np.ndarray
    face: np.ndarray


def default_root() -> Path:
    """data/minisign when slakit runs from a checkout, otherwise minisign in SLAKIT_HOME or the user's cache."""
    return cache_folder() / "minisign"


def load(root: str | Path | None = None, **options: Any) -> Corpus:
    """MiniSign as a Corpus; its vocabulary holds all glosses of the lexicon, also in a small build.

    root: the folder that holds (or will hold) the builds, one folder for each choice of settings, or such a folder.
    options: settings of `slakit.minisign.corpus.build` (train, dev, test, seed, film_strength, progress, ...).
    CorpusError if `root` is one build and `options` ask for another, or if a file is damaged.
    """
    folder = default_root() if root is None else Path(root)
    if (folder / MANIFEST).is_file():
        _check_settings(folder, options)
    else:
        folder = build(folder, **options)
    notes = folder / "annotations"
    try:
        glosses = _vocabulary(notes / "glosses.txt")
        spans: dict[str, list[Span]] = {}
        for row in read_table(notes / "spans.csv", ("id", "gloss", "start", "end")):
            start = row.number("start")
            span = Span(row.fields["gloss"], start, row.number("end", start + 1))
            spans.setdefault(row.fields["id"], []).append(span)
        splits = {split: _read_split(folder, split, spans, glosses) for split in SPLITS}
    except CorpusError as error:
        raise CorpusError(f"{error} (MiniSign is generated: or delete {folder} to build it anew)") from error
    settings = read_manifest(folder)[
        "settings"
    ]  # all of them: the same clips are drawn again wherever they are missing
    return Corpus("minisign", folder, splits["train"], splits["dev"], splits["test"], glosses, options=settings)


def load_landmarks(corpus_root: str | Path, sample_id: str) -> Landmarks:
    """Positions of hands, mouth and face in the clip `sample_id`; corpus_root: `Corpus.root`.

    CorpusError if the corpus has no such clip.
    """
    path = landmark_file(Path(corpus_root), sample_id)
    if not path.is_file():
        raise CorpusError(f"{path} is missing: the corpus in {corpus_root} has no landmarks of a clip {sample_id!r}")
    with np.load(path) as stored:
        arrays = {name: np.where(stored[name] == -32768, np.nan, stored[name] / 10.0) for name in stored.files}
    return Landmarks(**{name: array.astype(np.float32) for name, array in arrays.items()})


def check_options(options: Mapping[str, Any]) -> None:
    """Whether load() would take these options: their names, types and bounds. ConfigError names the wrong one."""
    from_dict(Settings, {name: value for name, value in options.items() if name not in BESIDE}, "minisign")


def _check_settings(folder: Path, options: dict[str, Any]) -> None:
    manifest = read_manifest(folder)
    for name, value in options.items():
        if name not in BESIDE and (built := manifest["settings"].get(name)) != value:
            raise CorpusError(
                f"{folder} was built with {name}={built!r}, not {value!r}; "
                "give the folder above it as root, or leave the setting out"
            )
    if not is_complete(folder):
        if folder.resolve().name != content_key(Settings(**manifest["settings"])):
            raise CorpusError(f"{folder} was begun by another version of the generator; delete it and build it anew")
        build(folder.parent, **manifest["settings"], **{k: v for k, v in options.items() if k in BESIDE})


def _vocabulary(path: Path) -> Vocabulary:
    try:
        return Vocabulary(read_text(path).split())
    except CorpusError as error:
        raise CorpusError(str(error) if path.name in str(error) else f"{path}: {error}") from None


def _read_split(folder: Path, split: str, spans: dict[str, list[Span]], glosses: Vocabulary) -> tuple[Sample, ...]:
    samples = []
    columns = ("id", "video", "signer", "num_frames", "glosses")
    for row in unique(read_table(folder / "annotations" / f"{split}.csv", columns), "id"):
        name, source = clean_id(row, "id"), inside(folder, row.fields["video"], row)
        signed = tuple(row.fields["glosses"].split())
        if strange := [gloss for gloss in signed if gloss not in glosses]:
            raise row.error(f"the gloss {strange[0][:40]!r} is not in glosses.txt; correct the line")
        known = tuple(spans.get(name, ()))
        samples.append(Sample(name, source, signed, row.fields["signer"], row.number("num_frames", 1), spans=known))
    return tuple(samples)
