"""From uint8 frames to a packed batch: our augmentation beside the published one, frames per second and core.

python benchmarks/augmentation.py [--rounds 9]

Both start from the decoded frames of two clips, uint8 [T, 256, 256, 3] in memory, and end with what is sent to the
device: the published one a float32 tensor (crop, flip with a copy, tensor, temporal rescale, x / 127.5 - 1, padding by
repeated frames), ours a packed uint8 tensor, which is mirrored and normalised on the device. "ours, mirrored here" does
the mirroring on this processor as well, as training without a GPU does. One thread, processor time, batches of the
ways in turns, medians over the rounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from data_formats import cpu_name

from slakit.data.augment import ClipTransform, sample_generator
from slakit.data.clips import Batch, Clip, collate

FRAMES = 140  # a clip of Phoenix-2014's mean length


def batch_of(clips: list[np.ndarray], draw: int) -> Batch:
    """The clips planned, cropped and packed."""
    transform, batch = ClipTransform(), []
    for number, frames in enumerate(clips):
        plan = transform.plan(len(frames), 256, 256, sample_generator(0, draw, number))
        batch.append(Clip(str(number), frames, plan.frames, plan, [1]))
    return collate(batch)


def ours(clips: list[np.ndarray], draw: int) -> int:
    """Frames of one batch."""
    return len(batch_of(clips, draw).cropped)


def published(clips: list[np.ndarray], draw: int) -> int:
    """The same steps as the public loaders take them."""
    made = []
    for clip in clips:
        frames = list(clip)
        left, top = random.randint(0, 32), random.randint(0, 32)
        frames = [frame[top : top + 224, left : left + 224] for frame in frames]
        if random.random() < 0.5:
            frames = [copy.deepcopy(np.flip(frame, axis=1)) for frame in frames]
        video = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).float()
        length = min(max(int(len(video) * (0.8 + 0.4 * np.random.random())), 32), 230)
        length += (-length) % 4
        chosen = (
            random.sample(range(len(video)), length)
            if length <= len(video)
            else random.choices(range(len(video)), k=length)
        )
        made.append(video[sorted(chosen)].float() / 127.5 - 1)
    longest = max(map(len, made))
    padded = [
        torch.cat([v[:1].expand(6, -1, -1, -1), v, v[-1:].expand(longest - len(v) + 6, -1, -1, -1)]) for v in made
    ]
    torch.stack(padded)
    return sum(map(len, made))


def mirrored(clips: list[np.ndarray], draw: int) -> int:
    """Frames of one batch, mirrored by this processor."""
    return len(batch_of(clips, draw).to("cpu").frames)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/augmentation.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    clips = [np.random.default_rng(n).integers(0, 256, (FRAMES, 256, 256, 3), dtype=np.uint8) for n in range(2)]
    ways = {"ours": ours, "ours, mirrored here": mirrored, "published": published}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(given.rounds + 1):
        for name, way in ways.items():
            begin, frames = time.process_time(), 0
            for draw in range(8 if name != "published" else 1):
                frames += way(clips, 8 * number + draw)
            if number:  # the first round warms up
                speeds[name].append(frames / (time.process_time() - begin))
    speed = {name: float(np.median(found)) for name, found in speeds.items()}
    ratio = speed["ours"] / speed["published"]
    print("frames/s/core: " + ", ".join(f"{name} {value:,.0f}" for name, value in speed.items()))
    print(f"ours is {ratio:.0f}x the published one; goal 50,000: {speed['ours'] / 50000:.2f}x")
    rows = {name: round(value) for name, value in speed.items()}
    best = {name: round(max(found)) for name, found in speeds.items()}
    result = {"cpu": cpu_name(), "torch": torch.__version__, "threads": 1, "rounds": given.rounds}
    result |= {"frames_per_second_and_core": rows, "best_round": best, "ratio": round(ratio, 1)}
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
