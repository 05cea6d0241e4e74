"""MiniSign on disk: real video files and annotation in the layout of a real corpus, made once and then reused.

    folder = build("data/minisign")            # data/minisign/<key of the settings>/
    annotations/{train,dev,test}.csv           id|video|signer|num_frames|glosses
    annotations/spans.csv                      id|gloss|start|end          (end: first frame after the sign)
    annotations/glosses.txt                    the vocabulary, one gloss a line
    annotations/landmarks/{id}.npz             hands, mouth and face in every frame
    videos/{split}/{id}.mp4                    H.264, 25 frames a second
    manifest.json                              settings, and whether the corpus is complete

Videos are drawn by separate Python processes, started as programs: that works from notebooks, scripts and tests alike.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
from tqdm.auto import tqdm

from slakit.minisign.clips import GENERATOR_VERSION, SPLITS, Clip, Settings, landmark_file, plan_corpus, write_clip
from slakit.minisign.lexicon import GLOSSES
from slakit.records import ConfigError, CorpusError, read_text, write_atomically, written_whole

MANIFEST = "manifest.json"
PARALLEL_FROM = 24  # fewer clips are drawn in this process: starting others takes longer

README = """MiniSign: a generated demo corpus of continuous signing
========================================================
Every video here is drawn by a program (slakit.minisign). The signs are invented, belong to no sign language, and
show no real person. Recognition rates on it say nothing about rates on real signing.

{train} train, {dev} dev and {test} test clips; {signers} signers, none in two splits; no sentence in two splits.
annotations/*.csv   id|video|signer|num_frames|glosses
annotations/spans.csv   id|gloss|start|end   first frame of the sign and first frame after it, transitions left out
annotations/landmarks/*.npz   right_hand, left_hand, mouth [T, 2], face [T, 3]: x, y (and radius) in tenths of a pixel,
    -32768 where a hand rests or is out of the picture; right and left are the signer's own
videos/   H.264, {size}x{size} pixels, 25 frames a second
"""


def content_key(settings: Settings) -> str:
    """Twelve hexadecimal digits that name the corpus which these settings and this generator give."""
    text = json.dumps({"generator": GENERATOR_VERSION, **asdict(settings)}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def build(root: str | Path, *, progress: bool = True, workers: int | None = None, **settings: Any) -> Path:
    """Makes the corpus of these settings below `root`, or goes on with it, or finds it complete; returns its folder.

    settings: the fields of `clips.Settings` (train, dev, test, train_signers, dev_signers, test_signers, seed,
    film_strength, size). Other settings make another folder, named by their key; of one that differs in the numbers of
    clips alone, what is there already is copied.
    progress: show a bar. workers: processes, by default one a core.
    ConfigError for a setting that does not exist or cannot work; CorpusError if drawing fails.
    """
    unknown = sorted(set(settings) - set(Settings.__dataclass_fields__))
    if unknown:
        known = ", ".join([*Settings.__dataclass_fields__, "progress", "workers"])
        raise ConfigError(f"minisign has no setting {unknown[0]!r}; it has {known}")
    chosen = Settings(**settings)
    folder = Path(root) / content_key(chosen)
    try:
        return folder if is_complete(folder) else _build(folder, chosen, progress, workers)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name, or half a character
        reason = getattr(error, "strerror", None) or error
        raise CorpusError(
            f"{folder} cannot be written ({reason}); make room, or give another root; drawing goes on where it stopped"
        ) from error


def _build(folder: Path, chosen: Settings, progress: bool, workers: int | None) -> Path:
    _only_builds_in(folder.parent)
    signers, clips = plan_corpus(chosen)
    for part in folder.rglob(".*.part"):  # of processes that were killed while they wrote; written_whole named them
        if not psutil.pid_exists(int(part.suffixes[-2][1:])):
            part.unlink(missing_ok=True)
    write_annotations(folder, clips, chosen)
    _take_over(folder, clips, chosen)
    missing = missing_clips(folder, clips)
    workers = fitting_workers(len(missing), workers)
    with bar_of_clips(len(clips), len(missing), progress) as bar:
        if workers == 1:
            for clip in missing:
                write_clip(folder, clip, signers[clip.signer], chosen)
                bar.update()
        else:
            for _ in draw_in_processes("slakit.minisign.corpus", workers, folder):
                bar.update()
    if missing := missing_clips(folder, clips):
        raise CorpusError(
            f"{folder}: {len(missing)} clips could not be drawn, the first {missing[0].id}; build it again"
        )
    write_atomically(folder / MANIFEST, _manifest(chosen, complete=True))
    return folder


def _take_over(folder: Path, clips: list[Clip], settings: Settings) -> None:
    """Copies what a corpus of other numbers of clips, beside this one, holds already: its clips are the same."""
    counts = dict.fromkeys(SPLITS, 1)
    for other in sorted(folder.parent.glob(f"*/{MANIFEST}")):
        try:
            manifest = read_manifest(other.parent)
        except CorpusError:  # of a damaged neighbour its own build tells
            continue
        alike = replace(Settings(**manifest["settings"]), **counts) == replace(settings, **counts)
        if other.parent == folder or manifest["generator"] != GENERATOR_VERSION or not alike:
            continue
        missing = missing_clips(folder, clips)
        there = {clip.id for clip in missing} - {clip.id for clip in missing_clips(other.parent, missing)}
        for clip in (clip for clip in missing if clip.id in there):
            paths = [root / clip.video for root in (other.parent, folder)]
            paths += [landmark_file(root, clip.id) for root in (other.parent, folder)]
            with written_whole(paths[1], paths[3]) as new:
                for source, copy in zip(paths[::2], new, strict=True):
                    shutil.copyfile(source, copy)


