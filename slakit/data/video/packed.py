"""The packed form of a prepared corpus: one file of frames for each split, and an index beside it.

`train.frames` holds the frames one after the other, each a JPEG (or raw pixels); `train.index.npz` says where each clip
and each frame lies, with a CRC-32 of every frame that is checked at every reading. A clip has the path
`train.frames/<clip id>`, which read_frames, probe_video and the loaders take like any other source.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg  # Pillow's pixels, at twice the speed

from slakit.data.video.images import list_frames
from slakit.data.video.source import Decoded, Source, VideoInfo
from slakit.records import ConfigError, Sample, VideoError
from slakit.strict import UNREADABLE

VERSION = 2
SUFFIX = ".frames"


def index_path(frames: Path) -> Path:
    """`train.frames` -> `train.index.npz`."""
    return frames.with_name(frames.name.removesuffix(SUFFIX) + ".index.npz")


class PackedSplit:
    """A split's frames, read at random. clips: id -> number in the index. settings: how it was made.

    Raises VideoError where the index is missing or damaged, or does not belong to the file.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with np.load(index_path(path), allow_pickle=False) as index:
                self.settings = json.loads(str(index["settings"]))
                self.left_out: dict[str, str] = json.loads(str(index["left_out"]))
                self.clips = {str(name): number for number, name in enumerate(index["ids"])}
                self.starts, self.offsets, self.crcs = index["starts"], index["offsets"], index["crcs"]
                if (version := self.settings["version"]) == VERSION:
                    self.marks: dict[str, list] = json.loads(str(index["marks"]))  # see mark()
                    self._check()
        except UNREADABLE as error:
            raise VideoError(
                f"{index_path(path)}: no readable index of {path.name} ({error}); run prepare again"
            ) from None
        if version != VERSION:
            raise VideoError(
                f"{path}: format {version} of prepared frames, not {VERSION} (older ones do not say whose frames they "
                f"are); delete {path.parent} and run prepare again"
            )
        if path.stat().st_size != self.offsets[-1]:
            raise VideoError(
                f"{path}: {path.stat().st_size} bytes, but its index says {self.offsets[-1]}; copy both again"
            )
        self._file, self._lock = open(path, "rb", buffering=0), threading.Lock()

    def _check(self) -> None:
        """ValueError where the index contradicts itself."""
        sound = (
            all(array.ndim == 1 and array.dtype == np.int64 for array in (self.starts, self.offsets))
            and len(self.starts) == len(self.clips) + 1
            and len(self.offsets) == len(self.crcs) + 1 == int(self.starts[-1]) + 1
            and all(array[0] == 0 and (np.diff(array) >= 0).all() for array in (self.starts, self.offsets))
            and self.settings["encoding"] in ("jpeg", "raw")
            and 8 <= self.settings["size"] <= 4096
            and self.left_out.keys() | self.clips.keys() == self.marks.keys()
            and all(map(_is_mark, self.marks.values()))
        )
        if not sound:
            raise ValueError("it contradicts itself")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()

    @property
    def size(self) -> int:
        """Side of the frames in pixels."""
        return int(self.settings["size"])

    def num_frames(self, clip: str) -> int:
        """Frames of a clip; VideoError where there is no such clip."""
        first, end = self._range(clip)
        return end - first

    def _range(self, clip: str) -> tuple[int, int]:
        if clip not in self.clips:
            why = f"it was left out: {self.left_out[clip]}" if clip in self.left_out else "prepare the corpus again"
            raise VideoError(f"{self.path}: there is no clip {clip!r}; {why}")
        number = self.clips[clip]
        return int(self.starts[number]), int(self.starts[number + 1])

    def checksums(self, clip: str) -> bytes:
        """The CRC-32 of every frame of a clip, as bytes: equal for equal pictures."""
        first, end = self._range(clip)
        return self.crcs[first:end].tobytes()

    def read(self, clip: str, indices: Sequence[int] | None = None) -> tuple[np.ndarray, list[str]]:
        """Frames uint8 [T, size, size, 3] of a clip, and a line for each one whose checksum is wrong (left out)."""
        first, end = self._range(clip)
        numbers = np.arange(end - first) if indices is None else np.asarray(indices, np.int64)
        frames = np.empty((len(numbers), self.size, self.size, 3), np.uint8)
        problems: list[str] = []
        filled = 0
        if not len(numbers):
            return frames, problems
        low = int(self.offsets[first + numbers.min()])
        data = self._bytes(low, int(self.offsets[first + numbers.max() + 1]))
        for number in (first + numbers).tolist():
            start, stop = int(self.offsets[number]) - low, int(self.offsets[number + 1]) - low
            piece = data[start:stop]
            if stop > len(data) or zlib.crc32(piece) != self.crcs[number]:
                problems.append(f"frame {number - first} has a wrong checksum")
                continue
            self._decode(piece, frames[filled])
            filled += 1
        return frames[:filled], problems

    def _bytes(self, start: int, stop: int) -> memoryview:
        """What the file holds from start to stop; less where it ends before."""
        data = memoryview(bytearray(stop - start))
        if hasattr(os, "preadv"):
            return data[: os.preadv(self._file.fileno(), [data], start)]
        with self._lock:  # Windows: the file has one position for all threads (and is never shared by a fork)
            self._file.seek(start)
            return data[: self._file.readinto(data)]

    def _decode(self, piece: memoryview, out: np.ndarray) -> None:
        if self.settings["encoding"] == "raw":
            out[:] = np.frombuffer(piece, np.uint8).reshape(out.shape)
        else:
            simplejpeg.decode_jpeg(piece, "RGB", buffer=out)

    def verify(self) -> Iterator[tuple[str, int]]:
        """(clip, frame) of every frame whose checksum is wrong; nothing for a sound file."""
        for clip, number in self.clips.items():
            for frame in range(int(self.starts[number]), int(self.starts[number + 1])):
                if zlib.crc32(self._bytes(*self.offsets[frame : frame + 2].tolist())) != self.crcs[frame]:
                    yield clip, frame - int(self.starts[number])


