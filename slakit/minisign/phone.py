"""Clips as people film them with a phone: a wide picture, the signer beside its middle, the camera in somebody's hand.

    python -m slakit draw phone_clips     # phone_clips/videos/anna_001.mp4 …, phone_clips/annotations.csv

A folder as people bring it (the corpus "folder"), to try every command for own videos before there are own videos.
Signs and bodies are MiniSign's, twelve words of it; the same settings give the same clips.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from slakit.minisign.clips import SPLITS, write_video
from slakit.minisign.corpus import bar_of_clips, draw_in_processes, fitting_workers
from slakit.minisign.looks import Scene, Signer, sample_scene, sample_signer
from slakit.minisign.motion import plan, sentence_motion
from slakit.minisign.render import render
from slakit.minisign.sentences import sample_sentences
from slakit.records import ConfigError, read_text, unwritable, write_atomically

WORDS = (
    "YESTERDAY", "YEAR", "MOTHER", "PEOPLE", "TREE", "WATER", "LIGHT", "GIVE", "KNOW", "MEET", "GOOD", "SICK",
)  # fmt: skip
SIGNERS = ("anna", "ben", "carla")
WIDTH, HEIGHT = 320, 180  # pixels
SHAKE = 3  # pixels that the camera moves from its place at most
ZOOM = (0.34, 0.40)  # the signer fills about a quarter of the width
ASIDE = (0.10, 0.20)  # how far from the middle he or she stands, in picture widths
LOWER = (0.04, 0.06)  # so far the body is moved down, which ends at the picture's lower edge, in picture widths
FILM_STRENGTH = 0.15


@dataclass(frozen=True)
class PhoneClip:
    """One clip as planned; camera: where the picture is cut out of the scene, int [T, 2] of left and top."""

    id: str
    split: str
    signer: str
    glosses: tuple[str, ...]
    bodies: np.ndarray
    camera: np.ndarray
    scene: Scene


def _generator(*purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([*purpose, 9])))


def plan_clips(
    train: int = 60, dev: int = 24, test: int = 24, seed: int = 0
) -> tuple[dict[str, Signer], list[PhoneClip]]:
    """Signers by name and all clips, nothing drawn; every signer is in every split, no sentence in two."""
    counts = {"train": train, "dev": dev, "test": test}
    for name, value in counts.items() | {("seed", seed)}:
        if isinstance(value, bool) or not isinstance(value, int) or value < (name != "seed"):
            raise ConfigError(f"{name}={value!r} must be a whole number of at least {int(name != 'seed')}")
    signers = {
        name: replace(sample_signer(_generator(seed, 1, i), "film", FILM_STRENGTH, name), right_handed=name != "ben")
        for i, name in enumerate(SIGNERS)
    }
    sentences = sample_sentences(_generator(seed, 2), counts, WORDS)
    clips = []
    for split in SPLITS:
        for glosses in sentences[split]:
            number = len(clips)
            name, rng = SIGNERS[number % len(SIGNERS)], _generator(seed, 3, number)
            bodies = sentence_motion(glosses, signers[name], *plan(glosses, signers[name], rng), rng).bodies
            scene = replace(
                sample_scene(rng, "film", FILM_STRENGTH), zoom=float(rng.uniform(*ZOOM)),
                shift_x=float(rng.uniform(*ASIDE)) * (1 if rng.random() < 0.5 else -1),
                shift_y=float(rng.uniform(*LOWER)),
            )  # fmt: skip
            clips.append(
                PhoneClip(f"{name}_{number + 1:03}", split, name, glosses, bodies, _camera(len(bodies), rng), scene)
            )
    return signers, clips


def _camera(count: int, rng: np.random.Generator) -> np.ndarray:
    """A hand that drifts slowly and trembles a little: corners [count, 2] from 0 to 2 SHAKE."""
    knots = np.arange(0, count + 12, 12)
    drift = [np.interp(np.arange(count), knots, rng.uniform(-0.7 * SHAKE, 0.7 * SHAKE, len(knots))) for _ in "xy"]
    return np.clip(np.stack(drift, 1).round().astype(int) + rng.integers(-1, 2, (count, 2)), -SHAKE, SHAKE) + SHAKE


def frames_of(clip: PhoneClip, signer: Signer) -> list[np.ndarray]:
    """The clip's pictures, uint8 [HEIGHT, WIDTH, 3]: cut out of a square scene where the camera points."""
    side, pictures = WIDTH + 2 * SHAKE, []
    for number, body in enumerate(clip.bodies):
        scene = render(body, signer, clip.scene, side, number).image
        left, top = clip.camera[number]
        top += (side - HEIGHT) // 2 - SHAKE
        pictures.append(scene[top : top + HEIGHT, left : left + WIDTH])
    return pictures


def draw(
    folder: str | Path, train: int = 60, dev: int = 24, test: int = 24, seed: int = 0, progress: bool = True
) -> Path:
    """Draws the clips of each split into `folder`, which is made, or goes on with it; returns the folder.

    ConfigError for a folder that holds something else or cannot be written.
    """
    folder = Path(folder)
    signers, clips = plan_clips(train, dev, test, seed)
    rows = [f"{video_of(clip)},{' '.join(clip.glosses)},{clip.split},{clip.signer}" for clip in clips]
    table, annotation = folder / "annotations.csv", "\n".join(["path,glosses,split,signer", *rows, ""])
    try:
        strange = read_text(table) != annotation if table.exists() else folder.is_dir() and any(folder.iterdir())
        if strange:
            raise ConfigError(f"{folder} holds other things than these clips, so nothing is drawn there; name another")
        write_atomically(table, annotation)
        missing = [clip for clip in clips if not (folder / video_of(clip)).is_file()]
        workers = fitting_workers(len(missing))
        with bar_of_clips(len(clips), len(missing), progress) as bar:
            for clip in missing if workers == 1 else ():
                write_video(folder / video_of(clip), frames_of(clip, signers[clip.signer]))
                bar.update()
            if workers > 1:
                for _ in draw_in_processes("slakit.minisign.phone", workers, folder, train, dev, test, seed):
                    bar.update()
    except (OSError, ValueError) as error:
        raise unwritable(folder, error) from None
    return folder


def video_of(clip: PhoneClip) -> str:
    """Path of the clip's video below its folder, with forward slashes."""
    return f"videos/{clip.id}.mp4"


def draw_share(number: str, workers: str, folder: str, *counts_and_seed: str) -> None:
    """What one process of draw() draws: of the missing clips those whose place, modulo `workers`, is `number`."""
    signers, clips = plan_clips(*map(int, counts_and_seed))
    for clip in clips[int(number) :: int(workers)]:
        if not (Path(folder) / video_of(clip)).is_file():
            write_video(Path(folder) / video_of(clip), frames_of(clip, signers[clip.signer]))
            print(clip.id, flush=True)
