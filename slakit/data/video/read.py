"""A video file or a folder of frames -> uint8 frames, checked: complete and right, or refused with a reason.

PyAV reads: it names damaged packets, honours edit lists, knows more codecs, and is about as fast
(benchmarks/readers.py). decord 0.6.0 shows concealed or repeated frames without an error, and its random access returns
neighbours of the frames asked for, of sound camera clips, too. So it reads from the first frame on, never believed
alone: reader="decord" gives its frames beside a full decoding by PyAV, and reader="both" compares all frames of the
two, which carry different versions of FFmpeg (`doctor --deep` does that).

Two limits. Changed bytes that leave a valid stream cannot be seen: video files have no checksums (a prepared cache has,
see slakit.data.prepare). Of a damaged clip, what FFmpeg shows from the damage to the next key frame is partly invented.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slakit.data.video import decode
from slakit.data.video.images import read_images
from slakit.data.video.packed import find_packed
from slakit.data.video.probe import Source, VideoInfo, load_decord, probe_video, source_files
from slakit.records import ConfigError, VideoError

__all__ = ["DamageWarning", "VideoInfo", "probe_video", "read_frames"]

log = logging.getLogger(__name__)

MAX_BYTES = 4 * 2**30
ON_DAMAGE = ("error", "skip", "keep-readable")
READERS = ("pyav", "decord", "both")
CLOSE = 3  # largest difference of a colour value between the two readers' rounding (measured: 2)


class DamageWarning(UserWarning):
    """A damaged clip was left out (on_damage="skip") or read in part (on_damage="keep-readable")."""


def _child(task: str, path: Path, seconds: float, **arguments: object) -> tuple[dict, np.ndarray | None]:
    """decode.demux or decode.decode in a process of its own that is killed after `seconds`."""
    with tempfile.TemporaryDirectory(prefix="slakit-") as folder:
        out = Path(folder, "frames")
        command = [
            sys.executable,
            decode.__file__,
            task,
            str(path),
            json.dumps(arguments | {"seconds": seconds}),
            str(out),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 10, check=False)
        except subprocess.TimeoutExpired:
            raise VideoError(f"{path}: reading stalled and was stopped after {seconds:.0f} s; re-encode it") from None
        if done.returncode:
            end = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise VideoError(f"{path}: the decoder died with status {done.returncode} ({end[0]}); re-encode the file")
        answer = json.loads(done.stdout.splitlines()[-1])
        if "error" in answer:
            raise VideoError(f"{path}: {answer['error']}; re-encode or replace it")
        frames = None
        if task == "decode":
            frames = np.fromfile(out, np.uint8).reshape(answer["shape"])
        return answer, frames


def _limit(packets: int, pixels: int) -> float:
    """Seconds that decoding may take: fifty times what a slow core needs."""
    return 30 + packets * (0.05 + pixels / 5e6)


def _read_decord(path: Path, info: VideoInfo, wanted: Sequence[int]) -> np.ndarray:
    """The frames as decord reads them, [T, H, W, 3], turned upright; wanted: rising. VideoError where it fails."""
    decord = load_decord()
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        if len(reader) != info.packets:
            raise VideoError(f"{path}: decord counts {len(reader)} frames, PyAV {info.packets}; use reader='pyav'")
        chosen, frames = set(wanted), []
        for number in range(wanted[-1] + 1):  # one after the other: get_batch and seek return wrong frames
            frame = reader.next()
            if number in chosen:
                frames.append(frame.asnumpy())
                if frames[-1].shape[-1] != 3:  # seen in small pictures of 24 and 48 pixels
                    raise VideoError(f"{path}: decord gives {frames[-1].shape[-1]} colours, not 3; use reader='pyav'")
        return np.stack(frames)
    except (RuntimeError, StopIteration, decord.DECORDError) as error:
        last = (str(error).strip().splitlines() or ["no message"])[-1]
        raise VideoError(f"{path}: decord failed ({last}) where PyAV did not; use reader='pyav'") from None


def _compare(path: Path, numbers: Sequence[int], frames: np.ndarray, right: np.ndarray) -> None:
    """VideoError where a frame of the two readers differs by more than rounding."""
    for number, one, other in zip(numbers, frames, right, strict=True):
        if one.shape != other.shape or np.abs(one.astype(np.int16) - other).max() > CLOSE:
            raise VideoError(
                f"{path}: decord and PyAV differ at frame {number}; look at it, re-encode it or use reader='pyav'"
            )


def read_frames(
    source: Source,
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
        then count the readable frames.
    max_bytes: what the frames may take; checked before memory is taken.
    reader: of video files. "pyav"; "decord" (VideoError where it is not installed, or not to be trusted with the file);
        "both": PyAV's frames, each compared with decord's where decord may read the file.

    Raises VideoError: unreadable, damaged, an index out of range, too large, stalled, or two readers that differ.
    """
    if on_damage not in ON_DAMAGE:
        raise ConfigError(f"on_damage={on_damage!r} is none of {', '.join(ON_DAMAGE)}")
    if reader not in READERS:
        raise ConfigError(f"reader={reader!r} is none of {', '.join(READERS)}")
    if packed := find_packed(source):
        split, clip = packed
        order = None if indices is None else _checked(indices, split.num_frames(clip), str(source))
        if (needed := (split.num_frames(clip) if order is None else len(order)) * split.size**2 * 3) > max_bytes:
            raise VideoError(f"{source}: the frames need {needed:,} bytes, more than max_bytes={max_bytes:,}; raise it")
        frames, problems = split.read(clip, order)
        return _settle(frames, problems, on_damage, str(source), order)
    files = source_files(source)
    if isinstance(files, tuple):
        chosen = files if indices is None else [files[i] for i in _checked(indices, len(files), str(files[0].parent))]
        frames, problems = read_images(chosen, max_bytes, keep_readable=on_damage != "error")
        return _settle(frames, problems, on_damage, str(files[0].parent), None)
    info = probe_video(files)
    if reader == "decord" and not info.decord:
        raise VideoError(f"{files}: not for decord ({'; '.join(info.reasons) or 'not installed'}); use reader='pyav'")
    order = None if indices is None else _checked(indices, info.num_frames, str(files))
    wanted = None if order is None else sorted(set(order))
    count = info.num_frames if wanted is None else len(wanted)
    if (needed := count * info.height * info.width * 3) > max_bytes:
        raise VideoError(
            f"{files}: {count} frames of {info.width}x{info.height} need {needed:,} bytes, more than "
            f"max_bytes={max_bytes:,}; raise it, or read fewer frames by `indices`"
        )
    numbers = range(info.num_frames) if wanted is None else wanted
    some = sorted({0, len(numbers) // 2, len(numbers) - 1}) if reader == "decord" and len(numbers) else None
    asked = wanted if some is None else [numbers[position] for position in some]
    frames, met = _decode(files, info, asked, max_bytes, _limit(info.packets, info.width * info.height))
    problems = _problems(met, info.num_frames if wanted is None else len(wanted) and wanted[-1] + 1)
    if 0 < info.packets < info.listed_frames:
        problems.append(f"{info.packets} of {info.listed_frames} frames are there, the file was cut off")
    if some is not None and not problems:
        right, frames = frames, _read_decord(files, info, numbers)
        _compare(files, asked, frames[some], right)
    elif some is not None and on_damage == "keep-readable":
        raise VideoError(f"{files}: damaged ({problems[0]}), not for decord; use reader='pyav'")
    elif reader == "both" and info.decord and len(numbers) and not problems:
        try:
            other = _read_decord(files, info, numbers)
        except VideoError as error:  # it fails on sound files, too, such as pictures less than 32 pixels wide
            log.info("%s (not compared)", error)
        else:
            _compare(files, numbers, frames, other)
    frames = _settle(frames, problems, on_damage, str(files), wanted)
    if order is None or not len(frames):
        return frames
    place = {number: position for position, number in enumerate(wanted)}
    return frames if order == wanted else frames[[place[i] for i in order]]


def _checked(indices: Sequence[int], count: int, name: str) -> list[int]:
    order = [int(i) for i in indices]
    for i in order:
        if not 0 <= i < count:
            raise VideoError(f"{name}: there is no frame {i}; it has {count} frames, numbered from 0")
    return order


def _decode(path: Path, info: VideoInfo, wanted: Sequence[int] | None, max_bytes: int, limit: float):
    arguments = {"wanted": None if wanted is None else list(wanted), "capacity": max_bytes, "packets": info.num_frames}
    if info.suspicious:
        met, frames = _child("decode", path, limit, **arguments)
    else:
        try:
            frames, met = decode.decode(str(path), seconds=limit, **arguments)
        except (ValueError, TimeoutError) as error:
            raise VideoError(f"{path}: {error}; re-encode the file or leave it out") from None
    return decode.upright(frames, info.matrix), met


def _problems(met: dict, expected: int) -> list[str]:
    """What went wrong while decoding, in words; empty for a whole and healthy clip."""
    problems = []
    if met["lost"]:
        problems.append(f"{met['lost']} packets cannot be decoded")
    if met["flagged"]:
        problems.append(f"{met['flagged']} frames are marked as damaged by the decoder")
    if met["decoded"] < expected:
        problems.append(f"{met['decoded']} of {expected} frames can be decoded")
    if met["decoded"] > expected and not met["stopped"]:
        problems.append(f"{met['decoded']} frames came out of {expected} packets")
    return problems


def _settle(
    frames: np.ndarray, problems: list[str], on_damage: str, name: str, wanted: Sequence[int] | None
) -> np.ndarray:
    """Whole clips pass; of damaged ones what on_damage says."""
    if not problems:
        return np.ascontiguousarray(frames)
    said = "; ".join(problems[:3])
    if on_damage == "error":
        raise VideoError(f"{name}: damaged ({said}); replace it, or read what is left with on_damage='keep-readable'")
    if on_damage == "skip":
        warnings.warn(f"{name}: left out, damaged ({said})", DamageWarning, stacklevel=3)
        return np.ascontiguousarray(frames[:0])
    if not len(frames) or (wanted is not None and len(frames) < len(wanted)):
        raise VideoError(f"{name}: damaged ({said}), and the frames wanted are not among the readable; replace it")
    warnings.warn(f"{name}: {len(frames)} frames kept, damaged ({said})", DamageWarning, stacklevel=3)
    return np.ascontiguousarray(frames)
