"""make fuzz: mutated files over all readers for some minutes; what ended raw or hung is kept.

python tests/fuzz/long_run.py --minutes 5 [--only video picture] [--seed 0] [--inputs 100000]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from mutations import CANARY, mutated
from readers import READERS, attempt


def peak() -> float:
    """The most memory this process has had, in MiB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def run(
    minutes: float,
    only: Sequence[str] = (),
    seed: int = 0,
    inputs: int | None = None,
    out: Path = Path("fuzz"),
    report: Callable[[str], None] = print,
) -> dict[str, Counter]:
    """Outcomes by reader. Every reader gets the same share of the time; a kind of failure is kept once, in `out`."""
    names = list(only) or list(READERS)
    counts = {name: Counter() for name in names}
    kinds: set[str] = set()
    share, wanted = 60 * minutes / len(names), None if inputs is None else -(-inputs // len(names))
    for name in names:
        reader, before = READERS[name], peak()
        with tempfile.TemporaryDirectory(prefix="slakit-fuzz-") as folder:
            place = Path(folder)
            files = {file: (place / file).read_bytes() for file in reader.make(place)}
            others, order = [*files.values()], sorted(files)
            attempt(reader, place, order[0], 600.0)  # what is imported at first is not counted
            stop, number = time.monotonic() + share, 0
            while time.monotonic() < stop and (wanted is None or number < wanted):
                file = order[number % len(order)]
                content = mutated(files[file], others, seed * 10**9 + number)
                (place / file).write_bytes(content)
                outcome, said = attempt(reader, place, file)
                counts[name][outcome] += 1
                if outcome in ("raw", "hung"):
                    last = said.strip().splitlines()[-1][:60] + said.strip().splitlines()[-3 if "\n" in said else -1]
                    if (kind := hashlib.sha256(f"{name} {outcome} {last}".encode()).hexdigest()[:8]) not in kinds:
                        kinds.add(kind)
                        out.mkdir(parents=True, exist_ok=True)
                        (out / f"{name}-{outcome}-{kind}{Path(file).suffix}").write_bytes(content)
                        (out / f"{name}-{outcome}-{kind}.txt").write_text(f"{file}\n{said}", encoding="utf-8")
                number += 1
                for other in order:  # reading may have moved or removed something
                    if other != file and not (place / other).exists():
                        (place / other).write_bytes(files[other])
                (place / file).write_bytes(files[file])
        line = ", ".join(f"{count} {word}" for word, count in sorted(counts[name].items()))
        report(f"{name:<18}{sum(counts[name].values()):>8} tried: {line}; memory {before:.0f} -> {peak():.0f} MiB")
    total = sum(counts.values(), Counter())
    report(f"{'all':<18}{sum(total.values()):>8} tried: {dict(total)}; most memory {peak():.0f} MiB")
    report("nothing was run" if not os.path.exists(CANARY) else f"A FILE WAS RUN: {CANARY} is there")
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--only", nargs="*", default=(), choices=sorted(READERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, help="stop after about so many")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="where inputs that ended raw or hung are kept")
    chosen = parser.parse_args()
    found = run(chosen.minutes, chosen.only, chosen.seed, chosen.inputs, chosen.out)
    bad = sum(found.values(), Counter())
    sys.exit(1 if bad["raw"] or bad["hung"] or os.path.exists(CANARY) else 0)
