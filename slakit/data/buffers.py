"""Memory that is used again: new pages for 40 MB a batch cost more time than the pixels that are written into them."""

from __future__ import annotations

import math
import weakref

import numpy as np

KEEP = 3  # buffers that wait for their next use: one being filled, one in the network, one on its way


class BufferPool:
    """uint8 arrays for batches; the memory of one that nobody holds any more is handed out again.

    An array (and every tensor or view made of it) may be kept as long as one likes: its memory returns when the last
    reference is gone, not before.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """A contiguous uint8 array of this shape; its content is whatever was there."""
        count = math.prod(shape)
        memory = None
        while self._free:
            memory = self._free.pop()
            if len(memory) >= count:
                break
            memory = None  # too small: let it go
        if memory is None:
            memory = np.empty(count + count // 4, np.uint8)  # room for a longer batch
        # An array over a memoryview, not a slice of `memory`: views of a slice would refer to `memory` itself and
        # outlive the slice. All that is made of `handle` refers to `handle`.
        handle = np.frombuffer(memoryview(memory)[:count], np.uint8)
        weakref.finalize(handle, self._back, memory).atexit = False
        return handle.reshape(shape)

    def _back(self, memory: np.ndarray) -> None:
        if len(self._free) < KEEP:
            self._free.append(memory)
