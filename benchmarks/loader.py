"""Does the model ever wait for its clips? Packed frames of 256 x 256, cropped to 224, at four times the CPU's speed.

python benchmarks/loader.py [--rounds 3] [--clips 24]

The model's own speed is that of SLA-LoRA (ViT-B/16, blocks 5-12, float32, one thread) on this machine. Then a pretended
model takes four times as many frames a second (it sleeps, as a processor does that waits for a GPU) and reads batches
of two clips with 0, 1 and 2 reading processes, in turns. Reported: the share of its time in which it waits for a batch
(after the first one, which has to be read before anything can begin), and how many frames a second a reading process
delivers per second of processor time, against what would be needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from data_formats import cpu_name
from PIL import Image

import slakit
from slakit.config import TrainConfig
from slakit.data.loader import clip_loader
from slakit.data.prepare import prepare
from slakit.records import Corpus, Sample, Vocabulary
from slakit.training.losses import recognition_loss

FRAMES = 30  # of one clip; the published rescale makes 32 of them


def packed_corpus(folder: Path, clips: int) -> Corpus:
    """Clips of smooth noise that moves, prepared as `slakit prepare` does it."""
    samples = []
    for number in range(clips):
        noise = np.random.default_rng(number).integers(0, 256, (32, 48, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(noise).resize((768, 256), Image.Resampling.BICUBIC))
        source = folder / "clips" / str(number)
        source.mkdir(parents=True)
        for t in range(FRAMES):
            Image.fromarray(picture[:, 4 * t : 4 * t + 256]).save(source / f"{t:04d}.png", compress_level=1)
        samples.append(Sample(str(number), source, ("A", "B"), num_frames=FRAMES))
    corpus = Corpus("folder", folder, tuple(samples), (), (), Vocabulary(["A", "B"]))
    return prepare(corpus, folder / "packed", show_progress=False)


def training_speed(frames: int = 8, steps: int = 3) -> float:
    """Frames a second of process time: the median step of SLA-LoRA on one thread."""
    model = slakit.create_model("sla-lora", ["A", "B"], "ViT-B-16", None, blocks="5-12").train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    clip, lengths = torch.zeros(frames, 3, 224, 224, dtype=torch.uint8), torch.tensor([frames])
    seconds = []
    for _ in range(steps + 1):
        begin = time.process_time()
        loss, _ = recognition_loss(model(clip, lengths), torch.tensor([1, 2]), torch.tensor([2]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.process_time() - begin)
    return frames / statistics.median(seconds[1:])


def waiting(corpus: Corpus, workers: int, speed: float, epoch: int, batches: int) -> float:
    """The share of its time in which a model of `speed` frames a second waits for its batches."""
    loader = clip_loader(corpus.train, corpus.glosses, TrainConfig(num_workers=workers), train=True, epoch=epoch)
    source, waited = iter(loader), 0.0
    batch = next(source)
    begin = time.perf_counter()
    for _ in range(batches):
        time.sleep(int(batch.lengths.sum()) / speed)
        asked = time.perf_counter()
        batch = next(source)
        waited += time.perf_counter() - asked
    return waited / (time.perf_counter() - begin)


def reading_speed(corpus: Corpus, epoch: int) -> float:
    """Frames that one reading process delivers per second of its processor time."""
    begin, frames = time.process_time(), 0
    for batch in clip_loader(corpus.train, corpus.glosses, TrainConfig(), train=True, epoch=epoch):
        frames += int(batch.lengths.sum())
    return frames / (time.process_time() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--batches", type=int, default=1, help="that the pretended model takes in each round")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model_speed = training_speed()
    with tempfile.TemporaryDirectory() as folder:
        corpus = packed_corpus(Path(folder), options.clips)
        speeds, shares = [], {workers: [] for workers in (0, 1, 2)}
        fast: dict[int, list[float]] = {workers: [] for workers in (1, 2)}
        for number in range(options.rounds):
            speeds.append(reading_speed(corpus, number))
            for workers, found in shares.items():
                found.append(waiting(corpus, workers, 4 * model_speed, number, options.batches))
            for workers, found in fast.items():  # and a model that takes 500 frames a second
                found.append(waiting(corpus, workers, 500.0, number, min(10, options.clips // 2 - 1)))
    reading = statistics.median(speeds)
    result = {
        "model frames/s": round(model_speed, 2),
        "needed frames/s": round(4 * model_speed, 2),
        "one reading process, frames per second of processor time": round(reading),
        "ratio of reading to needed, 1 process": round(reading / (4 * model_speed), 1),
        "ratio of reading to needed, 2 processes": round(2 * reading / (4 * model_speed), 1),
        "share of time waiting at the needed speed": {
            f"{workers} processes": round(statistics.median(found), 4) for workers, found in shares.items()
        },
        "share of time waiting at 500 frames/s": {
            f"{workers} processes": round(statistics.median(found), 4) for workers, found in fast.items()
        },
        "rounds": options.rounds,
        "machine": {
            "processor": cpu_name(), "cores": os.cpu_count(), "torch": torch.__version__, "threads": 1,
        },
    }  # fmt: skip
    print(json.dumps(result, indent=1))
    out = Path(__file__).parent / "results" / "loader.json"
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
