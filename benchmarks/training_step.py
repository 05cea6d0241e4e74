"""A training step of slakit beside the published formulations: processor time, and bytes kept for the backward pass.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py                      # about 25 minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/training_step.py --parts adaptsign    # or sla-lora, frames, vit-frames, bytes

ViT-B/16 (QuickGELU) with random weights, 8 frames, float32, one thread. All forms of a comparison run in turns
(A B C A B C …) in this process; medians of processor time. The published forms are written out in published.py and
have the same weights; features and gradients are compared before anything is timed. "frames" (the small tower of the
demo) and "vit-frames" (ViT-B/16, once): is the step's time proportional to the frames? "bytes" is counted on tensors
without data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from data_formats import cpu_name
from published import PublishedAdaptSign, PublishedFull
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from slakit.models import create_model
from slakit.models.exact.live_bytes import LiveBytes, without_data
from slakit.models.packing import Clips

FRAMES, TOWER = 8, "ViT-B-16-quickgelu"
PARTS = ("adaptsign", "sla-lora", "frames", "vit-frames", "bytes")
RESULTS = Path(__file__).parent / "results" / "training_step.json"


def encoder(method: str, tower: str = TOWER, **options) -> nn.Module:
    """An encoder whose added parts are moved away from their start, where they do nothing."""
    model = create_model(method, ["A", "B"], tower, None, hidden_size=32, **options)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.encoder.named_parameters():
            if parameter.requires_grad and name not in model.encoder.backbone.base_names and method != "full":
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return model.encoder.train()


def medians(forms: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of processor time of each form, in turns; the comparison before has warmed the machine."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            begin = time.process_time()
            form()
            times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def step(call: Callable[[], torch.Tensor], module: nn.Module) -> Callable[[], dict[str, torch.Tensor]]:
    """Forward and backward; returns the features and every gradient."""

    def run() -> dict[str, torch.Tensor]:
        for parameter in module.parameters():
            parameter.grad = None
        features = call()
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
        return found | {"features": features.detach()}

    return run


def inference(call: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    def run() -> torch.Tensor:
        with torch.inference_mode():
            return call()

    return run


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Of features and gradients, by norm; gradients that are zero by algebra are measured against the largest."""
    if a.keys() != b.keys():
        raise SystemExit(f"one form alone has {sorted(a.keys() ^ b.keys())[:4]}")
    small = 1e-3 * max(float(value.norm()) for value in b.values())
    worst = max(float((a[n] - b[n]).norm()) / max(float(b[n].norm()), small) for n in a)
    if worst > 1e-3:
        raise SystemExit(f"the two forms differ by {worst:.1e}")
    return worst


def say(name: str, ours: float, other: float, goal: float, unit: str = "s") -> dict[str, float]:
    print(f"{name:<66}{ours:>8.2f} {unit} {other:>8.2f} {unit} {other / ours:>6.2f} x   (goal {goal} x)", flush=True)
    return {"ours": round(ours, 3), "other": round(other, 3), "ratio": round(other / ours, 2), "goal": goal}


def adaptsign(repeats: int) -> dict[str, object]:
    """AdaptSign's encoder: training step and inference."""
    ours, images, clips = encoder("adaptsign"), torch.randn(FRAMES, 3, 224, 224), Clips([FRAMES])
    kept, again = PublishedAdaptSign(ours, recompute=False), PublishedAdaptSign(ours, recompute=True)
    forms = {
        "ours": step(lambda: ours(images, clips), ours),
        "kept": step(lambda: kept(images), ours),
        "recomputed": step(lambda: again(images), ours),
        "ours, inference": inference(lambda: ours(images, clips)),
        "published, inference": inference(lambda: kept(images)),
    }
    difference = largest_difference(forms["ours"](), forms["kept"]())
    print(f"AdaptSign: features and gradients of both forms differ by {difference:.1e} at most")
    t = medians(forms, repeats)
    return {
        "difference": difference,
        "step, published recomputes every block": say(
            "AdaptSign step, against the published one, blocks recomputed", t["ours"], t["recomputed"], 1.6
        ),
        "step, published keeps everything": say(
            "AdaptSign step, against the published one, nothing recomputed", t["ours"], t["kept"], 1.35
        ),
        "inference": say(
            "AdaptSign inference, against the published one", t["ours, inference"], t["published, inference"], 1.1
        ),
    }


