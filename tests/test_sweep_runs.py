"""Sweeps of a notebook of two cells: nothing runs twice, whatever is killed, retried or started at the same time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml

from slakit.__main__ import main
from slakit.data.corpora import load_corpus
from slakit.records import ConfigError, SlakitError
from slakit.sweeps import collect, load_spec, plan, read_results, run_sweep
from slakit.sweeps.runs import status
from tests.layouts import export

PARAMETERS = """
x: int = 0
mark: str = ""
wait_for: str = ""
seed: int = 0
out_dir: str = ""
"""
BODY = """
import json, os, time
with open(mark, "a") as file:
    file.write(f"{x} {seed} {os.environ['CUDA_VISIBLE_DEVICES']}\\n")
while wait_for and not os.path.exists(wait_for):
    time.sleep(0.05)
if x == 13:
    raise ValueError("an unlucky number")
wer = {"wer": 10.0 * x + seed, "words": 50}
costs = {"trainable": 1000 * x, "epochs": 3, "training_seconds": 1800.0, "peak_memory_mb": None}
json.dump({"dev": wer, "test": wer} | costs, open(f"{out_dir}/metrics.json", "w"))
"""


def study(folder: Path, **content) -> Path:
    """A notebook and a spec of it in `folder`; every run adds a line to folder/mark.txt."""
    book = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    book.cells = [parameters, nbformat.v4.new_code_cell(BODY)]
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, folder / "book.ipynb")
    spec = {"notebook": str(folder / "book.ipynb"), "base": {"mark": str(folder / "mark.txt")}} | content
    (folder / "study.yaml").write_text(yaml.safe_dump(spec))
    return folder / "study.yaml"


def marks(folder: Path) -> list[str]:
    path = folder / "mark.txt"
    return path.read_text().splitlines() if path.is_file() else []


def start(spec: Path, out: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "slakit", "sweep", str(spec), "--out", str(out), *options]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "SLAKIT_PROGRESS": "0"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        preexec_fn=_hear_signals,
    )  # fmt: skip


@pytest.fixture
def command(monkeypatch, capfd):
    """`slakit sweep …` in this process, without the seconds of its imports: exit code, and all that was written."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("SLAKIT_PROGRESS", "0")

    def run(*arguments: str) -> tuple[int, str]:
        capfd.readouterr()
        try:
            code = main(["sweep", *arguments])
        except SystemExit as error:  # argparse's
            code = error.code
        return code, "".join(capfd.readouterr())

    return run


