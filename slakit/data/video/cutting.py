"""A part of a video as a file of its own: its packets as they are where a key frame begins it, else encoded anew."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from slakit.data.video.decode import open_video
from slakit.data.video.read import open_source
from slakit.records import ConfigError, VideoError, unwritable, written_whole

NEAR = 0.12  # seconds before the cut in which a key frame may lie: three frames more do no harm
CRF = 16  # of H.264; differences are not seen


def cut(video: Path, start: float, end: float, out: Path) -> bool:
    """Write the pictures of [start, end) seconds as `out`, an mp4 without sound; True: the packets are unchanged.

    VideoError where the video cannot be read or has nothing there, ConfigError where `out` cannot be written.
    """
    try:
        with written_whole(out) as [new]:
            if _copied(video, start, end, new) and _sound(new, end - start):
                return True
            _encode(video, start, end, new)
            return False
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.filename is not None and str(video) != str(error.filename):
            raise unwritable(out, error) from None
        raise VideoError(f"{video}: cannot be cut from {start:.2f} to {end:.2f} s ({error}); look at it") from None


def _copied(video: Path, start: float, end: float, new: Path) -> bool:
    """Whether a key frame lies at the start, and the packets from there were written."""
    container, stream = open_video(str(video))
    with container:
        base, begin = float(stream.time_base or 0), float((stream.start_time or 0) * (stream.time_base or 0))
        if not base or stream.codec_context.name not in ("h264", "hevc", "mpeg4"):
            return False
        container.seek(int((start + begin) / base), stream=stream, backward=True)
        first = None
        with av.open(str(new), "w", format="mp4") as target:
            copy = target.add_stream_from_template(stream)
            for packet in container.demux(stream):
                if packet.dts is None or packet.pts is None:
                    continue
                if first is None:
                    first = packet.pts
                    if not packet.is_keyframe or not -NEAR <= first * base - begin - start <= base:
                        return False
                if packet.dts * base - begin >= end - base / 2:
                    break
                if packet.pts < first:
                    continue  # belongs to the pictures before the key frame
                packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, copy
                target.mux(packet)
        return first is not None


def _sound(clip: Path, seconds: float) -> bool:
    """Whether every frame of the copy can be decoded, and it is about as long."""
    try:
        source = open_source(clip)
        count = len(source.read())
    except VideoError:
        return False
    return count > 0 and abs(count / (source.info.fps or 25) - seconds) <= 2 * NEAR


def _encode(video: Path, start: float, end: float, new: Path) -> None:
    source = open_source(video)
    fps = Fraction(source.info.fps or 25).limit_denominator(1001)
    numbers = range(round(start * fps), min(round(end * fps), source.num_frames))
    if not numbers:
        raise VideoError(
            f"{video}: nothing from {start:.2f} to {end:.2f} s, it has {float(source.num_frames / fps):.2f} s"
        )
    with av.open(str(new), "w", format="mp4") as target:
        stream = None
        for piece in source.pieces(numbers):
            for frame in piece:
                even = np.ascontiguousarray(frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2])
                if stream is None:
                    stream = target.add_stream("libx264", rate=fps, options={"crf": str(CRF), "preset": "veryfast"})
                    stream.height, stream.width, stream.pix_fmt = *even.shape[:2], "yuv420p"
                target.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))
        if stream is None:
            raise ConfigError(f"{video}: nothing could be read there")
        target.mux(stream.encode())
