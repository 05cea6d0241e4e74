"""A video file, a folder of frames or a prepared clip -> uint8 frames, checked: complete and right, or refused.

PyAV reads: it names damaged packets, honours edit lists, knows more codecs, and is about as fast as decord
(benchmarks/readers.py), which compares on request (`doctor --deep`; second_reader.py says why it is not believed).

Two limits. Changed bytes that leave a valid stream cannot be seen: video files have no checksums (a prepared corpus
has, see slakit.data.prepare). Of a damaged clip, what FFmpeg shows from the damage to the next key frame is partly
invented.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slakit.data.video.file import VideoFile
from slakit.data.video.images import FrameFiles, list_frames
from slakit.data.video.packed import SUFFIX, PackedClip, open_split
from slakit.data.video.source import MAX_BYTES, ClipPath, Source, VideoInfo
from slakit.records import VideoError


def open_source(path: ClipPath, seconds: float = 60.0) -> Source:
    """The source of frames behind a path: a prepared clip, a folder of frames, frame files in order, or a video file.

    seconds: how long looking at a video's packets may take. VideoError where nothing is there, or nothing readable.
    """
    if not isinstance(path, (str, os.PathLike)):
        return FrameFiles(tuple(Path(file) for file in path))
    path = Path(path)
    if path.parent.suffix == SUFFIX and os.path.isfile(path.parent):
        return PackedClip(open_split(path.parent), path.name)
    if os.path.isdir(path):
        files = list_frames(path)
        if not files:
            inside = [p.name for p in sorted(path.iterdir())[:3]]
            what = f"it holds {', '.join(inside)}" if inside else "it is empty"
            raise VideoError(f"{path}: no image files in this folder ({what}); point to the folder of the frames")
        return FrameFiles(files)
    if not os.path.exists(path):  # also for names that no file can have
        raise VideoError(f"{path}: no such file or folder; check the path")
    if not os.path.isfile(path):
        raise VideoError(f"{path}: neither a file nor a folder; copy the video to a file first")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes); copy or download it again")
    return VideoFile(path, seconds)


def read_frames(
    source: ClipPath,
    indices: Sequence[int] | None = None,
    on_damage: str = "error",
    max_bytes: int = MAX_BYTES,
    reader: str = "pyav",
) -> np.ndarray:
    """Frames of a video or of a folder of frames: uint8 [T, H, W, 3], RGB, upright.

    source: a video file, a folder of frames (natural order), or a sequence of frame files,
        or a clip of a prepared corpus.
    indices: frame numbers, in any order, repeats allowed; None is all. Only what they need is decoded.
    on_damage: "error" raises VideoError; "skip" returns no frame at all ([0, H, W, 3]) with a DamageWarning, so that
        the clip is left out; "keep-readable" returns the frames that can be decoded, with a DamageWarning. `indices`
        then count the readable frames of a video.
    max_bytes: what the frames may take; checked before memory is taken.
    reader: of video files. "pyav"; "decord" (VideoError where it is not installed, or not to be trusted with the file,
        or differs from PyAV); "both": PyAV's frames, each compared with decord's where decord may read the file.

    Raises VideoError: unreadable, damaged, an index out of range, too large, stalled, or two readers that differ.
    """
    return open_source(source).read(indices, on_damage, max_bytes, reader)


def probe_video(source: ClipPath, seconds: float = 60.0) -> VideoInfo:
    """Look at a video's packets (nothing but its first frame is decoded) or at a folder's file names.

    source: as for `read_frames`. Raises VideoError where it cannot be opened, holds no video, or is not read within
    `seconds`.
    """
    return open_source(source, seconds).info