def _hear_signals() -> None:
    """A shell's background job starts with SIGINT ignored, one below nohup with SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_until(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def processes_with(text: str) -> list[str]:
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            if text.encode() in place.read_bytes() + (place.parent / "cmdline").read_bytes():
                found.append(place.parent.name)
        except OSError:
            continue
    return [pid for pid in found if int(pid) != os.getpid()]


def test_failures_leave_the_others_running_and_nothing_runs_twice(tmp_path):
    path = study(tmp_path, grid={"x": [1, 13, 2]}, seeds=[0, 1], expect=[{"x": 2, "dev_wer": 21.0}])
    spec, out = load_spec(path), tmp_path / "out"
    points = [point for point in spec.points() if not (point.value("x") == 13 and point.seed == 1)]
    report = run_sweep(spec, out, points=points, jobs=2, gpus=["4", "7"], show_progress=False)
    assert len(report.finished) == 4 and not report.stopped
    ((name, reason),) = report.failed.items()
    assert name.startswith("x=13") and "ValueError: an unlucky number" in reason and "import json" in reason
    assert reason in str(report)
    assert {line.split()[2] for line in marks(tmp_path)} == {"4", "7"}, "each run sees the one GPU that it was given"
    run = json.loads((plan(spec, out)[0].folder / "run.json").read_text())
    assert run["parameters"]["x"] == 1 and run["status"] == "done" and run["seconds"] > 0
    assert {"python", "torch", "commit"} <= set(run["versions"]) and run["started"] <= run["ended"]

    before = marks(tmp_path)
    again = run_sweep(spec, out, points=points, show_progress=False, gpus=[])
    assert len(again.already_done) == 4 and list(again.left_failed) == [name] and marks(tmp_path) == before
    retried = run_sweep(spec, out, points=points, show_progress=False, gpus=[], retry_failed=True)
    assert list(retried.failed) == [name] and len(marks(tmp_path)) == len(before) + 1

    results = collect(spec, out)
    assert len(results.runs) == 4 and len(results.missing) == 2
    row = results.summary().set_index("x").loc[2]
    assert row.runs == 2 and row.dev_wer == 20.5 and row.paper_dev_wer == 21.0
    assert row.epochs == 3 and row.training_hours == 0.5 and "peak_memory_mb" not in results.runs
    assert row.dev_wer_std == pytest.approx(np.std([20, 21], ddof=1))
    written = {path.name: path.read_text() for path in results.write(tmp_path / "results")}
    assert set(written) == {"runs.csv", "clips.csv", "curves.csv", "summary.csv", "summary.md", "summary.tex"}
    assert "| 2 | 2 | 20.5 ± 0.7 |" in written["summary.md"] and r"20.5 $\pm$ 0.7" in written["summary.tex"]


@pytest.mark.thorough
def test_a_killed_sweep_goes_on_and_leaves_no_process(tmp_path):
    gate = tmp_path / "gate"
    path = study(tmp_path, cases={"first": {"x": 1}, "second": {"x": 2, "wait_for": str(gate)}})
    spec, out = load_spec(path), tmp_path / "out"
    process = start(path, out)
    wait_until(lambda: len(marks(tmp_path)) == 2)
    assert [item.status for item in plan(spec, out)] == ["done", "running"]
    for pid in processes_with(str(out)):  # the sweep and the run's process; the kernel notices that it is alone
        os.kill(int(pid), signal.SIGKILL)
    process.wait(30)
    wait_until(lambda: not processes_with(str(tmp_path)))
    # A process that dies gives its memory back before its files: the lock may outlive its line in the list above.
    wait_until(lambda: [item.status for item in plan(spec, out)] == ["done", "interrupted"], 30)
    gate.touch()
    report = run_sweep(spec, out, gpus=[], show_progress=False)
    assert len(report.finished) == len(report.already_done) == 1
    assert sorted(line.split()[0] for line in marks(tmp_path)) == ["1", "2", "2"], "the finished run was left alone"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_an_interrupt_stops_cleanly_and_can_be_taken_up(tmp_path, number):
    path = study(tmp_path, base={"mark": str(tmp_path / "mark.txt"), "wait_for": str(tmp_path / "never")})
    out = tmp_path / "out"
    process = start(path, out)
    wait_until(lambda: marks(tmp_path))
    process.send_signal(number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "goes on from here" in text
    (item,) = plan(load_spec(path), out)
    assert item.status == "interrupted" and not processes_with(str(out))
    wait_until(lambda: not processes_with(str(tmp_path)), 30)  # the kernel, too
    assert json.loads((item.folder / "run.json").read_text())["status"] == "interrupted"


@pytest.mark.thorough
@pytest.mark.parametrize("room", [0, 1000])
def test_a_disk_that_is_full_fails_the_run_with_a_sentence_and_it_runs_later(tmp_path, room):
    """No file of the sweep may grow beyond `room` bytes: its log, run.json, the executed notebook."""
    path, out = study(tmp_path, grid={"x": [1]}), tmp_path / "out"
    room_for = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))"
    code = f"{room_for}; import sys; from slakit.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-B", "-c", code, "sweep", str(path), "--out", str(out), "--on-cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "1 failed" in said and "Traceback" not in said
    assert "cannot be written (File too large); make room" in said or "the disk is full" in said
    assert not [path.name for path in out.rglob("*") if ".part" in path.name]
    report = run_sweep(load_spec(path), out, gpus=[], retry_failed=True, show_progress=False)
    assert len(report.finished) == 1


@pytest.mark.thorough
def test_two_sweeps_on_one_folder_share_the_work(tmp_path):
    gate = tmp_path / "gate"
    base = {"mark": str(tmp_path / "mark.txt"), "wait_for": str(gate)}
    path, out = study(tmp_path, base=base, grid={"x": [1, 2]}), tmp_path / "out"
    both = [start(path, out), start(path, out)]
    wait_until(lambda: len(marks(tmp_path)) == 2)  # each works on another run, while both are still open
    gate.touch()
    texts = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], texts
    assert sorted(line.split()[0] for line in marks(tmp_path)) == ["1", "2"], "each run once"
    assert [item.status for item in plan(load_spec(path), out)] == ["done", "done"]


@pytest.mark.thorough
def test_a_cluster_runs_the_points_as_jobs(tmp_path):
    pytest.importorskip("submitit")
    path, out = study(tmp_path, grid={"x": [5]}), tmp_path / "out"
    from slakit.sweeps.cluster import submit_sweep

    report = submit_sweep(load_spec(path), out, "local", show_progress=False)
    assert len(report.finished) == 1 and not report.failed, str(report)
    assert [line.split()[0] for line in marks(tmp_path)] == ["5"]
    assert len(submit_sweep(load_spec(path), out, "local").already_done) == 1
    with pytest.raises(ConfigError, match="slurm or local"):
        submit_sweep(load_spec(path), out, "cloud")


def test_what_slurm_is_asked_for(tmp_path):
    submitit = pytest.importorskip("submitit")
    from slakit.sweeps.cluster import _parameters

    spec = load_spec(study(tmp_path, resources={"gpus": 2, "cpus": 6, "memory_gb": 48, "hours": 1.5}))
    found = _parameters(spec, "slurm", 3, {"slurm_partition": "gpu"})
    assert found == {
        "name": "study", "timeout_min": 90, "gpus_per_node": 2, "cpus_per_task": 6, "mem_gb": 48,
        "slurm_array_parallelism": 3, "slurm_partition": "gpu",
    }  # fmt: skip
    generic, slurm = submitit.AutoExecutor._valid_parameters(), submitit.SlurmExecutor._valid_parameters()
    assert all(name in generic or name.removeprefix("slurm_") in slurm for name in found), "submitit knows every name"
    assert "slurm_array_parallelism" not in _parameters(spec, "slurm", None, {})
    assert _parameters(spec, "slurm", None, {"timeout_min": 5})["timeout_min"] == 5, "the caller has the last word"
    assert _parameters(spec, "local", 3, {}) == {"name": "study", "timeout_min": 90}
    short = load_spec(study(tmp_path, resources={"hours": 0.001}))
    assert _parameters(short, "slurm", None, {})["timeout_min"] == 1


def test_too_many_jobs_for_the_gpus_and_a_dry_run(tmp_path, command):
    path = study(tmp_path, grid={"x": [1, 2]})
    with pytest.raises(ConfigError, match="lower --jobs"):
        run_sweep(load_spec(path), tmp_path / "out", jobs=3, gpus=["0", "1"])
    code, text = command(str(path), "--out", str(tmp_path / "out"), "--dry-run", "--only", "x=2")
    assert code == 0 and "1 runs" in text and "x=2" in text and "x=1" not in text
    assert not (tmp_path / "out").exists(), "a dry run leaves nothing behind"


def test_a_run_that_asks_for_a_gpu_does_not_begin_without_one(tmp_path, monkeypatch, command):
    path = study(tmp_path, grid={"x": [1]}, resources={"gpus": 1})
    code, text = command(str(path), "--out", str(tmp_path / "out"))
    assert code == 2 and "asks for 1 GPU(s), and none is seen here" in text and "--on-cpu" in text
    assert not (tmp_path / "out").exists() and not marks(tmp_path)
    code, text = command(str(path), "--out", str(tmp_path / "out"), "--on-cpu")
    assert code == 0 and "1 finished" in text


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_corpus_that_is_not_where_it_should_be_is_said_before_anything_runs(tmp_path, monkeypatch, command, dry):
    spec = tmp_path / "own.yaml"
    spec.write_text("notebook: notebooks/12_ablation_run.ipynb\nbase: {preset: sla-lora/phoenix2014}\n")
    out = ["--out", str(tmp_path / "out"), *dry]
    code, text = command(str(spec), *out)
    assert code == 2 and "nothing says where phoenix2014 lies; add --root phoenix2014=FOLDER" in text
    code, text = command(str(spec), *out, "--root", f"phoenix2014={tmp_path / 'nowhere'}")
    assert code == 2 and "nowhere: no such folder" in text
    signs = load_corpus("minisign", tmp_path / "signs", train=2, dev=1, test=1, progress=False)
    root = export(signs, "phoenix2014", tmp_path / "phoenix", size=(40, 32), show_progress=False)
    placed = ["--root", f"phoenix2014={root}"]
    code, text = command(str(spec), *out, *placed, "--prepared", f"phoenix2014={tmp_path / 'packed'}")
    assert code == 2 and "train is not prepared" in text
    assert not (tmp_path / "out").exists()
    if dry:
        assert command(str(spec), *out, *placed)[0] == 0, "now all is where it should be"


def test_a_table_of_runs_without_a_test_split(tmp_path):
    """As AdaptSign's of CSL, which has none: dev alone, and the increases above the first case on dev alone."""
    cases = {"first": {"x": 1}, "second": {"x": 2}}
    spec = load_spec(study(tmp_path, cases=cases, expect=[{"case": "second", "wer_increase": 0.4}]))
    for item in plan(spec, tmp_path / "out"):
        item.folder.mkdir(parents=True)
        (item.folder / "run.ipynb").write_text(json.dumps({"metadata": {"papermill": {"end_time": "now"}}}))
        (item.folder / "run.json").write_text(json.dumps({"status": "done"}))
        wer = {"wer": 10.0 * item.point.value("x"), "words": 50}
        (item.folder / "metrics.json").write_text(json.dumps({"dev": wer, "trainable": 5}))
    results = collect(spec, tmp_path / "out")
    table = results.summary().set_index("case")
    assert table.loc["second", "dev_increase"] == 10 and "test_wer" not in table and "second" in str(results)
    results.write(tmp_path / "tables")


