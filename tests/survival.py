"""Runs in real processes that are killed, or that train together; test_survival.py starts this file.

python tests/survival.py kills FOLDER SEED [DEATHS [WORKERS]] | ranks FOLDER | scores FOLDER | widows FOLDER SEED |
  broken FOLDER

The parent only imports and forks (an import costs seconds, a fork nothing); its children train.
"""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import random
import signal
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from media import pictures, write_frames
from tiny_models import stir, tiny, tower

import slakit
from slakit import records
from slakit.config import AugmentConfig, DecodeConfig, TrainConfig
from slakit.machine import launched
from slakit.recognition import evaluate, transcribe
from slakit.records import Corpus, Sample, Vocabulary
from slakit.training import loop

GLOSSES = ("G0", "G1", "G2", "G3", "G4")
SETTINGS = TrainConfig(
    epochs=2, start_from={"epochs": 1}, batch_size=2, accumulate=2, learning_rate=3e-3, clip_norm=5.0,
    schedule="cosine", checkpoint_steps=1, max_bad_clips=0, keep_in_memory=True, track=(),
    augment=AugmentConfig(36, 32, min_frames=8, max_frames=40), decode=DecodeConfig(beam_width=2, top_tokens=3),
)  # fmt: skip


LENGTHS = (17, 20, 24, 18, 22, 19, 20, 23, 16, 21)


def corpus(folder: Path, lengths: tuple[int, ...] = LENGTHS) -> Corpus:
    """Clips of 36 x 36 pixels as folders of frames; the last two are dev. Made once."""
    samples = []
    for number, length in enumerate(lengths):
        source = folder / "clips" / f"{number:02d}"
        if not source.exists():
            write_frames(source, pictures(length, 36, 36, seed=number))
        samples.append(
            Sample(f"clip{number}", source, (GLOSSES[number % 5], GLOSSES[number * 2 % 5]), num_frames=length)
        )
    return Corpus("folder", folder, tuple(samples[:-2]), tuple(samples[-2:]), (), Vocabulary(GLOSSES))


def model(dropout: float = 0.3):
    return tiny("sla-lora", blocks="2-3", rank=2, n_div=8, dropout=dropout)


def train(clips: Path, out: Path, settings: TrainConfig = SETTINGS, **options):
    torch.set_num_threads(1)
    return slakit.fit(model(), corpus(clips), out, settings, show_progress=False, **options)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "state.pt", weights_only=True)["weights"]


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def deltas(one: dict, other: dict) -> float:
    """The largest difference between two sets of weights."""
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def quietly(function, *arguments) -> None:
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        function(*arguments)


def doomed(clips: Path, out: Path, journal: Path, fatal: int, half: bool, settings: TrainConfig) -> None:
    """Train, write down every step, and die at the `fatal`-th time that something is synced to disk or renamed."""
    events = [0]

    def dying(call, halve):
        def wrapped(*arguments):
            events[0] += 1
            if events[0] == fatal:
                if halve and half and stat.S_ISREG(os.fstat(arguments[0]).st_mode):  # what was not synced is lost
                    os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return wrapped

    class Writing:  # records' view of os: everything as it is, but for the two calls
        fsync, replace = staticmethod(dying(os.fsync, True)), staticmethod(dying(os.replace, False))

        def __getattr__(self, name):
            return getattr(os, name)

    records.os = Writing()
    write_down_steps(journal)
    quietly(train, clips, out, settings)


def write_down_steps(journal: Path) -> None:
    """From now on every step of the optimiser in this process is a line of the journal."""
    step = loop.optimizer_step

    def stepping(run):
        step(run)
        with open(journal, "a") as file:
            first = run.folder.path.name == "start"
            file.write(json.dumps([int(not first), run.cursor.epoch, run.cursor.batch]) + "\n")

    loop.optimizer_step = stepping


def written(journal: Path) -> int:
    """Lines of the journal so far."""
    return len(journal.read_text().splitlines()) if journal.exists() else 0


