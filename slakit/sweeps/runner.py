"""Runs the points of a spec: several at a time, each a process with its own GPU, none twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import Any

from slakit.machine import progress, stop_on_signals, usable_cores
from slakit.records import ConfigError
from slakit.sweeps.checks import checked_points, notebook_path
from slakit.sweeps.runs import DONE, TAKEN, Status, failure, status
from slakit.sweeps.spec import Point, Spec


@dataclass(frozen=True)
class Planned:
    """A run with its folder and how it stands."""

    point: Point
    folder: Path
    status: Status


@dataclass
class SweepReport:
    """What a sweep did: names of runs by outcome; failed maps a name to the cell that failed and its error."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    already_done: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    left_failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    def note(self, item: Planned, code: int | None) -> None:
        """Put a run that has ended where it belongs, by its exit code."""
        name = item.point.name
        if code == DONE:
            self.finished.append(name)
        elif code == TAKEN:
            (self.already_done if status(item.folder) == "done" else self.elsewhere).append(name)
        else:
            self.failed[name] = failure(item.folder)

    def __str__(self) -> str:
        lines = [f"{len(self.finished)} finished, {len(self.already_done)} were done already"]
        if self.elsewhere:
            lines.append(f"{len(self.elsewhere)} are run by another sweep: {', '.join(self.elsewhere)}")
        if self.left_failed:
            lines.append(f"{len(self.left_failed)} failed earlier, left alone (--retry-failed runs them again):")
            lines += [f"  {name}\n    {reason}" for name, reason in self.left_failed.items()]
        if self.failed:
            lines.append(f"{len(self.failed)} failed:")
            lines += [f"  {name}\n    {reason}" for name, reason in self.failed.items()]
        if self.stopped:
            lines.append("stopped; the same command goes on from here")
        return "\n".join(lines)


def plan(spec: Spec, out: str | Path, points: Sequence[Point] | None = None) -> list[Planned]:
    """Every run of the spec (or the given ones) with its folder, OUT/SPEC/RUN, and how it stands."""
    folder = Path(out).absolute() / spec.name
    points = checked_points(spec) if points is None else points
    return [Planned(point, folder / point.name, status(folder / point.name)) for point in points]


def to_run(planned: Sequence[Planned], retry_failed: bool) -> list[Planned]:
    """What is neither done nor, without retry_failed, failed. Killed runs always go on."""
    open_ones = ("new", "interrupted", "running") + (("failed",) if retry_failed else ())
    return [item for item in planned if item.status in open_ones]


def description(spec: Spec, item: Planned) -> dict[str, Any]:
    """All that a run's process needs to know; {sweep_dir} becomes the folder of the spec's runs."""
    point, shared = item.point, str(item.folder.parent)
    parameters = {
        key: value.replace("{sweep_dir}", shared) if isinstance(value, str) else value
        for key, value in point.parameters.items()
    }
    return {
        "spec": spec.name, "name": point.name, "notebook": spec.notebook,
        "notebook_path": str(notebook_path(spec.notebook)),
        "parameters": parameters, "changes": point.changes, "case": point.case, "seed": point.seed,
    }  # fmt: skip