def bar_of_clips(total: int, missing: int, show: bool) -> tqdm:
    """A bar to update by hand at each of `missing` clips; show=False and SLAKIT_PROGRESS=0 (batch runs) hide it."""
    hidden = not show or os.environ.get("SLAKIT_PROGRESS", "1") == "0"
    return tqdm(total=total, initial=total - missing, desc="MiniSign clips", disable=hidden)


def _only_builds_in(root: Path) -> None:
    """ConfigError for a folder with something else in it than builds: it may be somebody's corpus."""
    for item in sorted(root.iterdir()) if root.is_dir() else ():
        if not (item.name.startswith((".", "README")) or re.fullmatch("[0-9a-f]{12}", item.name)):
            raise ConfigError(
                f"{root} holds {item.name}, so it is no folder of MiniSign's, and nothing is drawn there; give another "
                "root, or name the corpus that lies there"
            )


def is_complete(folder: Path) -> bool:
    """Whether `folder` holds a corpus whose manifest says that it was built to the end."""
    path = Path(folder) / MANIFEST
    return path.is_file() and bool(read_manifest(folder)["complete"])


def read_manifest(folder: Path) -> dict[str, Any]:
    """{"generator": version, "complete": bool, "settings": {...}}; CorpusError if it is damaged."""
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(read_text(path))
        content = {name: manifest[name] for name in ("generator", "complete", "settings")}
        Settings(**content["settings"])
        return content
    except (ValueError, RecursionError, KeyError, TypeError, ConfigError) as error:
        raise CorpusError(f"{path} is damaged ({error}); delete {folder} and build the corpus again") from error


def missing_clips(folder: Path, clips: list[Clip]) -> list[Clip]:
    """The clips whose video or landmarks are not there yet."""
    return [c for c in clips if not ((folder / c.video).is_file() and landmark_file(folder, c.id).is_file())]


def write_annotations(folder: Path, clips: list[Clip], settings: Settings) -> None:
    """Writes all text files: the same bytes on every machine."""
    notes = folder / "annotations"
    for split in SPLITS:
        rows = [f"{c.id}|{c.video}|{c.signer}|{c.num_frames}|{' '.join(c.glosses)}" for c in clips if c.split == split]
        write_atomically(notes / f"{split}.csv", "\n".join(["id|video|signer|num_frames|glosses", *rows, ""]))
    rows = [f"{clip.id}|{span.gloss}|{span.start}|{span.end}" for clip in clips for span in clip.spans]
    write_atomically(notes / "spans.csv", "\n".join(["id|gloss|start|end", *rows, ""]))
    write_atomically(notes / "glosses.txt", "\n".join([*GLOSSES, ""]))
    counts = {split: getattr(settings, split) for split in SPLITS}
    signers = sum(getattr(settings, f"{split}_signers") for split in SPLITS)
    write_atomically(folder / "README.txt", README.format(**counts, signers=signers, size=settings.size))
    write_atomically(folder / MANIFEST, _manifest(settings, complete=False))


def _manifest(settings: Settings, complete: bool) -> str:
    content = {"corpus": "minisign", "generator": GENERATOR_VERSION, "complete": complete, "settings": asdict(settings)}
    return json.dumps(content, indent=1, sort_keys=True) + "\n"


def fitting_workers(missing: int, workers: int | None = None) -> int:
    """Processes for so many clips: a core each; one, this process, for few."""
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if missing < PARALLEL_FROM else workers


def draw_in_processes(module: str, workers: int, folder: Path, *options: object) -> Iterator[str]:
    """Draws the missing clips in `workers` processes, each the module's draw_share(number, workers, folder, *options),
    all of them text; yields the id of every clip that is done, as they print it."""
    code = f"import sys; from {module} import draw_share; draw_share(*sys.argv[1:])"
    package = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command, rest = [sys.executable, "-c", code], [str(workers), str(folder), *map(str, options)]
    reading, writing = os.pipe()  # one pipe for all: ids arrive in the order in which clips are done
    with ExitStack() as stack:
        errors = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(workers)]
        done = stack.enter_context(os.fdopen(reading))
        processes = [
            subprocess.Popen([*command, str(i), *rest], stdout=writing, stderr=errors[i], env=environment)
            for i in range(workers)
        ]
        stack.callback(_end, processes)
        os.close(writing)
        for line in done:
            yield line.strip()
        for process, error in zip(processes, errors, strict=True):
            if process.wait() != 0:
                error.seek(0)
                last = error.read().strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
                raise CorpusError(
                    f"{folder}: drawing stopped: {last[0]}; make room on a full disk, or mend what it names, and build "
                    "it again: it goes on where it stopped"
                )


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def draw_share(number: str, workers: str, folder: str) -> None:
    """What one process draws: every clip whose place in the plan, modulo `workers`, is `number`; prints their ids."""
    root = Path(folder)
    settings = Settings(**read_manifest(root)["settings"])
    signers, clips = plan_corpus(settings)
    for clip in missing_clips(root, clips[int(number) :: int(workers)]):
        write_clip(root, clip, signers[clip.signer], settings)
        print(clip.id, flush=True)
