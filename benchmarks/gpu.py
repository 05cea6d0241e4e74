"""On a GPU: frames a second of training and inference, peak memory, and whether memory_plan() counts right.

    python benchmarks/gpu.py                  # some minutes on one GPU; without one it says so and ends

ViT-B/16 (QuickGELU) with random weights, bfloat16, one clip: SLA-LoRA in blocks 5-12 and AdaptSign, eager; AdaptSign
also as published (published.py, same weights, every block recomputed as the released code does, and not), and both
methods under torch.compile. Medians of single runs, the device waited for, after some to warm up. Then a whole float16
training step on one clip of 200 frames: torch's peak of allocated memory against memory_plan().
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
from published import PublishedAdaptSign
from torch import nn
from training_step import encoder

from slakit.config import TrainConfig
from slakit.efficiency import measure
from slakit.memory import memory_plan
from slakit.models import create_model
from slakit.models.clips import Clips

RESULTS = Path(__file__).parent / "results" / "gpu.json"


class Bench:
    """Times calls on one device, and its peak of memory while they run."""

    def __init__(self, device: torch.device, frames: int, repeats: int):
        self.device, self.frames, self.repeats = device, frames, repeats

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def __call__(self, name: str, call: Callable[[], object]) -> dict[str, float | None]:
        """Frames a second of `call`, and GiB at the peak (None on a CPU)."""
        for _ in range(3 if self.device.type == "cuda" else 1):  # compiles, chooses kernels, fills the allocator
            call()
        self.wait()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        times = []
        for _ in range(self.repeats):
            begin = time.perf_counter()
            call()
            self.wait()
            times.append(time.perf_counter() - begin)
        speed = self.frames / statistics.median(times)
        peak = torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else None
        print(f"{name:<44}{speed:>10.0f} frames/s" + ("" if peak is None else f"{peak:>8.2f} GiB"), flush=True)
        return {"frames_per_second": round(speed, 1), "peak_gib": peak and round(peak, 3)}


def forms(method: str, tower: str, compiled: bool, clips: Clips) -> dict[str, tuple[nn.Module, Callable]]:
    """name -> (module with the parameters, images -> features)."""
    options = {"blocks": "2-4" if tower == "tiny-clip" else "5-12"} if method == "sla-lora" else {}
    ours = encoder(method, tower, **options).to(clips.device)
    made: dict[str, tuple[nn.Module, Callable]] = {"eager": (ours, lambda x: ours(x, clips))}
    if method == "adaptsign":
        for name, again in (("published, recomputed", True), ("published, kept", False)):
            made[name] = ours, PublishedAdaptSign(ours, again)
    if compiled:
        fast = torch.compile(ours)
        made["torch.compile"] = ours, lambda x: fast(x, clips)
    return made


def speeds(method: str, tower: str, bench: Bench, compiled: bool) -> dict[str, dict]:
    """Training step of the encoder (forward, backward) and inference of every form."""
    clips, found = Clips([bench.frames], bench.device), {}
    for name, (module, call) in forms(method, tower, compiled, clips).items():
        size = module.backbone.image_size
        images = torch.randn(bench.frames, 3, size, size, device=bench.device)

        def step(module=module, call=call, images=images) -> None:
            for parameter in module.parameters():
                parameter.grad = None
            with torch.autocast(bench.device.type, torch.bfloat16):
                features = call(images)
            features.float().square().sum().backward()

        def infer(call=call, images=images) -> None:
            with torch.inference_mode(), torch.autocast(bench.device.type, torch.bfloat16):
                call(images)

        for kind, run in (("training", step), ("inference", infer)):
            module.train(kind == "training")
            found[f"{name}, {kind}"] = bench(f"{method}, {name}, {kind}", run)
    return found


def planned(device: torch.device, tower: str, frames: int) -> dict[str, float | None]:
    """GiB of a whole float16 step of SLA-LoRA on one clip: counted by memory_plan(), and torch's peak."""
    glosses = [f"G{i}" for i in range(1295)]
    blocks = "2-4" if tower == "tiny-clip" else "5-12"
    model = create_model("sla-lora", glosses, tower, None, blocks=blocks, rank=32).to(device)
    settings = replace(TrainConfig(), batch_size=1, precision="float16")
    counted = memory_plan(model, settings, device, available=15e9).bytes_for(frames) / 2**30
    peak = measure(model, settings, frames=frames, steps=1)["peak_memory_mb"]
    if peak is not None:  # measure() works on a copy: the model's own weights are there a second time
        weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
        peak = peak / 2**10 - weights / 2**30
    print(f"float16 step of {frames} frames: {counted:.2f} GiB counted, measured {peak and round(peak, 2)}")
    return {"frames": frames, "counted_gib": round(counted, 3), "measured_gib": peak and round(peak, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=64, help="of the clip whose speed is measured")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)  # tries the script; writes nothing
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU here: nothing is measured and benchmarks/results/gpu.json stays as it is")
        return
    torch.manual_seed(0)
    device = torch.device(options.device)
    tower, frames, repeats = "ViT-B-16-quickgelu", options.frames, options.repeats
    if options.tiny:
        tower, frames, repeats = "tiny-clip", 2, 1
    bench, result = Bench(device, frames, repeats), {"tower": tower, "frames": frames, "repeats": repeats}
    for method in ("sla-lora", "adaptsign"):
        result[method] = speeds(method, tower, bench, not options.no_compile)
    result["plan"] = planned(device, tower, 4 if options.tiny else 200)
    if device.type != "cuda":
        print("tried on the CPU: these are no figures of a GPU, nothing is written")
        return
    machine = {"device": torch.cuda.get_device_name(device), "torch": torch.__version__, "precision": "bfloat16"}
    RESULTS.write_text(json.dumps(machine | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
