"""The plan of a corpus and the making of its clips: who signs what, for how many frames, and the video file of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import av
import numpy as np

from slakit.minisign.looks import Signer, sample_scene, sample_signer
from slakit.minisign.motion import FPS, plan, sentence_motion, spans_of
from slakit.minisign.render import Frame, render
from slakit.minisign.sentences import sample_sentences
from slakit.records import ConfigError, Span, written_whole

SPLITS = ("train", "dev", "test")
GENERATOR_VERSION = 6  # raise it whenever the same settings would give another corpus
CRF, PRESET, KEY_FRAMES = 16, "superfast", 12  # H.264 that leaves fingers sharp; a key frame every 12 frames


@dataclass(frozen=True)
class Settings:
    """All that decides what a corpus contains. Numbers of clips and of signers are those of a split.

    film_strength: how far the footage is from the pictures that the tiny CLIP was pretrained on (0: not at all; 1:
    dark, grainy film in cluttered rooms). The default leaves adaptation something to teach within minutes on a CPU.
    """

    train: int = 640
    dev: int = 300
    test: int = 300
    train_signers: int = 9
    dev_signers: int = 4
    test_signers: int = 6
    seed: int = 0
    film_strength: float = 0.15
    size: int = 96

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name == "film_strength":
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 2.0:
                    raise ConfigError(f"minisign: film_strength={value!r} must be a number from 0 to 2")
            elif isinstance(value, bool) or not isinstance(value, int) or value < (0 if name == "seed" else 1):
                raise ConfigError(
                    f"minisign: {name}={value!r} must be a whole number of at least {int(name != 'seed')}"
                )
        if self.size % 2 or self.size < 32:
            raise ConfigError(
                f"minisign: size={self.size} must be even and at least 32 pixels (H.264 needs even sides)"
            )


@dataclass(frozen=True)
class Clip:
    """One clip as planned: all that its annotation says, and the seed of what is drawn."""

    id: str
    split: str
    signer: str
    glosses: tuple[str, ...]
    spans: tuple[Span, ...]
    num_frames: int
    signs: tuple[int, ...]
    transitions: tuple[int, ...]
    seed: tuple[int, ...]

    @property
    def video(self) -> str:
        """Path of the video file below the corpus' folder, with forward slashes."""
        return f"videos/{self.split}/{self.id}.mp4"


def plan_corpus(settings: Settings) -> tuple[dict[str, Signer], list[Clip]]:
    """Signers by name and all clips, without drawing anything (milliseconds). Of another number of clips the first ones
    are the same, and so are the signers of a split whatever the number of the others."""
    counts = {split: getattr(settings, split) for split in SPLITS}
    sentences = sample_sentences(_generator((settings.seed,), 2), counts)
    signers, clips = {}, []
    for part, split in enumerate(SPLITS):
        team = []
        for index in range(getattr(settings, f"{split}_signers")):
            name = f"S{len(signers) + 1:02d}"
            signer = sample_signer(_generator((settings.seed, 1, part), index), "film", settings.film_strength, name)
            signers[name] = replace(signer, right_handed=index % 6 != 2)  # one of six is left-handed, in every split
            team.append(name)
        for index, glosses in enumerate(sentences[split]):
            seed, signer = (settings.seed, 3, part, index), team[index % len(team)]
            signs, transitions = plan(glosses, signers[signer], _generator(seed, 0))
            spans, num_frames = spans_of(glosses, signs, transitions)
            name = f"{split}-{index:04d}"
            clips.append(Clip(name, split, signer, glosses, spans, num_frames, tuple(signs), tuple(transitions), seed))
    return signers, clips


def _generator(seed: tuple[int, ...], purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([*seed, purpose])))


def draw_clip(clip: Clip, signer: Signer, settings: Settings) -> Iterator[Frame]:
    """The frames of a clip, one after the other."""
    motion = sentence_motion(clip.glosses, signer, list(clip.signs), list(clip.transitions), _generator(clip.seed, 1))
    scene = sample_scene(_generator(clip.seed, 2), "film", settings.film_strength)
    for number, body in enumerate(motion.bodies):
        yield render(body, signer, scene, settings.size, number)


def write_clip(root: Path, clip: Clip, signer: Signer, settings: Settings) -> None:
    """Writes the clip's video and landmarks below `root`; each file appears complete or not at all."""
    frames = list(draw_clip(clip, signer, settings))
    _write_landmarks(landmark_file(root, clip.id), frames)
    write_video(root / clip.video, [frame.image for frame in frames])


def landmark_file(root: Path, sample_id: str) -> Path:
    return Path(root) / "annotations" / "landmarks" / f"{sample_id}.npz"


def _write_landmarks(path: Path, frames: list[Frame]) -> None:
    """Positions in tenths of a pixel as int16; -32768 where there is none."""

    def tenths(values: list[tuple[float, ...] | None], width: int) -> np.ndarray:
        rows = [[-32768] * width if value is None else [round(10.0 * v) for v in value] for value in values]
        return np.array(rows, dtype=np.int16)

    with written_whole(path) as [new], open(new, "wb") as file:
        np.savez_compressed(
            file,
            right_hand=tenths([frame.right_hand for frame in frames], 2),
            left_hand=tenths([frame.left_hand for frame in frames], 2),
            mouth=tenths([frame.mouth for frame in frames], 2),
            face=tenths([(*frame.face[0], frame.face[1]) for frame in frames], 3),
        )


def write_video(path: Path, images: list[np.ndarray]) -> None:
    """Writes uint8 pictures [H, W, 3] as an H.264 mp4 (yuv420p, 25 frames a second); sides must be even."""
    height, width = images[0].shape[:2]
    with written_whole(path) as [new], av.open(str(new), "w", format="mp4") as container:
        options = {"crf": str(CRF), "preset": PRESET, "g": str(KEY_FRAMES), "threads": "1"}
        stream = container.add_stream("libx264", rate=int(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
