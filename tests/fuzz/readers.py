"""Everything that slakit reads from outside, as a table: a sound example of each, and the function that reads it.

A reader is right if it returns, or says in one sentence of a SlakitError what is wrong. `attempt` holds it to that.
"""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import media

from slakit.records import Corpus, Sample, SlakitError, Vocabulary

GLOSSES = ("HELLO", "WORLD", "ÄRGER")
LONGEST = 4000  # characters of a sentence
SECONDS = 20.0  # of computing, after which an input counts as hung


@dataclass(frozen=True)
class Reader:
    """make(folder) writes sound files and returns the names of those that are damaged; read(folder, name) reads."""

    make: Callable[[Path], list[str]]
    read: Callable[[Path, str], Any]
    kind: str = "bytes"  # what hypothesis builds: "json", "yaml", "lines", or mutated bytes alone


def one(name: str, content: bytes | str) -> Callable[[Path], list[str]]:
    """A sound file of this content."""

    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return [name]

    return make


# ---- what is made


def _corpus(folder: Path) -> Corpus:
    clip = media.write_video(folder / "clip.mp4", media.pictures(4, 32, 32))
    clips = [Sample(f"c{i}", clip, GLOSSES[: 1 + i % 3], f"S{i % 2}", num_frames=4) for i in range(4)]
    return Corpus("folder", folder, tuple(clips[:2]), (clips[2],), (clips[3],), Vocabulary(GLOSSES))


