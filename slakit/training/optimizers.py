"""How long a run is, its optimiser, and its learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from slakit.config import TrainConfig
from slakit.models.recognizer import Recognizer

READY = 60.0  # dev WER in percent; a head above it has not learnt the glosses yet, and adaptation on top does not help


def epochs_of(
    settings: TrainConfig, clips: int, processes: int = 1, rows: Sequence[Mapping[str, Any]] = ()
) -> tuple[int, int]:
    """(epochs of a run on so many clips, after how many dev is scored); rows: its history so far, which tells where dev
    has ended it."""

    def epochs(steps: int) -> int:
        return math.ceil(steps * settings.batch_size * settings.accumulate * processes / clips)

    total, every = epochs(settings.steps) if settings.steps else settings.epochs, settings.evaluate_every
    if settings.patience:
        patience = epochs(settings.patience)
        every = max(patience // 4, 1)
        scored = [(row["wer"], row["epoch"]) for row in rows if "wer" in row]
        if scored and min(scored)[0] < READY and scored[-1][1] - min(scored)[1] >= patience:
            total = min(total, scored[-1][1] + 1)
    return total, every


def make_optimizer(model: Recognizer, settings: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser over what trains, on cached features without the encoder. One group an initial rate."""
    encoder = {id(p) for p in model.encoder.parameters()}
    inside = [p for p in model.parameters() if p.requires_grad and id(p) in encoder and not settings.feature_views]
    head = [p for p in model.parameters() if p.requires_grad and id(p) not in encoder]
    groups = [(inside, settings.learning_rate), (head, settings.head_learning_rate or settings.learning_rate)]
    groups = [{"params": params, "lr": rate, "initial_lr": rate} for params, rate in groups if params]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[settings.optimizer]
    on_cpu = all(p.device.type == "cpu" for p in inside + head)
    # On a CPU torch's default walks through the tensors one by one, six times as long for LoRA's many small ones.
    return kind(groups, weight_decay=settings.weight_decay, fused=True if on_cpu else None)


def set_rate(optimizer: torch.optim.Optimizer, settings: TrainConfig, done: float, total: int) -> None:
    """Learning rates after `done` of `total` epochs: steps at whole epochs, or a cosine after a short linear rise."""
    if settings.schedule == "steps":
        factor = settings.gamma ** sum(math.floor(done) >= milestone for milestone in settings.milestones)
    elif settings.schedule == "cosine":
        share = done / total
        factor = min(1.0, share / 0.05 + 0.02) * 0.5 * (1 + math.cos(math.pi * share))
    else:
        factor = 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
