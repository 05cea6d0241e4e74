"""Beam search: ours against flashlight-text's lexicon-free decoder, and its memory.

    python benchmarks/decoding.py      # pip install flashlight-text for the comparison; without it only our own times

All keep 10 prefixes and look at 40 of 1296 classes a frame; 50 time steps, the blank likeliest in most of them. One
process, one thread, the two in turns (A B A B ...), medians of processor time. flashlight's beam holds a prefix
twice (ending in blank, ending in its last token), so its best labelling is not always ctcdecode's and ours; how often
they agree is printed, too. Goals: 8 times faster for 32 clips and 10 times for one.
Memory: what the peak of a fresh process rises by while it decodes, beside the size of the input.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from data_formats import cpu_name

from slakit.decoding import beam_search

STEPS, CLASSES = 50, 1296
GOALS = {32: 8.0, 1: 10.0}  # clips at once: times faster
MEMORY = [(1296, 10), (1296, 40), (12960, 10), (12960, 40)]  # classes, beam width


def draw(batch: int, scale: float, classes: int = CLASSES, steps: int = STEPS) -> torch.Tensor:
    """Log probabilities [B, T, V]; scale 4 gives peaked ones, 1 flat ones."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, steps, classes, generator=generator) * scale
    logits[..., 0] += 4 * scale  # the blank
    return logits.log_softmax(-1)


def flashlight_search() -> Callable[[np.ndarray], list[tuple[int, ...]]] | None:
    """flashlight's lexicon-free decoder with our settings, [B, T, V] -> the best labelling of each clip; or None."""
    try:
        from flashlight.lib.text import decoder
    except ImportError:
        return None
    options = decoder.LexiconFreeDecoderOptions(
        beam_size=10, beam_size_token=40, beam_threshold=1e9, lm_weight=0.0, sil_score=0.0, log_add=True,
        criterion_type=decoder.CriterionType.CTC,
    )  # fmt: skip
    search = decoder.LexiconFreeDecoder(options, decoder.ZeroLM(), -1, 0, [])

    def decode(log_probs: np.ndarray) -> list[tuple[int, ...]]:
        frames = [search.decode(clip.ctypes.data, *clip.shape)[0].tokens for clip in log_probs]
        return [tuple(k for k, _ in itertools.groupby(tokens) if k > 0) for tokens in frames]

    return decode


def compare(batch: int, scale: float, repeats: int) -> dict[str, float]:
    """Milliseconds of each decoder, ratios, and the share of clips with flashlight's best labelling."""
    log_probs = draw(batch, scale)
    array = log_probs.numpy()
    ways: dict[str, Callable[[], list]] = {"numba": lambda: [best[0].tokens for best in beam_search(log_probs)]}
    flashlight = flashlight_search()
    if flashlight is not None:
        ways["flashlight"] = lambda: flashlight(array)
    answers = {name: way() for name, way in ways.items()}  # warms up and compiles
    calls = 32 // batch  # of a single clip many, so that a turn is long enough to be timed
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begin = time.process_time()
            for _ in range(calls):
                way()
            spent[name].append((time.process_time() - begin) / calls)
    times = {name: statistics.median(values) for name, values in spent.items()}
    row = {f"{name}_ms": round(1000 * value, 3) for name, value in times.items()}
    if flashlight is not None:
        row["numba_times_faster"] = round(times["flashlight"] / times["numba"], 2)
        same = [a == b for a, b in zip(answers["numba"], answers["flashlight"], strict=True)]
        row["same_best_as_flashlight"] = sum(same) / len(same)
    return row


def peak_megabytes() -> float:
    """The peak of this process so far (Linux counts in KiB, macOS in bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def memory(classes: int, width: int) -> dict[str, float]:
    """In this process: decode 8 clips of 400 steps; the peak's rise in MiB. Small clips first, to load and compile."""
    log_probs = draw(8, 4.0, classes, 400)
    beam_search(draw(2, 4.0, 64, 4), beam_width=width)
    # what drawing needed in passing is given back to the system, but stays in the peak: fill up to the peak first
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    ballast = np.ones(max(0, int(status["VmHWM"].split()[0]) - int(status["VmRSS"].split()[0])) * 128)
    before = peak_megabytes()
    beam_search(log_probs, beam_width=width)
    after = peak_megabytes()
    del ballast
    return {"input_mib": round(log_probs.numel() * 4 / 2**20, 1), "rise_mib": round(after - before, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "decoding.json")
    parser.add_argument("--memory", nargs=2, type=int, help=argparse.SUPPRESS)  # classes, width: the child process
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.memory:
        print(json.dumps(memory(*given.memory)))
        return
    rows = []
    for batch in (32, 1):
        for name, scale in (("peaked", 4.0), ("flat", 1.0)):
            row = {"batch": batch, "distribution": name, **compare(batch, scale, given.repeats)}
            rows.append(row)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            if "numba_times_faster" in row:
                print(f"    {row['numba_times_faster']} times flashlight's speed (goal {GOALS[batch]:g})")
    if "flashlight_ms" not in rows[0]:
        print("flashlight-text is not installed (pip install flashlight-text): nothing compared, nothing written")
        return
    peaks = []
    if Path("/proc/self/status").exists():
        for classes, width in MEMORY:
            command = [sys.executable, __file__, "--memory", str(classes), str(width)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            peaks.append({"classes": classes, "beam_width": width, **found})
            print("  ".join(f"{key} {value}" for key, value in peaks[-1].items()), flush=True)
    machine = {"cpu": cpu_name(), "torch": torch.__version__, "threads": 1}
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps({**machine, "speed": rows, "memory": peaks}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