def _layout(layout: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        import layouts

        (source := folder / "source").mkdir()
        layouts.export(_corpus(source), layout, folder / "corpus", size=(32, 32), show_progress=False)
        texts = [p for p in (folder / "corpus").rglob("*") if p.suffix in (".csv", ".txt", ".pkl") and p.is_file()]
        return [str(path.relative_to(folder)) for path in texts]

    return make


def _prepared(folder: Path) -> list[str]:
    from slakit.data.prepare import prepare

    prepare(_corpus(folder), folder / "prepared", size=32, show_progress=False)
    return ["prepared/train.index.npz", "prepared/train.frames"]


def _read_prepared(folder: Path, _: str) -> None:
    from slakit.data.video.packed import open_split

    split = open_split(folder / "prepared" / "train.frames")
    for clip in list(split.clips)[:4]:
        with contextlib.suppress(SlakitError):
            split.read(clip)


def _tiny(definition: Path):
    from slakit.models import create_model

    vision = {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    definition.write_text(json.dumps({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}))
    return create_model("sla-lora", GLOSSES, str(definition), None, hidden_size=4, rank=2, n_div=2)


def _checkpoint(folder: Path) -> list[str]:
    from slakit.models import save_checkpoint

    model = _tiny(folder / "fuzz-tower.json")
    return [save_checkpoint(model, folder / "x", corpus="toy", metrics={"wer": {"dev": 3.0}}).name]


def _pair(folder: Path) -> list[str]:
    from safetensors import safe_open
    from safetensors.torch import save_file

    from slakit.models.checkpoints import load_tensors

    (name,) = _checkpoint(folder)
    with safe_open(folder / name, "pt") as content:
        description = json.loads(content.metadata()["slakit"])
    del description["checksum"]  # which would tell of every change: as slakit 0.1 wrote it
    (folder / "pair").mkdir()
    save_file(load_tensors(folder / name), folder / "pair" / "model.safetensors")
    (folder / "pair" / "model.json").write_text(json.dumps(description))
    return ["pair/model.json", "pair/model.safetensors"]


def _read_checkpoint(folder: Path, name: str) -> None:
    from slakit.models import load_checkpoint
    from slakit.models.description import describe, read_description

    path = folder / "pair" if name.startswith("pair") else folder / name
    describe(read_description(path), path)
    load_checkpoint(path)


def _weights(folder: Path) -> list[str]:
    import torch
    from safetensors.torch import save_file

    model = _tiny(folder / "fuzz-tower.json")
    state = {f"visual.{name}": value for name, value in model.state_dict().items() if "backbone" in name}
    save_file(state, folder / "w.safetensors")
    torch.save({"state_dict": state, "epoch": 3}, folder / "w.pt")
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    return ["w.safetensors", "w.pt", "old.pt"]


def _read_weights(folder: Path, name: str) -> None:
    from slakit.models.towers.weights import quick_gelu, read_tower_weights

    quick_gelu(folder / name)
    read_tower_weights(folder / name)


def _read_definition(folder: Path, name: str) -> None:
    from slakit.models.towers.definition import read_definition

    read_definition(folder / name)


def _definition(folder: Path) -> list[str]:
    _tiny(folder / "fuzz-tower.json")
    return ["fuzz-tower.json"]


def _gloss_dict(folder: Path) -> list[str]:
    entries = {gloss: [number, 3] for number, gloss in enumerate(GLOSSES, 1)}
    np.save(folder / "gloss_dict.npy", np.array(entries, dtype=object), allow_pickle=True)
    return ["gloss_dict.npy"]


def _read_gloss_dict(folder: Path, name: str) -> None:
    from slakit.models.adaptsign_import import read_gloss_dict

    read_gloss_dict(folder / name)


def _read_released(folder: Path, name: str) -> None:
    from slakit.models.adaptsign_import import load_adaptsign_checkpoint

    load_adaptsign_checkpoint(folder / name, {gloss: [number, 3] for number, gloss in enumerate(GLOSSES, 1)})


def _state(folder: Path) -> list[str]:
    import torch

    from slakit.training.folder import RunFolder

    for epoch in (1, 2):
        RunFolder(folder, {"seed": 1}).save({"epoch": epoch, "weights": {"w": torch.ones(2)}})
    return ["state.pt"]


def _read_state(folder: Path, _: str) -> None:
    from slakit.training.folder import RunFolder

    RunFolder(folder, {"seed": 1}).load()


def _read_settings(folder: Path, name: str) -> None:
    from slakit.command_line import run_config

    run_config(str(folder / name))


def _read_spec(folder: Path, name: str) -> None:
    from slakit.sweeps.spec import load_spec, variants_of

    variants_of(folder / name)
    load_spec(folder / name).points()


def _read_value(folder: Path, name: str) -> None:
    from slakit.sweeps.command import read_pairs

    with contextlib.suppress(UnicodeDecodeError):  # what the shell passes on is text
        read_pairs([("x", (folder / name).read_text(encoding="utf-8"))])


def _read_stm(folder: Path, name: str) -> None:
    from slakit.scoring import read_stm

    read_stm(folder / name)


def _read_ctm(folder: Path, name: str) -> None:
    from slakit.scoring import read_ctm, score

    found = read_ctm(folder / name)
    score(found, found)


def _read_arpa(folder: Path, name: str) -> None:
    from slakit.decoding import NgramLanguageModel

    NgramLanguageModel.from_arpa(folder / name, Vocabulary(GLOSSES))


def _read_corpus(layout: str) -> Callable[[Path, str], None]:
    def read(folder: Path, _: str) -> None:
        from slakit import load_corpus

        load_corpus(layout, root=folder / "corpus")

    return read


def _pickle(folder: Path) -> list[str]:
    rows = [{"name": f"S{i}", "signer": i, "label_gloss": list(GLOSSES)} for i in range(3)]
    (folder / "x.pkl").write_bytes(pickle.dumps({"info": rows, "gloss_map": set(GLOSSES)}))
    return ["x.pkl"]


def _read_pickle(folder: Path, name: str) -> None:
    from slakit.data.corpora.pickles import load_plain_pickle

    load_plain_pickle(folder / name)


def _videos(folder: Path) -> list[str]:
    media.write_video(folder / "v.mp4", media.pictures(5, 32, 48))
    media.write_video(folder / "v.mkv", media.pictures(5, 32, 48))
    media.write_video(folder / "v.avi", media.pictures(5, 32, 48), codec="mpeg4")
    frames = [Image.fromarray(picture) for picture in media.pictures(3, 32, 48)]
    frames[0].save(folder / "v.gif", save_all=True, append_images=frames[1:])
    return ["v.mp4", "v.mkv", "v.avi", "v.gif"]


def _read_video(folder: Path, name: str) -> None:
    from slakit.data.video.read import probe_video, read_frames

    probe_video(folder / name, seconds=10)
    read_frames(folder / name, on_damage="keep-readable", max_bytes=2**28)


FORMATS = {"png": "PNG", "jpg": "JPEG", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF", "ppm": "PPM"}


def _pictures(folder: Path) -> list[str]:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(media.pictures(1, 24, 20)[0])
    for suffix, name in FORMATS.items():
        picture.save(folder / f"f.{suffix}", name, **({"exif": exif} if suffix in ("png", "jpg", "webp") else {}))
    picture.quantize(4).save(folder / "palette.png")
    picture.save(folder / "packed.tif", compression="tiff_lzw")
    return [*(f"f.{suffix}" for suffix in FORMATS), "palette.png", "packed.tif"]


def _read_picture(folder: Path, name: str) -> None:
    from slakit.data.video.images import image_size, read_image

    with contextlib.suppress(SlakitError):
        image_size(folder / name)
    read_image(folder / name)


def _minisign(folder: Path) -> list[str]:
    from slakit.minisign.corpus import build

    built = build(folder, progress=False, workers=1, train=1, dev=1, test=1, size=32)
    built.rename(folder / "built")
    return ["built/manifest.json", *(f"built/annotations/{n}" for n in ("train.csv", "spans.csv", "glosses.txt"))]


def _read_minisign(folder: Path, _: str) -> None:
    from slakit.data.corpora.minisign import load

    if (folder / "built" / "manifest.json").is_file():
        load(folder / "built")


SETTINGS = {
    "preset": "sla-lora/minisign", "root": "/data", "corpus_options": {"seed": 1},
    "model": {"options": {"rank": 4, "blocks": "2-4"}, "hidden_size": 64},
    "train": {"batch_size": 4, "learning_rate": 1e-4, "milestones": [1, 2], "augment": {"crop_size": 84}},
}  # fmt: skip
SPEC = """notebook: notebooks/12_ablation_run.ipynb
base: &base {preset: sla-lora/minisign, train_options: {epochs: 2}}
cases: {shift: {}, no shift: {model.options.temporal_shift: false}}
grid: {model.options.rank: [4, 16], train.epochs: 20}
seeds: [0, 1]
resources: {gpus: 1, hours: 1e1}
expect: [{rank: 16, case: shift, dev_wer: 19.7}]
variants: {small: {base: *base}}
"""
STM = ";; comment\na 1 S0 0.0 1.5 <O> HELLO WORLD\nb 1 S1 0 1.79769e+308 ÄRGER\n"
CTM = "a 1 0.00 0.10 HELLO 0.9\na 1 0.10 0.10 WORLD 0.5\nb 1 0.00 0.10 ÄRGER\n"
ARPA = """\\data\\
ngram 1=6
ngram 2=2

\\1-grams:
-1.0\t<unk>\t-0.3
-1.0\t<s>\t-0.3
-1.0\t</s>
-0.5\tHELLO\t-0.3
-0.7\tWORLD\t-0.2
-0.9\tÄRGER

\\2-grams:
-0.3\t<s> HELLO
-0.4\tHELLO WORLD

\\end\\
"""

READERS: dict[str, Reader] = {
    "settings": Reader(one("run.json", json.dumps(SETTINGS)), _read_settings, "json"),
    "spec": Reader(one("study.yaml", SPEC), _read_spec, "yaml"),
    "value": Reader(one("value.yaml", "[1, {a: &x 1e-4, b: *x}, 'text']"), _read_value, "yaml"),
    "stm": Reader(one("x.stm", STM), _read_stm, "lines"),
    "ctm": Reader(one("x.ctm", CTM), _read_ctm, "lines"),
    "arpa": Reader(one("x.arpa", ARPA), _read_arpa, "lines"),
    "checkpoint": Reader(_checkpoint, _read_checkpoint),
    "description": Reader(_pair, _read_checkpoint, "json"),
    "definition": Reader(_definition, _read_definition, "json"),
    "weights": Reader(_weights, _read_weights),
    "released weights": Reader(_weights, _read_released),
    "gloss dictionary": Reader(_gloss_dict, _read_gloss_dict),
    "training state": Reader(_state, _read_state),
    "pickle": Reader(_pickle, _read_pickle),
    "video": Reader(_videos, _read_video),
    "picture": Reader(_pictures, _read_picture),
    "prepared": Reader(_prepared, _read_prepared),
    "minisign": Reader(_minisign, _read_minisign, "lines"),
    **{
        layout: Reader(_layout(layout), _read_corpus(layout), "lines")
        for layout in ("phoenix2014", "phoenix2014-t", "csl-daily", "csl", "isharah-500", "ce-csl", "gsl-si", "folder")
    },
}


# ---- how it is held to its word


class Hung(BaseException):
    """Reading computed longer than it may; no `except Exception` may swallow it."""


def attempt(reader: Reader, folder: Path, name: str, seconds: float = SECONDS) -> tuple[str, str]:
    """("read" | "refused" | "raw" | "hung", what was said): one reading of folder / name."""

    def stop(*_: object) -> None:
        raise Hung

    begin = time.perf_counter()
    alarm = signal.signal(signal.SIGPROF, stop) if hasattr(signal, "SIGPROF") else None
    try:
        if alarm is not None:
            signal.setitimer(signal.ITIMER_PROF, seconds)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            reader.read(folder, name)
    except SlakitError as error:
        sentence = str(error)
        if "\n" in sentence.strip() or len(sentence) > LONGEST or not sentence.strip():
            return "raw", f"no one sentence ({len(sentence)} characters): {sentence[:300]!r}"
        return "refused", sentence
    except Hung:
        return "hung", f"after {time.perf_counter() - begin:.0f} s\n{traceback.format_exc()[-1500:]}"
    except BaseException:
        return "raw", traceback.format_exc()[-1500:]
    finally:
        if alarm is not None:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, alarm)
    return "read", ""
