"""MiniSign, or any other corpus, written in the layout of a public one: annotation files, folder names, frames.

So the readers of the real corpora, `doctor` and `prepare` can be tried end to end without the real data. Clips get new
names where the layout demands them (CSL-Daily, CSL, Isharah, CE-CSL, GSL).
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from slakit.data.video.read import read_frames
from slakit.data.video.resize import resize
from slakit.machine import progress
from slakit.records import ConfigError, Corpus, Sample

# layout -> (height, width) of the official frames
LAYOUTS = {
    "phoenix2014": (260, 210),
    "phoenix2014-si5": (260, 210),
    "phoenix2014-t": (260, 210),
    "csl-daily": (512, 512),
    "csl": (256, 256),
    "isharah-500": (256, 256),
    "isharah-1000": (256, 256),
    "isharah-2000": (256, 256),
    "ce-csl": (256, 256),
    "gsl-si": (480, 848),
    "gsl-sd": (480, 848),
    "folder": (0, 0),
}


def export(
    corpus: Corpus,
    layout: str,
    out: str | Path,
    size: tuple[int, int] | None = None,
    limit: int | None = None,
    show_progress: bool | None = None,
) -> Path:
    """Write `corpus` below `out` as load_corpus(layout, root=out) expects it; returns `out`.

    size: (height, width) of the frames, default the official one. limit: at most so many clips of each split. "folder"
    copies the video files as they are. CSL has no test split: its dev holds dev and test. Raises ConfigError for an
    unknown layout or an `out` that is not empty.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"there is no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    out = Path(out)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; export into a new folder")
    splits = {name: list(corpus.split(name))[:limit] for name in ("train", "dev", "test")}
    if layout == "csl":
        splits = {"train": splits["train"], "dev": splits["dev"] + splits["test"]}
    bar = progress(range(sum(map(len, splits.values()))), f"writing {layout}", show_progress)
    steps = iter(bar)
    writer = _WRITERS[layout.rsplit("-", 1)[0] if layout.startswith("isharah") else layout]
    for sample, target, pattern in writer(out, layout, splits):
        next(steps, None)
        if pattern is None:
            _copy(sample, target)
        else:
            write_frames(read_frames(sample.source), target, pattern, size or LAYOUTS[layout])
    bar.close()
    return out


