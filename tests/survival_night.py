"""A night of kills: training, prepare and drawing die at random moments and go on to the same bits; full disks.

python tests/survival_night.py kills FOLDER SEED DEATHS | disks FOLDER [MOST] | memory COUNT   (make fire; `nice` it)

`kills`: DEATHS in all, shared between training (warm start, adaptation, evaluation, checkpoints), prepare and drawing
with two processes, by SIGKILL, SIGTERM, SIGHUP and SIGINT. Every run that comes to its end must have the bits of an
uninterrupted one, and no process may be left over. `disks`: the kernel refuses every file of some size or more, for
every size of file that fit, prepare, drawing, a report, a film and a collected table write: a sentence, nothing half
written, and with room again the same bits. `memory`: COUNT recognitions in one process.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import survival
import torch
from tiny_models import tiny, tower

from slakit.data.prepare import prepare
from slakit.minisign import build
from slakit.records import SlakitError

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
FORK = multiprocessing.get_context("fork")
MARK = "SLAKIT_NIGHT"  # in the environment of every process of ours


def training(clips: Path, out: Path) -> None:
    survival.train(clips, out)


def preparing(clips: Path, out: Path) -> None:
    prepare(survival.corpus(clips), out, size=24, show_progress=False)


def drawing(clips: Path, out: Path) -> None:
    build(
        out, progress=False, workers=2, train=22, dev=1, test=1, train_signers=1, dev_signers=1, test_signers=1, size=64
    )


JOBS: dict[str, Callable[[Path, Path], None]] = {"training": training, "prepare": preparing, "drawing": drawing}


def bits(job: str, out: Path) -> object:
    """What must be equal to the bit: of a run weights, history and checkpoints, of the others every file."""
    if job == "training":
        tensors = {name: hashlib.sha256(v.numpy().tobytes()).hexdigest() for name, v in survival.weights(out).items()}
        return tensors, survival.rows(out), [kept(out / f"{name}.safetensors") for name in ("best", "last")]
    files = sorted(path for path in out.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def kept(path: Path) -> dict[str, str]:
    from safetensors.torch import load_file

    return {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in load_file(path).items()}


def in_child(job: Callable, *arguments, limit: int | None = None, said: Path | None = None) -> multiprocessing.Process:
    """job(*arguments) in a forked process; limit: no file may grow beyond; said: where its SlakitError goes."""

    def run() -> None:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        torch.set_num_threads(1)
        if limit is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        try:
            job(*arguments)
        except SlakitError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if said is not None:
                said.write_text(str(error))
            os._exit(2)
        except KeyboardInterrupt:
            os._exit(130)
        except BaseException as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            if said is not None:
                said.write_text(f"RAW {type(error).__name__}: {error}")
            os._exit(99)

    child = FORK.Process(target=run)
    child.start()
    return child


def kills(folder: Path, seed: int, deaths: int) -> dict:
    """Kill until there were `deaths`; then every run that is open comes to its end. Counts, and what went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[MARK] = f"{os.getpid()}"
    chance, clips = random.Random(seed), folder / "clips"
    survival.corpus(clips)
    wanted, seconds = {}, {}
    for name, job in JOBS.items():
        began = time.monotonic()
        child = in_child(job, clips, folder / name / "straight")
        child.join()
        assert child.exitcode == 0, f"{name} ends with {child.exitcode} without being killed"
        wanted[name], seconds[name] = bits(name, folder / name / "straight"), time.monotonic() - began
    died, finished, wrong = Counter(), Counter(), []
    names = list(JOBS)
    while died.total() < deaths or any(finished[name] == 0 for name in names):
        name = names[(died.total() + finished.total()) % len(names)]
        if died.total() >= deaths:
            name = next(open_one for open_one in names if finished[open_one] == 0)
        out = folder / name / f"run{finished[name]}"
        said = folder / "said.txt"
        child = in_child(JOBS[name], clips, out, said=said)
        number = None
        if died.total() < deaths:
            number = chance.choice(SIGNALS)
            child.join(chance.random() * seconds[name] * 0.9)
            if child.is_alive():
                os.kill(child.pid, number)
        child.join(300)
        if child.exitcode == 0:
            same = bits(name, out) == wanted[name]
            finished[name] += 1
            if not same:
                wrong.append(f"{name}: other bits in {out}")
            else:
                shutil.rmtree(out)
        elif number is not None and child.exitcode in (-number, 130):
            died[f"{name}, {signal.Signals(number).name}"] += 1
        else:
            wrong.append(f"{name}: ended with {child.exitcode}: {said.read_text() if said.exists() else ''}")
            finished[name] += 1
        if wrong and len(wrong) > 5:
            break
        print(
            json.dumps({"died": died.total(), "finished": dict(finished), "wrong": wrong}), file=sys.stderr, flush=True
        )
    return {"died": dict(died), "finished": dict(finished), "wrong": wrong, "left over": left_over()}


def left_over(patience: float = 20.0) -> list[str]:
    """Processes of ours that still live after some seconds."""
    until = time.monotonic() + patience
    while True:
        ours = []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(MARK) == os.environ[MARK]
                if marked and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                    ours.append(" ".join(process.cmdline())[:100])
            except (psutil.Error, OSError):
                continue
        if not ours or time.monotonic() > until:
            return ours
        time.sleep(0.5)


