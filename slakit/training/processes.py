"""Several processes, started by torch's own launcher: `torchrun --nproc-per-node N -m slakit train settings.json`.

N processes with a batch of B clips each compute what one process with a batch of N x B computes: gradients are summed
clip by clip (a mean of the processes' means would weigh a last, shorter batch too much), batch norm counts all clips,
and clips are padded to the longest one of all processes. Who the processes are, slakit.machine knows. Encoders that
look at padded frames (SEN, CorrNet, CorrNet+, SlowFastSign; AdaptSign where frames are padded) see those of their own
process's batch, and the norms of lift pooling's terms are each process's own: there the losses of N processes are close
to those of one, not equal, which is said when training begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from slakit.machine import Processes
from slakit.models.recognizer import Recognizer
from slakit.records import say


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.apply(gradient.contiguous())


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm over the rows of all processes, in float32; torch's SyncBatchNorm refuses CPU tensors."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Pictures too: a network's norms become this as well."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [B, C, …]."""
        if not self.training:
            return super().forward(x)
        values = x.float().flatten(2)  # [B, C, T]
        rows = values.new_tensor([values.shape[0] * values.shape[2]])
        total = _Sum.apply(torch.cat([values.sum((0, 2)), rows]))  # [C + 1]
        mean, rows = total[:-1] / total[-1], total[-1].detach()
        centred = values - mean[:, None]
        variance = _Sum.apply(centred.square().sum((0, 2))) / rows  # [C]
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_var += self.momentum * (variance * rows / (rows - 1) - self.running_var)
        scaled = centred * (self.weight * (variance + self.eps).rsqrt())[:, None] + self.bias[:, None]
        return scaled.to(x.dtype).view_as(x)


@contextmanager
def shared_statistics(model: Recognizer, processes: Processes) -> Iterator[None]:
    """Inside, batch norms count, and the sequence models train, as if the clips of all processes were one batch."""
    if processes.size == 1:
        yield
        return

    published, each = model.config.padding == "published", model.encoder.pads_each
    zeros = published and each
    if processes.main and ((published and not each and model.encoder.reach) or model.config.pooling == "lift"):
        say(
            f"{model.config.method} sees its batch's padding, which each of {processes.size} processes has for itself: "
            "losses are close to those of one process, not equal"
        )

    def to_common_length(module: nn.Module, inputs: tuple) -> tuple | None:
        features, *rest = inputs  # [B, T_padded, F]; what follows a clip's end is copies of its last frame, or zeros
        if not module.training:
            return None
        longest = max(processes.gather(features.shape[1]))
        more = (features[:, -1:] * (not zeros)).expand(-1, longest - features.shape[1], -1)
        return torch.cat([features, more], 1), *rest

    norms = {module: type(module) for module in model.modules() if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d)}
    for norm in norms:
        norm.__class__ = SharedBatchNorm  # the same parameters and names, so checkpoints do not notice
    heads = [model.sequence, *model.pathways.values()]
    hooks = [head.register_forward_pre_hook(to_common_length) for head in heads]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for norm, kind in norms.items():
            norm.__class__ = kind


def tell_torchrun(error: Exception) -> None:
    """torchrun's own report, which comes last, then ends with the error's sentence, without the way that it came."""
    try:
        raise error.with_traceback(None) from None
    except Exception:
        get_error_handler().record_exception(error)  # with the traceback of what is being handled


def lost_its_partner(error: BaseException) -> bool:
    """Whether this process waited for one that is gone, as gloo and NCCL say it."""
    words = ("connection closed by peer", "connection reset", "connection refused", "nccl", "gloo", "recvvalue")
    return bool(int(os.environ.get("RANK", "0"))) and any(word in str(error).lower() for word in words)