def kills(folder: Path, seed: int, deaths: int = 21, workers: int = 0) -> dict:
    """Kill runs until `deaths` of them died; every run that comes to its end must have the weights of the straight one.

    workers: reading processes of the runs that are killed; the straight one has none.
    """
    settings = replace(SETTINGS, num_workers=workers)
    context, chance = multiprocessing.get_context("fork"), random.Random(seed)
    corpus(folder)
    straight = context.Process(target=quietly, args=(train, folder, folder / "straight"))
    straight.start()
    straight.join()
    wanted, wanted_rows = weights(folder / "straight"), rows(folder / "straight")
    died = {"at a write": 0, "in a half-written file": 0, "anywhere": 0}
    finished, lost = 0, []
    while sum(died.values()) < deaths or not finished:
        out, journal = folder / f"run{finished}", folder / f"run{finished}.jsonl"
        how = chance.choice(list(died)) if sum(died.values()) < deaths else None
        fatal = chance.randint(1, 30) if how in ("at a write", "in a half-written file") else -1
        half = how == "in a half-written file"
        child = context.Process(target=doomed, args=(folder, out, journal, fatal, half, settings))
        before = written(journal)
        child.start()
        if how == "anywhere":  # some steps, and a moment more
            until = before + chance.randint(0, 4)
            while child.is_alive() and written(journal) < until:
                time.sleep(0.002)
            time.sleep(chance.random() * 0.05)
            child.kill()
        child.join()
        if child.exitcode == -signal.SIGKILL:
            died[how] += 1
            lost.append(steps_lost(out, journal))
        else:
            assert child.exitcode == 0, f"a run ended with {child.exitcode}"
            assert same(weights(out), wanted), "other weights than the uninterrupted run"
            assert rows(out) == wanted_rows, "another history"
            assert same_kept(out, folder / "straight"), "another best or last checkpoint"
            finished += 1
    return {"died": died, "finished": finished, "most steps lost": max(lost)}


def rows(out: Path) -> list[dict]:
    """The history without what a clock or the machine says."""
    lines = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "frames_per_second", "memory_gib")} for row in lines]


def losses(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in row.items() if key.startswith("loss")} for row in history]


def same_kept(one: Path, other: Path) -> bool:
    """The best checkpoint, and the last one."""
    from safetensors.torch import load_file

    names = ("best.safetensors", "last.safetensors")
    return all(same(*(load_file(out / name) for out in (one, other))) for name in names)


def steps_lost(out: Path, journal: Path) -> int:
    """Steps of the optimiser that the journal has after the position in the newest sound state."""
    done = [tuple(json.loads(line)) for line in journal.read_text().splitlines()] if journal.exists() else []
    at = (0, 0, 0)
    states = [(1, out / name) for name in ("state.pt", "state.previous.pt")]
    states += [(0, out / "start" / name) for name in ("state.pt", "state.previous.pt")]
    for number, file in states:
        if file.exists():
            found = torch.load(file, weights_only=True)["positions"][0]
            at = (number, found["epoch"], found["batches"])
            break
    return len({position for position in done if position > at})


def rank(number: int, size: int, clips: Path, out: Path, settings: TrainConfig, lengths=LENGTHS, dropout=0.0) -> None:
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(size), "LOCAL_RANK": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    if number == 0:
        write_down_steps(out.with_suffix(".jsonl"))
    with launched("cpu") as processes:
        slakit.fit(
            model(dropout=dropout), corpus(clips, lengths), out, settings, device="cpu", show_progress=False,
            processes=processes,
        )  # fmt: skip


def started(size: int, target, *arguments) -> list[multiprocessing.Process]:
    """target(rank, size, *arguments) in `size` processes that find each other."""
    import socket

    context = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ["MASTER_PORT"] = str(free.getsockname()[1])
    children = [context.Process(target=quietly, args=(target, number, size, *arguments)) for number in range(size)]
    for child in children:
        child.start()
    return children


def together(size: int, target, *arguments) -> None:
    """The same, and wait for their good end."""
    for child in started(size, target, *arguments):
        child.join()
        assert child.exitcode == 0


def widows(folder: Path, seed: int, deaths: int = 3) -> dict:
    """Two processes train together and one of them is killed, again and again: what does the other one do, and what
    has the run that comes to its end?"""
    chance, out = random.Random(seed), folder / "killed"
    settings = replace(SETTINGS, accumulate=1)
    corpus(folder)
    together(2, rank, folder, folder / "straight", settings, LENGTHS, 0.3)
    ends = []
    for death in range(deaths):
        children = started(2, rank, folder, out, settings, LENGTHS, 0.3)
        until = written(out.with_suffix(".jsonl")) + chance.randint(1, 2)
        while all(child.is_alive() for child in children) and written(out.with_suffix(".jsonl")) < until:
            time.sleep(0.002)
        killed, left = children if death % 2 else reversed(children)
        killed.kill()
        left.join(60)
        ends.append((killed.exitcode, left.exitcode))
        left.kill()
    together(2, rank, folder, out, settings, LENGTHS, 0.3)
    return {
        "ends": ends,
        "steps": written(out.with_suffix(".jsonl")),
        "straight steps": written(folder / "straight.jsonl"),
        "same weights": same(weights(out), weights(folder / "straight")),
        "same history": rows(out) == rows(folder / "straight"),
        "same checkpoints": same_kept(out, folder / "straight"),
    }


