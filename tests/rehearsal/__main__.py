"""python -m tests.rehearsal [--size small|full] [--device cpu|cuda] [--work FOLDER] [--only STEP …]

Every command of README and data/README in their order, on corpora of real frame size in the official trees, from a
folder outside the checkout. small: a narrow tower on a CPU, minutes; full: ViT-B/16, made for one GPU. Each step checks
what came out. The table at the end says what held; the exit code is the number of steps that did not.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from tests.rehearsal.steps import ONLY_FULL, STEPS
from tests.rehearsal.walk import Walk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal")
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--work", type=Path, help="a folder that is kept (default: one that is not)")
    parser.add_argument("--only", nargs="*", default=[], metavar="STEP", help="these, and what they need")
    parser.add_argument("--jobs", type=int, default=2, help="steps at a time, and runs of a sweep")
    parser.add_argument("--every-spec", action="store_true", help="one run of each spec, as in full, not of one alone")
    chosen = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" ignores it, and so would what we stop
    every = set(STEPS) if chosen.size == "full" else set(STEPS) - ONLY_FULL
    wanted = {name for step in chosen.only for name in _with_needs(step)} or every
    with tempfile.TemporaryDirectory(prefix="slakit-rehearsal-") as folder:
        work, full = (chosen.work or Path(folder)).resolve(), chosen.size == "full"
        walk = Walk(work, full, chosen.device, chosen.jobs, chosen.every_spec)
        return walk.walk([step for name, step in STEPS.items() if name in wanted])


def _with_needs(name: str) -> set[str]:
    return {name}.union(*map(_with_needs, STEPS[name].needs))


if __name__ == "__main__":
    sys.exit(main())