def test_limit_and_retry_failed_on_the_command_line(tmp_path, command):
    path, out = study(tmp_path, grid={"x": [13, 1, 2]}), tmp_path / "out"

    def sweep(*options: str) -> tuple[int, str]:
        return command(str(path), "--out", str(out), *options)

    code, text = sweep("--dry-run", "--limit", "2")
    assert code == 0 and "3 runs" in text and "now 2" in text and "x=13_" in text and "x=1_" in text
    assert "x=2_" not in text
    code, text = sweep("--limit", "2")
    assert code == 1 and "1 finished" in text and [mark.split()[0] for mark in marks(tmp_path)] == ["13", "1"]
    assert "x=2_" in sweep("--dry-run", "--limit", "5")[1], "what failed is left alone, what is done not listed"
    assert "x=13_" in sweep("--dry-run", "--limit", "1", "--retry-failed")[1]
    code, text = sweep("--limit", "1", "--retry-failed")
    assert code == 1 and "1 failed:" in text and [mark.split()[0] for mark in marks(tmp_path)] == ["13", "1", "13"]
    code, text = sweep("--limit", "0")
    assert code == 2 and "give 1 or more" in text


def test_runs_without_metrics_are_missing_and_no_runs_leave_the_tables_alone(tmp_path, command):
    path, out, tables = study(tmp_path, grid={"x": [1]}), tmp_path / "out", tmp_path / "tables"
    spec = load_spec(path)
    run_sweep(spec, out, gpus=[], show_progress=False)
    before = {path.name: path.read_text() for path in collect(spec, out).write(tables)}
    (item,) = plan(spec, out)
    for damage in ("{", None):
        (item.folder / "metrics.json").write_text(damage) if damage else (item.folder / "metrics.json").unlink()
        results = collect(spec, out)
        assert results.runs.empty and "without a readable metrics.json" in results.missing[item.point.name]
        assert item.point.name in str(results)
        with pytest.raises(SlakitError, match="left as it is"):
            results.write(tables)
    code, text = command("collect", str(path), "--out", str(out), "--results", str(tables))
    assert code == 1 and "nothing written" in text
    assert {path.name: path.read_text() for path in (tables / "study").iterdir()} == before
    (tables / "study" / "runs.csv").write_text("\n")
    assert read_results(spec, tables) is None, "an empty table is no result"


def test_a_damaged_notebook_counts_as_interrupted(tmp_path):
    (tmp_path / "run.ipynb").write_text('{"cells": [')
    assert status(tmp_path) == "interrupted"