def sla_lora(repeats: int) -> dict[str, object]:
    """SLA-LoRA in blocks 5-12 against full fine-tuning, written plainly, and slakit's own."""
    lora, full = encoder("sla-lora", blocks="5-12"), encoder("full")
    images, clips, plain = torch.randn(FRAMES, 3, 224, 224), Clips([FRAMES]), PublishedFull(full.backbone)
    forms = {
        "ours": step(lambda: lora(images, clips), lora),
        "full": step(lambda: full(images, clips), full),
        "plain full": step(lambda: plain(images), full),
    }
    difference = largest_difference(forms["full"](), forms["plain full"]())
    print(f"full fine-tuning: features and gradients of both forms differ by {difference:.1e} at most")
    t = medians(forms, repeats)
    return {
        "difference": difference,
        "plain full fine-tuning": say("SLA-LoRA (5-12) step, against full training", t["ours"], t["plain full"], 1.7),
        "slakit's full fine-tuning": say("  against slakit's own", t["ours"], t["full"], 1.7),
    }


def frames(repeats: int) -> dict[str, object]:
    """SLA-LoRA's step for one clip of 50 to 400 frames, on the demo's tower (84 pixels, 4 blocks of width 96)."""
    return by_length(encoder("sla-lora", "tiny-clip", blocks="2-4"), 2 * repeats + 1)


def vit_frames(repeats: int) -> dict[str, object]:
    """The same on ViT-B/16, blocks 5-12, once, every block recomputed (a few GB of memory where it were 20).

    The program's own time and the system's apart: the system hands out and wipes fresh memory for tensors of hundreds
    of megabytes again and again, which costs more the longer the clip is and nothing on a GPU.
    """
    del repeats
    model = encoder("sla-lora", blocks="5-12")
    model.recompute = "block"
    return by_length(model, 1)


def by_length(model: nn.Module, repeats: int) -> dict[str, object]:
    """Milliseconds a frame of a step on one clip of 50, 100, 200 and 400 frames: the program's and the system's."""
    size, counts, times = model.backbone.image_size, (50, 100, 200, 400), []
    forms = {}
    for count in counts:
        images, clips = torch.randn(count, 3, size, size), Clips([count])
        forms[count] = step(lambda images=images, clips=clips: model(images, clips), model)
    for _ in range(repeats):
        for count, form in forms.items():
            begin = os.times()
            form()
            end = os.times()
            times.append((count, 1e3 * (end.user - begin.user) / count, 1e3 * (end.system - begin.system) / count))
    found = {}
    for part, kind in ((1, "ms a frame"), (2, "of the system besides")):
        found[kind] = {n: round(statistics.median(row[part] for row in times if row[0] == n), 3) for n in counts}
        print(f"SLA-LoRA step, {kind}: " + ", ".join(f"{v:.2f} at {n} frames" for n, v in found[kind].items()))
    return found


def kept_bytes(module: nn.Module, call: Callable, half: torch.dtype | None) -> float:
    """MiB a frame that a forward pass leaves for the backward pass, on tensors without data."""
    found = []
    for count in (2, 4):
        mode = FakeTensorMode()
        empty = without_data(module, mode, torch.device("cpu"))
        live = LiveBytes()
        live.ignore(empty)
        with mode, live, torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
            images = torch.empty(count, 3, 224, 224)
            features = call(empty, images)
            found.append(live.live() - images.nbytes)
            del features
    return (found[1] - found[0]) / 2 / 2**20


def count_bytes(repeats: int) -> dict[str, object]:
    """Bytes a frame; a share of one comes out of the two forms of AdaptSign."""
    del repeats
    result: dict[str, object] = {}
    model = encoder("adaptsign")
    for half in (None, torch.float16):
        name = "float16" if half else "float32"
        a = kept_bytes(model, lambda m, x: m(x, Clips([len(x)])), half)
        b = kept_bytes(PublishedAdaptSign(model, False), lambda m, x: m(x), half)
        print(f"AdaptSign, {name}: {a:.1f} MiB a frame kept, published {b:.1f}: {a / b:.2f} x (goal 0.65 x)")
        result[f"adaptsign, {name}"] = {"ours": round(a, 1), "published": round(b, 1), "ratio": round(a / b, 2)}
    for method, options in (("sla-lora", {"blocks": "5-12"}), ("sla-adapter", {"blocks": "5-12"}), ("full", {})):
        model = encoder(method, **options)
        for half in (None, torch.float16):
            name = "float16" if half else "float32"
            a = kept_bytes(model, lambda m, x: m(x, Clips([len(x)])), half)
            print(f"{method} {options or ''}, {name}: {a:.1f} MiB a frame kept")
            result[f"{method}, {name}"] = {"ours": round(a, 1)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    kinds = dict(zip(PARTS, (adaptsign, sla_lora, frames, vit_frames, count_bytes), strict=True))
    machine = {"cpu": cpu_name(), "torch": torch.__version__, "threads": 1, "clip_frames": FRAMES, "tower": TOWER}
    for part in options.parts:
        found = {part: {**kinds[part](options.repeats), "repeats": options.repeats}}
        results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        results = {**results, **machine, **found}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
