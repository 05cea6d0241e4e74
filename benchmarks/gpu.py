"""On a GPU: frames a second of training and inference, peak memory, and whether memory_plan() counts right.

    python benchmarks/gpu.py                  # some 4 minutes on one GPU; without one it says so and ends

Results are written after every part; a run that is stopped leaves those it has.

ViT-B/16 (QuickGELU) with random weights, bfloat16, 512 frames. Encoders: SLA-LoRA and SLA-Adapter in blocks 5-12 and
AdaptSign, as they are and compiled as training compiles them, and AdaptSign as published (published.py, same weights;
every block recomputed as the released code does, and not). Medians of single runs, the device waited for. Before,
features and gradients in bfloat16 of both forms are compared with float32. Then the whole training step of SLA-LoRA
(frames from the host, all heads and losses, optimiser) on 2 and on 4 clips of 128 frames, and a float16 step on one
clip of 200 frames: torch's peak of allocated memory against memory_plan(). Last, attention alone by two of PyTorch's
kernels: one is faster, the other asks for no preparation when the number of frames changes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from published import PublishedAdaptSign
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from training_step import encoder

from slakit.config import TrainConfig
from slakit.models import create_model
from slakit.models.compiled import compiled
from slakit.models.packing import Clips
from slakit.sweeps.costs import measure
from slakit.training.memory import memory_plan

RESULTS = Path(__file__).parent / "results" / "gpu.json"
HALF = torch.bfloat16
LENGTH = 128  # frames of a clip


class Bench:
    """Times calls on one device, and its peak of memory while they run."""

    def __init__(self, device: torch.device, frames: int, repeats: int, tower: str):
        self.device, self.frames, self.repeats, self.tower = device, frames, repeats, tower
        self.gpu = device.type == "cuda"

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def seconds(self, call: Callable[[], object]) -> float:
        """Median of single runs, after two that choose kernels and fill the allocator."""
        for _ in range(2 if self.gpu else 0):
            call()
        self.wait()
        times = []
        for _ in range(self.repeats):
            begin = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - begin)
        return statistics.median(times)

    def form(self, name: str, module: nn.Module, call: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, object]:
        """Frames a second of training (forward, backward) and inference; GiB that training adds to what is there."""
        size, before = module.backbone.image_size, 0
        images = torch.randn(self.frames, 3, size, size, device=self.device)

        def infer() -> None:
            with torch.inference_mode(), torch.autocast(self.device.type, HALF):
                call(images)

        def step() -> None:
            run_step(module, call, images, HALF)

        module.train()
        step()
        module.zero_grad(set_to_none=True)
        if self.gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        training = self.frames / self.seconds(step)
        peak = (torch.cuda.max_memory_allocated(self.device) - before) / 2**30 if self.gpu else 0.0
        module.eval()
        inference = self.frames / self.seconds(infer)
        print(f"{name:<38}{training:>9.0f} frames/s{inference:>9.0f} in inference{peak:>8.2f} GiB", flush=True)
        return {"training": round(training), "inference": round(inference), "peak_gib": round(peak, 2)}


def run_step(module: nn.Module, call: Callable, images: torch.Tensor, half: torch.dtype | None) -> torch.Tensor:
    """Forward and backward of a loss whose gradient is not small; returns the features."""
    module.zero_grad(set_to_none=True)
    with torch.autocast(images.device.type, half or HALF, enabled=half is not None):
        features = call(images)
    weights = torch.linspace(-1, 1, features.numel(), device=features.device).view_as(features)
    (features.float() * weights).sum().backward()
    return features.detach()


def errors(module: nn.Module, bench: Bench) -> tuple[dict[str, float], float]:
    """Relative error, by norm, of features and of all gradients in bfloat16, plain and compiled, against float32; and
    the seconds that compiling took."""
    clips, size = Clips([7, 9], bench.device), module.backbone.image_size
    images = torch.randn(clips.total, 3, size, size, device=bench.device)

    def results(half: torch.dtype | None) -> tuple[torch.Tensor, torch.Tensor]:
        features = run_step(module, lambda x: module(x, clips), images, half).float()
        return features, torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])

    module.train()
    wanted, found = results(None), {"plain": results(HALF)}
    begin = time.perf_counter()
    with compiled(module, True, bench.device, HALF):
        seconds = round(time.perf_counter() - begin, 1)
        if not module.compiled:
            raise SystemExit("the encoder was not compiled, see above")
        found["compiled"] = results(HALF)
    said = {}
    for form, parts in found.items():
        for part, ours, theirs in zip(("features", "gradients"), parts, wanted, strict=True):
            said[f"{form}, {part}"] = round(float((ours - theirs).norm() / theirs.norm()), 5)
    if any(said[f"compiled, {part}"] > 1.5 * said[f"plain, {part}"] for part in ("features", "gradients")):
        raise SystemExit(f"the compiled form is less exact than the plain one: {said}")
    print("relative error against float32: " + ", ".join(f"{part} {value:.1e}" for part, value in said.items()))
    return said, seconds


def method(name: str, bench: Bench, compiling: bool) -> dict[str, object]:
    """Every form of one encoder."""
    options = {} if name == "adaptsign" else {"blocks": "2-4" if bench.tower == "tiny-clip" else "5-12"}
    module, clips = encoder(name, bench.tower, **options).to(bench.device), Clips([LENGTH] * 4, bench.device)
    if bench.frames < clips.total:
        clips = Clips([bench.frames], bench.device)
    result: dict[str, object] = {}
    if compiling:
        result["error against float32"], result["seconds to compile"] = errors(module, bench)
    result["eager"] = bench.form(f"{name}, eager", module, lambda x: module(x, clips))
    if bench.gpu:
        images = torch.randn(16, 3, *[module.backbone.image_size] * 2, device=bench.device)
        with FlopCounterMode(display=False) as counter:
            run_step(module.train(), lambda x: module(x, Clips([16], bench.device)), images, HALF)
        result["gflop_per_trained_frame"] = round(counter.get_total_flops() / 16e9, 1)
    for form, again in (("published, recomputed", True), ("published, kept", False)) if name == "adaptsign" else ():
        result[form] = bench.form(f"{name}, {form}", module, PublishedAdaptSign(module, again))
    if compiling:
        with compiled(module, True, bench.device, HALF, say=False):
            result["compiled"] = bench.form(f"{name}, compiled", module, lambda x: module(x, clips))
    return result


def whole_steps(bench: Bench, compiling: bool) -> dict[str, int]:
    """Frames a second of SLA-LoRA's training step with everything."""
    blocks = "2-4" if bench.tower == "tiny-clip" else "5-12"
    model = create_model("sla-lora", [f"G{i}" for i in range(1295)], bench.tower, None, blocks=blocks).to(bench.device)
    found = {}
    for clips, length in ((2, LENGTH), (4, LENGTH)) if bench.gpu else ((1, 8),):
        settings = replace(TrainConfig(), batch_size=clips, compile=compiling)
        row = measure(model, settings, frames=length, steps=bench.repeats)
        print(f"whole step of {clips} clips of {length} frames: {row['frames_per_second']:.0f} frames/s", flush=True)
        found[f"{clips} clips"] = round(row["frames_per_second"])
    return found


