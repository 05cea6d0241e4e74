"""A pool of processes that ends with its parent and dies in silence: Ctrl-C, SIGTERM or a kill leave no worker behind,
and none of them prints a traceback of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ordered(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """function(item) of each item in order, in so many processes; at most four items a worker wait in memory."""
    if workers == 1:
        yield from map(function, items)
        return
    # "spawn": a forked copy of a process that runs torch or decord threads may lock up
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        waiting: deque = deque()
        try:
            for item in items:
                with stops_held():
                    waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # one that is stopped does not wait for the items that it would drop


@contextmanager
def stops_held() -> Iterator[None]:
    """What would stop this process waits until this ends: a worker that is started within gets all that it needs to
    start, and never hears Ctrl-C, not even while it imports.

    Python runs a handler in the main thread whichever thread took the signal, hence handlers that only note it; a mask
    is inherited by the process that is started, hence a mask for Ctrl-C.
    """
    names = ("SIGINT", "SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name, None))}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    heard: list[int] = []
    mask = getattr(signal, "pthread_sigmask", None)  # Windows has none
    before = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None
    for number in handlers:
        signal.signal(number, lambda number, frame: heard.append(number))
    try:
        yield
    finally:
        if mask:
            mask(signal.SIG_SETMASK, before)  # one that waited comes here, and is noted
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if heard:
            signal.raise_signal(heard[0])


def _end_with_parent() -> None:
    """In a worker: end when the process that started it does, however that was killed, and deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
