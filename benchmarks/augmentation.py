"""From uint8 frames to a packed batch: our augmentation beside the published one, frames per second and core.

python benchmarks/augmentation.py [--seconds 3]

Both start from the decoded frames of a clip, uint8 [T, 256, 256, 3] in memory, and end with what is sent to the device:
the published one a float32 tensor (crop, flip with a copy, tensor, temporal rescale, x / 127.5 - 1, padding by repeated
frames), ours a uint8 tensor (normalised on the device). In turns of one second, one thread. "in place" is ours written
into memory that is there already: the difference is the operating system's time for new memory.
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

from slakit.data.augment import ClipTransform, apply_plan, sample_generator
from slakit.data.clips import Clip, collate

FRAMES = 140  # a clip of Phoenix-2014's mean length


def ours(clips: list[np.ndarray], draw: int) -> int:
    """Frames of one batch."""
    transform, batch = ClipTransform(), []
    for number, frames in enumerate(clips):
        plan = transform.plan(len(frames), 256, 256, sample_generator(0, draw, number))
        batch.append(Clip(str(number), frames, plan.frames, plan, [1]))
    return len(collate(batch).frames)


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


def in_place(clips: list[np.ndarray], draw: int, buffer: np.ndarray) -> int:
    """Frames of one batch, written where the last one was."""
    transform, end = ClipTransform(), 0
    for number, frames in enumerate(clips):
        plan = transform.plan(len(frames), 256, 256, sample_generator(0, draw, number))
        apply_plan(frames, plan, buffer[end : end + len(plan.frames)])
        end += len(plan.frames)
    return end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/augmentation.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    clips = [np.random.default_rng(n).integers(0, 256, (FRAMES, 256, 256, 3), dtype=np.uint8) for n in range(2)]
    buffer = np.zeros((2 * 232, 224, 224, 3), np.uint8)
    ways = {"ours": ours, "in place": lambda c, d: in_place(c, d, buffer), "published": published}
    spent, frames = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0)
    for _ in range(given.rounds):
        for name, way in ways.items():
            way(clips, 0)  # warms up
            begin, draw = time.process_time(), 1
            while time.process_time() - begin < 1:
                frames[name] += way(clips, draw)
                draw += 1
            spent[name] += time.process_time() - begin
    speed = {name: frames[name] / spent[name] for name in ways}
    ratio = speed["ours"] / speed["published"]
    print("frames/s/core: " + ", ".join(f"{name} {value:,.0f}" for name, value in speed.items()))
    print(f"ours is {ratio:.0f}x the published one; goal 50,000")
    rows = {name: round(value) for name, value in speed.items()}
    result = {"cpu": cpu_name(), "torch": torch.__version__, "frames_per_second_and_core": rows}
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result | {"ratio": round(ratio, 1)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