def planned(device: torch.device, tower: str, frames: int) -> dict[str, float | None]:
    """GiB of a whole float16 step of SLA-LoRA on one clip: counted by memory_plan(), and torch's peak."""
    glosses = [f"G{i}" for i in range(1295)]
    blocks = "2-4" if tower == "tiny-clip" else "5-12"
    model = create_model("sla-lora", glosses, tower, None, blocks=blocks, rank=32).to(device)
    settings = replace(TrainConfig(), batch_size=1, precision="float16", compile=False)
    counted = memory_plan(model, settings, device, available=15e9).bytes_for(frames) / 2**30
    peak = measure(model, settings, frames=frames, steps=1)["peak_memory_mb"]
    if peak is not None:  # measure() works on a copy: the model's own weights are there a second time
        weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        peak = peak / 2**10 - weights / 2**30
    print(f"float16 step of {frames} frames: {counted:.2f} GiB counted, measured {peak and round(peak, 2)}")
    return {"frames": frames, "counted_gib": round(counted, 3), "measured_gib": peak and round(peak, 3)}


def attention(bench: Bench) -> dict[str, dict[str, float]]:
    """Milliseconds of attention forward and back, by cuDNN's kernels and by FlashAttention's: with all frames, when
    their number is known, and with 300 to 305, each for the first time."""

    def inputs(frames: int) -> list[torch.Tensor]:
        lengths = (197, 205, 205, 197)  # queries, keys, values, gradient
        rows = [torch.randn(frames, length, 12, 64, device=bench.device, dtype=HALF) for length in lengths]
        return [x.transpose(1, 2).requires_grad_() for x in rows]

    def both(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor) -> None:
        torch.autograd.grad(F.scaled_dot_product_attention(q, k, v), (q, k, v), gradient.detach())

    found = {}
    for name, kernels in (("cuDNN", SDPBackend.CUDNN_ATTENTION), ("flash", SDPBackend.FLASH_ATTENTION)):
        with sdpa_kernel(kernels):
            known, first = inputs(bench.frames), []
            often = bench.seconds(lambda known=known: both(*known))
            for frames in range(300, 306):
                new = inputs(frames)
                bench.wait()
                begin = time.perf_counter()
                both(*new)
                bench.wait()
                first.append(time.perf_counter() - begin)
        found[name] = {"known": round(1e3 * often, 2), "new": round(1e3 * statistics.median(first), 2)}
        print(f"attention by {name}: {found[name]['known']} ms, a new number of frames {found[name]['new']} ms")
    return found


