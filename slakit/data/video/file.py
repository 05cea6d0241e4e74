"""A video file -> frames by PyAV, checked by what the container says, and by decord where that is asked for."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

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
        problems = self._problems(counts, numbers)
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
        """All frames in one array, as coded and then turned upright."""
        frames, filled, counts = None, 0, {}
        for picture in self._coded(numbers, counts):
            if frames is None:
                room = max(self.info.num_frames, 1) if numbers is None else len(numbers)
                frames = np.empty((room, *picture.shape), np.uint8)  # [T, H, W, 3]
            if picture.size * (filled + 1) > max_bytes:
                raise VideoError(f"{self.path}: needs more than the {max_bytes:,} bytes allowed; leave it out")
            if filled == len(frames):
                frames = np.concatenate([frames, np.empty_like(frames[: max(1, filled // 4)])])
            frames[filled] = picture
            filled += 1
        if frames is None:
            frames = np.empty((0, *self._coded_size(), 3), np.uint8)
        return decode.upright(frames[:filled], self.info.matrix), counts

    def _pieces(
        self, numbers: Sequence[int] | None, count: int, on_damage: str, problems: list[str]
    ) -> Iterator[np.ndarray]:
        counts: dict[str, Any] = {}
        piece, filled = np.empty((0, *self._coded_size(), 3), np.uint8), 0
        for picture in self._coded(numbers, counts):
            if not filled:  # a new one every time: who has a piece may keep it
                piece = np.empty((count, *picture.shape), np.uint8)
            piece[filled] = picture
            filled += 1
            if filled == count:
                yield decode.upright(piece, self.info.matrix)
                filled = 0
        if filled:
            yield decode.upright(piece[:filled], self.info.matrix)
        problems += self._problems(counts, numbers)

    def _coded_size(self) -> tuple[int, int]:
        info = self.info
        return (info.width, info.height) if info.matrix[0] == 0 else (info.height, info.width)

    def _coded(self, numbers: Sequence[int] | None, counts: dict[str, Any]) -> Iterator[np.ndarray]:
        """decode.decode(), in a process of its own where the file is suspicious; VideoError where it cannot go on."""
        info = self.info
        # fifty times what a slow core needs
        seconds = 30 + info.packets * (0.05 + info.width * info.height / 5e6)
        chosen = None if numbers is None else list(numbers)
        if info.suspicious:
            yield from in_process_of_its_own(self.path, chosen, seconds, counts)
            return
        try:
            yield from decode.decode(self.name, chosen, seconds, counts)
        except (ValueError, TimeoutError) as error:
            raise VideoError(f"{self.path}: {error}; re-encode the file or leave it out") from None

    def _problems(self, counts: dict[str, Any], numbers: Sequence[int] | None) -> list[str]:
        info = self.info
        problems = _problems(counts, info.num_frames if numbers is None else len(numbers) and numbers[-1] + 1)
        if 0 < info.packets < info.listed_frames:
            problems.append(f"{info.packets} of {info.listed_frames} frames are there, the file was cut off")
        return problems


def in_process_of_its_own(
    path: Path, numbers: Sequence[int] | None, seconds: float, counts: dict[str, Any]
) -> Iterator[np.ndarray]:
    """decode.decode in a process that is killed where it lets the reader wait for `seconds` in all."""
    arguments = [sys.executable, decode.__file__, str(path), json.dumps({"numbers": numbers, "seconds": seconds})]
    left, stalled = seconds + 10, threading.Event()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as process,
    ):

        def stop() -> None:
            stalled.set()
            process.kill()

        def take(size: int) -> bytes:
            nonlocal left
            watch, before = threading.Timer(max(left, 0), stop), time.monotonic()
            watch.start()
            try:
                return cast(IO[bytes], process.stdout).read(size)
            finally:
                watch.cancel()
                left -= time.monotonic() - before

        try:
            if header := take(8):
                height, width = np.frombuffer(header, "<i4").tolist()
                while len(data := take(height * width * 3)) == height * width * 3:
                    yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
            process.wait(max(left, 0))
        except subprocess.TimeoutExpired:
            stop()
        finally:
            process.kill()  # also where nobody wants the rest
        if stalled.is_set():
            raise VideoError(f"{path}: reading stalled and was stopped after {seconds:.0f} s; re-encode it")
        said.seek(0)
        lines = said.read().decode(errors="replace").strip().splitlines() or ["no message"]
        if process.returncode:
            raise VideoError(
                f"{path}: the decoder died with status {process.returncode} ({lines[-1]}); re-encode the file"
            )
    answer = json.loads(lines[-1])
    if "error" in answer:
        raise VideoError(f"{path}: {answer['error']}; re-encode or replace it")
    counts.update(answer)


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
