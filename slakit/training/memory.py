"""How many frames fit a device, said before training; and what would fit, said when memory has run out.

Counted on tensors without data (models/exact/live_bytes.py), so that it takes seconds and no memory, and works
for a GPU that is not at hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from slakit.config import TrainConfig
from slakit.data.augment import ClipTransform
from slakit.machine import half_precision
from slakit.models.compiled import should_compile
from slakit.models.exact.live_bytes import LiveBytes, without_data
from slakit.models.packing import STRIDE, Clips, steps
from slakit.models.recognizer import Recognizer
from slakit.models.towers.encoder import Encoder
from slakit.records import Sample, SlakitError

GIB = 2**30
RESERVE = 0.10  # of the device: fragments, workspaces, the sequence model's few activations
COUNTED = (16, 32)  # frames
COMPILED = 1.1  # what compiled blocks take, of what is counted: measured 1.08 for SLA-LoRA, 0.75 for AdaptSign


@dataclass(frozen=True)
class MemoryPlan:
    """What a training step needs. Bytes; frames are those of a batch, all its clips together.

    fixed: weights, gradients, the optimiser's state, half-precision copies. per_frame: at the highest point of a step.
    available: what the device can give. recomputed: per_frame with ModelConfig.recompute="mlp" and "block".
    """

    device: str
    precision: str
    available: int
    fixed: int
    per_frame: int
    recomputed: dict[str, int]

    @property
    def frames(self) -> int:
        """The most frames that a batch can hold."""
        return self.frames_with("none")

    def frames_with(self, recompute: str) -> int:
        """The same with recompute="mlp" or "block"."""
        per_frame = {"none": self.per_frame, **self.recomputed}[recompute]
        return max(0, int((1 - RESERVE) * self.available - self.fixed) // per_frame)

    def bytes_for(self, frames: int) -> int:
        """Bytes of a step with so many frames."""
        return self.fixed + frames * self.per_frame

    def __str__(self) -> str:
        others = ", ".join(f'{self.frames_with(part)} with recompute="{part}"' for part in self.recomputed)
        return (
            f"{self.device}, {self.precision}: {self.available / GIB:.1f} GiB available, {self.fixed / GIB:.2f} GiB "
            f"for weights, gradients and optimiser, {self.per_frame / 2**20:.1f} MiB a frame: batches of up to "
            f"{self.frames} frames ({others})"
        )

    def advice(self, longest: int, settings: TrainConfig, counted: bool = True) -> str:
        """Settings that would fit clips of up to `longest` frames. counted: whether the corpus knows the length of
        every clip, which max_frames_per_batch asks for."""
        ways = []
        for recompute in ("none", *self.recomputed):
            frames = self.frames_with(recompute)
            size = min(settings.batch_size, frames // longest)
            start = "" if recompute == "none" else f'recompute="{recompute}", '
            if size == settings.batch_size and start:
                ways.append(f'recompute="{recompute}" alone')
            elif size:
                accumulate = settings.accumulate * -(-settings.batch_size // size)
                same = "" if size == settings.batch_size else f" and accumulate={accumulate}"
                budget = f", or {start}max_frames_per_batch={frames}" if counted else ""
                ways.append(f"{start}batch_size={size}{same}{budget}")
        shorter = f'; try augment.max_frames={self.frames_with("block") // 4 * 4}, recompute="block", batch_size=1'
        fit = "; ".join(ways[:2]) or f"no setting for whole clips{shorter}"
        note = "recompute is the model's setting, and a run may go on with another; other batches are a new run"
        return f"{self}. Clips here have up to {longest} frames. These fit: {fit}. {note}"


def memory_plan(
    model: Recognizer,
    settings: TrainConfig | None = None,
    device: str | torch.device | None = None,
    available: float | None = None,
) -> MemoryPlan:
    """How many frames a training step of `model` can hold.

    device: "cuda", "cpu", …; None: the GPU if there is one. available: bytes; None: what is free on it now, which for
    a GPU that is not at hand must be given; such a one is counted with float16 where the precision is "auto", and
    without compiled blocks. settings: precision, optimiser and `compile` of the run.
    """
    settings = settings or TrainConfig()
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if available is None:
        available = free_memory(device)
    if device.type == "cuda" and not torch.cuda.is_available() and settings.precision == "auto":
        half: torch.dtype | None = torch.float16
    else:
        half = half_precision(settings.precision, device)
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    copies = 0 if half is None else sum(p.numel() for p in model.parameters()) * half.itemsize
    states = 0 if settings.optimizer == "sgd" else 2
    here = device.type != "cuda" or torch.cuda.is_available()
    compiling = settings.compile is True or (
        settings.compile == "auto" and here and should_compile(model.encoder, device)
    )
    share = COMPILED if compiling else 1.0
    per_frame = int(share * _per_frame(model, device, half, "none"))
    recomputed = {part: int(share * _per_frame(model, device, half, part)) for part in ("mlp", "block")}
    fixed = weights + (1 + states) * trained + copies
    precision = "float32" if half is None else str(half).removeprefix("torch.")
    return MemoryPlan(device.type, precision, int(available), fixed, per_frame, recomputed)


def free_memory(device: torch.device) -> int:
    """Bytes that this process could use on the device, what it holds already included on a GPU."""
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise SlakitError("there is no GPU here; say how much memory the one you mean has, as in available=14e9")
        return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
    return psutil.virtual_memory().available


class _FusedAttention(TorchFunctionMode):
    """A GPU's fused attention in place of the choice by the machine at hand, which may have no GPU."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        if function is torch.nn.functional.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_efficient_attention(*arguments[:3], None, True)[0]
        return function(*arguments, **(options or {}))


