"""The compared systems: a training step and inference of each, slakit's beside its plain published form.

    OMP_NUM_THREADS=1 python benchmarks/other_systems.py                   # published size; minutes a system on a core
    OMP_NUM_THREADS=1 python benchmarks/other_systems.py --width 16 --size 84    # the demo's size, a minute
    python benchmarks/other_systems.py --device cuda --frames 128 100 --precision float16

Two clips of different length, padded as published. "published": the network of plain_systems.py on the padded batch
[B, 3, T, S, S]; "ours": the same padding in slakit's form; "ours, packed": no padded frame (padding="features"), the
default, which near a clip's ends gives other numbers where a network looks at neighbours. The sequence model and the
losses behind the network are the same. Before anything is timed, features and gradients of the first two are compared,
in float64 and evaluation mode. The forms take turns; medians. Processor time on a CPU; on a GPU it is waited for, and
the highest memory of a step stands beside it. Random weights cost what trained ones do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from data_formats import cpu_name
from plain_systems import plain_network

from slakit.machine import autocast
from slakit.models import Recognizer, create_model
from slakit.models.packing import padded_index
from slakit.training.losses import recognition_loss

SYSTEMS = ("vac", "vac-smkd", "tlp", "sen", "corrnet", "corrnet+", "slowfastsign")
RESULTS = Path(__file__).parent / "results" / "other_systems.json"


def make(system: str, options: argparse.Namespace, padding: str) -> Recognizer:
    """The system with what starts at zero moved away from it, so that no branch is silent."""
    sizes = {"width": options.width, "image_size": options.size, "hidden_size": options.hidden_size}
    if system == "slowfastsign" and options.width < 64:
        sizes["depths"] = (2, 2, 2, 2)
    model = create_model(system, [f"G{i}" for i in range(options.glosses)], pretrained=None, padding=padding, **sizes)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.to(options.device)


def published(model: Recognizer, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Features [B, T_padded, F] by the plain network."""
    index = padded_index(lengths.tolist())
    starts = torch.tensor([0, *lengths.cumsum(0)[:-1].tolist()])
    padded = model.normalise(frames[(index + starts[:, None]).flatten()]).unflatten(0, index.shape)
    return plain_network(model.encoder, padded)


class Case:
    """One system: its forms on one batch."""

    def __init__(self, system: str, options: argparse.Namespace):
        self.model, self.packed = make(system, options, "published"), make(system, options, "features")
        self.packed.load_state_dict(self.model.state_dict())
        generator, self.lengths = torch.Generator().manual_seed(2), torch.tensor(options.frames)
        shape = int(self.lengths.sum()), 3, options.size, options.size
        frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.frames = frames.to(options.device)
        self.targets = torch.tensor([1, 2, 3, 4], device=options.device)
        self.precision, self.device = options.precision, torch.device(options.device)

    def forward(self, form: str, precision: str | None = None):
        model = self.packed if form == "ours, packed" else self.model
        with autocast(precision or self.precision, self.device):
            if form == "published":
                features = published(model, self.frames, self.lengths)
            else:
                features = model.encode(self.frames, self.lengths)
            return model, features, model.recognize_features(features, self.lengths)

    def step(self, form: str) -> None:
        model, _, logits = self.forward(form)
        model.zero_grad(set_to_none=True)
        counts = torch.tensor([2, 2])
        recognition_loss(logits, self.targets, counts)[0].backward()

    def inference(self, form: str) -> None:
        with torch.inference_mode():
            self.forward(form)

    def compare(self) -> float:
        """Largest difference of features and of gradients, each by its norm."""
        self.model.double().eval()
        found = {}
        for form in ("published", "ours"):
            model, features, _ = self.forward(form, "float32")
            if self.model.encoder.pads_each:  # behind a clip's own padding the released code has zeros
                inside = (self.lengths + 3) // 4 * 4 + 12
                mask = torch.arange(features.shape[1])[None] < inside[:, None]
                features = features * mask[..., None].to(features.device)
            model.zero_grad(set_to_none=True)
            weights = torch.linspace(-1, 1, features.numel(), device=features.device).view_as(features)
            (features * weights).sum().backward()
            gradients = {n: p.grad for n, p in model.encoder.named_parameters() if p.grad is not None}
            found[form] = {**gradients, "features": features.detach()}
        a, b = found["ours"], found["published"]
        if a.keys() != b.keys():
            raise SystemExit(f"one form alone has gradients of {sorted(a.keys() ^ b.keys())[:4]}")
        self.model.float().zero_grad(set_to_none=True)
        small = 1e-3 * max(float(value.norm()) for value in b.values())
        return max(float((a[n] - b[n]).norm()) / max(float(b[n].norm()), small) for n in a)


def timed(call: Callable[[str], None], form: str, device: torch.device) -> float:
    """Seconds of one call: the processor's on a CPU, waited for on a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    begin = clock()
    call(form)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begin


def measure(case: Case, repeats: int) -> dict[str, dict[str, float]]:
    """form -> seconds of a step and of inference, and on a GPU the step's highest memory in MiB."""
    forms, rows = ("published", "ours", "ours, packed"), {}
    for kind, call in (("step", case.step), ("inference", case.inference)):
        case.model.train(kind == "step"), case.packed.train(kind == "step")
        times: dict[str, list[float]] = {form: [] for form in forms}
        for repeat in range(repeats + 1):
            for form in forms:
                if case.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(case.device)
                seconds = timed(call, form, case.device)
                if repeat:  # the first round warms up
                    times[form].append(seconds)
                if kind == "step" and case.device.type == "cuda":
                    memory = torch.cuda.max_memory_allocated(case.device) / 2**20
                    rows.setdefault(form, {})["memory_mb"] = round(memory)
        for form in forms:
            rows.setdefault(form, {})[kind] = round(statistics.median(times[form]), 4)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", default=SYSTEMS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--hidden-size", type=int, default=1024)
    parser.add_argument("--glosses", type=int, default=1295)
    parser.add_argument("--frames", type=int, nargs=2, default=[24, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}; on a quiet machine alone")
    options = parser.parse_args()
    on_gpu = options.device.startswith("cuda")
    if not on_gpu:
        torch.set_num_threads(1)
    frames, found = sum(options.frames), {}
    print(f"{'':<14}{'differ':>9}  {'form':<14}{'step s':>9}{'frames/s':>10}{'infer s':>9}{'frames/s':>10}{'MiB':>8}")
    for system in options.systems:
        case = Case(system, options)
        difference = case.compare()
        if difference > 1e-6:
            raise SystemExit(f"{system}: the two forms differ by {difference:.1e}")
        found[system] = {"difference": difference, **measure(case, options.repeats)}
        for number, form in enumerate(("published", "ours", "ours, packed")):
            row = found[system][form]
            head = f"{system:<14}{difference:9.1e}" if number == 0 else " " * 23
            step, inference = row["step"], row["inference"]
            print(f"{head}  {form:<14}{step:9.3f}{frames / step:10.1f}{inference:9.3f}{frames / inference:10.1f}"
                  f"{row.get('memory_mb', '-'):>8}", flush=True)  # fmt: skip
    if options.save:
        machine = torch.cuda.get_device_name() if on_gpu else cpu_name()
        about = {"machine": machine, "torch": torch.__version__} | {
            k: v for k, v in vars(options).items() if k != "save"
        }
        RESULTS.write_text(json.dumps({"about": about, "systems": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
