"""Makes a shipped demo model from a finished run of the quickstart notebook.

    python -m slakit demo -p method sla-lora --out papermill_runs/out/sla-lora-0
    python data/demo_models/export.py papermill_runs/out/sla-lora-0

`frozen` is trained with `-p method frozen -p warm_start_epochs 150`. A run of a sweep will do as well: `adaptsign` is
seed 0 of `slakit sweep clip_sla_table1 --variant minisign`, a reduced run on half of the clips.

Writes data/demo_models/<method>.safetensors: the trained weights in half precision, and in its header a description
with the word error rates of these very weights, measured again after the rounding. A folder of that name, as earlier
models have it, is to be deleted then.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import slakit

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
    slakit.save_checkpoint(model, target, half=True, metrics={"wer": wer}, **about)
    print(f"{method}: WER dev {wer['dev']:.2f} %, test {wer['test']:.2f} %; {target}")
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="+", help="folders that `python -m slakit demo --out` wrote")
    for folder in parser.parse_args().run:
        export(folder)
