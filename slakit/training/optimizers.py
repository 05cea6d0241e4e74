"""The phases of a run, the optimiser of each, and its learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
