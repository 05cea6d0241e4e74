"""ipywidgets 7, as Colab has it, beside the installed one: a folder for PYTHONPATH and its controls for JupyterLab."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

FOLDER = Path(__file__).resolve().parents[1] / "papermill_runs" / "out" / "ipywidgets7"
WANTED = "ipywidgets==7.8.*", "jupyterlab_widgets==1.1.*", "ipython_genutils"  # 1.1 serves JupyterLab 3 and 4


def ipywidgets7() -> Path:
    """Installed once, without touching the environment; skips where there is no package index.

    A kernel takes it with PYTHONPATH=folder, JupyterLab its controls with JUPYTER_PATH=folder/share/jupyter.
    """
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{FOLDER}.lock"):  # of several test processes
        if not (FOLDER / "complete").is_file():
            shutil.rmtree(FOLDER, ignore_errors=True)
            uv = shutil.which("uv")
            installer = [uv, "pip"] if uv else [sys.executable, "-m", "pip"]
            command = [*installer, "install", "--quiet", "--no-deps", "--target", str(FOLDER), *WANTED]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode:
                pytest.skip(f"ipywidgets 7 cannot be installed here: {done.stderr[-300:]}")
            (FOLDER / "complete").touch()
    return FOLDER
