"""A folder that one process at a time works in."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_held: set[TextIO] = set()


def _let_go() -> None:
    """In a forked child: it must not keep a lock alive when its parent, a killed training run perhaps, is gone."""
    for file in _held:
        file.close()  # closes this process's descriptor alone; the parent keeps its lock
    _held.clear()


os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(folder: Path, seconds: float = 2.0) -> Iterator[bool]:
    """Hold the folder's lock, True, or give up after `seconds`, False. The system drops the lock of a dead process."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.05)
        _held.add(file)
        try:
            yield True
        finally:
            _held.discard(file)


def is_locked(folder: Path) -> bool:
    """Whether a process has the folder. Asks with a shared lock, so that two who ask do not see each other."""
    if not (folder / ".lock").is_file():
        return False
    with open(folder / ".lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
