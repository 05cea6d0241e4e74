"""The stations of the rehearsal, in the order of README and data/README."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slakit.data.corpora.phoenix import BROKEN
from slakit.minisign.clips import write_video
from slakit.scoring import read_ctm, read_stm, sclite_command, sclite_counts, score
from slakit.sweeps.command import experiments
from slakit.sweeps.spec import corpus_of, load_spec
from tests.rehearsal.corpora import write_archive, write_corpora
from tests.rehearsal.walk import ROOT, Step, Walk

WARM = 150  # epochs of the head on cached features, so that there is something to recognise
SPECS = experiments()
OTHER_TOWERS = "adaptsign_table6"


def corpora(walk: Walk) -> str:
    walk.roots = write_corpora(walk.work / "corpora", 8 if walk.full else 4)
    walk.backbone, walk.archive = narrow = write_archive(walk.work / "weights", full=False)
    walk.shared["narrow"] = {"backbone": narrow[0], "pretrained": str(narrow[1]), "hidden_size": 64}
    if walk.full:
        walk.backbone, walk.archive = write_archive(walk.work / "weights" / "full", full=True)
    frames = {name: sum(1 for _ in root.rglob("*.[pj][np]g")) for name, root in walk.roots.items()}
    longest = max(len(list(folder.iterdir())) for folder in walk.roots["phoenix2014"].glob("features/*/train/*/1"))
    assert longest >= 300, f"the longest clip has {longest} frames"
    return f"{', '.join(f'{name} {count} frames' for name, count in frames.items())}; {walk.archive.name}"


def doctor(walk: Walk) -> str:
    clips = 8 if walk.full else 4
    for name, root in walk.roots.items():
        report = json.loads(walk.slakit("doctor", name, "--root", root, "--json"))
        expected = clips if name == "phoenix2014" else 2
        assert report["splits"]["train"]["clips"] == expected, f"{name}: {report['splits']['train']}"
        text = json.dumps(report, ensure_ascii=False)
        assert (BROKEN in text) == (name == "phoenix2014"), f"{name}: the broken clip is not told"
    return f"{len(walk.roots)} corpora; the broken clip is told"


def prepare(walk: Walk) -> str:
    for name in ("phoenix2014", "csl-daily"):
        out = walk.work / "prepared" / name
        command = (
            "prepare",
            name,
            "--root",
            walk.roots[name],
            "--out",
            out,
            "--workers",
            2 if name == "phoenix2014" else 1,
        )
        walk.slakit(*command)
        made = {path.name for path in out.iterdir()}
        assert {"train.frames", "dev.frames", "test.frames", "train.index.npz"} <= made
    return f"{sum(path.stat().st_size for path in (walk.work / 'prepared').rglob('*.frames')) / 1e6:.0f} MB"


def info(walk: Walk) -> str:
    facts = json.loads(walk.slakit("info", "--json"))
    assert str(ROOT) in facts["slakit"], f"not the checkout's package: {facts['slakit']}"
    return facts["devices"]


def _training(walk: Walk, out: Path, *more: object) -> list[object]:
    prepared = ("--corpus-options.prepared", walk.work / "prepared" / "phoenix2014")
    quick = ("--train.start-from", f"{{epochs: {WARM}, head_learning_rate: 3.0e-3}}", "--train.epochs", 2)
    quick += ("--train.schedule", "constant")
    quick += ("--train.num-workers", 2 if walk.full else 0)
    root = ("--root", walk.roots["phoenix2014"])
    return [
        "train",
        "sla-lora/phoenix2014",
        *root,
        "--out",
        out,
        *prepared,
        *walk.model(),
        *quick,
        *walk.on_device(),
        *more,
    ]


def _history(run: Path) -> list[dict]:
    path = run / "history.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def train(walk: Walk) -> str:
    """Stopped in its first epoch on frames, gone on with, and begun a third time."""
    run = walk.work / "runs" / "p14"
    first = run / "start" / "history.jsonl"
    code, told = walk.stopped(
        *_training(walk, run), when=lambda: first.is_file() and first.read_text().count("\n") >= WARM
    )
    assert code == 130 and "goes on from here" in told, f"stopped with {code}: {told[-800:]}"
    done = len(_history(run))
    assert done < 2, "it had ended before it was stopped"
    again = walk.slakit(*_training(walk, run))
    assert "going on in epoch" in again, again[-500:]
    rows = _history(run)
    assert [row["epoch"] for row in rows] == [0, 1], "each epoch once"
    assert all(row["loss_total"] == row["loss_total"] and row["loss_total"] < 1e6 for row in rows)
    assert "nothing to train" in walk.slakit(*_training(walk, run))
    best = re.search(r"best dev WER ([0-9.]+) %", again)
    assert best and float(best[1]) < 100, f"nothing is recognised, so that answers cannot be compared: {again[-500:]}"
    walk.shared |= {"checkpoint": run / "best.safetensors", "dev_wer": float(best[1])}
    speed = rows[-1]["frames_per_second"]
    return f"stopped after {done} epochs, gone on; dev WER {best[1]} %, {speed:.0f} frames/s in the last epoch"


def _wer(text: str) -> float:
    found = re.search(r"WER\s+([0-9.]+)", text)
    assert found, text[-400:]
    return float(found[1])


def evaluate(walk: Walk) -> str:
    """dev as training scored it, its answers written; test with and without prepared files."""
    root, prepared = walk.roots["phoenix2014"], walk.work / "prepared" / "phoenix2014"
    common = ("evaluate", *_model(walk))
    there = ("--corpus", "phoenix2014", "--root", root)
    packed = ("-o", "prepared", prepared)
    out = walk.work / "evaluated"
    dev = _wer(walk.slakit(*common, *there, *packed, "--split", "dev", "--out", out))
    assert dev == walk.shared["dev_wer"], f"training said {walk.shared['dev_wer']} %, evaluate {dev} %"
    assert (out / "dev.ctm").is_file(), f"no CTM: {sorted(path.name for path in out.rglob('*'))}"
    walk.shared["dev_ctm"] = out / "dev.ctm"
    raw = _wer(walk.slakit(*common, *there, "--split", "test"))
    with_files = _wer(walk.slakit(*common, *there, *packed, "--split", "test"))
    return f"dev {dev} % as in training; test {raw} % from PNG, {with_files} % prepared"


def _model(walk: Walk) -> tuple[object, ...]:
    """The trained checkpoint; its base weights are a file, which a checkpoint does not follow by itself."""
    return ("--checkpoint", walk.shared["checkpoint"], "--pretrained", walk.archive, *walk.on_device())


def describe(walk: Walk) -> str:
    text = walk.slakit("info", walk.shared["checkpoint"])
    for word in ("sla-lora", "phoenix2014"):
        assert word in text, text
    return "the checkpoint says method and corpus"


def recognise(walk: Walk) -> str:
    """Clips of the release, by folder and by id, and a video; the files are named after each."""
    test = walk.roots["phoenix2014"] / "features/fullFrame-210x260px/test"
    clips = sorted(path.name for path in test.iterdir())
    out = walk.work / "answers"
    common = _model(walk)
    walk.slakit("recognize", test / clips[0] / "1", *common, "--out", out)
    walk.slakit("recognize", clips[1], "--root", walk.roots["phoenix2014"], *common, "--out", out)
    for clip in clips[:2]:
        answer = json.loads((out / f"{clip}.json").read_text(encoding="utf-8"))
        assert answer["frames"] == len(list((test / clip / "1").iterdir()))
    from slakit import read_frames

    video = walk.work / "own video.mp4"
    write_video(video, list(read_frames(test / clips[0] / "1")))
    walk.shared["video"] = video
    told = walk.slakit("recognize", video, *common, "--json")
    answer = json.loads(told[told.index("\n{") if "\n{" in told else 0 :])  # torch warns before it, on stderr
    assert isinstance(answer["glosses"], list), told[:300]
    return f"{len(list(out.iterdir()))} files for {clips[0]} and {clips[1]}; a video"


def scoring(walk: Walk) -> str:
    """The official STM with our CTM: `score` = evaluate = sclite."""
    stm = walk.roots["phoenix2014"] / "evaluation/phoenix2014-groundtruth-dev.stm"
    found = _wer(walk.slakit("score", stm, walk.shared["dev_ctm"], "--corpus", "phoenix2014"))
    assert found == walk.shared["dev_wer"], f"score {found} %, evaluate {walk.shared['dev_wer']} %"
    references = read_stm(stm).references
    answers = read_ctm(walk.shared["dev_ctm"], references)
    ours = score(references, answers)
    assert ours.correct, f"no gloss of the dev clips is recognised, so that nothing is compared: {answers}"
    if not sclite_command():
        return f"{found} %, as evaluate; sclite is not installed"
    theirs = sclite_counts(references, answers)
    same = {video: (s.correct, s.substitutions, s.deletions, s.insertions) for video, s in ours.per_video.items()}
    assert same == theirs
    return f"{found} %, as evaluate; counts as sclite"


def sweeps(walk: Walk) -> str:
    """Every spec is checked; of some one run each, then the table."""
    out, results = walk.work / "sweeps", walk.work / "results"
    packed = ("--prepared", f"phoenix2014={walk.work / 'prepared' / 'phoenix2014'}")
    where = (*packed, "--out", out)
    here = ("--on-cpu",) if walk.device == "cpu" else ()
    one = {"train.epochs": 1, "train.num_workers": 0, "timed_steps": 1}
    changes = _changes(one | _flat(walk))
    listed = walk.slakit("sweep", *SPECS, *_roots(walk, SPECS), *where, *changes, "--dry-run", seconds=300)
    missing = [spec for spec in SPECS if f"{spec}:" not in listed]
    assert not missing, missing
    every = walk.full or walk.every_spec
    walked = [spec for spec in SPECS if spec != OTHER_TOWERS] if every else ["clip_sla_table3"]
    roots = _roots(walk, walked)
    once = (*here, "--limit", 1, "--jobs", walk.jobs)
    told = walk.slakit("sweep", *walked, *roots, *where, *changes, *once, seconds=1800)
    assert told.count("1 finished") == len(walked), told[-1500:]
    if every:  # the archive's weights fit one tower
        random = _changes(one | _flat(walk) | {"model.pretrained": "null"})
        walk.slakit("sweep", OTHER_TOWERS, *_roots(walk, [OTHER_TOWERS]), *where, *random, *once, seconds=900)
    elsewhere = (*roots, "--out", out)  # without the prepared frames: the same runs
    again = walk.slakit("sweep", walked[0], *elsewhere, *changes, "--dry-run")
    assert "  done " in again, again
    walk.slakit("sweep", "collect", *walked, *elsewhere, *changes, "--results", results)
    tables = [results / spec / "runs.csv" for spec in walked]
    assert all(len(table.read_text().splitlines()) == 2 for table in tables), tables
    walk.shared["results"] = results
    return f"{len(SPECS)} specs are checked, {len(walked) + every} ran once, {len(walked)} were collected"


def _changes(values: dict[str, object]) -> list[str]:
    """-p NAME VALUE for each."""
    return [word for pair in values.items() for word in ("-p", *map(str, pair))]


def _roots(walk: Walk, specs: Sequence[str]) -> list[str]:
    """--root for each corpus that these specs use."""
    folder = ROOT / "papermill_runs" / "specs"
    used = {corpus_of(point.parameters) for name in specs for point in load_spec(folder / f"{name}.yaml").points()}
    return [word for name in sorted(used) for word in ("--root", f"{name}={walk.roots[name]}")]


def _flat(walk: Walk) -> dict[str, object]:
    return {f"model.{key}": value for key, value in walk.model_options().items()}


def _data(walk: Walk) -> dict[str, object]:
    prepared = {"prepared": str(walk.work / "prepared" / "phoenix2014")}
    return {"root": str(walk.roots["phoenix2014"]), "corpus_options": prepared, "show_progress": False}


def _shortly(walk: Walk) -> dict[str, object]:
    """The model, and one epoch whose clips are cut to 64 frames: the step "train" has whole ones."""
    quick = {"epochs": 1, "num_workers": 0, "augment": {"max_frames": 64}}
    return {"model_options": walk.model_options(), "train_options": quick}


def _real(walk: Walk) -> dict[str, object]:
    trained = {"checkpoint": str(walk.shared["checkpoint"]), "pretrained": str(walk.archive)}
    return {"corpus": "phoenix2014", **trained, **_data(walk)}


def data_notebook(walk: Walk) -> str:
    metrics = walk.notebook("data_preparation", corpus="phoenix2014", **_data(walk))
    assert metrics["corpus"] == "phoenix2014" and metrics["healthy"]
    return f"{metrics['clips']} clips"


def lora_notebook(walk: Walk) -> str:
    metrics = walk.notebook("train_sla_lora", preset="sla-lora/phoenix2014", **_data(walk), **_shortly(walk))
    assert set(metrics) == {"sla-lora"}, "one variant, as a trainer"
    return f"test WER {metrics['sla-lora']['test WER']:.1f} %"


def adapter_notebook(walk: Walk) -> str:
    options = {"preset": "sla-adapter/phoenix2014", "paper_table": False}
    metrics = walk.notebook("train_sla_adapter", **options, **_data(walk), **_shortly(walk))
    return f"test WER {metrics['sla-adapter']['test WER']:.1f} %"


def adaptsign_notebook(walk: Walk) -> str:
    metrics = walk.notebook("adaptsign", preset="adaptsign/phoenix2014", **_data(walk), **_shortly(walk))
    return f"test WER {metrics['adaptsign']['test_wer']:.1f} %"


def decoding_notebook(walk: Walk) -> str:
    return f"test WER {walk.notebook('decoding_and_scoring', **_real(walk))['wer']:.1f} %"


def ablations_notebook(walk: Walk) -> str:
    options = {"experiment": "clip_sla_table3", "methods": ["frozen"], "variant": ""}
    metrics = walk.notebook("ablations", results=str(walk.shared["results"]), **options)
    assert metrics["runs"] == 1, "the runs of the published spec, not of its small variant"
    return "the table of the sweep"


def maps_notebook(walk: Walk) -> str:
    real = {name: value for name, value in _real(walk).items() if name != "show_progress"}
    few = {"test_clips": 1, "curve_clips": 1, "repeats": 1, "kinds": ["gradient x token"]}
    metrics, true = walk.notebook("gradcam_analysis", **real), walk.notebook("are_the_maps_true", **real, **few)
    assert metrics["clip"] == true["clip"]
    return f"maps of {metrics['clip']}"


def video_notebook(walk: Walk) -> str:
    real = {name: value for name, value in _real(walk).items() if name != "show_progress"}
    metrics = walk.notebook("recognise_your_video", **real, video=str(walk.shared["video"]), clips_joined=2)
    assert metrics["glosses"] is not None
    return " ".join(metrics["glosses"]) or "no gloss"


def run_notebook(walk: Walk) -> str:
    options = {"root": str(walk.roots["isharah-500"]), "preset": "sla-lora/isharah-500", "timed_steps": 1}
    metrics = walk.notebook("ablation_run", **options, show_progress=False, **_shortly(walk))
    assert metrics["corpus"] == "isharah-500" and "dev" in metrics and "test" not in metrics
    return "Isharah: dev alone has glosses"


def _settings(walk: Walk, out: Path, batch: int) -> Path:
    content = {
        "preset": "sla-lora/csl-daily", "root": str(walk.roots["csl-daily"]), "out_dir": str(out),
        "corpus_options": {"prepared": str(walk.work / "prepared" / "csl-daily")},
        "model": walk.shared["narrow"] | {"dropout": 0.0},
        "train": {"epochs": 1, "batch_size": batch, "num_workers": 0, "augment": {"max_frames": 64}},
    }  # fmt: skip
    path = walk.work / f"{out.name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def processes(walk: Walk) -> str:
    """torchrun with two processes, and two machines of one: the loss of one process with both clips. On the CPU, with
    the narrow tower, in both sizes: there is one GPU at most. Without dropout, which every process draws by itself."""
    runs, losses = walk.work / "runs", {}
    alone = _settings(walk, runs / "alone", 2)
    walk.slakit("train", alone, "--device", "cpu")
    torchrun = (sys.executable, "-m", "torch.distributed.run")
    both = _settings(walk, runs / "both", 1)
    walk.run(*torchrun, "--standalone", "--nproc-per-node", 2, "-m", "slakit", "train", both, "--device", "cpu")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = _settings(walk, runs / "nodes", 1)
    agent = (*torchrun, "--nnodes", 2, "--nproc-per-node", 1, "--master-addr", "127.0.0.1", "--master-port", port)
    with ThreadPoolExecutor(2) as pool:
        command = ("-m", "slakit", "train", nodes, "--device", "cpu")
        ended = [pool.submit(walk.run, *agent, "--node-rank", rank, *command) for rank in (0, 1)]
    for future in ended:
        future.result()
    for name in ("alone", "both", "nodes"):
        assert (runs / name / "best.safetensors").is_file()
        losses[name] = _history(runs / name)[-1]["loss_total"]
    assert all(abs(loss / losses["alone"] - 1) < 1e-4 for loss in losses.values()), losses
    return f"a loss of {losses['alone']:.4f} in one process, in two, and on two machines"


STEPS = {
    step.name: step
    for step in (
        Step("corpora", corpora),
        Step("doctor", doctor, ("corpora",)),
        Step("prepare", prepare, ("corpora",)),
        Step("info", info),
        Step("train", train, ("prepare",)),
        Step("evaluate", evaluate, ("train",)),
        Step("describe", describe, ("train",)),
        Step("recognise", recognise, ("train",)),
        Step("score", scoring, ("evaluate",)),
        Step("sweeps", sweeps, ("prepare",)),
        Step("processes", processes, ("prepare",)),
        Step("notebook data", data_notebook, ("prepare",)),
        Step("notebook SLA-LoRA", lora_notebook, ("prepare",)),
        Step("notebook SLA-Adapter", adapter_notebook, ("prepare",)),
        Step("notebook AdaptSign", adaptsign_notebook, ("prepare",)),
        Step("notebook decoding", decoding_notebook, ("train",)),
        Step("notebook ablations", ablations_notebook, ("sweeps",)),
        Step("notebook maps", maps_notebook, ("train",)),
        Step("notebook own video", video_notebook, ("recognise",)),
        Step("notebook run", run_notebook, ("corpora",)),
    )
}
ONLY_FULL = {"notebook decoding"}  # in small, tests/test_notebooks.py has it day by day