def scoring_rank(number: int, size: int, folder: Path) -> None:
    """What this process says of all dev clips, into a file."""
    os.environ |= {"RANK": str(number), "WORLD_SIZE": str(size), "LOCAL_RANK": str(number)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"}
    torch.set_num_threads(1)
    talkative = model(dropout=0.0)
    with torch.no_grad():
        talkative.sequence.classifier.weight[:, 0] *= 0.0  # no blanks to speak of
        stir(talkative, seed=5, scale=0.3)
    clips = scored_clips(folder)
    with launched("cpu") as processes:
        options = {"settings": replace(SETTINGS, batch_size=1), "show_progress": False, "processes": processes}
        references, hypotheses = transcribe(talkative, clips, **options)
        wer = evaluate(talkative, clips, **options).wer
    found = {"references": references, "hypotheses": hypotheses, "wer": wer}
    (folder / f"{number} of {size}.json").write_text(json.dumps(found))


def scored_clips(folder: Path) -> list[Sample]:
    """Five clips with one to four glosses."""
    words = [("G0",), ("G1", "G2", "G3", "G4"), ("G2", "G0"), ("G3", "G1", "G0", "G2"), ("G4", "G0", "G1")]
    return [replace(sample, glosses=glosses) for sample, glosses in zip(corpus(folder).train, words, strict=False)]


def scores(folder: Path) -> dict:
    """Dev clips scored by one process and by two."""
    corpus(folder)
    for size in (1, 2):
        together(size, scoring_rank, folder)
    names = ("0 of 1", "0 of 2", "1 of 2")
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


def network_ranks(folder: Path) -> dict:
    """The same on a network, whose norms over pictures are shared as well; a small rate, for its steps from random
    weights blow the roundings of another order of summation up."""
    global model
    model = functools.partial(tiny, "vac")
    return ranks(folder, start_from=None, learning_rate=1e-5)


def ranks(folder: Path, **changes) -> dict:
    """One process with batches of four against two with batches of two, on clips of different lengths."""
    lengths = (17, 40, 24, 18, 32, 19, 20, 28, 16, 21)
    corpus(folder, lengths)
    settings = replace(SETTINGS, accumulate=1, clip_norm=1.0, **changes)
    found = {}
    for size in (1, 2):
        ours = replace(settings, batch_size=4 // size)
        together(size, rank, folder, folder / f"of{size}", ours, lengths)
        out = folder / f"of{size}"
        found[size] = [*(rows(out / "start") if settings.start_from else []), *rows(out)]
    begin = {name: value for name, value in model(dropout=0.0).trainable_state().items()}
    return {
        "moved": deltas(begin, weights(folder / "of1")),
        "apart": deltas(weights(folder / "of1"), weights(folder / "of2")),
        "rows": [found[1], found[2]],
    }


def broken(folder: Path) -> dict:
    """Two processes, a checkpoint after every step, and a clip that cannot be read."""
    for picture in corpus(folder).train[3].source.iterdir():
        picture.write_bytes(b"broken")
    settings = replace(
        SETTINGS, start_from=None, batch_size=1, accumulate=1, keep_in_memory=False, max_bad_clips=1
    )  # fmt: skip
    children = started(2, rank, folder, folder / "run", settings)
    for child in children:
        child.join(100)
    ends = [child.exitcode for child in children]
    for child in children:
        child.kill()
    return {"ends": ends, "left out": [row["left_out"] for row in rows(folder / "run")] if ends == [0, 0] else None}


if __name__ == "__main__":
    tower("tiny-vit")  # written once, so that all children name the same file
    command, place, *more = sys.argv[1:]
    commands = kills, ranks, network_ranks, scores, widows, broken
    run = {function.__name__: function for function in commands}[command]
    print(json.dumps(run(Path(place), *map(int, more))))
