"""What the machine decides, what processes share: device, precision, ranks, files, locks, signals, bars."""

from __future__ import annotations

import errno
import os
import signal
import threading
import tomllib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import platformdirs
import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import nn
from tqdm.auto import tqdm

from slakit.records import ConfigError


def find_device(name: str | torch.device | None = None) -> torch.device:
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


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's generators that training draws from (dropout); the loaders' draws depend on none."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Back to what random_state() gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


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

    def broadcast(self, item: Any) -> Any:
        """Rank 0's item, in every process."""
        if self.size == 1:
            return item
        items = [item]
        dist.broadcast_object_list(items, 0)
        return items[0]

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
    """The processes that torchrun started; this one alone where it did not. On GPUs each process takes its own.

    ConfigError where one GPU is named for all of them, or there are more processes than GPUs.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE
        return
    if torch.cuda.is_available() and device != "cpu":
        rank, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        wanted = int(os.environ.get("LOCAL_WORLD_SIZE", rank + 1))
        if device not in ("auto", "cuda"):
            raise ConfigError(
                f"device {device} is one GPU for all processes; leave it out, torchrun's processes take one each "
                "(CUDA_VISIBLE_DEVICES chooses which)"
            )
        if wanted > count:
            raise ConfigError(
                f"{wanted} processes on {count} GPU{'s' * (count != 1)}; start torchrun with --nproc-per-node {count}, "
                "or train with --device cpu"
            )
        torch.cuda.set_device(rank)
        backend = "cpu:gloo,cuda:nccl"
    else:
        backend = "gloo"
    dist.init_process_group(backend, timeout=timedelta(hours=1))  # rank 0 may draw or index a corpus for a while
    try:
        yield Processes(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_shipped"  # made by the build of a wheel (setup.py), never in a checkout


def checkout() -> Path | None:
    """The folder of the checkout that slakit runs from; None where it was installed from a wheel."""
    return _PACKAGE.parent if (_PACKAGE.parent / "pyproject.toml").is_file() and not _SHIPPED.is_dir() else None


def shipped(name: str) -> Path:
    """A file or folder that comes with slakit, in a checkout and in a wheel: "results/demo_spread", "notebooks", ….

    The first part is a name of [tool.slakit.shipped] in pyproject.toml, which says where it lies in a checkout: specs,
    results, measured (speed), notebooks, tiny_clip, tiny_resnet, demo_models. ConfigError for what is not there.
    """
    first, *rest = Path(name).parts
    if (root := checkout()) is None:
        path = _SHIPPED / name
    else:
        places = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["slakit"]["shipped"]
        path = Path(root, places.get(first, first), *rest)
    if not path.exists():
        raise ConfigError(f"slakit ships no {name!r} ({path} is missing); install it anew, from a wheel or a checkout")
    return path


def output_folder(name: str = "") -> Path:
    """Where a run of that name goes if nobody says: papermill_runs/out of the checkout, or runs in this folder."""
    root = checkout()
    return (root / "papermill_runs" / "out" if root else Path.cwd() / "runs") / name


def cache_folder() -> Path:
    """What is made once and used again (drawn clips): data of the checkout, or SLAKIT_HOME, or the user's cache."""
    if root := checkout():
        return root / "data"
    return Path(os.environ.get("SLAKIT_HOME") or platformdirs.user_cache_path("slakit"))


NO_LOCKS = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK)  # of a mounted Drive, of some shared folders


def _lock(folder: Path) -> FileLock:
    """On flock alone: the marker file that filelock can put in its place would survive a Colab machine that dies."""
    return FileLock(folder / ".lock", fallback_to_soft=False)


@contextmanager
def locked(folder: Path, seconds: float = 2.0) -> Iterator[bool]:
    """Hold the folder's lock, True, or give up after `seconds`, False. The system drops the lock of a dead process.

    A forked child does not keep it alive: a reading process may outlive its parent, a killed training run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        yield False
        return
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{folder}: this disk has no locks ({error.strerror}); see to it that one process at a time works there",
            stacklevel=3,
        )
    try:
        yield True
    finally:
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process has the folder."""
    if not (folder / ".lock").is_file():
        return False
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0.1, poll_interval=0.01)  # somebody else who asks has it for an instant
    except Timeout:
        return True
    except OSError as error:  # somebody else's folder, a disk without locks: whether it is in use cannot be asked
        if isinstance(error, PermissionError) or error.errno in NO_LOCKS:
            return False
        raise
    lock.release()
    return False


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP (a terminal that is closed) as KeyboardInterrupt, once: a second one does not disturb the
    stopping. A signal that is ignored stays so (nohup). In another thread than the main one nothing changes.
    """
    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name, None))}
    before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def stop(*_):
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def usable_cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(items: Iterable, description: str, show: bool | None = None, **options) -> tqdm:
    """A tqdm bar over `items`; show=False hides it, and so does SLAKIT_PROGRESS=0 in the environment (batch runs).

    tqdm's own TQDM_DISABLE is not read by its notebook bar, hence a variable of our own. Two updates a second at most:
    each is several messages to the browser, and a kernel drops messages beyond a thousand that nobody has fetched.
    """
    hidden = show is False or os.environ.get("SLAKIT_PROGRESS", "1") == "0"
    return tqdm(items, desc=description, disable=hidden, leave=False, mininterval=0.5, **options)
