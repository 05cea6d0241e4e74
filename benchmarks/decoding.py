"""Beam search: ours (numba, batched torch) against flashlight-text's lexicon-free decoder, one thread.

    python benchmarks/decoding.py      # prints ratios; without flashlight-text (pip install flashlight-text) only times

Both keep 10 prefixes and look at 40 of 1296 classes a frame; 50 time steps. flashlight's beam keeps a prefix twice
(ending in blank or not), so its answers are not ctcdecode's; the time is what is compared.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from slakit.decoding import beam_search

STEPS, CLASSES = 50, 1296


def milliseconds(call, repeats: int) -> float:
    """Median wall time of a call, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def flashlight_decoder():
    """Its lexicon-free decoder with our settings, or None."""
    try:
        from flashlight.lib.text import decoder
    except ImportError:
        return None
    options = decoder.LexiconFreeDecoderOptions(
        beam_size=10, beam_size_token=40, beam_threshold=1e9, lm_weight=0.0, sil_score=0.0, log_add=True,
        criterion_type=decoder.CriterionType.CTC,
    )  # fmt: skip
    return decoder.LexiconFreeDecoder(options, decoder.ZeroLM(), -1, 0, [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    flashlight = flashlight_decoder()
    if flashlight is None:
        print("flashlight-text is not installed: only our own times follow")
    rows = []
    for batch in (32, 1):
        for name, scale in (("peaked", 4.0), ("flat", 1.0)):
            generator = torch.Generator().manual_seed(0)
            log_probs = (torch.randn(batch, STEPS, CLASSES, generator=generator) * scale).log_softmax(-1)
            row = {"batch": batch, "distribution": name}
            for backend in ("numba", "torch"):
                row[backend + "_ms"] = milliseconds(lambda: beam_search(log_probs, backend=backend), arguments.repeats)  # noqa: B023
            if flashlight is not None:
                array = log_probs.numpy()
                row["flashlight_ms"] = milliseconds(
                    lambda: [flashlight.decode(clip.ctypes.data, STEPS, CLASSES) for clip in array],  # noqa: B023
                    arguments.repeats,
                )
                row["numba_times_faster"] = row["flashlight_ms"] / row["numba_ms"]
                row["torch_times_faster"] = row["flashlight_ms"] / row["torch_ms"]
            rows.append(row)
            print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if arguments.out:
        machine = f"{platform.processor() or platform.machine()}, one thread, torch {torch.__version__}"
        arguments.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
