"""The package imports where a system lacks what only Unix has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What other packages need of these modules they have imported before they are hidden.
WITHOUT_UNIX = """
import contextlib, importlib, os, pkgutil, signal, sys
import av, filelock, IPython, ipywidgets, matplotlib.pyplot, multiprocessing.popen_spawn_posix, numba, open_clip
import pandas, papermill, PIL.Image, psutil, pydantic, seaborn, simplejpeg, torch, torch.distributed, tqdm.auto
import torch.utils.data
with contextlib.suppress(ImportError):
    import decord, mlflow, submitit, tensorboard, transformers, wandb

for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None  # importing it is an ImportError
for name in ("preadv", "pread", "sched_getaffinity", "register_at_fork", "fork", "mkfifo", "getuid"):
    delattr(os, name)
for name in ("SIGCHLD", "SIGHUP", "SIGKILL"):
    delattr(signal, name)

import slakit
modules = [module.name for module in pkgutil.walk_packages(slakit.__path__, "slakit.")]
for name in modules:
    if not name.endswith("__main__"):
        importlib.import_module(name)
for name in slakit.__all__:
    getattr(slakit, name)
print(len(modules))
"""

PREPARE_AND_READ = """
import pathlib
import numpy as np
from PIL import Image
from slakit.data import load_corpus, read_frames
from slakit.data.doctor import doctor
from slakit.data.prepare import prepare

folder = pathlib.Path(sys.argv[1])
(folder / "clip").mkdir()
for number in range(9):
    Image.new("RGB", (40, 40), (20 * number, 0, 0)).save(folder / f"clip/{number}.png")
(folder / "annotations.csv").write_text("path,glosses,split\\nclip,A B,train\\n")
corpus = prepare(load_corpus("folder", folder), folder / "out", size=40, encoding="raw", show_progress=False)
assert np.array_equal(read_frames(corpus.train[0].source, [7, 2, 2])[:, 0, 0, 0], [140, 40, 40])
print(doctor("folder", folder, prepared=folder / "out", deep=True, show_progress=False).text())
"""


def run(code: str, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg", "SLAKIT_PROGRESS": "0"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_imports_without_what_only_unix_has():
    files = [
        path for path in (ROOT / "slakit").rglob("*.py") if path.parent != ROOT / "slakit" or path.stem != "__init__"
    ]
    assert int(run(WITHOUT_UNIX)) == len(files)


def test_a_corpus_is_prepared_read_and_examined_without_it(tmp_path):
    assert "healthy" in run(WITHOUT_UNIX + PREPARE_AND_READ, tmp_path).splitlines()[-1]
