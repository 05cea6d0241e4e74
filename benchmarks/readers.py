"""The readers of video files: PyAV (the default), decord alone, decord beside PyAV, and both compared.

python benchmarks/readers.py [--clip VIDEO] [--rounds 7]

Two files: frames of 256 x 256 as H.264 (quality 18, a key frame every 25 frames), and the clip itself where one is
given. All frames, every second one, and 8 of them. One thread, processor time, the readers in turns, medians.
"decord alone" is its own random access, get_batch, which nobody should use: the last column counts the frames that it
returns in the place of others, without an error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import av
import numpy as np
import torch
from data_formats import cpu_name, h264, test_frames

from slakit.data.video.read import probe_video, read_frames
from slakit.data.video.second_reader import load_decord


def decord_alone(path: Path, indices: list[int]) -> np.ndarray:
    reader = load_decord().VideoReader(str(path), num_threads=1)
    return reader.get_batch(indices).asnumpy()


READERS = {
    "PyAV": lambda path, indices: read_frames(path, indices, reader="pyav"),
    "decord alone": decord_alone,
    "decord beside PyAV": lambda path, indices: read_frames(path, indices, reader="decord"),
    "both compared": lambda path, indices: read_frames(path, indices, reader="both"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", help="a camera clip")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/readers.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        h264(test_frames(given.clip, 100), Path(folder))
        files = {"256 x 256": Path(folder, "0.mp4")} | ({"camera clip": Path(given.clip)} if given.clip else {})
        for name, path in files.items():
            info = probe_video(path)
            count = info.num_frames
            choices = {
                "all": list(range(count)),
                "half": list(range(0, count, 2)),
                "8": np.linspace(0, count - 1, 8).astype(int).tolist(),
            }
            for choice, indices in choices.items():
                times: dict[str, list[float]] = {reader: [] for reader in READERS}
                for _ in range(given.rounds + 1):  # the first round warms up
                    for reader, read in READERS.items():
                        begin = time.process_time()
                        read(path, indices)
                        times[reader].append(1000 * (time.process_time() - begin))
                found: dict[str, float] = {reader: round(float(np.median(t[1:])), 1) for reader, t in times.items()}
                rows[f"{name} ({info.width} x {info.height}, {count} frames), {choice}"] = found
                right, alone = read_frames(path, indices), decord_alone(path, indices)
                wrong = sum(int(np.abs(a.astype(int) - b).max() > 3) for a, b in zip(right, alone, strict=True))
                found["wrong frames of decord alone"] = wrong
                ratio = found["decord alone"] / found["PyAV"]
                print(f"{name:12}{choice:>5}: {found}; PyAV is {ratio:.2f}x as fast as decord alone", flush=True)
    result = {"cpu": cpu_name(), "python": platform.python_version(), "av": av.__version__, "threads": 1}
    result |= {"decord": load_decord().__version__, "rounds": given.rounds, "milliseconds": rows}
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
