"""Every notebook: stored executed, small and clean; runs under papermill; a changed parameter changes the result."""

from __future__ import annotations

import functools
import json
import operator
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

import slakit
from slakit.data.corpora import load_corpus
from slakit.sweeps import check_parameters, load_spec, run_notebook
from slakit.sweeps.trainer import chosen, run_name
from tests.layouts import export

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
TINY = {"train_clips": 10, "dev_clips": 3, "test_clips": 3, "show_progress": False}
TRAINER = {"corpus_options": {"train": 10, "dev": 3, "test": 3}, "show_progress": False}
# (parameters of a quick run, a change, where in metrics.json a figure stands that is computed and must differ)
QUICK = {
    "00_quickstart": (TINY | {"warm_start_epochs": 30, "epochs": 1, "rank": 4}, {"rank": 2}, "loss"),
    "01_data_preparation": (TINY, {"train_clips": 11}, "frames"),
    "02_ctc_by_hand": ({"test_clips": 3}, {"beam_width": 1}, "kept"),
    "03_what_the_encoder_sees": ({"test_clips": 3}, {"every": 2}, "steps"),
    "04_train_sla_lora": (
        TRAINER | {"train_options": {"epochs": 1}, "variants": ["sla-lora"]},
        {"model_options": {"rank": 2}},
        ("sla-lora", "trained in the encoder"),
    ),
    "05_train_sla_adapter": (
        TRAINER | {"train_options": {"start_from.epochs": 10, "epochs": 1}, "paper_table": False},
        {"model_options": {"width": 16}},
        ("sla-adapter", "trained in the encoder"),
    ),
    "06_adaptsign": (
        TRAINER | {"train_options": {"start_from.epochs": 10, "epochs": 1}},
        {"model_options": {"tau": 1}},
        "influence",
    ),
    "10_decoding_and_scoring": (TINY, {"prior_weight": 0.0}, "boundary_error_frames"),
    "11_ablations": (
        {"methods": ["frozen"], "timed_steps": 1},
        {"methods": ["sla-lora"], "split": "dev", "experiment": "clip_sla_table4"},
        ("costs", 0, "kept_mb_per_frame"),
    ),
    "13_colab_and_many_gpus": (
        {"train_clips": 8, "dev_clips": 3, "warm_start_epochs": 1, "epochs": 1, "processes": 1, "show_progress": False},
        {"processes": 2},
        "loss",
    ),
    "08_your_own_videos": (
        {"clips": [6, 2, 2], "curve": [4], "steps": 8, "show_progress": False},
        {"steps": 16},
        "loss",
    ),
    "09_recognise_your_video": ({"test_clips": 4, "clips_joined": 2}, {"lookahead_steps": 2}, "streamed_certainty"),
    "12_ablation_run": (
        {
            "corpus_options": {"train": 10, "dev": 3, "test": 3},
            "train_options": {"start_from.epochs": 10, "epochs": 1},
            "timed_steps": 1,
            "show_progress": False,
        },
        {"model_options": {"rank": 2}},
        "trainable",
    ),
    "14_other_systems": (
        TINY | {"systems": ["vac"], "epochs": 2, "warm_start_epochs": 2},
        {"warm_start_epochs": 3},
        ("results", "sla-lora", "last loss"),
    ),
    "07_gradcam_analysis": ({"methods": ["sla-lora"]}, {"gloss_number": 2}, "gloss"),
    "15_are_the_maps_true": (
        {"methods": ["sla-lora"], "test_clips": 1, "curve_clips": 1, "repeats": 1, "kinds": ["gradient x token"]},
        {"gloss_number": 2},
        "similarity_all_shuffled",
    ),
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_notebook_is_executed_small_and_clean(path):
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_200_000, f"{path.name} has {len(text) // 1024} KiB"
    book = nbformat.reads(text, as_version=4)
    cells = [cell for cell in book.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not run from top to bottom"
    tags = [tag for cell in cells for tag in cell.metadata.get("tags", [])]
    assert tags.count("parameters") == 1
    assert any("assert " in cell.source for cell in cells)
    assert sum("xercise" in cell.source for cell in book.cells if cell.cell_type == "markdown") >= 1
    for cell in cells:
        assert len(cell.source.splitlines()) <= 45, "logic belongs into slakit"
        for out in cell.outputs:
            assert out.output_type != "error"
            assert len(json.dumps(out)) < 400_000, "an output of more than 400 kB"
            assert not any(place in json.dumps(out) for place in ("/home/", "/root/", "/Users/", str(ROOT)))


def test_every_notebook_is_in_the_table_of_quick_runs():
    assert {path.stem for path in NOTEBOOKS} >= set(QUICK)
    assert not [path.stem for path in NOTEBOOKS if path.stem not in QUICK], "add its quick parameters to QUICK"


GROUPED = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in QUICK]  # one process: one quick run


@functools.cache
def quick_metrics(name: str, folder: Path, changed: bool) -> dict:
    """What the notebook's quick run (or the same with its change) writes to metrics.json."""
    parameters, change, _ = QUICK[name]
    out = folder / f"{name}-{changed}"
    values = parameters | (change if changed else {}) | {"out_dir": str(out)}
    run_notebook(ROOT / "notebooks" / f"{name}.ipynb", out / "run.ipynb", values, log=False)
    return json.loads((out / "metrics.json").read_text())


def figure_of(name: str, metrics: dict):
    """The figure that the notebook's change must change."""
    key = QUICK[name][2]
    return functools.reduce(operator.getitem, key if isinstance(key, tuple) else (key,), metrics)


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("name", GROUPED)
def test_runs_under_papermill(name, runs):
    assert figure_of(name, quick_metrics(name, runs, False)) is not None


@pytest.mark.thorough
@pytest.mark.parametrize("name", GROUPED)
def test_listens_to_its_parameters(name, runs):
    first, second = (figure_of(name, quick_metrics(name, runs, changed)) for changed in (False, True))
    assert isinstance(first, type(second)) and first != second, f"{QUICK[name][2]}: {first} in both runs"


@pytest.mark.thorough
def test_ablations_say_what_the_tables_say(tmp_path):
    """Made-up runs: Table 1 in the paper's order, Table 4 in the opposite one; the notebook counts both so."""
    from slakit.sweeps.tables import Results, varied_names

    for name, sign in (("clip_sla_table1", 1), ("clip_sla_table4", -1)):
        spec, rows = load_spec(ROOT / "papermill_runs" / "specs" / f"{name}.yaml", "minisign"), []
        for point in spec.points():
            paper = {f"paper_{key}": value for key, value in spec.expected(point).items()}
            wer = {s: 50 + sign * paper.get(f"paper_{s}", 0.0) + 0.001 * point.seed for s in ("dev_wer", "test_wer")}
            label = {column: point.value(key) for key, column in varied_names(spec).items()} | {"seed": point.seed}
            costs = {"trainable": 1000, "epochs": 4, "training_hours": 0.1, "device": "a made-up one"}
            rows.append({"run": point.name} | label | wer | paper | costs)
        Results(spec, pd.DataFrame(rows), pd.DataFrame(), {}).write(tmp_path / "results")
    values = {"methods": ["frozen"], "timed_steps": 1, "experiment": "clip_sla_table4", "split": "dev"}
    values |= {"results": str(tmp_path / "results"), "out_dir": str(tmp_path / "out")}
    executed = run_notebook(ROOT / "notebooks" / "11_ablations.ipynb", tmp_path / "run.ipynb", values, log=False)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert set(metrics["verdicts"]) == {"opposite"} and metrics["runs"] > 0
    counted = {row["experiment"]: row for row in metrics["orders"]}
    assert set(counted) == {"clip_sla_table1", "clip_sla_table4"}
    assert counted["clip_sla_table1"]["same"] > 5 and counted["clip_sla_table1"]["opposite"] == 0
    assert counted["clip_sla_table4"]["opposite"] == metrics["verdicts"]["opposite"]
    assert "hold: sla-adapter better than frozen" in executed.read_text()


@pytest.mark.thorough
def test_ablations_of_a_spec_of_ones_own(tmp_path):
    """Its path as `experiment`, and the tables that `sweep collect` writes for it: no variant, no paper."""
    from slakit.sweeps.tables import Results

    text = "notebook: notebooks/12_ablation_run.ipynb\nbase: {preset: sla-lora/phoenix2014}\n"
    (tmp_path / "my_ranks.yaml").write_text(text + "grid: {model.options.rank: [4, 8]}\n")
    spec = load_spec(tmp_path / "my_ranks.yaml")
    costs = {"seed": 0, "trainable": 1000, "epochs": 4, "training_hours": 0.1, "device": "a made-up one"}
    ranks = ((4, 21.0, 22.0), (8, 20.0, 21.0))
    rows = [{"run": f"r{rank}", "rank": rank, "dev_wer": dev, "test_wer": test} | costs for rank, dev, test in ranks]
    Results(spec, pd.DataFrame(rows), pd.DataFrame(), {}).write(tmp_path / "results")
    values = {"experiment": str(tmp_path / "my_ranks.yaml"), "results": str(tmp_path / "results"), "variant": ""}
    values |= {"methods": ["frozen"], "timed_steps": 1, "out_dir": str(tmp_path / "out")}
    executed = run_notebook(ROOT / "notebooks" / "11_ablations.ipynb", tmp_path / "run.ipynb", values, log=False)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["runs"] == 2 and metrics["experiment"] == "my_ranks" and metrics["verdicts"] == {}
    assert "no pair of configurations was run here" in executed.read_text()


def test_data_preparation_on_the_layout_of_a_real_corpus(tmp_path):
    """Six clips of MiniSign as Phoenix-2014 has them, read, examined and drawn by the same notebook."""
    corpus = load_corpus("minisign", tmp_path / "minisign", train=4, dev=1, test=1, progress=False)
    root = export(corpus, "phoenix2014", tmp_path / "phoenix", size=(65, 52), show_progress=False)
    notebook = ROOT / "notebooks" / "01_data_preparation.ipynb"
    values = {"corpus": "phoenix2014", "root": str(root), "show_progress": False, "out_dir": str(tmp_path / "out")}
    values["corpus_options"] = {"vocabulary": "train"}
    executed = run_notebook(notebook, tmp_path / "run.ipynb", values, log=False)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    frames = sum(sample.num_frames for sample in (*corpus.train, *corpus.dev, *corpus.test))
    assert (metrics["corpus"], metrics["clips"], metrics["frames"]) == ("phoenix2014", 6, frames)
    assert metrics["healthy"] and metrics["classes"] == 1 + len({g for s in corpus.train for g in s.glosses})
    assert any(share > 0 for share in metrics["oov"]) and "officially 5671" in executed.read_text()


def phoenix_commands() -> list[str]:
    """The shell lines of 04's section on a real corpus, continuation lines joined."""
    book = nbformat.read(ROOT / "notebooks" / "04_train_sla_lora.ipynb", 4)
    section = next(cell.source for cell in book.cells if cell.source.startswith("## On a GPU, on Phoenix-2014"))
    return section.split("```")[1].strip().replace("\\\n", " ").splitlines()


def test_the_command_for_phoenix_asks_for_an_experiment_that_exists():
    words = shlex.split(phoenix_commands()[-1])
    assert words[:2] == ["papermill", "notebooks/04_train_sla_lora.ipynb"]
    values = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    values |= yaml.safe_load(words[words.index("-y") + 1])
    check_parameters(ROOT / words[1], values)
    del values["out_dir"]
    small = {"train_options": {"epochs": 1}, "model_options": {"rank": 2}, "corpus_options": {"train": 3}}
    config = chosen(values.pop("preset"), "sla-lora/minisign", small, **values)
    published = slakit.preset("sla-lora/phoenix2014")
    assert config.corpus == "phoenix2014" and config.root == values["root"]
    assert (config.model, config.train) == (published.model, published.train), "as published, nothing changed"
    assert config.corpus_options == {"prepared": "/data/p14-256"}


def test_a_dictionary_that_is_left_out_is_the_lessons_with_the_lessons_preset_alone():
    small = {"train_options": {"epochs": 1}, "model_options": {"rank": 2}, "corpus_options": {"train": 3}}
    own = "sla-lora/minisign"
    lesson = chosen(own, own, small)
    assert (lesson.train.epochs, lesson.model.options["rank"], lesson.corpus_options) == (1, 2, {"train": 3})
    given = chosen(own, own, small, model_options={}, train_options={"epochs": 4})
    assert (given.train.epochs, given.model, given.corpus_options) == (4, slakit.preset(own).model, {"train": 3})
    for other in ({"preset": "sla-lora/phoenix2014"}, {"preset": own, "corpus": "folder"}):
        config, preset = chosen(own=own, small=small, **other), slakit.preset(other["preset"])
        assert (config.model, config.train, config.corpus_options) == (preset.model, preset.train, {})
    with pytest.raises(slakit.SlakitError, match="trains sla-lora; preset='full/minisign'"):
        chosen("full/minisign", own, small)
    here, there = (
        chosen(own, own, small, root=root, train_options={"num_workers": n}) for n, root in ((0, ""), (2, "/x"))
    )
    assert run_name(here) == run_name(there) != run_name(lesson), "frames elsewhere, other readers: the same run"


@pytest.mark.thorough
def test_the_commands_for_phoenix_run_as_they_are_written(tmp_path):
    """prepare, mkdir, papermill in a shell: on MiniSign in Phoenix-2014's layout and with a small model."""
    corpus = load_corpus("minisign", tmp_path / "minisign", train=4, dev=2, test=1, progress=False)
    export(corpus, "phoenix2014", tmp_path / "phoenix-2014-multisigner", size=(65, 52), show_progress=False)
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / "04_train_sla_lora.ipynb", tmp_path / "notebooks")
    shutil.copytree(ROOT / "papermill_runs" / "results", tmp_path / "papermill_runs" / "results")
    tiny = {"backbone": "tiny-clip", "pretrained": "default", "blocks": "3-4", "hidden_size": 32, "rank": 4}
    small = {
        "model_options": tiny,
        "train_options": {"epochs": 1, "num_workers": 0, "augment": {"image_size": 96, "crop_size": 84}},
        "show_progress": False,
    }
    lines = [line.replace("/data/", f"{tmp_path}/") for line in phoenix_commands()]
    lines[-1] += f" -y '{json.dumps(small)}' --no-progress-bar"
    python = f"{shlex.quote(sys.executable)} -m "
    script = "\n".join(["set -e", *lines]).replace("python -m ", python)
    script = script.replace("\npapermill ", f"\n{python}papermill ")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SLAKIT_PROGRESS": "0"}
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "papermill_runs" / "out" / "p14" / "metrics.json").read_text())
    assert list(metrics) == ["sla-lora"] and {"dev WER", "test WER"} <= set(metrics["sla-lora"])
    executed = (tmp_path / "papermill_runs" / "out" / "p14" / "run.ipynb").read_text()
    assert "the paper's WER" in executed and "19.7" in executed and "an epoch: 4 clips" in executed


