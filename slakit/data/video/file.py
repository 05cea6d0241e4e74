"""A video file -> frames by PyAV, checked by what the container says, and by decord where that is asked for."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slakit.data.video import decode, second_reader
from slakit.data.video.source import Decoded, Source, VideoInfo
from slakit.records import VideoError

log = logging.getLogger(__name__)


class VideoFile(Source):
    """seconds: how long probing may take."""

    def __init__(self, path: Path, seconds: float = 60.0):
        self.path, self.name, self.seconds = path, str(path), seconds

    def _probe(self) -> VideoInfo:
        try:
            content = decode.demux(self.name, self.seconds)
        except (ValueError, TimeoutError) as error:
            raise VideoError(f"{self.path}: {error}; replace the file or re-encode it") from None
        if not content["packets"] or not content["coded_width"]:
            raise VideoError(f"{self.path}: the container holds no frames; it was probably cut off, copy it again")
        packets, listed = content["packets"], content["listed_frames"]
        doubts = {
            f"an edit list hides {content['discarded']} of {packets} packets": content["discarded"],
            f"{content['corrupt']} packets are marked as damaged": content["corrupt"],
            f"the container lists {listed} frames and holds {packets} packets": 0 < listed != packets,
            "packets without a time, or two with the same": not content.pop("ordered"),
            "it does not begin with a key frame": not content.pop("key_first"),
        }
        suspicious = [reason for reason, holds in doubts.items() if holds]
        content["matrix"] = tuple(content["matrix"])
        size = content.pop("coded_height"), content.pop("coded_width")
        height, width = size[::-1] if content["matrix"][0] == 0 else size
        reasons = suspicious + second_reader.reasons(content)
        return VideoInfo(
            source=self.name,
            width=width,
            height=height,
            num_frames=packets - content["discarded"],
            reader="pyav",
            decord=not reasons and second_reader.load_decord() is not None,
            reasons=tuple(reasons),
            suspicious=bool(suspicious),
            **content,
        )

    def _decode(self, numbers: Sequence[int] | None, max_bytes: int, on_damage: str, reader: str) -> Decoded:
        info = self.info
        if reader == "decord" and not info.decord:
            reason = "; ".join(info.reasons) or "not installed"
            raise VideoError(f"{self.path}: not for decord ({reason}); use reader='pyav'")
        self._check_room(info.num_frames if numbers is None else len(numbers), info.width, info.height, max_bytes)
        frames, counts = self._by_pyav(numbers, max_bytes)
        expected = info.num_frames if numbers is None else len(numbers) and numbers[-1] + 1
        problems = _problems(counts, expected)
        if 0 < info.packets < info.listed_frames:
            problems.append(f"{info.packets} of {info.listed_frames} frames are there, the file was cut off")
        if reader == "decord" and problems and on_damage == "keep-readable":
            raise VideoError(f"{self.path}: damaged ({problems[0]}), not for decord; use reader='pyav'")
        if reader != "pyav" and info.decord and len(frames) and not problems:
            numbers = range(info.num_frames) if numbers is None else numbers
            try:
                second = second_reader.read(self.path, info, numbers)
            except VideoError as error:  # it fails on sound files, too, such as pictures less than 32 pixels wide
                if reader == "decord":
                    raise
                log.info("%s (not compared)", error)
            else:
                second_reader.compare(self.path, numbers, frames, second)
                frames = second if reader == "decord" else frames
        return frames, problems

    def _by_pyav(self, numbers: Sequence[int] | None, max_bytes: int) -> tuple[np.ndarray, dict]:
        info = self.info
        chosen = None if numbers is None else list(numbers)
        arguments = {"numbers": chosen, "capacity": max_bytes, "packets": info.num_frames}
        # fifty times what a slow core needs
        seconds = 30 + info.packets * (0.05 + info.width * info.height / 5e6)
        if info.suspicious:
            frames, counts = in_process_of_its_own(self.path, seconds, **arguments)
        else:
            try:
                frames, counts = decode.decode(self.name, seconds=seconds, **arguments)
            except (ValueError, TimeoutError) as error:
                raise VideoError(f"{self.path}: {error}; re-encode the file or leave it out") from None
        return decode.upright(frames, info.matrix), counts


def in_process_of_its_own(path: Path, seconds: float, **arguments: object) -> tuple[np.ndarray, dict]:
    """decode.decode in a process that is killed after `seconds`."""
    with tempfile.TemporaryDirectory(prefix="slakit-") as folder:
        out = Path(folder, "frames")
        options = json.dumps(arguments | {"seconds": seconds})
        command = [sys.executable, decode.__file__, str(path), options, str(out)]
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
        return np.fromfile(out, np.uint8).reshape(answer["shape"]), answer


def _problems(counts: dict, expected: int) -> list[str]:
    """What went wrong while decoding, in words; empty for a whole and healthy clip."""
    problems = []
    if counts["lost"]:
        problems.append(f"{counts['lost']} packets cannot be decoded")
    if counts["flagged"]:
        problems.append(f"{counts['flagged']} frames are marked as damaged by the decoder")
    if counts["decoded"] < expected:
        problems.append(f"{counts['decoded']} of {expected} frames can be decoded")
    if counts["decoded"] > expected and not counts["stopped"]:
        problems.append(f"{counts['decoded']} frames came out of {expected} packets")
    return problems
