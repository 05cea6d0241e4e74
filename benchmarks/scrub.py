"""The explorer's slider: time from a new frame number to the pictures of that frame, after the first computation.

    python benchmarks/scrub.py [--out benchmarks/results/scrub.json]

Also: AdaptSign's encoder with its attentions recorded and not (in turns). All times are the process' CPU time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

import slakit
from slakit.models.methods.adaptsign_attention import Aggregation, CrossFrameAttention
from slakit.models.towers.weights import demo_model
from slakit.show import MapExplorer


def scrub(explorer: MapExplorer, frames: list[int]) -> list[float]:
    """Milliseconds of CPU for each frame."""
    times = []
    for t in frames:
        start = time.process_time()
        explorer.slider.value = t
        times.append(1000 * (time.process_time() - start))
    return times


def recording_cost(repeats: int = 15) -> dict:
    """Median milliseconds of AdaptSign's encoder on 64 frames with the switch off, with it on, and their ratio."""
    model = slakit.create_model("adaptsign", glosses=["A"], backbone="tiny-clip").eval()
    frames = torch.randint(0, 256, (64, 3, model.image_size, model.image_size), dtype=torch.uint8)
    switches = [m for m in model.modules() if isinstance(m, Aggregation | CrossFrameAttention)]
    times = {False: [], True: []}
    for _ in range(repeats):
        for recorded in (False, True):
            for module in switches:
                module.record = recorded
            start = time.process_time()
            with torch.no_grad():
                model.encode(frames, [64])
            times[recorded].append(1000 * (time.process_time() - start))
    off, on = (statistics.median(times[recorded]) for recorded in (False, True))
    return {"off_ms": round(off, 1), "on_ms": round(on, 1), "on_over_off": round(on / off, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = slakit.load_corpus("minisign", train=1, dev=1, test=12)
    model = slakit.load_checkpoint(demo_model("sla-lora"))
    start = time.process_time()
    explorer = MapExplorer({"sla-lora": model}, corpus.test[:2])
    first = 1000 * (time.process_time() - start)
    count = explorer.slider.max + 1
    times = scrub(explorer, [*range(1, count), *range(count - 2, -1, -1)])
    start = time.process_time()
    explorer.gloss.value = 1
    another = 1000 * (time.process_time() - start)
    start = time.process_time()
    explorer.gloss.value = 0
    back = 1000 * (time.process_time() - start)
    numbers = {
        "machine": {"cpu": cpu_name(), "torch": torch.__version__, "threads": 1},
        "frames": len(times), "frame_ms_median": round(statistics.median(times), 1),
        "frame_ms_95_percent": round(statistics.quantiles(times, n=20)[-1], 1), "frame_ms_most": round(max(times), 1),
        "first_view_ms": round(first), "another_gloss_ms": round(another), "back_to_a_gloss_ms": round(back, 1),
        "adaptsign_recording": recording_cost(),
    }  # fmt: skip
    print(json.dumps(numbers, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def cpu_name() -> str:
    """The processor as Linux names it, or the machine's kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
