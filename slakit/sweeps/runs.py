"""One run and its folder: run.ipynb (executed), run.json, metrics.json, log.txt, and what the notebook keeps there.

A run is done when its notebook has an end and no exception (papermill notes both in the notebook) and its process
lived to say so in run.json. A folder is locked while a run is in it; the lock ends with its process, however that ends.

    python -m slakit.sweeps.runs FOLDER JSON       # what the runner starts for every run: a process of its own
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from slakit.machine import checkout, is_locked, locked, stop_on_signals
from slakit.records import SlakitError, unwritable, write_atomically

Status = Literal["new", "running", "done", "failed", "interrupted"]
DONE, FAILED, TAKEN = 0, 1, 3  # exit codes of a run's process; TAKEN: somebody else has it or has done it
PACKAGES = ("slakit", "torch", "open_clip_torch", "numpy", "papermill")


def status(folder: Path) -> Status:
    """How a run stands, from what is in its folder."""
    if is_locked(folder):
        return "running"
    if not (folder / "run.ipynb").is_file():
        return "interrupted" if (folder / "log.txt").is_file() else "new"
    notebook = _papermill(folder / "run.ipynb")
    if notebook.get("exception"):
        return "failed"
    return "done" if notebook.get("end_time") and _ended_well(folder) else "interrupted"


def _papermill(notebook: Path) -> dict[str, Any]:
    """What papermill noted in the notebook; nothing where it was killed while the file was being written."""
    try:
        return json.loads(notebook.read_text(encoding="utf-8"))["metadata"]["papermill"]
    except (OSError, ValueError, KeyError):
        return {}


def _ended_well(folder: Path) -> bool:
    """Whether run.json says so: papermill gives an interrupted notebook an end, too."""
    try:
        return read_run(folder).get("status") == "done"
    except SlakitError:
        return False


def failure(folder: Path) -> str:
    """The cell that failed and its error, in one line."""
    try:
        cells = json.loads((folder / "run.ipynb").read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return _last_line(folder / "log.txt")
    for number, cell in enumerate(cells):
        for out in cell.get("outputs", []):
            if out["output_type"] == "error":
                first = next((line for line in "".join(cell["source"]).splitlines() if line.strip()), "")
                value = out["evalue"].splitlines()[0] if out["evalue"] else ""
                return f"cell {cell['execution_count'] or number} ({first[:60]}): {out['ename']}: {value[:300]}"
    return _last_line(folder / "log.txt")


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    return next(
        (line.strip()[:300] for line in reversed(lines) if line.strip()),
        "no message: it was killed, or the disk is full",
    )


def write_run(folder: Path, content: dict[str, Any]) -> None:
    """run.json, whole or not at all: what is run there and how it went."""
    write_atomically(folder / "run.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """run.json of a folder; SlakitError where it is missing or damaged."""
    try:
        return json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SlakitError(f"{folder / 'run.json'} cannot be read: {error}; delete the folder to run it anew") from error


def execute(folder: str | Path, run: dict[str, Any]) -> int:
    """Run run["notebook_path"] with run["parameters"] in this process; returns DONE, FAILED or TAKEN.

    run: what is known about it beforehand; it goes into run.json, together with versions, device and times.
    """
    from papermill.exceptions import PapermillExecutionError

    from slakit.sweeps.notebooks import run_notebook

    folder = Path(folder)
    with locked(folder) as mine, stop_on_signals():
        notebook = folder / "run.ipynb"
        if not mine or (_papermill(notebook).get("end_time") and _ended_well(folder)):
            return TAKEN
        run = run | {"versions": versions(), "device": device(), "started": _now(), "ended": None, "status": "running"}
        write_run(folder, run)
        begin, outcome = time.monotonic(), "interrupted"
        try:
            run_notebook(run["notebook_path"], notebook, run["parameters"] | {"out_dir": str(folder)})
            outcome = "done"
        except PapermillExecutionError as error:
            print(f"cell {error.exec_count} failed: {error.ename}: {error.evalue}", flush=True)
            outcome = "failed"
        finally:
            run |= {"ended": _now(), "seconds": round(time.monotonic() - begin, 1), "status": outcome}
            write_run(folder, run)
        return DONE if outcome == "done" else FAILED


def versions() -> dict[str, str]:
    """Python and the packages that decide a result, and the checkout's commit ("+changes" where it has some)."""
    numbers = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            numbers[package] = version(package)
        except PackageNotFoundError:
            continue
    return numbers | {"commit": commit()}


def commit() -> str:
    """The commit of the checkout that runs, with "+changes" where files differ from it; "" outside of git."""
    if (folder := checkout()) is None:
        return ""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + ("+changes" if head and git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.TimeoutExpired):
        return ""


def device() -> str:
    """The device that the run is given: the GPU's name, or the CPU's, the instructions that torch is held to, if it is
    (they decide how it rounds), and the number of threads."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible != "":
        try:
            query = ["nvidia-smi", "--query-gpu=index,name", "--format=csv,noheader"]
            rows = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.splitlines()
        except (OSError, subprocess.TimeoutExpired):
            rows = []
        named = dict(row.split(", ", 1) for row in rows if ", " in row)
        chosen = visible.split(",") if visible else list(named)
        if named:
            return " + ".join(named.get(index, f"GPU {index}") for index in chosen)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    held_to = [f"held to {name.upper()}"] if (name := os.environ.get("ATEN_CPU_CAPABILITY")) else []
    return ", ".join([_cpu_name(), *held_to, f"{threads} thread{'' if threads == '1' else 's'}"])


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    try:
        sys.exit(execute(sys.argv[1], json.loads(sys.argv[2])))
    except (SlakitError, OSError) as error:
        sentence = error if isinstance(error, SlakitError) else unwritable(Path(sys.argv[1]), error)
        print(f"slakit: {sentence}", flush=True)  # in log.txt, where a full disk has room for it
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("stopped", flush=True)
        sys.exit(130)
