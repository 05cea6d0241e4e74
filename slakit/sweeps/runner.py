"""Runs the points of a spec: several at a time, each a process with its own GPU, none twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slakit.machine import progress, usable_cores
from slakit.records import ConfigError
from slakit.sweeps.checks import checked_points, notebook_path
from slakit.sweeps.runs import DONE, TAKEN, Status, failure, status, stop_on_signals
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
    wanted = ("new", "interrupted", "running") + (("failed",) if retry_failed else ())
    return [item for item in planned if item.status in wanted]


def description(spec: Spec, item: Planned) -> dict[str, Any]:
    """All that a run's process needs to know; {sweep_dir} becomes the folder of the spec's runs."""
    point, shared = item.point, str(item.folder.parent)
    parameters = {
        key: value.replace("{sweep_dir}", shared) if isinstance(value, str) else value
        for key, value in point.parameters.items()
    }
    return {
        "spec": spec.name, "name": point.name, "notebook": spec.notebook, "notebook_path": str(notebook_path(spec)),
        "parameters": parameters, "changes": point.changes, "case": point.case, "seed": point.seed,
    }  # fmt: skip


def default_jobs(spec: Spec, gpus: Sequence[str]) -> int:
    """As many at a time as there are GPUs for; one where there is none."""
    return max(1, len(gpus) // max(1, spec.resources.gpus)) if gpus else 1


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
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
    jobs: default_jobs(). gpus: names for CUDA_VISIBLE_DEVICES (default: all visible); each run gets
    `resources.gpus` of them, at least one. Without GPUs each run gets an equal share of the cores as threads.
    limit: at most so many runs now. A KeyboardInterrupt, SIGTERM or SIGHUP stops the running ones cleanly and
    is noted in the report.
    """
    gpus = visible_gpus() if gpus is None else list(gpus)
    jobs = default_jobs(spec, gpus) if jobs is None else jobs
    each = max(1, spec.resources.gpus)
    if jobs < 1:
        raise ConfigError(f"jobs={jobs} is no number of runs at a time; give 1 or more")
    if gpus and jobs * each > len(gpus):
        raise ConfigError(
            f"jobs={jobs} with {each} GPU(s) each need {jobs * each}, and there are {len(gpus)}; lower --jobs"
        )
    planned = plan(spec, out, points)
    waiting = to_run(planned, retry_failed)[:limit]
    report = SweepReport(already_done=[item.point.name for item in planned if item.status == "done"])
    if not retry_failed:
        report.left_failed = {i.point.name: failure(i.folder) for i in planned if i.status == "failed"}
    places = [",".join(gpus[k * each : (k + 1) * each]) for k in range(jobs)] if gpus else [""] * jobs
    with stop_on_signals():
        _Pool(spec, waiting, places, report, show_progress).run()
    return report


class _Pool:
    """The processes of the runs: at most one for each place at a time. A place is the GPUs of a run, "" for none."""

    def __init__(self, spec, waiting, places, report, show_progress):
        self.spec, self.waiting, self.free, self.report = spec, list(waiting), list(places), report
        self.jobs, self.total = len(places), len(waiting)
        self.running: dict[subprocess.Popen, tuple[Planned, str]] = {}
        self.show_progress = show_progress

    def run(self) -> None:
        bar = progress(range(self.total), self.spec.name, self.show_progress, unit="run")
        try:
            while self.waiting or self.running:
                while self.waiting and self.free:
                    self._start(self.waiting.pop(0), self.free.pop(0))
                    bar.set_postfix_str(", ".join(item.point.name for item, _ in self.running.values())[:90])
                for process in [process for process in self.running if process.poll() is not None]:
                    self._end(process)
                    bar.update()
                time.sleep(0.2)
        except KeyboardInterrupt:
            self.report.stopped = True
        finally:
            self._stop()
            bar.close()

    def _start(self, item: Planned, place: str) -> None:
        environment = run_environment(place, self.jobs)
        told = json.dumps(description(self.spec, item))
        item.folder.mkdir(parents=True, exist_ok=True)
        with open(item.folder / "log.txt", "a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "slakit.sweeps.runs", str(item.folder), told], stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
            )  # fmt: skip
        self.running[process] = (item, place)

    def _end(self, process: subprocess.Popen) -> None:
        item, place = self.running.pop(process)
        self.free.append(place)
        name = item.point.name
        if process.returncode == DONE:
            self.report.finished.append(name)
        elif process.returncode == TAKEN:
            now = status(item.folder)
            (self.report.already_done if now == "done" else self.report.elsewhere).append(name)
        else:
            self.report.failed[name] = failure(item.folder)

    def _stop(self) -> None:
        """Ask what still runs to end, which keeps its files whole, and end it after twenty seconds."""
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        for process in self.running:
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