def product_rate(device: torch.device) -> float:
    """TFLOP/s of a bfloat16 product of 8192 x 8192 matrices: what this device can do at all."""
    a = torch.randn(8192, 8192, device=device, dtype=HALF)
    bench = Bench(device, 1, 10, "")
    return 2 * 8192**3 / bench.seconds(lambda: a @ a) / 1e12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=6, help="single runs of which the median is taken (6)")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # tries the script; writes nothing
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing is measured and benchmarks/results/gpu.json stays as it is")
        return
    torch.manual_seed(0)
    device = torch.device(options.device)
    tower, frames, repeats = "ViT-B-16-quickgelu", 4 * LENGTH, options.repeats
    if options.tiny:
        tower, frames, repeats = "tiny-clip", 2, 1
    bench, compiling = Bench(device, frames, repeats, tower), not options.no_compile
    result: dict[str, object] = {"tower": tower, "precision": "bfloat16", "frames": frames, "repeats": repeats}
    if bench.gpu:
        machine = {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
        result = machine | result | {"product_tflops": round(product_rate(device))}
        print(f"{machine['device']}: products at {result['product_tflops']} TFLOP/s at most", flush=True)
    parts = {
        **{name: lambda name=name: method(name, bench, compiling) for name in ("sla-lora", "adaptsign")},
        "whole step, sla-lora, eager": lambda: whole_steps(bench, False),
        **({"whole step, sla-lora, compiled": lambda: whole_steps(bench, True)} if compiling else {}),
        "plan": lambda: planned(device, tower, 4 if options.tiny else 200),
        "sla-adapter": lambda: method("sla-adapter", bench, compiling),
        **({"attention, ms": lambda: attention(bench)} if bench.gpu else {}),
    }
    for name, part in parts.items():
        result[name] = part()
        if bench.gpu:
            RESULTS.write_text(json.dumps(result, indent=1) + "\n")
            torch.cuda.empty_cache()
    if not bench.gpu:
        print("tried on the CPU: these are no figures of a GPU, nothing is written")


if __name__ == "__main__":
    main()