@pytest.mark.thorough
def test_an_ablation_run_scores_what_can_be_scored(tmp_path):
    """CSL has no test split: the notebook ends well, with the figures of dev."""
    corpus = load_corpus("minisign", tmp_path / "minisign", train=4, dev=2, test=1, progress=False)
    root = export(corpus, "csl", tmp_path / "csl", size=(65, 52), show_progress=False)
    tiny = {"backbone": "tiny-clip", "pretrained": "default", "hidden_size": 32}
    values = {
        "preset": "adaptsign/csl", "root": str(root), "model_options": tiny, "timed_steps": 1, "show_progress": False,
        "train_options": {"epochs": 1, "num_workers": 0, "augment": {"image_size": 96, "crop_size": 84}},
        "out_dir": str(tmp_path / "out"),
    }  # fmt: skip
    executed = run_notebook(ROOT / "notebooks" / "12_ablation_run.ipynb", tmp_path / "run.ipynb", values, log=False)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["dev"]["words"] > 0 and "test" not in metrics and metrics["corpus"] == "csl"
    assert "test is not scored: 0 clips, none with glosses" in executed.read_text()


def test_the_demo_command_end_to_end_on_a_reduced_corpus(tmp_path):
    small = TINY | {"warm_start_epochs": 30, "epochs": 1}
    options = [text for name, value in small.items() for text in ("-p", name, json.dumps(value))]
    command = [sys.executable, "-m", "slakit", "demo", "--out", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    table = done.stdout[-1500:]
    assert "dev" in table and "test" in table and "WER" in table and str(tmp_path / "run" / "best.safetensors") in table
    assert (tmp_path / "00_quickstart.ipynb").is_file() and (tmp_path / "run" / "best.safetensors").is_file()
    again = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500)
    assert again.returncode == 0 and "all epoch" not in again.stderr, "a finished run is not trained again"


def test_a_misspelt_demo_parameter_stops_with_one_line(tmp_path):
    command = [sys.executable, "-m", "slakit", "demo", "--out", str(tmp_path), "-p", "epoch", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "did you mean 'epochs'" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.thorough
def test_running_a_learners_copy_leaves_git_status_clean(tmp_path):
    """`slakit notebooks lessons` in a clone, one of them run and stored as Jupyter stores it."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--shared", str(ROOT), str(clone)], check=True)
    environment = os.environ | {"PYTHONPATH": str(clone), "SLAKIT_PROGRESS": "0"}
    command = [sys.executable, "-m", "slakit", "notebooks", "lessons"]
    subprocess.run(command, check=True, cwd=clone, env=environment, capture_output=True)
    execute = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", "02_ctc_by_hand.ipynb"]
    done = subprocess.run(execute, cwd=clone / "lessons", env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    assert list((clone / "papermill_runs" / "out").rglob("metrics.json")), "it wrote something"
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == ""
