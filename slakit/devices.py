"""What the machine decides: precision, determinism, memory."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from slakit.errors import ConfigError


def find_device(name: str | None = None) -> torch.device:
    """The device of that name, or the GPU if there is one; ConfigError for one that is not here."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ConfigError(f"there is no device {name!r}; choose cpu, cuda or cuda:1") from error
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ConfigError(f"device {name}: PyTorch sees {count or 'no'} GPU{'s' * (count != 1)} here; choose cpu")
    return device


def half_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type: None is float32. "auto": bfloat16 from compute capability 8, float16 below, CPU float32.

    The capability is asked and not torch.cuda.is_bf16_supported(), which answers True on a T4, by slow emulation.
    """
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[precision]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context for a model's forward pass."""
    half = half_precision(precision, device)
    return torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Deterministic kernels where torch has them, inside; a warning names those without (CTC's gradient on a GPU)."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def peak_memory(device: torch.device) -> float:
    """GiB at the highest so far: allocated on the GPU, resident of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's generators that training draws from (dropout); the loaders' draws depend on none."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Back to what random_state() gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