def default_jobs(spec: Spec, gpus: Sequence[str]) -> int:
    """As many at a time as there are GPUs for; one where there is none."""
    return max(1, len(gpus) // max(1, spec.resources.gpus)) if gpus else 1


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        listed = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split() if listed.returncode == 0 else []


def run_sweep(
    spec: Spec,
    out: str | Path,
    *,
    points: Sequence[Point] | None = None,
    jobs: int | None = None,
    gpus: Sequence[str] | None = None,
    retry_failed: bool = False,
    limit: int | None = None,
    show_progress: bool | None = None,
) -> SweepReport:
    """Run what is not done, `jobs` at a time; a failure leaves the others running.

    out: the folder of all sweeps; a run's files are in OUT/SPEC/RUN. points: some of the spec's (default: all).
    jobs: default_jobs(). gpus: names for CUDA_VISIBLE_DEVICES (default: all visible, ConfigError where the spec asks
    for some and none is; [] takes the CPU); each run gets `resources.gpus` of them, at least one. Without GPUs each run
    gets an equal share of the cores as threads.
    limit: at most so many runs now. A KeyboardInterrupt, SIGTERM or SIGHUP stops the running ones cleanly and
    is noted in the report.
    """
    if gpus is None and not (gpus := visible_gpus()) and spec.resources.gpus:
        raise ConfigError(
            f"a run of {spec.name} asks for {spec.resources.gpus} GPU(s), and none is seen here (nvidia-smi, "
            "CUDA_VISIBLE_DEVICES); --on-cpu runs it without"
        )
    gpus = list(gpus)
    jobs = default_jobs(spec, gpus) if jobs is None else jobs
    each = max(1, spec.resources.gpus)
    if jobs < 1:
        raise ConfigError(f"jobs={jobs} is no number of runs at a time; give 1 or more")
    if gpus and jobs * each > len(gpus):
        raise ConfigError(
            f"jobs={jobs} with {each} GPU(s) each need {jobs * each}, and there are {len(gpus)}; lower --jobs"
        )
    waiting, report = begin(spec, out, points, retry_failed, limit)
    places = [",".join(gpus[k * each : (k + 1) * each]) for k in range(jobs)] if gpus else [""] * jobs
    with stop_on_signals():
        _run_all(spec, waiting, places, report, show_progress)
    return report


def begin(
    spec: Spec, out: str | Path, points: Sequence[Point] | None, retry_failed: bool, limit: int | None
) -> tuple[list[Planned], SweepReport]:
    """What is to be run now, and a report that tells of the rest."""
    planned = plan(spec, out, points)
    report = SweepReport(already_done=[item.point.name for item in planned if item.status == "done"])
    if not retry_failed:
        report.left_failed = {i.point.name: failure(i.folder) for i in planned if i.status == "failed"}
    return to_run(planned, retry_failed)[:limit], report


def _run_all(
    spec: Spec, waiting: Sequence[Planned], places: Sequence[str], report: SweepReport, show_progress: bool | None
) -> None:
    """A process for every run, at most one for each place at a time. A place is the GPUs of a run, "" for none."""
    free: SimpleQueue[str] = SimpleQueue()
    for place in places:
        free.put(place)
    running: set[subprocess.Popen] = set()
    starting, stopping = Lock(), Event()

    def run(item: Planned) -> int:
        place = free.get()
        item.folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "slakit.sweeps.runs", str(item.folder), json.dumps(description(spec, item))]
        with open(item.folder / "log.txt", "a") as log, starting:
            if stopping.is_set():
                return TAKEN
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env=run_environment(place, len(places)),
            )  # fmt: skip
            running.add(process)
        process.wait()
        running.discard(process)
        free.put(place)
        return process.returncode

    with ThreadPoolExecutor(len(places)) as pool:
        items = {pool.submit(run, item): item for item in waiting}
        bar = progress(as_completed(items), spec.name, show_progress, unit="run", total=len(items))
        try:
            for future in bar:
                report.note(items[future], future.result())
        except KeyboardInterrupt:
            report.stopped = True
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            with starting:
                stopping.set()
            _stop(list(running))
            bar.close()


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    """Ask what still runs to end, which keeps its files whole, and end it after twenty seconds."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + 20
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_environment(place: str, jobs: int) -> dict[str, str]:
    """The environment of a run: its GPUs, its share of the cores, no progress bars."""
    cores = usable_cores()
    threads = os.environ.get("OMP_NUM_THREADS", str(max(1, cores // jobs)))
    here = str(Path(__file__).resolve().parents[2])  # the same slakit as this one, whatever is installed
    search = [here, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    changes = {"OMP_NUM_THREADS": threads, "SLAKIT_PROGRESS": "0", "PYTHONPATH": os.pathsep.join(search)}
    return {**os.environ, **changes, "CUDA_VISIBLE_DEVICES": place}
