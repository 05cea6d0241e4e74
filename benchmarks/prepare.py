"""How long prepare takes: frames per second and core from every kind of source that the corpora have.

python benchmarks/prepare.py [--clip VIDEO] [--rounds 5]

Each source holds the same 60 pictures at the size of the corpus; prepare decodes, resizes to 256 x 256 (LANCZOS4) and
encodes (JPEG 95) them. One thread, processor time, the sources in turns, medians. At the end the time of each corpus by
arithmetic: its number of frames divided by the measured rate.
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
from data_formats import cpu_name, test_frames
from PIL import Image

from slakit.data.prepare import encode
from slakit.data.video.resize import resize
from slakit.records import Sample

FRAMES = 60
# corpus -> height and width of its frames, kind of its files, frames in millions (CSL-Daily's training split estimated)
SOURCES = {
    "phoenix2014": (260, 210, "png", 0.96),
    "phoenix2014-t": (260, 210, "png", 0.95),
    "csl-daily": (512, 512, "jpg", 2.5),
    "csl": (720, 1280, "avi", 5.8),
    "isharah (256 x 256)": (256, 256, "jpg", None),
}
SETTINGS = {"size": 256, "encoding": "jpeg", "quality": 95, "resize_filter": "lanczos4", "aspect": "stretch"}


def write(frames: np.ndarray, kind: str, folder: Path) -> Path:
    if kind == "avi":
        path = folder / "clip.avi"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt, stream.bit_rate = *frames.shape[1:3], "yuv420p", 4_000_000
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
        return path
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:06d}.{kind}", **({"quality": 95} if kind == "jpg" else {}))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clip", help="a camera clip whose signer is the test picture")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/prepare.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    frames = test_frames(given.clip, FRAMES)
    speeds: dict[str, list[float]] = {name: [] for name in SOURCES}
    with tempfile.TemporaryDirectory() as home:
        samples = {}
        for name, (height, width, kind, _) in SOURCES.items():
            folder = Path(home, name)
            folder.mkdir()
            samples[name] = Sample(name, write(resize(frames, (height, width), "antialias"), kind, folder), ("A",))
        for _ in range(given.rounds + 1):  # the first round warms up
            for name, sample in samples.items():
                begin = time.process_time()
                pieces, problem = encode(sample, SETTINGS | {"on_damage": "error"})
                assert len(pieces) == FRAMES and not problem
                speeds[name].append(FRAMES / (time.process_time() - begin))
    rows = {}
    for name, (height, width, kind, millions) in SOURCES.items():
        speed = float(np.median(speeds[name][1:]))
        hours = None if millions is None else round(millions * 1e6 / speed / 3600, 1)
        source = f"{kind} {width} x {height}"
        rows[name] = {"source": source, "frames_per_second_and_core": round(speed), "hours_by_arithmetic": hours}
        print(f"{name:20}{source:>16}{speed:8,.0f} frames/s/core; whole corpus on one core: {hours} h")
    result = {"cpu": cpu_name(), "python": platform.python_version(), "threads": 1, "rounds": given.rounds}
    result["picture"] = "a signer in a camera clip" if given.clip else "smooth noise that moves"
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps(result | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
