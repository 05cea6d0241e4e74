"""How many bytes a computation keeps and needs at most: counted on tensors without data, so nothing is computed."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveBytes(TorchDispatchMode):
    """Within: storages that operations make are watched. live(): bytes of those still alive; peak: the most so far."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak, self._at_most, self._ignored = 0, 0, set()

    def ignore(self, module: nn.Module) -> None:
        """Parameters and buffers of `module` are not counted."""
        self._ignored = {tensor.untyped_storage()._cdata for tensor in (*module.parameters(), *module.buffers())}

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        results = function(*arguments, **(options or {}))
        for tensor in tree_iter(results):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self._ignored:
                    known = self.storages.get(key)
                    if known is None or known[0].expired():
                        self._at_most += storage.nbytes()
                    self.storages[key] = (StorageWeakRef(storage), storage.nbytes())
        if self._at_most > self.peak:  # otherwise no peak, whatever has been freed since the last look
            self.live()
        return results

    def live(self) -> int:
        """Bytes of the storages that still exist."""
        self.storages = {key: item for key, item in self.storages.items() if not item[0].expired()}
        self._at_most = sum(size for _, size in self.storages.values())
        self.peak = max(self.peak, self._at_most)
        return self._at_most


def without_data(module: nn.Module, mode: FakeTensorMode, device: torch.device) -> nn.Module:
    """A copy of `module` whose tensors are on `device` and hold nothing; takes no memory and no time."""
    memo: dict[int, Any] = {}
    with mode:
        for tensor in (*module.parameters(), *module.buffers()):
            empty = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
            is_parameter = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(empty, requires_grad=tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(module, memo)
