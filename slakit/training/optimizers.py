"""The phases of a run, the optimiser of each, and its learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from slakit.config import TrainConfig
from slakit.models.recognizer import Recognizer


@dataclass(frozen=True)
class Phase:
    """Epochs that share an optimiser: `first` and those after it, counted over the whole run."""

    name: str
    first: int
    epochs: int
    evaluate_every: int
    warm: bool = False  # the sequence model alone, on cached features

    @property
    def end(self) -> int:
        return self.first + self.epochs

    def evaluates_after(self, epoch: int) -> bool:
        return epoch + 1 == self.end or (epoch + 1 - self.first) % self.evaluate_every == 0


WARM, ADAPT = "warm start", "adapt"
READY = 60.0  # dev WER in percent; a head above it has not learnt the glosses yet, and adaptation on top does not help


def phases_of(
    settings: TrainConfig, clips: int, processes: int = 1, rows: Sequence[Mapping[str, Any]] = ()
) -> tuple[Phase, Phase]:
    """The warm start and what follows it, for so many clips to train on; rows: the history so far, which tells where
    dev has ended the warm start."""

    def epochs(steps: int, batch_size: int) -> int:
        return math.ceil(steps * batch_size * settings.accumulate * processes / clips)

    warm, adapt = settings.warm_start_epochs, settings.epochs
    small = settings.warm_start_batch_size or settings.batch_size
    if settings.steps:
        adapt = epochs(settings.steps, settings.batch_size)
    if settings.warm_start_steps:
        warm = epochs(settings.warm_start_steps, small)
    every = max(warm, 1)
    if settings.warm_start_patience and warm:
        patience = epochs(settings.warm_start_patience, small)
        every = max(patience // 4, 1)
        scored = [(row["wer"], row["epoch"]) for row in rows if row["phase"] == WARM and "wer" in row]
        if scored and min(scored)[0] < READY and scored[-1][1] - min(scored)[1] >= patience:
            warm = scored[-1][1] + 1
    return Phase(WARM, 0, warm, every, warm=True), Phase(ADAPT, warm, adapt, settings.evaluate_every)


def make_optimizer(model: Recognizer, settings: TrainConfig, warm: bool = False) -> torch.optim.Optimizer:
    """The optimiser over what trains; warm: over all of it but the encoder. One group an initial rate."""
    encoder = {id(p) for p in model.encoder.parameters()}
    inside = [p for p in model.parameters() if p.requires_grad and id(p) in encoder]
    head = [p for p in model.parameters() if p.requires_grad and id(p) not in encoder]
    head_rate = settings.head_learning_rate or settings.learning_rate
    if warm:
        groups = [(head, settings.warm_start_learning_rate or head_rate)]
    else:
        groups = [(inside, settings.learning_rate), (head, head_rate)]
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
