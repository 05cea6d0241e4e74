"""Several processes, started by torch's own launcher: `torchrun --nproc-per-node N -m slakit train settings.json`.

N processes with a batch of B clips each compute what one process with a batch of N x B computes: gradients are summed
clip by clip (a mean of the processes' means would weigh a last, shorter batch too much), batch norm counts all clips,
and clips are padded to the longest one of all processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Processes:
    """This process among those that train together. Every method but `main` must be called by all of them."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process prints and writes."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums of some numbers over the processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, item: Any) -> list[Any]:
        """The item of every process, in the order of their ranks."""
        if self.size == 1:
            return [item]
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item)
        return items

    def barrier(self) -> None:
        """Wait for the others."""
        if self.size > 1:
            dist.barrier()

    def same_weights(self, model: nn.Module) -> None:
        """The weights and statistics of rank 0 in all processes."""
        if self.size > 1:
            for tensor in model.state_dict().values():
                dist.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Each gradient becomes its sum over the processes; one message for all of them. A missing one counts as 0."""
        if self.size == 1:
            return
        parameters = list(parameters)
        flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in parameters])
        dist.all_reduce(flat)
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)


ALONE = Processes()


@contextmanager
def launched(device: str = "auto") -> Iterator[Processes]:
    """The processes that torchrun started; this one alone where it did not. On GPUs each process takes its own."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if torch.cuda.is_available() and device != "cpu":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    else:
        backend = "gloo"
    dist.init_process_group(backend, timeout=timedelta(hours=1))  # rank 0 may draw or index a corpus for a while
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm over the rows of all processes, in float32; torch's SyncBatchNorm refuses CPU tensors."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, T]."""
        if not self.training:
            return super().forward(x)
        values = x.float()
        rows = values.new_tensor([values.shape[0] * values.shape[2]])
        total = _Sum.apply(torch.cat([values.sum((0, 2)), rows]))  # [C + 1]
        mean, rows = total[:-1] / total[-1], total[-1].detach()
        centred = values - mean[:, None]
        variance = _Sum.apply(centred.square().sum((0, 2))) / rows  # [C]
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var += self.momentum * (variance * rows / (rows - 1) - self.running_var)
        scaled = centred * (self.weight * (variance + self.eps).rsqrt())[:, None] + self.bias[:, None]
        return scaled.to(x.dtype)


@contextmanager
def shared_statistics(sequence: nn.Module, processes: Processes) -> Iterator[None]:
    """Inside, the sequence model trains as if the clips of all processes were one batch."""
    if processes.size == 1:
        yield
        return

    def to_common_length(module: nn.Module, inputs: tuple) -> tuple | None:
        features, *rest = inputs  # [B, T_padded, F]; what follows a clip's end is copies of its last frame
        if not module.training:
            return None
        longest = max(processes.gather(features.shape[1]))
        more = features[:, -1:].expand(-1, longest - features.shape[1], -1)
        return torch.cat([features, more], 1), *rest

    norms = [module for module in sequence.modules() if type(module) is nn.BatchNorm1d]
    for norm in norms:
        norm.__class__ = SharedBatchNorm  # the same parameters and names, so checkpoints do not notice
    hook = sequence.register_forward_pre_hook(to_common_length)
    try:
        yield
    finally:
        hook.remove()
        for norm in norms:
            norm.__class__ = nn.BatchNorm1d
