"""What every source of frames answers: what it holds, and its frames, whole or refused with a reason."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from slakit.data.video.cropping import LOOKS, Box, signer_box
from slakit.records import ConfigError, VideoError

MAX_BYTES = 4 * 2**30
AT_ONCE = 2**30  # bytes of frames as read: a clip with more goes through memory in pieces where that is possible
PIECE = 32  # frames that are decoded at a time where not all are kept: 200 MB of full HD
ON_DAMAGE = ("error", "skip", "keep-readable")
READERS = ("pyav", "decord", "both")

ClipPath = str | os.PathLike | Sequence[str | os.PathLike]
Decoded = tuple[np.ndarray, list[str]]  # frames uint8 [T, H, W, 3] that can be read; what is wrong, in words


class DamageWarning(UserWarning):
    """A damaged clip was left out (on_damage="skip") or read in part (on_damage="keep-readable")."""


@dataclass(frozen=True)
class VideoInfo:
    """What a source holds, by its packets or file names alone.

    width, height: upright, in pixels. num_frames: frames to expect (packets less those that an edit list hides).
    listed_frames: what the container says (0: nothing). reader: "pyav", "images" for a folder of frames, "packed" for a
    prepared clip. matrix: see decode.upright. decord: whether decord may read the file, too; reasons: why not.
    suspicious: it is decoded in a process of its own, which can be stopped.
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


