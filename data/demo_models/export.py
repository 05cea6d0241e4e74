"""Makes a shipped demo model from a finished run of the quickstart notebook.

    python -m slakit demo -p method sla-lora --out papermill_runs/out/sla-lora-0
    python data/demo_models/export.py papermill_runs/out/sla-lora-0

`frozen` is trained with `-p method frozen -p warm_start_epochs 150`. A run of a sweep will do as well: `adaptsign` is
seed 0 of `slakit sweep clip_sla_table1 --variant minisign`, a reduced run on half of the clips.

Writes data/demo_models/<method>.safetensors: the trained weights in half precision, and in its header a description
with the word error rates of these very weights, measured again after the rounding. A folder of that name, as earlier
models have it, is to be deleted then. A model that was made before checkpoints kept how their training clips look gets
that by `--features sla-lora`; its weights stay to the bit.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import slakit
from slakit.models.checkpoints import add_to_description, load_tensors, read_description
from slakit.models.description import checksum
from slakit.recognition import settings_for, training_features
from slakit.recognition.likeness import KEY
from slakit.records import write_atomically

HERE = Path(__file__).resolve().parent


def export(run: Path) -> Path:
    """Round, save, load again, score on dev and test; returns the file written."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    method = metrics["method"]
    history = (run / "run" / "history.jsonl").read_text(encoding="utf-8").splitlines()
    clips = json.loads(history[-1])["clips"]
    corpus = slakit.load_corpus("minisign")
    model = slakit.load_checkpoint(run / "run" / "best", glosses=corpus.glosses)
    about = {
        "corpus": "minisign",
        "trained_on": f"{clips} drawn clips of MiniSign, signs of no sign language; encoder tiny-clip",
        "seed": metrics["seed"],
        "best_epoch": metrics["best_epoch"],
    }
    target = slakit.save_checkpoint(model, HERE / method, half=True, **about)
    rounded, settings = slakit.load_checkpoint(target), slakit.preset(f"{method}/minisign").train
    wer = {
        split: round(slakit.evaluate(rounded, corpus.split(split), corpus.name, settings=settings).wer, 2)
        for split in ("dev", "test")
    }
    features = {KEY: training_features(rounded, corpus.train, corpus.dev, settings=settings)}
    slakit.save_checkpoint(model, target, half=True, metrics={"wer": wer}, **about, **features)
    print(f"{method}: WER dev {wer['dev']:.2f} %, test {wer['test']:.2f} %; {target}")
    return target


def add_features(method: str) -> None:
    """Into the description of the model that is there, one file or two."""
    corpus, model = slakit.load_corpus("minisign"), slakit.load_checkpoint(HERE / method)
    added = {KEY: training_features(model, corpus.train, corpus.dev, settings=settings_for(model))}
    if not (text_file := HERE / method / "model.json").is_file():
        return add_to_description(HERE / method, **added)
    description = {**read_description(text_file), **added}
    description["checksum"] = checksum(description, load_tensors(HERE / method))
    rows = (f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in description.items())
    write_atomically(text_file, "{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="*", help="folders that `python -m slakit demo --out` wrote")
    parser.add_argument("--features", nargs="*", default=(), metavar="METHOD", help="models that are here already")
    arguments = parser.parse_args()
    for folder in arguments.run:
        export(folder)
    for name in arguments.features:
        add_features(name)