def _per_frame(model: Recognizer, device: torch.device, half: torch.dtype | None, recompute: str) -> int:
    """Bytes a frame at the highest point: what the forward pass keeps on `device`, times what backward adds to it."""
    encoder, before = model.encoder, model.encoder.recompute
    encoder.recompute = recompute
    try:
        plain = [_count(encoder, frames, torch.device("cpu"), None) for frames in COUNTED]
        same = device.type == "cpu" and half is None
        kept = [plain[i][0] if same else _count(encoder, n, device, half)[0] for i, n in enumerate(COUNTED)]
    finally:
        encoder.recompute = before
    between = COUNTED[1] - COUNTED[0]
    backward = (plain[1][1] - plain[0][1]) - (plain[1][0] - plain[0][0])  # float32 bytes above those kept
    share = 1.0 if half is None else half.itemsize / 4
    return max(1, int((kept[1] - kept[0] + max(0, backward) * share) / between))


def _count(encoder: Encoder, frames: int, device: torch.device, half: torch.dtype | None) -> tuple[int, int]:
    """(bytes kept after the forward pass, the most at any time of forward and backward); backward on the CPU alone."""
    mode, live, kind = FakeTensorMode(), LiveBytes(), device.type
    empty = without_data(encoder, mode, device)
    live.ignore(empty)
    size = encoder.backbone.image_size
    before = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    torch.set_autocast_enabled(kind, half is not None)  # torch.autocast() refuses a GPU that is not there
    torch.set_autocast_dtype(kind, half or before[1])
    try:
        with mode, live, _FusedAttention() if kind == "cuda" else nullcontext():
            images = torch.empty(frames, 3, size, size, device=device)
            features = empty(images, Clips([frames], device))
            kept = live.live()
            if kind == "cpu" and features.requires_grad:
                features.float().sum().backward()
    finally:
        torch.set_autocast_enabled(kind, before[0])
        torch.set_autocast_dtype(kind, before[1])
        torch.clear_autocast_cache()
    return kept, max(live.peak, live.live())


def lengths_of(samples: Sequence[Sample], settings: TrainConfig, train: bool) -> tuple[int | None, bool]:
    """(frames of the longest clip as a batch holds it, whether the length of every clip is known); None: nobody knows.

    In training clips are rescaled, to `max_frames` at most; in evaluation they are as long as they are.
    """
    transform, known = ClipTransform(settings.augment, train), [s.num_frames for s in samples if s.num_frames]
    capped = train and settings.augment.temporal_scale is not None
    counted = len(known) == len(samples)
    if counted and known:
        return max(transform.lengths(frames)[1] for frames in known), True
    return (STRIDE * steps(settings.augment.max_frames) if capped else None), counted


@contextmanager
def naming_what_fits(
    model: Recognizer, settings: TrainConfig, device: torch.device, samples: Sequence[Sample] = (), train: bool = True
) -> Iterator[None]:
    """Within: where the device's memory runs out, a SlakitError that names settings which would fit these clips, in
    training or in evaluation."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # A GPU has a class for it, the CPU's allocator only words.
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "DefaultCPUAllocator: " not in str(error):
            raise
        reason = (str(error) or "MemoryError").splitlines()[0]
    else:
        return
    # Outside the handler: the error holds the frames of the step, and with them its tensors.
    if device.type == "cuda":
        torch.cuda.empty_cache()
    longest, counted = lengths_of(samples, settings, train)
    if not train:
        size = f"up to {longest} frames" if longest else "unknown length"
        smaller = "batch_size=1 takes one at a time" if settings.batch_size > 1 else "cut the longest in pieces"
        raise SlakitError(
            f"the memory of {device} ran out in evaluation ({reason}). Clips there have {size} and are not shortened; "
            f"{smaller}"
        )
    plan = memory_plan(model, settings, device)
    if longest is None:
        raise SlakitError(
            f"the memory of {device} ran out ({reason}). {plan}. How long the clips are is not known here: `slakit "
            "prepare` counts their frames, and augment.temporal_scale=0.2 shortens them to augment.max_frames"
        )
    raise SlakitError(f"the memory of {device} ran out ({reason}). {plan.advice(longest, settings, counted)}")
