"""Reads MiniSign, the generated demo corpus, and builds it where it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slakit.data.minisign.clips import SPLITS, Settings, landmark_file
from slakit.data.minisign.corpus import MANIFEST, build, content_key, is_complete, read_manifest
from slakit.data.samples import Corpus, Sample, Span, Vocabulary
from slakit.errors import CorpusError


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
    """data/minisign of the project when slakit runs from a checkout, otherwise of the current folder."""
    project = Path(__file__).resolve().parents[3]
    return (project if (project / "pyproject.toml").is_file() else Path.cwd()) / "data" / "minisign"


def load(root: str | Path | None = None, **options: Any) -> Corpus:
    """MiniSign as a Corpus; its vocabulary holds all glosses of the lexicon, also in a small build.

    root: the folder that holds (or will hold) the builds, one folder for each choice of settings, or such a folder.
    options: settings of `slakit.data.minisign.corpus.build` (train, dev, test, seed, film_strength, progress, ...).
    CorpusError if `root` is one build and `options` ask for another, or if a file is damaged.
    """
    folder = default_root() if root is None else Path(root)
    if (folder / MANIFEST).is_file():
        _check_settings(folder, options)
    else:
        folder = build(folder, **options)
    glosses = Vocabulary((folder / "annotations" / "glosses.txt").read_text(encoding="utf-8").split())
    spans: dict[str, list[Span]] = {}
    for name, gloss, start, end in _rows(folder / "annotations" / "spans.csv", "id|gloss|start|end"):
        spans.setdefault(name, []).append(Span(gloss, int(start), int(end)))
    splits = {split: _read_split(folder, split, spans) for split in SPLITS}
    return Corpus("minisign", folder, **splits, glosses=glosses)


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


def _check_settings(folder: Path, options: dict[str, Any]) -> None:
    manifest = read_manifest(folder)
    wanted = {name: value for name, value in options.items() if name not in ("progress", "workers")}
    for name, value in wanted.items():
        if manifest["settings"].get(name) != value:
            raise CorpusError(
                f"{folder} was built with {name}={manifest['settings'].get(name)!r}, not {value!r}; "
                "give the folder above it as root, or leave the setting out"
            )
    if not is_complete(folder):
        if folder.resolve().name != content_key(Settings(**manifest["settings"])):
            raise CorpusError(f"{folder} was begun by another version of the generator; delete it and build it anew")
        build(
            folder.parent, **manifest["settings"], **{k: v for k, v in options.items() if k in ("progress", "workers")}
        )


def _read_split(folder: Path, split: str, spans: dict[str, list[Span]]) -> tuple[Sample, ...]:
    path = folder / "annotations" / f"{split}.csv"
    samples = []
    for name, video, signer, num_frames, glosses in _rows(path, "id|video|signer|num_frames|glosses"):
        source = folder / video
        samples.append(
            Sample(name, source, tuple(glosses.split()), signer, int(num_frames), spans=tuple(spans.get(name, ())))
        )
    return tuple(samples)


def _rows(path: Path, header: str) -> list[list[str]]:
    """The fields of every line after the header; CorpusError names the file and the line that does not fit."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CorpusError(
            f"{path} cannot be read ({error.strerror}); delete the corpus' folder to build it anew"
        ) from error
    if not lines or lines[0] != header:
        raise CorpusError(
            f"{path}: the first line is {lines[:1]}, expected {header!r}; delete the folder to build it anew"
        )
    rows = [line.split("|") for line in lines[1:]]
    for number, row in enumerate(rows, start=2):
        if len(row) != header.count("|") + 1:
            raise CorpusError(f"{path}, line {number}: {len(row)} fields, expected {header.count('|') + 1} ({header})")
    return rows