class Source(ABC):
    """The frames of one clip; `open_source` finds the class for a path.

    name: what messages call it. Each class gives `_probe`, `_decode` and, where a count is cheaper, `num_frames`.
    """

    name: str

    @cached_property
    def info(self) -> VideoInfo:
        """What the source holds; VideoError where it cannot be opened."""
        return self._probe()

    @property
    def num_frames(self) -> int:
        """Frames to expect; nothing is decoded."""
        return self.info.num_frames

    def read(
        self,
        indices: Sequence[int] | None = None,
        on_damage: str = "error",
        max_bytes: int = MAX_BYTES,
        reader: str = "pyav",
    ) -> np.ndarray:
        """Frames uint8 [T, H, W, 3], RGB, upright; arguments and errors as in `read_frames`."""
        if on_damage not in ON_DAMAGE:
            raise ConfigError(f"on_damage={on_damage!r} is none of {', '.join(ON_DAMAGE)}")
        if reader not in READERS:
            raise ConfigError(f"reader={reader!r} is none of {', '.join(READERS)}")
        if indices is None:
            return self._settle(self._decode(None, max_bytes, on_damage, reader), on_damage, None)
        order = [int(index) for index in indices]
        count = self.num_frames
        for index in order:
            if not 0 <= index < count:
                raise VideoError(f"{self.name}: there is no frame {index}; it has {count} frames, numbered from 0")
        numbers = sorted(set(order))
        frames = self._settle(self._decode(numbers, max_bytes, on_damage, reader), on_damage, numbers)
        if order == numbers or not len(frames):
            return frames
        position = {number: position for position, number in enumerate(numbers)}
        return frames[[position[index] for index in order]]

    def pieces(
        self, indices: Sequence[int] | None = None, on_damage: str = "error", count: int = PIECE
    ) -> Iterator[np.ndarray]:
        """The frames as read() gives them, `count` at a time: uint8 [up to count, H, W, 3]; memory is bounded.

        indices: rising frame numbers. Whether a clip is whole is known at its end: there VideoError, or for
        "keep-readable" a DamageWarning; "skip" is for read(). What is made of the pieces before is then void.
        """
        if on_damage not in ("error", "keep-readable"):
            raise ConfigError(f"on_damage={on_damage!r}: pieces are read with error or keep-readable")
        numbers = None if indices is None else [int(index) for index in indices]
        if numbers and not 0 <= numbers[0] <= numbers[-1] < self.num_frames:
            raise VideoError(f"{self.name}: frames {numbers[0]} to {numbers[-1]} are not all of its {self.num_frames}")
        problems: list[str] = []
        given = 0
        for piece in self._pieces(numbers, count, on_damage, problems):
            given += len(piece)
            yield np.ascontiguousarray(piece)
        self._settle((np.empty((given, 0)), problems), on_damage, numbers)

    def look(self, on_damage: str = "error") -> np.ndarray:
        """A few frames spread over the clip, those that signer_box() would choose of all."""
        chosen = np.unique(np.linspace(0, self.num_frames - 1, LOOKS).round().astype(int))
        return self.read(chosen.tolist(), on_damage)

    def box(self, crop: str | tuple[int, int, int], on_damage: str = "error") -> Box | None:
        """The square that is cut out of this clip, None: the whole picture. crop: "signer" looks for one in pictures
        that are no squares, "none" does not; or the square itself."""
        if not isinstance(crop, str):
            return Box(*crop)
        looked_for = crop == "signer" and self.info.height != self.info.width
        return signer_box(self.look(on_damage)) if looked_for else None

    def resized(
        self,
        change: Callable[[np.ndarray], np.ndarray],
        indices: Sequence[int] | None = None,
        on_damage: str = "error",
    ) -> np.ndarray:
        """change(frames) -> smaller ones, each by itself; of a large clip never all as they were read are in memory."""
        count = self.num_frames if indices is None else len(indices)
        if count <= PIECE or count * self.info.height * self.info.width * 3 <= AT_ONCE:
            return change(self.read(indices, on_damage))
        return np.concatenate([change(piece) for piece in self.pieces(indices, on_damage)])

    def _pieces(
        self, numbers: Sequence[int] | None, count: int, on_damage: str, problems: list[str]
    ) -> Iterator[np.ndarray]:
        numbers = range(self.num_frames) if numbers is None else numbers
        size = None
        for start in range(0, len(numbers), count):
            frames, damage = self._decode(numbers[start : start + count], MAX_BYTES, on_damage, "pyav")
            problems += damage
            if not len(frames):
                continue
            size = size or frames.shape[1:3]
            if frames.shape[1:3] != size:
                raise VideoError(f"{self.name}: frames of {size} and of {frames.shape[1:3]} pixels; make them one size")
            yield frames

    @abstractmethod
    def _probe(self) -> VideoInfo: ...

    @abstractmethod
    def _decode(self, numbers: Sequence[int] | None, max_bytes: int, on_damage: str, reader: str) -> Decoded:
        """The frames of these rising numbers (None: all)."""

    def _check_room(self, count: int, width: int, height: int, max_bytes: int) -> None:
        if (needed := count * height * width * 3) > max_bytes:
            raise VideoError(
                f"{self.name}: {count} frames of {width}x{height} need {needed:,} bytes, more than "
                f"max_bytes={max_bytes:,}; raise it, or read fewer frames by `indices`"
            )

    def _settle(self, decoded: Decoded, on_damage: str, numbers: Sequence[int] | None) -> np.ndarray:
        """Whole clips pass; of damaged ones what on_damage says."""
        frames, problems = np.ascontiguousarray(decoded[0]), decoded[1]
        if not problems:
            return frames
        damage = f"damaged ({'; '.join(problems[:3])})"
        if on_damage == "error":
            raise VideoError(f"{self.name}: {damage}; replace it, or read what is left with on_damage='keep-readable'")
        if on_damage == "skip":
            warnings.warn(f"{self.name}: left out, {damage}", DamageWarning, stacklevel=4)
            return frames[:0]
        if not len(frames) or (numbers is not None and len(frames) < len(numbers)):
            raise VideoError(f"{self.name}: {damage}, and the frames wanted are not among the readable; replace it")
        warnings.warn(f"{self.name}: {len(frames)} frames kept, {damage}", DamageWarning, stacklevel=4)
        return frames
