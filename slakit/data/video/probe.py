"""What a video or a folder of frames holds, found without decoding it, and whether decord may be trusted with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from slakit.data.video import decode
from slakit.data.video.images import image_size, list_frames
from slakit.data.video.packed import find_packed
from slakit.records import VideoError

# What decord 0.6.0 (FFmpeg 4.1) was seen to read with the very pixels of PyAV; of 10-bit video the colours are wrong.
DECORD_CODECS = {"h264", "hevc", "vp8", "vp9", "mpeg4", "mjpeg"}
DECORD_PIXELS = {"yuv420p", "yuvj420p"}
DECORD_MATRICES = {(1, 0, 0, 1), (-1, 0, 0, -1), (0, -1, 1, 0), (0, 1, -1, 0)}  # turned, not mirrored

Source = str | os.PathLike | Sequence[str | os.PathLike]


@dataclass(frozen=True)
class VideoInfo:
    """What a source holds, by its packets or file names alone.

    width, height: upright, in pixels. num_frames: frames to expect (packets less those that an edit list hides).
    listed_frames: what the container says (0: nothing). reader: "pyav", "images" for a folder of frames, "packed" for a
    prepared clip. decord: whether decord may read the file, too; reasons: why not. suspicious: it is decoded in a
    process of its own, which can be stopped.
    """

    source: str
    codec: str
    width: int
    height: int
    fps: float
    num_frames: int
    reader: str
    pixel_format: str = "rgb24"
    matrix: tuple[int, int, int, int] = (1, 0, 0, 1)
    packets: int = 0
    listed_frames: int = 0
    discarded: int = 0
    corrupt: int = 0
    decord: bool = False
    reasons: tuple[str, ...] = ()
    suspicious: bool = False

    @property
    def rotation(self) -> int:
        """Degrees, anti-clockwise, by which the coded picture is turned to stand upright."""
        return {(0, -1, 1, 0): 90, (-1, 0, 0, -1): 180, (0, 1, -1, 0): 270}.get(self.matrix, 0)


def source_files(source: Source) -> Path | tuple[Path, ...]:
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.is_dir():
            frames = list_frames(path)
            if not frames:
                inside = [p.name for p in sorted(path.iterdir())[:3]]
                what = f"it holds {', '.join(inside)}" if inside else "it is empty"
                raise VideoError(f"{path}: no image files in this folder ({what}); point to the folder of the frames")
            return frames
        if not path.exists():
            raise VideoError(f"{path}: no such file or folder; check the path")
        if not path.is_file():
            raise VideoError(f"{path}: neither a file nor a folder; copy the video to a file first")
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: the file is empty (0 bytes); copy or download it again")
        return path
    files = tuple(Path(p) for p in source)
    if not files:
        raise VideoError("the clip has no frame files; check the folder or the pattern that it was made from")
    return files


@cache
def load_decord():
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


def probe_video(source: Source, seconds: float = 60.0) -> VideoInfo:
    """Look at a video's packets (nothing but its first frame is decoded) or at a folder's file names.

    source: a video file, a folder of frames (natural order), or a sequence of frame files. Raises VideoError where it
    cannot be opened, holds no video, or is not read within `seconds`.
    """
    if packed := find_packed(source):
        split, clip = packed
        count = split.num_frames(clip)
        return VideoInfo(str(source), split.settings["encoding"], split.size, split.size, 0.0, count, "packed")
    files = source_files(source)
    if isinstance(files, tuple):
        height, width = image_size(files[0])
        codec = files[0].suffix.lower().lstrip(".").replace("jpg", "jpeg")
        return VideoInfo(str(files[0].parent), codec, width, height, 0.0, len(files), "images", packets=len(files))
    try:
        found = decode.demux(str(files), seconds)
    except (ValueError, TimeoutError) as error:
        raise VideoError(f"{files}: {error}; replace the file or re-encode it") from None
    if not found["packets"] or not found["coded_width"]:
        raise VideoError(f"{files}: the container holds no frames; it was probably cut off, copy it again")
    reasons, suspicious = [], []
    if found["discarded"]:
        suspicious.append(f"an edit list hides {found['discarded']} of {found['packets']} packets")
    if found["corrupt"]:
        suspicious.append(f"{found['corrupt']} packets are marked as damaged")
    if 0 < found["listed_frames"] != found["packets"]:
        suspicious.append(f"the container lists {found['listed_frames']} frames and holds {found['packets']} packets")
    if not found["ordered"]:
        suspicious.append("packets without a time, or two with the same")
    if not found["key_first"]:
        suspicious.append("it does not begin with a key frame")
    if found["codec"] not in DECORD_CODECS:
        reasons.append(f"codec {found['codec']}")
    if found["pixel_format"] not in DECORD_PIXELS:
        reasons.append(f"pixel format {found['pixel_format']}")
    if tuple(found["matrix"]) not in DECORD_MATRICES:
        reasons.append("a mirrored picture")
    size = found["coded_height"], found["coded_width"]
    height, width = size[::-1] if found["matrix"][0] == 0 else size
    trusted = not reasons and not suspicious and load_decord() is not None
    return VideoInfo(
        source=str(files),
        codec=found["codec"],
        width=width,
        height=height,
        fps=found["fps"],
        num_frames=found["packets"] - found["discarded"],
        reader="pyav",
        pixel_format=found["pixel_format"],
        matrix=tuple(found["matrix"]),
        packets=found["packets"],
        listed_frames=found["listed_frames"],
        discarded=found["discarded"],
        corrupt=found["corrupt"],
        decord=trusted,
        reasons=tuple(suspicious + reasons),
        suspicious=bool(suspicious),
    )
