"""On a GPU: frames a second of training and inference, peak memory, and whether memory_plan() counts right.

    python benchmarks/gpu.py                  # some 4 minutes on one GPU; without one it says so and ends

Results are written after every part; a run that is stopped leaves those it has.

ViT-B/16 (QuickGELU) with random weights, bfloat16, 512 frames. Encoders: SLA-LoRA and SLA-Adapter in blocks 5-12 and
AdaptSign, as they are and compiled as training compiles them, and AdaptSign as published (published.py, same weights;
every block recomputed as the released code does, and not). Medians of single runs, the device waited for. Before,
features and gradients in bfloat16 of both forms are compared with float32. Then the whole training step of SLA-LoRA
(frames from the host, all heads and losses, optimiser) on 2 and on 4 clips of 128 frames, and a float16 step on one
clip of 200 frames: torch's peak of allocated memory against memory_plan(). Then training with everything: whole steps
of the three methods that read their clips from prepared files with 1, 2, 4 and 8 processes, against the same steps on
batches that are there already. Last, attention alone by two of PyTorch's kernels: one is faster, the other asks for no
preparation when the number of frames changes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from published import PublishedAdaptSign
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from training_step import encoder

from slakit.config import AugmentConfig, TrainConfig
from slakit.data.augment import evaluation_crop
from slakit.data.clips import Batch
from slakit.data.loader import clip_loader
from slakit.data.prepare import prepare
from slakit.machine import autocast, usable_cores
from slakit.models import create_model
from slakit.models.compiled import compiled
from slakit.models.packing import Clips
from slakit.records import Corpus, Sample, Vocabulary
from slakit.sweeps.costs import measure
from slakit.training.losses import recognition_loss
from slakit.training.memory import memory_plan
from slakit.training.optimizers import make_optimizer

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


def with_everything(bench: Bench, compiling: bool, folder: Path) -> dict[str, dict[str, object]]:
    """Frames a second of whole training steps on the published batch of two clips: on batches that are there already
    ("ready"), and read from prepared files by so many processes; the share of the speed that reading costs."""
    count, length = (48, LENGTH) if bench.gpu else (4, 8)
    corpus = packed_corpus(folder, count, length)
    found: dict[str, dict[str, object]] = {}
    for name in ("sla-lora", "sla-adapter", "adaptsign"):
        options = {} if name == "adaptsign" else {"blocks": "2-4" if bench.tower == "tiny-clip" else "5-12"}
        model = create_model(name, corpus.glosses, bench.tower, None, **options).to(bench.device).train()
        side = evaluation_crop(model.image_size)[0]
        augment = AugmentConfig(side, model.image_size, min_frames=8)
        settings = replace(TrainConfig(), augment=augment, precision="bfloat16", compile=compiling)
        with compiled(model.encoder, settings.compile, bench.device, HALF, say=False):
            rows: dict[str, object] = {"ready": round(step_rate(model, corpus, settings, bench, 0, keep=True))}
            for workers in (1, 2, 4, 8) if bench.gpu else (1,):
                rate = step_rate(model, corpus, settings, bench, workers, keep=False)
                rows[f"{workers} readers"] = round(rate)
                rows[f"{workers} readers, lost"] = round(1 - rate / float(rows["ready"]), 3)  # type: ignore[arg-type]
                print(f"{name}, {workers} readers: {rate:.0f} of {rows['ready']} frames/s", flush=True)
        found[name] = rows
    return found


def step_rate(model: nn.Module, corpus: Corpus, settings: TrainConfig, bench: Bench, workers: int, keep: bool) -> float:
    """Frames a second of an epoch's steps as training makes them, after one epoch that makes all kernels; keep: on
    batches that were read before."""
    settings = replace(settings, num_workers=workers)
    optimizer = make_optimizer(model, settings)
    loader = clip_loader(corpus.train, corpus.glosses, settings, train=True, pin_memory=bench.gpu)
    kept: list[Batch] = []
    for epoch in range(2):
        loader.set_epoch(0)  # the same frames, shuffled the same: every number of frames is known in the second
        batches, frames, begin = (kept if keep and epoch else loader), 0, time.perf_counter()
        for batch in batches:
            if keep and not epoch:
                kept.append(batch)
            with autocast(settings.precision, bench.device):
                logits = model(batch.to(bench.device).frames, batch.lengths)
            loss, _ = recognition_loss(
                logits, batch.targets.to(bench.device), batch.target_lengths,
                weights=settings.loss_weights, temperature=settings.distillation_temperature,
            )  # fmt: skip
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            frames += int(batch.lengths.sum())
        bench.wait()
    return frames / (time.perf_counter() - begin)


def packed_corpus(folder: Path, count: int, length: int) -> Corpus:
    """Clips of moving smooth noise of 210 x 260 pixels, as Phoenix-2014 has them, prepared as `slakit prepare` does."""
    samples = []
    for number in range(count):
        noise = torch.rand(1, 3, 12, 24, generator=torch.Generator().manual_seed(number))
        wide = F.interpolate(noise, (260, 210 + 2 * length), mode="bicubic").clamp(0, 1)
        picture = (255 * wide[0]).byte().permute(1, 2, 0).numpy()
        source = folder / "clips" / str(number)
        source.mkdir(parents=True)
        for t in range(length):
            Image.fromarray(picture[:, 2 * t : 2 * t + 210].copy()).save(source / f"{t:04d}.png", compress_level=1)
        samples.append(Sample(str(number), source, ("A", "B") * 6 if length > 64 else ("A",), num_frames=length))
    corpus = Corpus("folder", folder, tuple(samples), (), (), Vocabulary(["A", "B"]))
    return prepare(corpus, folder / "packed", workers=min(8, usable_cores()) if count > 8 else 1, show_progress=False)


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
    scratch = tempfile.TemporaryDirectory()
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
        "training with everything": lambda: with_everything(bench, compiling, Path(scratch.name)),
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
