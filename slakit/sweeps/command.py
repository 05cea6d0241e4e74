"""python -m slakit sweep SPEC … | sweep collect SPEC …"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from slakit.records import ConfigError

if TYPE_CHECKING:
    from slakit.sweeps.runner import SweepReport
    from slakit.sweeps.spec import Point, Spec

Pairs = Annotated[tuple[tuple[str, str], ...], UseAppendAction, arg(metavar="NAME VALUE")]
Settings = Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME=VALUE")]


def read_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """{name: value}, the values read as YAML with 1e-4 as a number; "None" is none, too."""
    import yaml

    from slakit.sweeps.reading import read_yaml

    values = {}
    for name, text in pairs:
        try:
            values[name] = None if text == "None" else read_yaml(text)
        except yaml.YAMLError:
            raise ConfigError(f"{name}: {text!r} is no YAML value; put a text in quotation marks") from None
    return values


def sweep(
    specs: Annotated[tuple[str, ...], arg(metavar="SPEC [SPEC ...]", help_behavior_hint="(required)")] = (),
    /,
    variant: str | None = None,
    out: Path | None = None,
    results: Path | None = None,
    jobs: int | None = None,
    only: Settings = (),
    limit: int | None = None,
    retry_failed: bool = False,
    dry_run: bool = False,
    parameter: Annotated[Pairs, arg(aliases=("-p",))] = (),
    root: Annotated[Settings, arg(metavar="CORPUS=FOLDER")] = (),
    prepared: Annotated[Settings, arg(metavar="CORPUS=FOLDER")] = (),
    on_cpu: bool = False,
    cluster: Literal["slurm", "local"] | None = None,
    cluster_option: Settings = (),
    no_wait: bool = False,
) -> int:
    """many runs of a notebook from a spec; sweep collect: their tables

    Args:
        specs: spec files or names, or all: every published experiment; after the word collect: those whose tables are
            made
        variant: a variant of the specs, for instance minisign
        out: folder of the runs (default: papermill_runs/out of the checkout, or runs)
        results: folder of the tables (default: papermill_runs/results of the checkout, or results)
        jobs: runs at a time (default: one a GPU, or one)
        only: runs with this parameter
        limit: at most so many runs now
        retry_failed: run again what failed
        dry_run: check and list, run nothing
        parameter: change a parameter of every run
        root: where a corpus lies
        prepared: where its prepared frames lie
        on_cpu: run here without a GPU what asks for one
        cluster: submit as jobs instead (extra: cluster)
        cluster_option: of submitit's executor, for instance slurm_partition=gpu
        no_wait: with --cluster: submit and leave
    """
    from slakit.machine import output_folder

    collecting = specs[:1] == ("collect",)
    names = [name for spec in specs[collecting:] for name in (experiments(variant) if spec == "all" else [spec])]
    if not names:
        raise ConfigError(f"sweep{' collect' * collecting} needs a spec; give its file or name, or several")
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit {limit} is no number of runs; give 1 or more")
    out = out or output_folder()
    chosen = [prepare(name, variant, read_pairs(parameter)) for name in names]
    if root or prepared:
        from slakit.sweeps.spec import with_places

        chosen = with_places(chosen, _folders(root), _folders(prepared))
    if collecting:
        return _collect(chosen, out, results or output_folder().with_name("results"))
    from slakit.sweeps.checks import check_places, checked_points, matching

    checked = {spec.name: matching(checked_points(spec), list(only)) for spec in chosen}  # all before any starts
    options = read_pairs(map(_pair, cluster_option))
    for spec in chosen if dry_run else ():
        print(listing(spec, out, checked[spec.name], limit, retry_failed))
    if cluster != "slurm":  # its nodes may have other disks
        for spec in chosen:
            check_places(spec, checked[spec.name])
    code = 0
    for spec in () if dry_run else chosen:
        points = checked[spec.name]
        common = {"points": points, "jobs": jobs, "retry_failed": retry_failed, "limit": limit}
        report = _start(spec, out, cluster, not no_wait, options, common, on_cpu)
        print(f"{spec.name}: {report}", flush=True)
        code = max(code, 1 if report.failed or report.left_failed else 0)
        if report.stopped:
            return 130
    return code


def _collect(specs: list[Spec], out: Path, results: Path) -> int:
    from slakit.sweeps.tables import collect

    tables = [collect(spec, out) for spec in specs]
    for table in tables:
        print(table)
        if len(table.runs):
            print("\n".join(f"written {path}" for path in table.write(results)))
        else:
            print(f"nothing written: no run of {table.spec.name} in {out} is finished")
    return 0 if all(len(table.runs) for table in tables) else 1


def _start(
    spec: Spec, out: Path, cluster: str | None, wait: bool, options: dict, common: dict, on_cpu: bool
) -> SweepReport:
    if cluster is None:
        from slakit.sweeps.runner import run_sweep

        return run_sweep(spec, out, gpus=[] if on_cpu else None, **common)
    from slakit.sweeps.cluster import submit_sweep

    return submit_sweep(spec, out, cluster, wait=wait, options=options, **common)


def experiments(variant: str | None = None) -> list[str]:
    """Names of the shipped specs of published experiments, those with the variant, if one is asked for."""
    from slakit.machine import shipped
    from slakit.sweeps.spec import variants_of

    files = sorted(file for file in shipped("specs").glob("*.yaml") if not file.stem.startswith("demo"))
    return [file.stem for file in files if variant is None or variant in variants_of(file)]


def prepare(name: str, variant: str | None, changes: dict[str, Any]) -> Spec:
    """The spec of that file, or of that name among the specs that slakit ships, with the command line's changes."""
    from slakit.machine import shipped
    from slakit.strict import nearest
    from slakit.sweeps.spec import load_spec

    path = Path(name)
    if not os.path.isfile(path):
        folder = shipped("specs")
        path = folder / (path.name if path.suffix else f"{name}.yaml")
        if not os.path.isfile(path):
            known = (file.stem for file in folder.glob("*.yaml"))
            raise ConfigError(f"there is no spec {name!r}{nearest(name, known)}")
    return load_spec(path, variant).with_base(changes)


def _folders(texts: Iterable[str]) -> dict[str, str]:
    """Corpus -> its folder, absolute: the notebooks run in a folder of their own."""
    return {name: str(Path(folder).expanduser().absolute()) for name, folder in map(_pair, texts)}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"{text!r} has no value; write it as name=value")
    return name, value


def listing(spec: Spec, out: Path, points: list[Point], limit: int | None = None, retry_failed: bool = False) -> str:
    """One line a run, with how it stands; with a limit only those that would start now."""
    from slakit.sweeps.runner import plan, to_run

    planned = plan(spec, out, points)
    lines = [f"{spec.name}: {spec.title or spec.notebook}, {len(planned)} runs in {Path(out).absolute() / spec.name}"]
    if limit is not None:
        planned = to_run(planned, retry_failed)[:limit]
        lines[0] += f"; now {len(planned)}"
    lines += [f"  {item.status:<12}{item.point.name}" for item in planned]
    return "\n".join(lines)
