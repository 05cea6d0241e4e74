"""Do the maps tell the truth? Deletion and insertion, randomised weights and the pointing game, for the demo models.

    python benchmarks/maps.py                                                # all shipped models, 1 to 2.5 minutes each
    python benchmarks/maps.py --methods sla-lora --clips 4 --few 2 --out quick.json  # a quick look

The demo's test clips of MiniSign (signers and sentences never seen in training). All intervals: 95 %, bootstrap over
clips. Each method's part of the results file is replaced and says which model it was measured with (seed, epoch, WER);
parts of models that are no longer shipped go.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

import slakit
from slakit import explain
from slakit.explain import maps_of
from slakit.machine import progress
from slakit.models.towers.weights import demo_model, demo_models

KINDS = ("grad-cam", "gradient x token", "relevance", "attention", "rollout")
FRACTIONS = (0.0, 0.1, 0.4, 1.0)
REGIONS = ("hands", "face", "hands or face")


def pointing(model, corpus, samples) -> dict:
    """Per kind and region: how often the peak lies there, over the frames of all true glosses; and two chances."""
    hits, frames = defaultdict(list), []
    for sample in progress(samples, "pointing game"):
        seen = explain.watch(model, sample.source)
        targets = explain.targets_of(seen, model.vocabulary.encode(sample.glosses))
        places = explain.signer_places(corpus, sample, model.image_size)
        inside = np.concatenate([np.arange(s.start, s.end) for s in sample.spans])
        frames.append(len(inside))
        for region in REGIONS:
            points, radius = places.only(region)
            by_chance = explain.chance_hits(seen.grid, points, model.image_size, radius)
            hits["a random patch", region].append(by_chance[inside].mean())
        for kind in KINDS:
            maps = maps_of(seen, targets, kind)
            signed = np.concatenate([m[s.start : s.end] for m, s in zip(maps, sample.spans, strict=True)])
            moved = signed[np.random.default_rng(0).permutation(len(signed))]  # the same peaks, at other times
            for region in REGIONS:
                points, radius = (values[inside] for values in places.only(region))
                for name, values in ((kind, signed), (f"{kind}, frames shuffled", moved)):
                    hits[name, region].append(explain.peak_hits(values, points, model.image_size, radius).mean())
    found = defaultdict(dict)
    for (name, region), values in hits.items():
        found[name][region] = estimate(values, frames)
    return found


def curves(model, samples) -> dict:
    """Per kind: mean gain over random orders, for the middle recognised gloss of each clip."""
    gains = defaultdict(lambda: defaultdict(list))
    for sample in progress(samples, "deletion and insertion"):
        seen = explain.watch(model, sample.source)
        if not seen.tokens:
            continue
        target = explain.targets_of(seen)[len(seen.tokens) // 2]
        random = {}
        for kind in KINDS:
            values = maps_of(seen, [target], kind)[0]
            for name, unit, order in (
                ("deletion", "patches", values),
                ("insertion", "patches", values),
                ("deletion", "frames", explain.frame_energy(values)),
            ):
                if unit == "frames" and kind in ("attention", "rollout"):
                    continue  # every frame's weights sum to the same: no order of frames
                curve = explain.masking_curve(
                    seen, target, order, name, fractions=FRACTIONS, repeats=2, random=random.get((name, unit))
                )
                random[name, unit] = curve.random
                gains[kind][f"{name} of {unit}"].append(curve.gain)
    return {kind: {name: estimate(values) for name, values in rows.items()} for kind, rows in gains.items()}


def sanity(model, samples) -> dict:
    """Per kind: rank correlation with the map of a model whose weights are shuffled, and of another gloss."""
    others = {stage: explain.randomised(model, stage) for stage in ("head", "trained", "all")}
    found = defaultdict(lambda: defaultdict(list))
    for sample in progress(samples, "randomised weights"):
        seen = explain.watch(model, sample.source)
        if len(set(seen.tokens)) < 2:
            continue
        tokens = seen.tokens[:2] if seen.tokens[0] != seen.tokens[1] else seen.tokens[-2:]
        targets = explain.targets_of(seen)[: len(tokens)]
        changed = {stage: explain.watch(other, sample.source) for stage, other in others.items()}
        for kind in KINDS:
            maps = maps_of(seen, targets, kind)
            for stage, other in changed.items():
                again = maps_of(other, targets[:1], kind)[0]
                found[kind][f"weights shuffled: {stage}"].append(explain.similarity(maps[0], again))
            found[kind]["another gloss"].append(explain.similarity(maps[0], maps[1]))
    return {kind: {name: estimate(values) for name, values in rows.items()} for kind, rows in found.items()}


def estimate(values, weights=None) -> dict:
    """The mean and its interval, rounded for the file."""
    found = explain.bootstrap(values, weights)
    return {
        "mean": round(found.mean, 4),
        "low": round(found.low, 4),
        "high": round(found.high, 4),
        "clips": found.clips,
    }


def cpu_name() -> str:
    """The processor as Linux names it, or the machine's kind."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=demo_models(), help="default: all that are shipped")
    parser.add_argument("--clips", type=int, default=12, help="test clips of the pointing game")
    parser.add_argument("--few", type=int, default=12, help="test clips of the curves and of the randomised weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "maps.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus = slakit.load_corpus("minisign", train=640, dev=100, test=300)
    samples = corpus.test[: arguments.clips]
    few = corpus.test[: arguments.few]
    before = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    results = {key: part for key, part in before.items() if key in demo_models()}
    results["machine"] = {"cpu": cpu_name(), "torch": torch.__version__, "threads": 1}
    results["about"] = "MiniSign test clips; means with 95 % bootstrap intervals over clips; see benchmarks/maps.py"
    for method in arguments.methods or demo_models():
        model, begin = slakit.load_checkpoint(demo_model(method)), time.process_time()
        results[method] = {
            "demo_model": {key: model.about[key] for key in ("seed", "best_epoch", "metrics") if key in model.about},
            "pointing": pointing(model, corpus, samples),
            "curves": curves(model, few),
            "sanity": sanity(model, few),
        }
        results[method]["processor_seconds"] = round(time.process_time() - begin)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")
        for part in ("pointing", "curves", "sanity"):
            print(f"\n{method}: {part}")
            for kind, rows in results[method][part].items():
                print(
                    f"  {kind:34}",
                    "  ".join(f"{n} {r['mean']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" for n, r in rows.items()),
                )


if __name__ == "__main__":
    main()
