"""Corpora at real size of frame in the exact official trees, drawn by MiniSign, and a stand-in for OpenAI's archive.

Their words and pictures are made up; folders, file names, columns and the known oddities are the releases': umlauts,
double blanks, a clip that is known to be broken, sentences of 25 glosses, test lists without glosses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import torch

from slakit.data.corpora.phoenix import BROKEN
from slakit.minisign.clips import Clip, Settings, plan_corpus, write_clip
from slakit.minisign.motion import plan, spans_of
from slakit.records import Corpus, Sample, Vocabulary
from tests.layouts import export

# Glosses as Phoenix has them, in place of MiniSign's.
GERMAN = {
    "DARK": "TRÜB", "GOOD": "SCHÖN", "TOMORROW": "ÜBERMORGEN", "WATER": "loc-NORD", "TREE": "MÄSSIG", "ONE": "EIN-GRAD",
    "TWO": "ZWEI", "THREE": "DREI", "YESTERDAY": "GESTERN", "RISE": "STEIGEN", "FALL": "FALLEN", "LIGHT": "SONNE",
}  # fmt: skip
SIGNED = tuple(GERMAN)[:6]  # few enough that a tower of random weights learns some in seconds
LONG = 25  # glosses of the longest sentence
DAYS = ("01April_2010_Thursday_heute_default", "13April_2011_Wednesday_tagesschau_default", "27March_2013_Wednesday_x")
STEP = 5  # glosses of the other sentences: 3 to 7


def draw(folder: Path, clips: Mapping[str, int], height: int, long: str | None = None, seed: int = 0) -> Corpus:
    """So many clips of each split as square videos of that height; the first of the split `long` has 25 glosses and
    at least 300 frames. Signers differ between the splits, as in MiniSign."""
    settings = Settings(size=height, seed=seed, **{split: max(1, count) for split, count in clips.items()})
    signers, _ = plan_corpus(settings)
    names, random = list(signers), np.random.default_rng(seed)
    splits: dict[str, list[Sample]] = {}
    for number, (split, count) in enumerate(clips.items()):
        splits[split] = []
        for index in range(count):
            signer = names[(3 * number + index) % len(names)]
            longest = split == long and index == 0
            words = LONG if longest else int(random.integers(3, 3 + STEP))
            clip = _planned(split, index, signer, signers[signer], words, 300 if longest else 0, (seed, number, index))
            write_clip(folder, clip, signers[signer], settings)
            splits[split].append(Sample(clip.id, folder / clip.video, clip.glosses, signer, clip.num_frames))
    parts = {split: tuple(splits.get(split, ())) for split in ("train", "dev", "test")}
    every = [sample for part in parts.values() for sample in part]
    return Corpus("drawn", folder, **parts, glosses=Vocabulary.from_samples(every))


def _planned(split, index, signer, looks, words, at_least, seed) -> Clip:
    """A clip with that many glosses; a slower signer where it must last longer."""
    random = np.random.default_rng(seed)
    glosses = tuple(SIGNED[i] for i in random.integers(0, len(SIGNED), words))
    for speed in np.linspace(1.0, 0.5, 11):
        chosen = replace(looks, speed=looks.speed * float(speed))
        signs, pauses = plan(glosses, chosen, np.random.default_rng(seed))
        spans, frames = spans_of(glosses, signs, pauses)
        if frames >= at_least:
            break
    return Clip(f"{split}-{index:04d}", split, signer, glosses, spans, frames, tuple(signs), tuple(pauses), seed)


def renamed(corpus: Corpus, glosses: Mapping[str, str], days: Sequence[str] = DAYS) -> Corpus:
    """The corpus with other glosses, and clips named after broadcasts."""

    def other(sample: Sample, number: int) -> Sample:
        words = tuple(glosses.get(gloss, gloss) for gloss in sample.glosses)
        return replace(sample, id=f"{days[number % len(days)]}-{number}", glosses=words)

    count, parts = 0, {}
    for split in ("train", "dev", "test"):
        parts[split] = tuple(other(sample, count + i) for i, sample in enumerate(corpus.split(split)))
        count += len(parts[split])
    every = [sample for part in parts.values() for sample in part]
    return replace(corpus, **parts, glosses=Vocabulary.from_samples(every))


def write_corpora(out: Path, clips: int) -> dict[str, Path]:
    """{layout: root} of the official trees below `out`, each with `clips` training clips and half as many of dev and
    test: Phoenix-2014 and -T (210x260 PNG), CSL-Daily (512x512 JPEG), CSL and Isharah-500 (JPEG; the one has no test
    split, the other's has no glosses)."""
    few = {"train": clips, "dev": max(2, clips // 2), "test": max(2, clips // 2)}
    drawn = draw(out / "drawn", few, 260, long="train")
    roots = {name: out / folder for name, folder in ROOTS.items()}
    german = renamed(drawn, GERMAN)
    phoenix = replace(german, train=(*german.train, replace(german.train[1], id=BROKEN)))
    export(phoenix, "phoenix2014", roots["phoenix2014"], show_progress=False)
    two = {split: 2 for split in few}
    export(renamed(_first(drawn, two), GERMAN), "phoenix2014-t", roots["phoenix2014-t"], show_progress=False)
    for split in ("dev", "test"):
        _write_stm(roots["phoenix2014"] / f"evaluation/phoenix2014-groundtruth-{split}.stm", phoenix.split(split))
    _double_blank(roots["phoenix2014"] / "annotations/manual/train.corpus.csv")
    _double_blank(roots["phoenix2014-t"] / "annotations/manual/PHOENIX-2014-T.train.corpus.csv")
    export(
        draw(out / "drawn512", {"train": 2, "dev": 1, "test": 1}, 512, seed=1),
        "csl-daily",
        roots["csl-daily"],
        show_progress=False,
    )
    export(_first(drawn, {"train": 2, "dev": 1, "test": 0}), "csl", roots["csl"], show_progress=False)
    export(_first(drawn, two), "isharah-500", roots["isharah-500"], show_progress=False)
    _without_glosses(roots["isharah-500"] / "annotations_v2/isharah500/SI/test.csv")
    return roots


ROOTS = {
    "phoenix2014": "phoenix-2014-multisigner",
    "phoenix2014-t": "PHOENIX-2014-T",
    "csl-daily": "csl-daily",
    "csl": "csl",
    "isharah-500": "isharah",
}


def _first(corpus: Corpus, clips: Mapping[str, int]) -> Corpus:
    """The last clips of each split: the long one is the first."""
    parts = {split: corpus.split(split) for split in clips}
    return replace(corpus, **{split: part[len(part) - clips[split] :] for split, part in parts.items()})


def _write_stm(path: Path, samples: Sequence[Sample]) -> None:
    """As the release has it: one line a clip, an open end."""
    lines = [f"{s.id} 1 {s.signer} 0.0 1.79769e+308 {' '.join(s.glosses)}" for s in sorted(samples, key=lambda s: s.id)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _double_blank(path: Path) -> None:
    """Two blanks between the first two glosses of the last row, as some official rows have them."""
    text = path.read_text(encoding="utf-8").splitlines()
    before, bar, last = text[-1].rstrip("|").rpartition("|")
    text[-1] = before + bar + last.replace(" ", "  ", 1) + "|" * (len(text[-1]) - len(text[-1].rstrip("|")))
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def _without_glosses(path: Path) -> None:
    """The challenge's test list: ids alone."""
    rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(["id", *(row.partition("|")[0] for row in rows[1:])]) + "\n", encoding="utf-8")


class Archive(torch.nn.Module):
    """OpenAI's archive: a TorchScript module in half precision with the whole CLIP's names and three more buffers."""

    def __init__(self, clip: torch.nn.Module, size: int):
        super().__init__()
        for name, child in clip.named_children():
            setattr(self, name, child)
        for name, parameter in clip.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        values = {"input_resolution": size, "context_length": 77, "vocab_size": 49408}
        for name, value in values.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.visual(images)


def write_archive(folder: Path, full: bool) -> tuple[str, Path]:
    """(backbone, archive): "ViT-B-16" at its own size, or a configuration file of its twelve blocks, 64 wide.

    The weights are random. Twelve blocks also in the small one: so every published spec's blocks exist in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    backbone, name = "ViT-B-16", "ViT-B-16-quickgelu"
    if not full:
        vision = {"image_size": 224, "layers": 12, "width": 64, "head_width": 32, "patch_size": 32}
        text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        content = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
        path = folder / "narrow-vit.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        open_clip.add_model_config(path)
        backbone, name = str(path), path.stem
    torch.manual_seed(0)
    clip = open_clip.create_model(name).eval()
    archive = torch.jit.trace(Archive(clip, 224), torch.zeros(1, 3, 224, 224), check_trace=False).half()
    archive.save(str(folder / "ViT-B-16.pt"))
    return backbone, folder / "ViT-B-16.pt"
