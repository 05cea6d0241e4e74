"""Small videos and frame folders for the tests of slakit.data, and an independent reader."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def shared(*parts: str) -> Path:
    """A path under the shared test data; skips the test where that is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs shared/{'/'.join(parts)} beside the project")
    return path


def pictures(count: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """uint8 [count, height, width, 3]: a block that wanders over a coarse random ground; no two frames alike."""
    generator = np.random.default_rng(seed)
    ground = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(np.uint8)
    ground = ground.repeat(8, 0).repeat(8, 1)[:height, :width]
    frames = np.repeat(ground[None], count, 0)
    for t in range(count):
        x, y = (3 * t) % (width - 12), (2 * t) % (height - 12)
        frames[t, y : y + 12, x : x + 12] = (255, (7 * t) % 256, 30)
    return frames


def write_video(
    path: Path, frames: np.ndarray, codec: str = "libx264", pixels: str = "yuv420p", rate: int = 25, **options: str
) -> Path:
    """Encode frames at `rate` a second; options are the codec's (movflags goes to the container)."""
    container_options = {k: options.pop(k) for k in ("movflags",) if k in options}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.options = options
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def reference_frames(path: Path) -> np.ndarray:
    """All frames, upright, by the plainest use of PyAV; damaged packets are skipped.

    One thread: what FFmpeg invents for damaged parts differs with the number of threads.
    """
    frames, turned = [], 0
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for packet in container.demux(container.streams.video[0]):
            try:
                for frame in packet.decode():
                    frames.append(frame.to_ndarray(format="rgb24"))
                    turned = getattr(frame, "rotation", 0)
            except av.error.InvalidDataError:
                continue
    return np.rot90(np.stack(frames), turned // 90, axes=(1, 2))


def write_frames(folder: Path, frames: np.ndarray, pattern: str = "images{:04d}.png", start: int = 1) -> Path:
    """Frames as image files, named by `pattern`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / pattern.format(number + start))
    return folder
