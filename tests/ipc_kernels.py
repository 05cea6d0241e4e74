"""A plugin for nbval: its kernels talk through sockets in a folder of their own.

Ports are chosen before they are taken: two kernels that start at the same moment may choose the same one, and one dies.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import nbval.kernel
from jupyter_client import KernelManager


def manager(**options) -> KernelManager:
    """A kernel manager without ports."""
    folder = tempfile.mkdtemp(prefix="slakit-kernel-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return KernelManager(transport="ipc", ip=str(Path(folder) / "kernel"), **options)


nbval.kernel.KernelManager = manager
