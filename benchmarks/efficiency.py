"""What each method costs: AdaptSign's Table 1 and CLIP-SLA's Table 2, measured by the kit on this machine.

    OMP_NUM_THREADS=1 python benchmarks/efficiency.py            # ViT-B/16, about two minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/efficiency.py --tiny     # the demo's encoder, half a minute

Whole training steps (forward, losses, backward, optimiser) on one clip of noise; weights are random, which costs the
same. The methods take turns, round after round, and the medians are kept; ratios are to the frozen encoder. Processor
time on a CPU, waited-for time on a GPU. Operations: a multiply-add counts as two, per frame, at inference.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from data_formats import cpu_name

from slakit.models.recognizer import build_model
from slakit.sweeps.costs import measure
from slakit.training.presets import preset

# Name, preset, and the step time that AdaptSign's Table 1 gives (3090, batch of 2), relative to freezing.
METHODS = [
    ("frozen", "frozen", {}, 1.0),
    ("partial-1", "partial", {"num_blocks": 1}, 0.31 / 0.28),
    ("partial-2", "partial", {"num_blocks": 2}, 0.34 / 0.28),
    ("full", "full", {}, 0.65 / 0.28),
    ("sla-lora", "sla-lora", {}, None),
    ("sla-adapter", "sla-adapter", {}, None),
    ("adaptsign", "adaptsign", {}, 0.31 / 0.28),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="the demo's encoder instead of ViT-B/16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, help="of the clip (ViT-B/16: 8, tiny: 48)")
    options = parser.parse_args()
    corpus, glosses = ("minisign", 31) if options.tiny else ("phoenix2014", 1295)
    frames = options.frames or (48 if options.tiny else 8)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models, rounds = {}, {name: [] for name, *_ in METHODS}
    for name, method, changes, _ in METHODS:
        config = preset(f"{method}/{corpus}")
        model = replace(config.model, options=config.model.options | changes)
        model = model if options.tiny else replace(model, pretrained=None)
        models[name] = build_model(model, [f"G{i}" for i in range(glosses)]).to(device), config.train
    for _ in range(options.rounds):
        for name, (model, train) in models.items():
            rounds[name].append(measure(model, replace(train, batch_size=1), frames=frames, steps=1))
    rows = []
    print(f"{'':<12}{'trained':>12}{'GFLOP/frame':>13}{'step s':>9}{'ratio':>8}{'paper':>7}{'kept MiB/frame':>16}")
    for name, _, _, paper in METHODS:
        step = statistics.median(found["step_seconds"] for found in rounds[name])
        first = rows[0]["step_seconds"] if rows else step
        last = rounds[name][-1]
        row = {"method": name, "trainable": last["trainable"], "encoder_gflops": round(last["encoder_gflops"], 4)}
        row |= {"step_seconds": round(step, 3), "step_ratio": round(step / first, 2), "paper_step_ratio": paper}
        row |= {"kept_mb_per_frame": round(last["kept_mb_per_frame"], 2), "peak_memory_mb": last["peak_memory_mb"]}
        rows.append(row)
        shown = "" if paper is None else f"{paper:.2f}"
        print(
            f"{name:<12}{row['trainable']:>12,}{row['encoder_gflops']:>13.3f}{row['step_seconds']:>9.3f}"
            f"{row['step_ratio']:>8.2f}{shown:>7}{row['kept_mb_per_frame']:>16.2f}"
        )
    machine = torch.cuda.get_device_name() if device == "cuda" else f"{cpu_name()}, {torch.get_num_threads()} thread(s)"
    content = {
        "encoder": "tiny-clip" if options.tiny else "ViT-B-16", "frames": frames, "machine": machine,
        "torch": torch.__version__, "methods": rows,
    }  # fmt: skip
    path = Path(__file__).parent / "results" / f"efficiency{'_tiny' if options.tiny else ''}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
