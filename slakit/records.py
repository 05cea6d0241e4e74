"""The words of every room: Span, Sample, Vocabulary, Corpus, the errors; and the door by which files come in.

Each error's message names the file or setting, the value and the way out. Text from outside goes through read_bytes()
or read_text(), JSON and YAML besides through strict.py, so that nothing endless, huge or no text gets further.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SlakitError(Exception):
    """Base of every error that a user can mend. The command line prints it as one line and exits with 2."""


class ConfigError(SlakitError):
    """A setting that does not exist, has the wrong type, or a value that cannot work."""


class CorpusError(SlakitError):
    """Annotation or layout of a corpus that cannot be read; names the file and, where known, the line."""


class VideoError(SlakitError):
    """A video or a folder of frames that cannot be read, or not completely."""


class CheckpointError(SlakitError):
    """A checkpoint that is damaged, foreign, or does not fit the vocabulary or model at hand."""


MAX_BYTES = 64 * 2**20  # of a text; the largest known annotation, Phoenix-2014-T's training file, has 2 MB
MAX_GLOSS = 200  # characters


def read_bytes(path: str | Path, error: type[SlakitError] = CorpusError, limit: int = MAX_BYTES) -> bytes:
    """A file's bytes. `error` where it is not there, no file (a pipe never ends), or has more than `limit` bytes."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise error(f"{path}: not a file; correct the path")
        with open(path, "rb") as file:
            data = file.read(limit + 1)  # what calls itself empty, as /proc does, may go on
    except FileNotFoundError:
        raise error(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the name
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path}: cannot be read ({reason}); check the path and its rights") from None
    if len(data) > limit:
        size = max(status.st_size, len(data))
        raise error(f"{path}: {size:,} bytes, more than the {limit:,} that such a file may have; look what it is")
    return data


def read_text(path: str | Path, error: type[SlakitError] = CorpusError, limit: int = MAX_BYTES) -> str:
    """A text file in UTF-8, with or without byte order mark, line ends as they are; `error` names the encoding that it
    seems to have."""
    data = read_bytes(path, error, limit)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or (data and data.count(0) > len(data) // 8):
        raise error(f"{path}: this is UTF-16 text; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = data[: problem.start].count(b"\n") + 1
        guess = "GB18030 or Latin-1" if any(byte > 0x7F for byte in data) else "binary"
        raise error(
            f"{path}, line {line}: byte 0x{data[problem.start]:02x} is not UTF-8 (perhaps {guess}); save it as UTF-8"
        ) from None
    if "\0" in text:
        raise error(f"{path}, line {text[: text.index(chr(0))].count(chr(10)) + 1}: a zero byte; not a text file")
    return text


@dataclass(frozen=True)
class Span:
    """One gloss in time: frames `start` (included) to `end` (excluded)."""

    gloss: str
    start: int
    end: int


@dataclass(frozen=True)
class Sample:
    """One video with its gloss annotation.

    source: a video file, or a folder of frames, or a tuple of frame files in order.
    num_frames: as the annotation says, or None where it says nothing.
    spans: known only where the corpus has them (MiniSign); otherwise empty.
    """

    id: str
    source: Path | tuple[Path, ...]
    glosses: tuple[str, ...]
    signer: str = ""
    num_frames: int | None = None
    fps: float = 25.0
    spans: tuple[Span, ...] = ()


class Vocabulary:
    """Gloss <-> index. Index 0 is CTC's blank; glosses have the indices 1 .. len-1 in the order given.

    Two vocabularies are equal if they hold the same glosses in the same order.
    """

    blank = 0

    def __init__(self, glosses: Iterable[str]):
        self.glosses: tuple[str, ...] = tuple(glosses)
        self._index = {gloss: i + 1 for i, gloss in enumerate(self.glosses)}
        for gloss in self.glosses:
            if len(gloss) > MAX_GLOSS:
                raise CorpusError(
                    f"the vocabulary holds {gloss[:30]!r}…, {len(gloss):,} characters; a gloss has at most {MAX_GLOSS}"
                )
            if gloss.split() != [gloss]:
                raise CorpusError(f"the vocabulary holds {gloss!r}; a gloss is one word without blanks")
        if len(self._index) != len(self.glosses):
            repeated = sorted(gloss for gloss, count in Counter(self.glosses).items() if count > 1)
            raise CorpusError(f"the vocabulary lists glosses twice: {', '.join(repeated[:5])}; list each once")

    @classmethod
    def from_samples(cls, samples: Iterable[Sample]) -> Vocabulary:
        """All glosses of the samples in Python's string order, as the published dictionaries have them."""
        return cls(sorted({gloss for sample in samples for gloss in sample.glosses}))

    def __len__(self) -> int:
        """Number of classes, blank included."""
        return len(self.glosses) + 1

    def __contains__(self, gloss: object) -> bool:
        return gloss in self._index

    def __iter__(self) -> Iterator[str]:
        return iter(self.glosses)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.glosses == other.glosses

    def __hash__(self) -> int:
        return hash(self.glosses)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self.glosses)} glosses + blank)"

    def encode(self, glosses: Sequence[str]) -> list[int]:
        """Indices of the glosses; an unknown gloss is a CorpusError that names it."""
        try:
            return [self._index[gloss] for gloss in glosses]
        except KeyError as error:
            raise CorpusError(
                f"the gloss {error.args[0]!r} is not among the {len(self.glosses)} glosses of the vocabulary; "
                "build the vocabulary from all splits or leave the clip out"
            ) from None

    def decode(self, indices: Iterable[int]) -> list[str]:
        """Glosses of the indices; blank (0) may not occur."""
        glosses = []
        for index in indices:
            if not 1 <= int(index) <= len(self.glosses):
                raise CorpusError(f"index {int(index)} is no gloss; glosses have 1 to {len(self.glosses)}, 0 is blank")
            glosses.append(self.glosses[int(index) - 1])
        return glosses


@dataclass(frozen=True)
class Corpus:
    """A corpus, read from its annotation files: three splits and one vocabulary.

    name also chooses the clean-up rules that scoring applies. notes: what the reader met and how it handled it.
    options: of load_corpus, by which its annotation is read again (no folder among them); checkpoints keep them.
    """

    name: str
    root: Path
    train: tuple[Sample, ...]
    dev: tuple[Sample, ...]
    test: tuple[Sample, ...]
    glosses: Vocabulary
    notes: tuple[str, ...] = field(default=())
    options: Mapping[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Sample, ...]:
        """The samples of "train", "dev" or "test"."""
        if name not in ("train", "dev", "test"):
            raise CorpusError(f"{self.name} has no split {name!r}; it has train, dev and test")
        return getattr(self, name)

    def __repr__(self) -> str:
        return (
            f"Corpus({self.name}: {len(self.train)} train, {len(self.dev)} dev, {len(self.test)} test clips, "
            f"{len(self.glosses.glosses)} glosses, {self.root})"
        )
