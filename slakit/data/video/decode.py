"""PyAV, packet by packet: what a container holds, and its frames with the damaged ones counted.

This file imports nothing of slakit, so that `python decode.py` can run it as a process of its own: a file that looks
suspicious is decoded there and stopped when it stalls (native code in this process could not be).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

# Containers of one file each. Playlists (hls, dash, concat) are left out: they make a reader open other files.
CONTAINERS = {"mov", "mp4", "matroska", "webm", "avi", "mpeg", "mpegts", "mpegvideo", "flv", "asf", "ogg", "gif"}
CONTAINERS |= {"h264", "hevc", "m4v", "ivf", "mjpeg", "mxf", "obu", "mpjpeg"}


def open_video(path: str) -> tuple[InputContainer, VideoStream]:
    """Container and its first video stream that is not a cover picture; ValueError says why there is none."""
    try:
        container = av.open(path, options={"protocol_whitelist": "file"})
    except FFmpegError as error:
        raise ValueError(f"cannot be opened as a video ({error.strerror})") from error
    if not CONTAINERS & set(container.format.name.split(",")):
        container.close()
        raise ValueError(f"is a {container.format.name} file, which is not read as a video")
    # A cover picture (attached_pic) is a video stream of one packet without a frame rate of its own.
    streams = [s for s in container.streams.video if s.codec_context is not None]
    moving = [s for s in streams if s.frames != 1] or streams
    if not moving:
        container.close()
        raise ValueError("holds no video stream that the installed FFmpeg can decode")
    stream = moving[0]
    stream.codec_context.thread_count = 1
    return container, stream


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Signs (a, b, c, d) of the display matrix: shown are x' = a x + c y, y' = b x + d y; (1, 0, 0, 1) is as coded."""
    # get() by type: iterating gives the entries in PyAV 18 and their types in PyAV 19
    side_data = cast(Mapping[Type, Any], frame.side_data).get(Type.DISPLAYMATRIX)
    if side_data is not None:
        matrix = np.frombuffer(side_data, dtype="<i4")
        a, b, c, d = (int(np.sign(v)) if abs(int(v)) > 32768 else 0 for v in matrix[[0, 1, 3, 4]])
        return a, b, c, d
    return 1, 0, 0, 1


def upright(frames: np.ndarray, matrix: Sequence[int]) -> np.ndarray:
    """[T, H, W, 3] as the display matrix shows it (turned by quarters and mirrored)."""
    a, b, c, d = matrix
    if a == 0 and d == 0:
        frames = frames.swapaxes(1, 2)  # [T, W, H, 3]
        rows, columns = b, c
    else:
        rows, columns = d, a
    return frames[:, :: -1 if rows < 0 else 1, :: -1 if columns < 0 else 1]


def demux(path: str, seconds: float) -> dict:
    """What the container holds, without decoding more than its first frame. ValueError and TimeoutError say why not."""
    stop = time.monotonic() + seconds
    packets = discarded = corrupt = 0
    times: list[int | None] = []
    key_first = first = None
    container, stream = open_video(path)
    with container:
        for packet in container.demux(stream):
            if time.monotonic() > stop:
                raise TimeoutError(f"took more than {seconds:.0f} s to read its packets")
            if not packet.size:
                continue
            packets += 1
            discarded += bool(packet.is_discard)
            corrupt += bool(packet.is_corrupt)
            times.append(packet.pts)
            key_first = bool(packet.is_keyframe) if key_first is None else key_first
        context = stream.codec_context
        content = {
            "codec": context.codec.canonical_name if hasattr(context.codec, "canonical_name") else context.name,
            "coded_width": context.width,
            "coded_height": context.height,
            "fps": float(stream.average_rate or stream.base_rate or 0),
            "listed_frames": stream.frames,
            "pixel_format": context.pix_fmt or "",
        }
    container, stream = open_video(path)
    with container:
        try:
            for frame in container.decode(stream):
                first = frame
                break
        except FFmpegError:
            first = None  # the first frame is damaged: decode() says so, and how many
        matrix = display_matrix(first) if first is not None else (1, 0, 0, 1)
    known = [t for t in times if t is not None]
    return content | {
        "packets": packets,
        "discarded": discarded,
        "corrupt": corrupt,
        "ordered": len(known) == packets == len(set(known)),
        "key_first": bool(key_first),
        "matrix": matrix,
    }


def decode(
    path: str, numbers: Sequence[int] | None, capacity: int, seconds: float, packets: int = 0
) -> tuple[np.ndarray, dict]:
    """Frames uint8 [T, H, W, 3], RGB, as coded (see `upright`), and what was met on the way.

    numbers: rising frame numbers, counted over the frames that can be decoded; None is all of them.
    capacity: bytes that the frames may take. packets: the expected number of frames, to take the memory once.
    The counts: decoded (frames up to the last one asked for), lost (packets that cannot be decoded), flagged (frames
    that the decoder marks as damaged), stopped (whether reading ended early because nothing more was asked for).
    """
    stop = time.monotonic() + seconds
    converter = VideoReformatter()  # one for the clip: three times as fast as VideoFrame.to_ndarray
    chosen = None if numbers is None else set(numbers)
    last = None if numbers is None else max(numbers, default=-1)
    frames: np.ndarray | None = None
    decoded = lost = flagged = filled = 0
    container, stream = open_video(path)
    with container:
        for packet in container.demux(stream):
            if time.monotonic() > stop:
                raise TimeoutError(f"took more than {seconds:.0f} s to decode and was stopped")
            try:
                pictures = packet.decode()
            except FFmpegError:
                lost += 1
                continue
            for frame in pictures:
                if last is not None and decoded > last:
                    break
                flagged += bool(frame.is_corrupt)
                decoded += 1
                if chosen is not None and decoded - 1 not in chosen:
                    continue
                picture = converter.reformat(frame, format="rgb24")
                if frames is None:
                    room = max(packets, 1) if chosen is None else len(chosen)
                    frames = np.empty((room, picture.height, picture.width, 3), np.uint8)  # [T, H, W, 3]
                if picture.height * picture.width * 3 * (filled + 1) > capacity:
                    raise ValueError(f"needs more than the {capacity:,} bytes allowed")
                if (picture.height, picture.width) != frames.shape[1:3]:
                    before, after = f"{frames.shape[2]}x{frames.shape[1]}", f"{picture.width}x{picture.height}"
                    raise ValueError(f"changes its size from {before} to {after} at frame {decoded - 1}")
                if filled == len(frames):
                    frames = np.concatenate([frames, np.empty_like(frames[: max(1, filled // 4)])])
                plane = picture.planes[0]
                rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: picture.height]
                frames[filled] = rows[:, : picture.width * 3].reshape(picture.height, picture.width, 3)
                filled += 1
            if last is not None and decoded > last:
                break
    if frames is None:
        frames = np.empty((0, stream.codec_context.height, stream.codec_context.width, 3), np.uint8)
    stopped = last is not None and decoded > last
    return frames[:filled], {"decoded": decoded, "lost": lost, "flagged": flagged, "stopped": stopped}


def _main() -> None:
    """argv: path, JSON of decode's other arguments, file for the frames. Answers in JSON."""
    path, arguments, out = sys.argv[1:4]
    try:
        frames, answer = decode(path, **json.loads(arguments))
        answer["shape"] = frames.shape
        Path(out).write_bytes(np.ascontiguousarray(frames).data)
    except (ValueError, TimeoutError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    _main()
