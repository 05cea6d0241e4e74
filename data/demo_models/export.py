"""Makes a shipped demo model from a finished run of the sweep that measures the demo.

    python -m slakit sweep demo_spread --only seed=0 --only threads=1 --jobs 2
    python data/demo_models/export.py papermill_runs/out/demo_spread/*threads=1_seed=0_*

Writes data/demo_models/<method>.safetensors: the trained weights in half precision, and in its header a description
with the word error rates of these very weights on all of dev and test, measured again after the rounding.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import slakit
from slakit.recognition import training_features
from slakit.recognition.likeness import KEY

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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+", help="folders of finished runs")
    for folder in parser.parse_args().run:
        export(folder)
