"""A plugin for nbval: its kernels talk through sockets in a folder of their own, as those of sweeps do."""

from __future__ import annotations

import nbval.kernel

from slakit.sweeps.kernels import SocketKernelManager

nbval.kernel.KernelManager = SocketKernelManager
