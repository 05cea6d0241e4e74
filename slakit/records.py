"""The words of every room: Span, Sample, Vocabulary, Corpus, errors; the door by which files come in, how text is
shown, and a file written whole.

Each error's message names the file or setting, the value and the way out. Text from outside goes through read_bytes()
or read_text(), JSON and YAML besides through strict.py, so that nothing endless, huge or no text gets further.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from unicodedata import category


class SlakitError(Exception):
    """Base of every error that a user can mend. The command line prints it as one line and exits with 2.
    Words of thousands of letters, which it may quote from any file, are cut."""

    def __str__(self) -> str:
        text = re.sub(r"(\S{150})\S{100,}(\S{50})", r"\1…\2", super().__str__())
        return text if len(text) <= 2500 else f"{text[:2000]} … {text[-400:]}"


class ConfigError(SlakitError):
    """A setting that does not exist, has the wrong type, or a value that cannot work."""


class CorpusError(SlakitError):
    """Annotation or layout of a corpus that cannot be read; names the file and, where known, the line."""


class VideoError(SlakitError):
    """A video or a folder of frames that cannot be read, or not completely."""


class CheckpointError(SlakitError):
    """A checkpoint that is damaged, foreign, or does not fit the vocabulary or model at hand."""


MAX_BYTES = 64 * 2**20  # of a text; the largest known, Phoenix-2014-T's training file, has 2 MB
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
        raise error(f"{path}: more than the {limit:,} bytes that such a file may have; look what it is")
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
    if control := _CONTROL.search(text):
        line = text[: control.start()].count("\n") + 1
        name = "a zero byte" if control[0] == "\0" else f"the control character {control[0]!r}"
        raise error(f"{path}, line {line}: {name}; not a text file")
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
    num_frames: as the annotation says, or None where it says nothing. spans: empty but where the corpus has them
    (MiniSign). crop: how its pictures are cut, as load_corpus(crop=…) says; None: that says nothing.
    """

    id: str
    source: Path | tuple[Path, ...]
    glosses: tuple[str, ...]
    signer: str = ""
    num_frames: int | None = None
    fps: float = 25.0
    spans: tuple[Span, ...] = ()
    crop: str | tuple[int, int, int] | None = None


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
                raise CorpusError(f"the vocabulary holds {gloss[:30]!r}…; a gloss has at most {MAX_GLOSS} characters")
            if gloss.split() != [gloss]:
                raise CorpusError(f"the vocabulary holds {gloss!r}; a gloss is one word without blanks")
            if control_in(gloss):
                raise CorpusError(f"the vocabulary holds {gloss!r}; a gloss has no control characters")
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


_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # but those that are blanks or end lines
# Format characters that a script needs: the joiners of Arabic and Indic letters, the signs written under numbers.
_NEEDED = frozenset("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2")


def control_in(text: str) -> str | None:
    """The first control character or lone surrogate of a text, None where it has none; no gloss or id may hold one."""
    return None if text.isprintable() else next((c for c in text if category(c) in ("Cc", "Cs")), None)


def visible(text: object, keep: str = "") -> str:
    """Text as it may be shown: what steers a terminal or turns the direction of reading becomes \\uXXXX, as in JSON.

    These are control characters, line separators, lone surrogates, and format characters (right-to-left overrides,
    marks, joins of zero width) but those that a script needs. keep: characters that stay, such as line ends.
    """
    text = str(text)
    return text if text.isprintable() else "".join(c if _shown(c) or c in keep else _spelled(c) for c in text)


def say(text: object, file: TextIO | None = None) -> None:
    """Print to a terminal, at once: no gloss, name or path in the text steers it; JSON stays the same JSON."""
    print(visible(text, keep="\n\t"), file=file, flush=True)


def _shown(letter: str) -> bool:
    return category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or letter in _NEEDED


def _spelled(letter: str) -> str:
    units = letter.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4))


@contextmanager
def written_whole(*paths: Path, keep_as: Path | None = None) -> Iterator[list[Path]]:
    """Files to write in the block in the place of `paths`; at its end they are synced to disk and renamed to these.

    Readers see the old files or the new ones, never a half. Where the block fails, everything is as it was. keep_as:
    where the file that was at a single path goes, once the new one is safe. OSError where they cannot be written.
    """
    new = [path.with_name(f".{path.name}.{os.getpid()}.part") for path in paths]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():  # found before the first of several is renamed
                raise IsADirectoryError(21, "Is a directory", str(path))
        yield new
        for file in new:
            with open(file, "r+b") as written:
                os.fsync(written.fileno())
        if keep_as is not None and paths[0].exists():
            os.replace(paths[0], keep_as)
        for file, path in zip(new, paths, strict=True):
            os.replace(file, path)
    finally:
        for file in new:
            file.unlink(missing_ok=True)
    if os.name == "posix":  # elsewhere a folder cannot be synced
        for parent in {path.parent for path in paths}:
            folder = os.open(parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def write_atomically(path: Path, content: bytes | memoryview | str, keep_as: Path | None = None) -> None:
    """`written_whole` for one file whose content is at hand. Text is UTF-8, its line ends as they are."""
    with written_whole(path, keep_as=keep_as) as [new]:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


def write_files(contents: Mapping[Path, bytes | str]) -> None:
    """Write files that belong together, all of them or none; ConfigError names what is in the way."""
    try:
        with written_whole(*contents) as files:
            for file, content in zip(files, contents.values(), strict=True):
                file.write_bytes(content.encode() if isinstance(content, str) else content)
    except (OSError, ValueError) as error:
        raise unwritable(next(iter(contents)), error) from None


def unwritable(path: Path, error: OSError | ValueError) -> ConfigError:
    """The sentence for a file that could not be written. ValueError: a NUL or a lone surrogate in its name or text."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return ConfigError(f"{path} cannot be written ({reason}); make room or give another folder")