def write_frames(frames: np.ndarray, folder: Path, pattern: str, size: tuple[int, int]) -> None:
    """Image files named by `pattern`, which takes the frame's number from 0 as {n} and from 1 as {k}."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(resize(frames, size, "antialias")):
        options = {"quality": 95} if pattern.endswith("jpg") else {"compress_level": 1}
        Image.fromarray(frame).save(folder / pattern.format(n=number, k=number + 1), **options)


Written = Iterator[tuple[Sample, Path, str | None]]  # clip, its folder or file, names of its frames


def _lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _phoenix(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    suffix = ".SI5.corpus.csv" if layout == "phoenix2014-si5" else ".corpus.csv"
    for split, samples in splits.items():
        rows = [f"{s.id}|{s.id}/1/*.png|{s.signer}|{' '.join(s.glosses)}" for s in samples]
        _lines(out / f"annotations/manual/{split}{suffix}", ["id|folder|signer|annotation", *rows])
        for sample in samples:
            folder = out / "features/fullFrame-210x260px" / split / sample.id / "1"
            yield sample, folder, sample.id + ".avi_pid0_fn{n:06d}-0.png"


def _phoenix_t(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    for split, samples in splits.items():
        rows = [f"{s.id}|{s.id}/1/*.png|-1|-1|{s.signer}|{' '.join(s.glosses)}|" for s in samples]
        header = "name|video|start|end|speaker|orth|translation"
        _lines(out / f"annotations/manual/PHOENIX-2014-T.{split}.corpus.csv", [header, *rows])
        for sample in samples:
            yield sample, out / "features/fullFrame-210x260px" / split / sample.id, "images{k:04d}.png"


def _csl_daily(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    numbers = _signer_numbers(splits)
    listed, annotated, written, sentence = [], [], [], 0
    for split, samples in splits.items():
        for sample in samples:
            name = f"S{sentence:06d}_P{numbers[sample.signer]:04d}_T00"
            glosses = " ".join(sample.glosses)
            frames = len(read_frames(sample.source)) if sample.num_frames is None else sample.num_frames
            listed.append(f"{name}|{split}")
            annotated.append(f"{sentence}|{name}|{frames}|{glosses}|{glosses}|{glosses}|")
            written.append((sample, out / "sentence/frames_512x512" / name, "{n:06d}.jpg"))
            sentence += 1
    _lines(out / "sentence_label/split_1.txt", ["name|split", *listed])
    _lines(out / "sentence_label/video_map.txt", ["index|name|length|gloss|char|word|postag", *annotated])
    yield from written


def _csl(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    for split, samples in splits.items():
        first, count = (0, 200) if split == "train" else (200, 50)
        lines = []
        for number, sample in enumerate(samples):
            name = f"video{number // count * 250 + first + number % count}"
            lines.append(f"/disk1/dataset/csl/{name}|{' '.join(sample.glosses)}")
            yield sample, out / "frames" / name, "{n:06d}.jpg"
        _lines(out / f"{split}.txt", lines)


def _isharah(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    size, numbers = layout.rsplit("-", 1)[1], _signer_numbers(splits)
    sentences: dict[int, int] = defaultdict(int)
    for split, samples in splits.items():
        rows = []
        for sample in samples:
            signer = numbers[sample.signer]
            sentences[signer] += 1
            name = f"{signer:02d}_{sentences[signer]:04d}"
            rows.append(f"{name}|{' '.join(sample.glosses)}")
            yield sample, out / f"isharah{size}" / f"{signer:02d}" / name, "frame{n:04d}.jpg"
        _lines(out / f"annotations_v2/isharah{size}/SI/{split}.csv", ["id|gloss", *rows])


def _ce_csl(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    numbers = _signer_numbers(splits)
    for split, samples in splits.items():
        rows = []
        for number, sample in enumerate(samples, start=1):
            name, signer = f"{split}-{number:05d}", "ABCDEFGHIJKL"[numbers[sample.signer]]
            rows.append(f"{name},{signer},{''.join(sample.glosses)}。,{'/'.join(sample.glosses)},")
            yield sample, out / f"CE-CSL/video/{split}/{signer}/{name}", "{n:05d}.jpg"
        _lines(out / f"CE-CSL/label/{split}.csv", ["Number,Translator,Chinese Sentences,Gloss,Note", *rows])


def _gsl(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    numbers, setup = _signer_numbers(splits), layout.removeprefix("gsl-").upper()
    names = {"SI": "GSL_SI/gsl_split_SI_{}.csv", "SD": "GSL_SD_{}.csv"}[setup]
    sentence = 0
    for split, samples in splits.items():
        rows = []
        for sample in samples:
            name = f"police1/police1_signer{numbers[sample.signer] + 1}_rep1_sentences/sentences{sentence:04d}"
            rows.append(f"{name}|{' '.join(sample.glosses)}")
            yield sample, out / "GSL_continuous" / name, "frame_{n:04d}.jpg"
            sentence += 1
        _lines(out / "GSL_continuous_files" / names.format(split), rows)


def _folder(out: Path, layout: str, splits: dict[str, list[Sample]]) -> Written:
    rows = ["path,glosses,split,signer,id"]
    for split, samples in splits.items():
        for sample in samples:
            single = not isinstance(sample.source, tuple) and sample.source.is_file()
            target = Path(split) / (sample.id + (sample.source.suffix if single else ""))
            rows.append(f"{target.as_posix()},{' '.join(sample.glosses)},{split},{sample.signer},{sample.id}")
            yield sample, out / target, None
    _lines(out / "annotations.csv", rows)


def _copy(sample: Sample, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(sample.source, tuple):
        target.mkdir()
        for file in sample.source:
            shutil.copy(file, target)
    elif sample.source.is_dir():
        shutil.copytree(sample.source, target)
    else:
        shutil.copy(sample.source, target)


def _signer_numbers(splits: dict[str, list[Sample]]) -> dict[str, int]:
    names = sorted({sample.signer for samples in splits.values() for sample in samples})
    return {name: number for number, name in enumerate(names)}


_WRITERS = {
    "phoenix2014": _phoenix,
    "phoenix2014-si5": _phoenix,
    "phoenix2014-t": _phoenix_t,
    "csl-daily": _csl_daily,
    "csl": _csl,
    "isharah": _isharah,
    "ce-csl": _ce_csl,
    "gsl-si": _gsl,
    "gsl-sd": _gsl,
    "folder": _folder,
}