# ---- full disks ------------------------------------------------------------------------------------------------------


def reporting(clips: Path, out: Path) -> None:
    from slakit.recognition import recognize_frames
    from slakit.show import write_report

    model = tiny("frozen").eval()
    frames = np.random.default_rng(0).integers(0, 256, (16, 36, 36, 3), np.uint8)
    write_report(model, recognize_frames(model, frames, fps=25.0, source="clip.mp4"), out)


def filming(clips: Path, out: Path) -> None:
    from slakit.show import save_film

    frames = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    for ending in ("mp4", "gif"):
        save_film(out / f"film.{ending}", frames)


def collecting(clips: Path, out: Path) -> None:
    import pandas as pd

    from slakit.sweeps.spec import Spec
    from slakit.sweeps.tables import Results

    rows = [{"case": f"c{k}", "seed": 0, "dev_wer": 10.0 + k, "test_wer": 20.0} for k in range(3)]
    spec = Spec(notebook="n.ipynb", title="t", cases={row["case"]: {} for row in rows}, name="s")
    Results(spec, pd.DataFrame(rows), pd.DataFrame([row | {"epoch": 1} for row in rows]), {}).write(out)


def drawing_alone(clips: Path, out: Path) -> None:
    build(
        out, progress=False, workers=1, train=2, dev=1, test=1, train_signers=1, dev_signers=1, test_signers=1, size=64
    )


WRITERS: dict[str, Callable[[Path, Path], None]] = {
    "training": training, "prepare": preparing, "drawing": drawing_alone, "report": reporting, "film": filming,
    "table": collecting,
}  # fmt: skip
TOGETHER = ("report", "table")  # all their files or none


def disks(folder: Path, most: int = 40, names: tuple[str, ...] = tuple(WRITERS)) -> dict:
    """A full disk at every write: for each size of file that a straight run leaves (`most` of them), one with less
    room than that."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = folder / "clips"
    survival.corpus(clips)
    found = {}
    for name in names:
        job, straight = WRITERS[name], folder / name / "straight"
        child = in_child(job, clips, straight)
        child.join()
        assert child.exitcode == 0, f"{name} ends with {child.exitcode} on an empty disk"
        wanted = bits(name, straight) if name not in ("report", "film") else None  # a report holds the time of day
        sizes = sorted({path.stat().st_size for path in straight.rglob("*") if path.is_file()} - {0})
        sizes = sizes if len(sizes) <= most else random.Random(0).sample(sizes, most)
        count = Counter()
        wrong = []
        for size in sizes:
            out, said = folder / name / f"to{size}", folder / "said.txt"
            said.unlink(missing_ok=True)
            child = in_child(job, clips, out, limit=size - 1, said=said)
            child.join(300)
            sentence = said.read_text() if said.exists() else ""
            count[{0: "done", 2: "sentences"}.get(child.exitcode, "raw")] += 1
            if child.exitcode not in (0, 2) or (sentence and "\n" in sentence):
                wrong.append(f"{name}, {size} bytes: {child.exitcode} {sentence[:200]}")
            halves = [path.name for path in out.rglob("*") if path.is_file() and ".part" in path.name]
            if halves and name not in ("prepare",):  # prepare's is what it goes on from
                wrong.append(f"{name}, {size} bytes: left {halves[:3]}")
            if name in TOGETHER and child.exitcode and (left := [p.name for p in out.rglob("*") if p.is_file()]):
                wrong.append(f"{name}, {size} bytes: {left} without the others")
            child = in_child(job, clips, out, said=said)
            child.join(300)
            if child.exitcode or (wanted is not None and bits(name, out) != wanted):
                wrong.append(f"{name}, {size} bytes: afterwards {child.exitcode}, or other bits")
            shutil.rmtree(out, ignore_errors=True)
        found[name] = {**count, "wrong": wrong}
    return found


def memory(count: int) -> dict:
    """MiB that this process has after a twentieth of `count` recognitions and after all of them."""
    from slakit.recognition import recognize_frames

    torch.set_num_threads(1)
    model = tiny("sla-lora", blocks="2-3", rank=2).eval()
    clips = [np.random.default_rng(k).integers(0, 256, (16 + k, 32, 32, 3), np.uint8) for k in range(4)]
    first = [recognize_frames(model, clip, fps=25.0, crop="none").score for clip in clips]
    process, begin = psutil.Process(), 0.0
    for number in range(count):
        score = recognize_frames(model, clips[number % 4], fps=25.0, crop="none").score
        assert score == first[number % 4], "another answer than at first"
        if number == count // 20:
            begin = process.memory_info().rss / 2**20
    return {"recognitions": count, "MiB at a twentieth": begin, "MiB at the end": process.memory_info().rss / 2**20}


if __name__ == "__main__":
    tower("tiny-vit")  # written once, so that all children name the same file
    command, place, *more = sys.argv[1:]
    if command == "memory":
        print(json.dumps(memory(int(place)), indent=1))
    else:
        print(json.dumps({"kills": kills, "disks": disks}[command](Path(place), *map(int, more)), indent=1))
