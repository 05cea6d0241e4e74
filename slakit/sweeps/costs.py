"""What a model costs, measured the same way for all of them: parameters, operations, step time, memory."""

from __future__ import annotations

import copy
import math
import statistics
import time
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from slakit.config import TrainConfig
from slakit.machine import autocast, half_precision
from slakit.models import Recognizer
from slakit.models.compiled import compiled
from slakit.models.exact.live_bytes import LiveBytes
from slakit.models.parameters import count_parameters
from slakit.training.losses import recognition_loss
from slakit.training.optimizers import make_optimizer


def encoder_flops(model: Recognizer, frames: int = 16) -> float:
    """Floating-point operations of the encoder for one frame, a multiply-add as two, in a clip of `frames` frames.

    Counted by torch from what is really computed at inference: products and convolutions, no norms or activations.
    """
    device = next(model.parameters()).device
    clip = torch.zeros(frames, 3, model.image_size, model.image_size, dtype=torch.uint8, device=device)
    training = model.training
    model.eval()
    onednn = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # torch's counter does not know it
    counter = FlopCounterMode(display=False, custom_mapping={onednn: _linear_flops} if onednn else None)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model.encode(clip, torch.tensor([frames]))
    model.train(training)
    return counter.get_total_flops() / frames


def _linear_flops(x_shape, weight_shape, *others, out_shape=None, **options) -> int:
    """x […, in] times weight [out, in]."""
    return 2 * math.prod(x_shape) * weight_shape[0]


def measure(
    model: Recognizer, settings: TrainConfig | None = None, *, frames: int = 48, steps: int = 5, seed: int = 0
) -> dict[str, Any]:
    """Cost of training steps on `settings.batch_size` clips of noise with `frames` frames each; `model` is not changed.

    trainable, total: parameters. encoder_gflops: per frame (see encoder_flops()). step_seconds: median over `steps`
    after one for warming up: the whole step (forward, losses, backward, optimiser). On a GPU it is waited for; on a
    CPU it is the time that its cores worked, which other programs disturb less than the clock's. frames_per_second:
    the same per frame, with the encoder compiled as settings.compile says. kept_mb_per_frame: what the forward pass
    keeps for the backward pass where nothing is compiled, without the parameters (MiB); the number is the same on every
    device of one precision. peak_memory_mb: highest GPU memory, None on a CPU.
    """
    settings = settings or TrainConfig()
    device = next(model.parameters()).device
    table, gflops = count_parameters(model), encoder_flops(model, frames=min(frames, 16)) / 1e9
    result: dict[str, Any] = {"trainable": table.trainable, "total": table.total, "encoder_gflops": gflops}
    model = copy.deepcopy(model).train()
    generator = torch.Generator().manual_seed(seed)
    size, batch, words = model.image_size, settings.batch_size, max(1, frames // 12)
    clips = torch.randint(0, 256, (batch * frames, 3, size, size), generator=generator, dtype=torch.uint8)
    lengths, target_lengths = torch.full((batch,), frames), torch.full((batch,), words)
    targets = torch.randint(1, len(model.vocabulary), (batch * words,), generator=generator).to(device)
    on_gpu = device.type == "cuda"
    if on_gpu:  # as the readers hand them over
        clips = clips.pin_memory()
    optimizer = make_optimizer(model, settings)

    def forward() -> torch.Tensor:
        with autocast(settings.precision, device):
            logits = model(clips.to(device, non_blocking=True), lengths)
        temperature = settings.distillation_temperature
        return recognition_loss(logits, targets, target_lengths, settings.loss_weights, temperature)[0]

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        forward().backward()
        optimizer.step()
        if on_gpu:
            torch.cuda.synchronize(device)

    live = LiveBytes()
    live.ignore(model)
    with live:
        loss = forward()
        kept = live.live()
    loss.backward()
    optimizer.step()
    clock, times = time.perf_counter if on_gpu else time.process_time, []
    with compiled(model.encoder, settings.compile, device, half_precision(settings.precision, device)):
        if model.encoder.compiled:
            step()
        if on_gpu:
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        for _ in range(steps):
            begin = clock()
            step()
            times.append(clock() - begin)
    seconds = statistics.median(times)
    return result | {
        "step_seconds": seconds,
        "frames_per_second": batch * frames / seconds,
        "kept_mb_per_frame": kept / 2**20 / (batch * frames),
        "peak_memory_mb": torch.cuda.max_memory_allocated(device) / 2**20 if on_gpu else None,
    }
