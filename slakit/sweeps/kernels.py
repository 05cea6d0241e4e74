"""Kernels that talk through socket files in a folder of their own, not through ports.

Ports are chosen before they are taken: of two kernels that start at the same moment, as in a sweep with --jobs 2, both
may choose the same one, and one dies.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager, KernelManager


class _SocketFiles(KernelManager):
    def __init__(self, **options: Any):
        self._sockets = tempfile.mkdtemp(prefix="slakit-kernel-")
        super().__init__(transport="ipc", ip=str(Path(self._sockets) / "kernel"), **options)

    def cleanup_connection_file(self) -> None:
        """Called when the kernel has ended."""
        super().cleanup_connection_file()
        shutil.rmtree(self._sockets, ignore_errors=True)


class SocketKernelManager(_SocketFiles):
    """For nbval, which does not await."""


class AsyncSocketKernelManager(_SocketFiles, AsyncKernelManager):
    """For papermill."""


def papermill_options() -> dict[str, Any]:
    """Options of papermill.execute_notebook(); none on Windows, where ZeroMQ has no socket files."""
    return {} if sys.platform == "win32" else {"kernel_manager_class": AsyncSocketKernelManager}
