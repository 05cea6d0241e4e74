"""How a prepared corpus could be kept: frames per second and core, and bytes per frame, of each candidate.

python benchmarks/data_formats.py [--clip VIDEO] [--frames 400] [--rounds 9]

Every candidate holds the same frames of 256 x 256 and is read as training reads it: clips in random order, of each the
sorted random choice of frames that the temporal rescale makes. Files are warm in the page cache, so the figures are
those of decoding. One thread, processor time, the candidates in turns, medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import sqlite3
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import simplejpeg
import torch
from PIL import Image

from slakit.data.augment import ClipTransform, sample_generator
from slakit.data.prepare import prepare
from slakit.data.video.cropping import signer_crop
from slakit.data.video.read import read_frames
from slakit.records import Corpus, Sample, Vocabulary

CLIP = 100  # frames of one clip
Reader = Callable[[int, np.ndarray], np.ndarray]


def test_frames(clip: str | None, count: int) -> np.ndarray:
    """uint8 [count, 256, 256, 3]: the signer in a camera clip, or (without one) smooth noise that moves."""
    if clip:
        frames = signer_crop(read_frames(clip), 256)
        return frames[np.arange(count) % len(frames)]
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    picture = np.asarray(Image.fromarray(noise).resize((768, 256), Image.Resampling.BICUBIC))
    return np.stack([picture[:, 4 * (t % 120) : 4 * (t % 120) + 256] for t in range(count)])


def packed(frames: np.ndarray, folder: Path, encoding: str) -> tuple[Reader, int]:
    """Our own format."""
    clips = len(frames) // CLIP
    samples = []
    for number in range(clips):
        source = folder / f"raw{encoding}" / str(number)
        source.mkdir(parents=True)
        for t in range(CLIP):
            Image.fromarray(frames[number * CLIP + t]).save(source / f"{t:04d}.png", compress_level=1)
        samples.append(Sample(str(number), source, ("A",)))
    corpus = Corpus("bench", folder, tuple(samples), (), (), Vocabulary(["A"]))
    done = prepare(corpus, folder / encoding, encoding=encoding, show_progress=False)
    size = (folder / encoding / "train.frames").stat().st_size
    return lambda number, wanted: read_frames(done.train[number].source, wanted), size


def jpeg(frame: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "JPEG", quality=95)
    return file.getvalue()


def jpeg_folders(frames: np.ndarray, folder: Path) -> tuple[Reader, int]:
    """A folder of JPEG files for each clip, read by Pillow, as the public repositories have it (they use OpenCV)."""
    size = 0
    for number, frame in enumerate(frames):
        path = folder / "jpegs" / str(number // CLIP) / f"{number % CLIP:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        size += path.write_bytes(jpeg(frame))
    return lambda number, wanted: read_frames([folder / f"jpegs/{number}/{t:04d}.jpg" for t in wanted]), size


def tar_shards(frames: np.ndarray, folder: Path) -> tuple[Reader, int]:
    """A tar file with a member for each frame, as WebDataset has it: read from its start to its end."""
    path = folder / "shard.tar"
    with tarfile.open(path, "w") as shard:
        for number, frame in enumerate(frames):
            data = jpeg(frame)
            member = tarfile.TarInfo(f"{number // CLIP}.{number % CLIP:04d}.jpg")
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))

    def stream():
        while True:
            with tarfile.open(path, "r|") as shard:
                clip = []
                for member in shard:
                    clip.append(shard.extractfile(member).read())
                    if len(clip) == CLIP:
                        yield clip
                        clip = []

    clips = stream()

    def read(number: int, wanted: np.ndarray) -> np.ndarray:
        data = next(clips)  # the order is the file's
        return np.stack([simplejpeg.decode_jpeg(data[t], "RGB") for t in wanted])

    return read, path.stat().st_size


def sqlite(frames: np.ndarray, folder: Path) -> tuple[Reader, int]:
    """A row a frame in an SQLite file: number, CRC-32 and JPEG; read without locks, the checksum looked at."""
    path = folder / "frames.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA page_size = 65536")  # a frame fits in a page
        writer.execute("CREATE TABLE frames (number INTEGER PRIMARY KEY, crc INTEGER, jpeg BLOB)")
        pieces = [jpeg(frame) for frame in frames]
        rows = [(number, zlib.crc32(piece), piece) for number, piece in enumerate(pieces)]
        writer.executemany("INSERT INTO frames VALUES (?, ?, ?)", rows)
        writer.commit()
    reader = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    reader.execute(f"PRAGMA mmap_size = {2**31}")

    def read(number: int, wanted: np.ndarray) -> np.ndarray:
        out = np.empty((len(wanted), 256, 256, 3), np.uint8)
        for picture, row in zip(out, (number * CLIP + wanted).tolist(), strict=True):
            crc, piece = reader.execute("SELECT crc, jpeg FROM frames WHERE number = ?", (row,)).fetchone()
            if zlib.crc32(piece) != crc:
                raise ValueError(f"frame {row} is damaged")
            simplejpeg.decode_jpeg(piece, "RGB", buffer=picture)
        return out

    return read, path.stat().st_size


def memory_map(frames: np.ndarray, folder: Path) -> tuple[Reader, int]:
    """Raw pixels in one array on disk."""
    np.save(folder / "frames.npy", frames)
    mapped = np.load(folder / "frames.npy", mmap_mode="r")
    return lambda number, wanted: mapped[number * CLIP + wanted], mapped.nbytes


def h264(frames: np.ndarray, folder: Path) -> tuple[Reader, int]:
    """Each clip as H.264 of quality 18, a key frame every 25 frames, read by slakit."""
    size = 0
    for number in range(len(frames) // CLIP):
        path = folder / f"{number}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width = stream.height = 256
            stream.pix_fmt, stream.options = "yuv420p", {"crf": "18", "g": "25"}
            for frame in frames[number * CLIP : (number + 1) * CLIP]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        size += path.stat().st_size
    return lambda number, wanted: read_frames(folder / f"{number}.mp4", wanted), size


def measure(read: Reader, clips: int, draws: range) -> float:
    """Frames a second of processor time, in the order of training."""
    transform, frames, start = ClipTransform(), 0, time.process_time()
    for draw in draws:
        wanted = np.unique(transform.plan(CLIP, 256, 256, sample_generator(0, 0, draw)).frames)
        frames += len(read(int(sample_generator(1, 0, draw).integers(clips)), wanted))
    return frames / (time.process_time() - start)


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", help="a camera clip whose signer is the test picture")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/data_formats.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    frames = test_frames(given.clip, given.frames // CLIP * CLIP)
    candidates = {
        "packed JPEG 95 (ours)": lambda f: packed(frames, f, "jpeg"),
        "SQLite, JPEG 95": lambda f: sqlite(frames, f),
        "packed raw (ours)": lambda f: packed(frames, f, "raw"),
        "memory map, raw": lambda f: memory_map(frames, f),
        "JPEG folders, Pillow": lambda f: jpeg_folders(frames, f),
        "tar shards, in order": lambda f: tar_shards(frames, f),
        "H.264 crf 18": lambda f: h264(frames, f),
    }
    rows = {}
    with tempfile.TemporaryDirectory() as home:
        made = {}
        for number, (name, make) in enumerate(candidates.items()):
            folder = Path(home, str(number))
            folder.mkdir()
            made[name] = make(folder)
        speeds: dict[str, list[float]] = {name: [] for name in made}
        for number in range(given.rounds + 1):  # the first round warms up
            for name, (read, _) in made.items():
                speeds[name].append(measure(read, len(frames) // CLIP, range(4 * number, 4 * number + 4)))
        for name, (_, size) in made.items():
            speed, each = float(np.median(speeds[name][1:])), size / len(frames)
            rows[name] = {"frames_per_second_and_core": round(speed), "bytes_per_frame": round(each)}
            print(f"{name:24}{speed:10,.0f} frames/s/core{each:12,.0f} bytes/frame", flush=True)
    ours = rows["packed JPEG 95 (ours)"]["frames_per_second_and_core"]
    print(f"goal 3,500 frames/s/core from JPEG-like storage: {ours / 3500:.2f}x")
    result = {
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": 1,
        "rounds": given.rounds,
        "picture": "a signer in a camera clip" if given.clip else "smooth noise that moves",
        "rows": rows,
    }
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