@lru_cache(maxsize=64)
def _open(path: str, size: int, changed: int) -> PackedSplit:
    return PackedSplit(Path(path))


def open_split(path: Path) -> PackedSplit:
    """A split's packed frames; opened once as long as the file does not change."""
    try:
        status = path.stat()
    except OSError as error:
        raise VideoError(f"{path}: {error.strerror}; run prepare, or correct the path") from None
    return _open(str(path), status.st_size, status.st_mtime_ns)


def check_size(samples: Sequence[Sample], image_size: int) -> None:
    """ConfigError where prepared frames are smaller than the pictures wanted: they would be blown up in silence."""
    for path in {sample.source.parent for sample in samples if isinstance(sample.source, Path)}:
        if path.suffix == SUFFIX and path.is_file() and (size := open_split(path).size) < image_size:
            raise ConfigError(
                f"{path.parent} was prepared with size {size}, but augment.image_size is {image_size}; prepare into "
                f"another folder with --size {image_size}, or set augment.image_size={size}"
            )


def mark(sample: Sample) -> list:
    """What says whose frames these are: a digest of the annotation, the number of source files, the first one's bytes
    and, of a folder of frames, its name."""
    files = _source_files(sample)
    named = [files[0].name] if files and not isinstance(sample.source, tuple) and sample.source.is_dir() else []
    return [_digest(sample), *_source_size(files), *named]


def _is_mark(value: Any) -> bool:
    kinds = [type(part) for part in value] if isinstance(value, list) else []
    return kinds == [str, int, int] or (kinds == [str, int, int, str] and Path(value[3]).name == value[3])


def _digest(sample: Sample) -> str:
    annotation = json.dumps([sample.id, sample.glosses, sample.num_frames])
    return hashlib.sha256(annotation.encode()).hexdigest()[:16]


def _source_files(sample: Sample) -> tuple[Path, ...]:
    """The files of the clip; empty where its folder is gone, as prepared frames allow it to be."""
    source = sample.source
    try:
        return source if isinstance(source, tuple) else list_frames(source) if source.is_dir() else (source,)
    except (OSError, VideoError):
        return ()


def _source_size(files: Sequence[Path]) -> list[int]:
    """Files and bytes of the first."""
    try:
        return [len(files), files[0].stat().st_size] if files else [0, 0]
    except OSError:
        return [0, 0]


def belongs(sample: Sample, stored: list, thorough: bool = True) -> bool:
    """Whether the frames with this mark are the sample's: by its source where that is there, else by its annotation.

    So glosses may be corrected while the source is there. thorough: list folders of frames even if annotation and the
    first frame agree.
    """
    agrees, (files, size, *first) = _digest(sample) == stored[0], stored[1:]
    if agrees and not thorough and not (isinstance(sample.source, Path) and sample.source.is_file()):
        if not first or not isinstance(sample.source, Path):
            return True
        if _source_size([sample.source / first[0]]) == [1, size]:
            return True
    now = _source_size(_source_files(sample))
    return now == [files, size] if all(now) and files and size else agrees


class PackedClip(Source):
    """A clip of a prepared corpus."""

    def __init__(self, split: PackedSplit, clip: str):
        self.split, self.clip, self.name = split, clip, str(split.path / clip)

    @property
    def num_frames(self) -> int:
        return self.split.num_frames(self.clip)

    def box(self, crop: str | tuple[int, int, int], on_damage: str = "error") -> None:
        """None: it is cut already, as prepare was told."""

    def _probe(self) -> VideoInfo:
        size, encoding = self.split.size, self.split.settings["encoding"]
        return VideoInfo(self.name, encoding, size, size, 0.0, self.num_frames, "packed")

    def _decode(self, numbers: Sequence[int] | None, max_bytes: int, on_damage: str, reader: str) -> Decoded:
        count = self.num_frames if numbers is None else len(numbers)
        self._check_room(count, self.split.size, self.split.size, max_bytes)
        return self.split.read(self.clip, numbers)
