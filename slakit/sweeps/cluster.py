"""The runs of a sweep as jobs of a cluster (Slurm), through submitit: `pip install -e .[cluster]`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slakit.machine import progress
from slakit.records import ConfigError
from slakit.sweeps.runner import Planned, SweepReport, begin, description, run_environment
from slakit.sweeps.runs import execute
from slakit.sweeps.spec import Point, Spec


def submit_sweep(
    spec: Spec,
    out: str | Path,
    cluster: str = "slurm",
    *,
    points: Sequence[Point] | None = None,
    jobs: int | None = None,
    retry_failed: bool = False,
    limit: int | None = None,
    wait: bool = True,
    options: dict[str, Any] | None = None,
    show_progress: bool | None = None,
) -> SweepReport:
    """Submit what is not done as one job array and, with `wait`, watch it to its end.

    cluster: "slurm", or "local" (processes of this machine, for trying it out). jobs: how many at a time. options:
    further settings of submitit's executor, such as slurm_partition="gpu" or slurm_account="…". Each job asks for
    spec.resources. A KeyboardInterrupt ends the watching only: jobs go on, and the same command looks after them.
    """
    try:
        import submitit
    except ImportError as error:
        raise ConfigError('a cluster needs submitit: pip install -e ".[cluster]"') from error
    if cluster not in ("slurm", "local"):
        raise ConfigError(f"cluster={cluster!r} is not possible; choose slurm or local")
    waiting, report = begin(spec, out, points, retry_failed, limit)
    if not waiting:
        return report
    executor = submitit.AutoExecutor(folder=Path(out).absolute() / spec.name / ".jobs" / "%j", cluster=cluster)
    executor.update_parameters(**_parameters(spec, cluster, jobs, options or {}))
    folders, runs = [str(item.folder) for item in waiting], [description(spec, item) for item in waiting]
    submitted = executor.map_array(_run, folders, runs)
    print(f"{len(submitted)} jobs: {', '.join(job.job_id for job in submitted[:8])}{' …' * (len(submitted) > 8)}")
    if wait:
        _watch(spec, dict(zip(submitted, waiting, strict=True)), report, show_progress)
    return report


def _parameters(spec: Spec, cluster: str, jobs: int | None, options: dict[str, Any]) -> dict[str, Any]:
    needs = spec.resources
    parameters: dict[str, Any] = {"name": spec.name, "timeout_min": max(1, round(60 * needs.hours))}
    if cluster == "slurm":
        parameters |= {"gpus_per_node": needs.gpus, "cpus_per_task": needs.cpus, "mem_gb": needs.memory_gb}
        parameters |= {} if jobs is None else {"slurm_array_parallelism": jobs}
    return parameters | options


def _run(folder: str, run: dict[str, Any]) -> int:
    """What a job does: the run of that folder, in this process; the cluster has chosen GPUs and cores."""
    os.environ["SLAKIT_PROGRESS"] = "0"
    os.environ["PYTHONPATH"] = run_environment("", jobs=1)["PYTHONPATH"]
    return execute(folder, run)


def _watch(spec: Spec, jobs: dict[Any, Planned], report: SweepReport, show_progress: bool | None) -> None:
    bar = progress(range(len(jobs)), spec.name, show_progress, unit="run")
    open_jobs = dict(jobs)
    try:
        while open_jobs:
            for job in [job for job in open_jobs if job.done()]:
                item = open_jobs.pop(job)
                report.note(item, job.result() if job.exception() is None else None)
                bar.update()
            time.sleep(0.5)
    except KeyboardInterrupt:
        report.stopped = True
        print("\nno longer watching; the jobs go on")
    finally:
        bar.close()
