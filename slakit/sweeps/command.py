"""python -m slakit sweep SPEC … | sweep collect SPEC …"""

from __future__ import annotations

import argparse
from pathlib import Path

from slakit.machine import project_root
from slakit.records import ConfigError
from slakit.sweeps.spec import Spec, load_spec, read_yaml


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sweep`."""
    parser.add_argument("specs", nargs="+", metavar="SPEC", help="spec files or names; after 'collect': their tables")
    parser.add_argument("--variant", help="a variant of the specs, for instance minisign")
    parser.add_argument("--out", type=Path, help="folder of the runs (papermill_runs/out)")
    parser.add_argument("--results", type=Path, help="folder of the tables (papermill_runs/results)")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a GPU, or one)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME=VALUE", help="runs with this parameter")
    parser.add_argument("--limit", type=_at_least_one, help="at most so many runs now")
    parser.add_argument("--retry-failed", action="store_true", help="run again what failed")
    parser.add_argument("--dry-run", action="store_true", help="check and list, run nothing")
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
                        help="change a parameter of every run")  # fmt: skip
    parser.add_argument("--root", action="append", default=[], metavar="CORPUS=FOLDER", help="where a corpus lies")
    parser.add_argument("--cluster", choices=("slurm", "local"), help="submit as jobs instead (extra: cluster)")
    parser.add_argument("--cluster-option", action="append", default=[], metavar="NAME=VALUE",
                        help="of submitit's executor, for instance slurm_partition=gpu")  # fmt: skip
    parser.add_argument("--no-wait", action="store_true", help="with --cluster: submit and leave")
    parser.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Run or collect; returns the exit code."""
    from slakit.sweeps.checks import checked_points, matching

    out = options.out or project_root() / "papermill_runs" / "out"
    collecting = options.specs[0] == "collect"
    names = options.specs[1:] if collecting else options.specs
    if not names:
        raise ConfigError("sweep collect needs a spec; give its file or name, or several")
    specs = [prepared(name, options) for name in names]
    if collecting:
        from slakit.sweeps.tables import collect

        results = options.results or project_root() / "papermill_runs" / "results"
        tables = [collect(spec, out) for spec in specs]
        for table in tables:
            print(table)
            if len(table.runs):
                print("\n".join(f"written {path}" for path in table.write(results)))
            else:
                print(f"nothing written: no run of {table.spec.name} in {out} is finished")
        return 0 if all(len(table.runs) for table in tables) else 1
    checked = {spec.name: matching(checked_points(spec), options.only) for spec in specs}  # all before any starts
    code = 0
    for spec in specs:
        points = checked[spec.name]
        if options.dry_run:
            print(listing(spec, out, points, options.limit, options.retry_failed))
            continue
        report = _start(spec, out, points, options)
        print(f"{spec.name}: {report}", flush=True)
        code = max(code, 1 if report.failed or report.left_failed else 0)
        if report.stopped:
            return 130
    return code


def _start(spec: Spec, out: Path, points: list, options: argparse.Namespace):
    common = {
        "points": points, "jobs": options.jobs, "retry_failed": options.retry_failed, "limit": options.limit,
    }  # fmt: skip
    if options.cluster is None:
        from slakit.sweeps.runner import run_sweep

        return run_sweep(spec, out, **common)
    from slakit.sweeps.cluster import submit_sweep

    settings = {name: read_yaml(value) for name, value in map(_pair, options.cluster_option)}
    return submit_sweep(spec, out, options.cluster, wait=not options.no_wait, options=settings, **common)


def prepared(name: str, options: argparse.Namespace) -> Spec:
    """The spec of that file, or of that name in papermill_runs/specs, with the command line's changes."""
    path = Path(name)
    if not path.is_file():
        folder = project_root() / "papermill_runs" / "specs"
        path = folder / (path.name if path.suffix else f"{name}.yaml")
        if not path.is_file():
            known = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
            raise ConfigError(f"there is no spec {name!r}; papermill_runs/specs has {known}")
    spec = load_spec(path, options.variant)
    spec = spec.with_base({key: read_yaml(value) for key, value in options.parameter})
    roots = dict(map(_pair, options.root))
    return spec.with_roots(roots) if roots else spec


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is no number of runs; give 1 or more")
    return number


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} has no value; write it as name=value")
    return name, value


def listing(spec: Spec, out: Path, points: list, limit: int | None = None, retry_failed: bool = False) -> str:
    """One line a run, with how it stands; with a limit only those that would start now."""
    from slakit.sweeps.runner import plan, to_run

    planned = plan(spec, out, points)
    lines = [f"{spec.name}: {spec.title or spec.notebook}, {len(planned)} runs in {Path(out).absolute() / spec.name}"]
    if limit is not None:
        planned = to_run(planned, retry_failed)[:limit]
        lines[0] += f"; now {len(planned)}"
    lines += [f"  {item.status:<12}{item.point.name}" for item in planned]
    return "\n".join(lines)
