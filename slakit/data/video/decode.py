"""PyAV, packet by packet: what a container holds, and its frames with the damaged ones counted.

This file imports nothing of slakit, so that `python decode.py` can run it as a process of its own: a file that looks
suspicious is decoded there and stopped when it stalls (native code in this process could not be).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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
MAX_PIXELS = 64_000_000  # of one frame; FFmpeg itself refuses more by the header, before memory is taken


def open_video(path: str) -> tuple[InputContainer, VideoStream]:
    """Container and its first video stream that is not a cover picture; ValueError says why there is none.

    The path is made absolute: a colon in a relative one ("10:30.mp4", "file:x.mp4") would name a protocol.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": ",".join(CONTAINERS), "max_pixels": str(MAX_PIXELS)}
    try:
        container = av.open(os.path.abspath(path), options=options)
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
    context = stream.codec_context
    if not context.width or not context.height:
        container.close()
        most = f"or a frame has more than {MAX_PIXELS:,} pixels"
        raise ValueError(f"the size of its pictures is not known: it was cut off, {most}")
    context.options, context.thread_count = {"max_pixels": options["max_pixels"]}, 1  # its size may change on the way
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


def decode(path: str, numbers: Sequence[int] | None, seconds: float, counts: dict[str, Any]) -> Iterator[np.ndarray]:
    """Frames uint8 [H, W, 3], RGB, as coded (see `upright`), one after the other; each is valid until the next.

    numbers: rising frame numbers, counted over the frames that can be decoded; None is all of them. seconds: how long
    decoding may take; what the caller does with the frames is not counted. counts: receives what is met on the way:
    decoded (frames up to the last one asked for), lost (packets that cannot be decoded), flagged (frames that the
    decoder marks as damaged), stopped (whether reading ended early because nothing more was asked for).
    ValueError and TimeoutError say why it cannot go on.
    """
    converter = VideoReformatter()  # one for the clip: three times as fast as VideoFrame.to_ndarray
    chosen = None if numbers is None else set(numbers)
    last = None if numbers is None else max(numbers, default=-1)
    size = None
    counts.update(decoded=0, lost=0, flagged=0, stopped=False)
    container, stream = open_video(path)
    stop = time.monotonic() + seconds
    with container:
        for packet in container.demux(stream):
            if time.monotonic() > stop:
                raise TimeoutError(f"took more than {seconds:.0f} s to decode and was stopped")
            try:
                pictures = packet.decode()
            except FFmpegError:
                counts["lost"] += 1
                continue
            for frame in pictures:
                if last is not None and counts["decoded"] > last:
                    break
                counts["flagged"] += bool(frame.is_corrupt)
                counts["decoded"] += 1
                if chosen is not None and counts["decoded"] - 1 not in chosen:
                    continue
                picture = converter.reformat(frame, format="rgb24")
                height, width = picture.height, picture.width
                size = size or (width, height)
                if (width, height) != size:
                    change = f"from {size[0]}x{size[1]} to {width}x{height} at frame {counts['decoded'] - 1}"
                    raise ValueError(f"changes its size {change}")
                plane = picture.planes[0]
                rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height]
                before = time.monotonic()
                yield rows[:, : width * 3].reshape(height, width, 3)
                stop += time.monotonic() - before
            if last is not None and counts["decoded"] > last:
                counts["stopped"] = True
                break


def _main() -> None:
    """argv: path, JSON of decode's other arguments. Frames go to stdout, behind their height and width as two int32;
    the counts, or an error, as JSON to stderr."""
    path, arguments = sys.argv[1:3]
    counts: dict[str, Any] = {}
    begun = False
    try:
        for frame in decode(path, counts=counts, **json.loads(arguments)):
            if not begun:
                sys.stdout.buffer.write(np.array(frame.shape[:2], "<i4").tobytes())
            begun = True
            sys.stdout.buffer.write(np.ascontiguousarray(frame).data)
        sys.stdout.buffer.flush()
    except (ValueError, TimeoutError) as error:
        counts = {"error": str(error)}
    print(json.dumps(counts), file=sys.stderr)


if __name__ == "__main__":
    _main()
