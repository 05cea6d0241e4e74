"""decord 0.6.0, which compares what PyAV reads; the two carry different versions of FFmpeg.

It shows concealed or repeated frames without an error, and its random access returns neighbours of the frames asked
for, of sound camera clips, too. So it reads from the first frame on, and is never believed alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from slakit.data.video.source import VideoInfo
from slakit.records import VideoError

# What it was seen to read with the very pixels of PyAV; of 10-bit video the colours are wrong.
CODECS = {"h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg"}
PIXELS = {"yuv420p", "yuvj420p"}
MATRICES = {(1, 0, 0, 1), (-1, 0, 0, -1), (0, -1, 1, 0), (0, 1, -1, 0)}  # turned, not mirrored
CLOSE = 3  # largest difference of a colour value between the two readers' rounding (measured: 2)


@cache
def load_decord() -> Any:
    """The decord module, or None where it is not installed (no wheel for Apple silicon and Linux on ARM)."""
    # Read once, at import: a spin count. 10240, the default, waits for frames that never come; 64 fails healthy clips.
    os.environ.setdefault("DECORD_EOF_RETRY_MAX", "512")
    import torch  # noqa: F401  # before decord: the other order is reported to lock up in DataLoader workers

    try:
        import decord
    except (ImportError, OSError):
        return None
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def reasons(content: dict) -> list[str]:
    """Why decord is not to be trusted with a file of this codec, pixel_format and matrix; empty where it is."""
    doubts = {
        f"codec {content['codec']}": content["codec"] not in CODECS,
        f"pixel format {content['pixel_format']}": content["pixel_format"] not in PIXELS,
        "a mirrored picture": content["matrix"] not in MATRICES,
    }
    return [reason for reason, holds in doubts.items() if holds]


def read(path: Path, info: VideoInfo, numbers: Sequence[int]) -> np.ndarray:
    """The frames as decord reads them, [T, H, W, 3], turned upright; numbers: rising. VideoError where it fails."""
    decord = load_decord()
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        if len(reader) != info.packets:
            raise VideoError(f"{path}: decord counts {len(reader)} frames, PyAV {info.packets}; use reader='pyav'")
        chosen, frames = set(numbers), []
        for number in range(numbers[-1] + 1):  # one after the other: get_batch and seek return wrong frames
            frame = reader.next()
            if number in chosen:
                frames.append(frame.asnumpy())
                if frames[-1].shape[-1] != 3:  # seen in small pictures of 24 and 48 pixels
                    raise VideoError(f"{path}: decord gives {frames[-1].shape[-1]} colours, not 3; use reader='pyav'")
        return np.stack(frames)
    except (RuntimeError, StopIteration, decord.DECORDError) as error:
        last = (str(error).strip().splitlines() or ["no message"])[-1]
        raise VideoError(f"{path}: decord failed ({last}) where PyAV did not; use reader='pyav'") from None


def compare(path: Path, numbers: Sequence[int], first: np.ndarray, second: np.ndarray) -> None:
    """VideoError where a frame of the two readers differs by more than rounding."""
    for number, one, other in zip(numbers, first, second, strict=True):
        if one.shape != other.shape or np.abs(one.astype(np.int16) - other).max() > CLOSE:
            raise VideoError(
                f"{path}: decord and PyAV differ at frame {number}; look at it, re-encode it or use reader='pyav'"
            )
