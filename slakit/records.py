"""The words of every room: Span, Sample, Vocabulary, Corpus, errors; how text is shown and a file written whole.

Each error's message names the file or setting, the value and the way out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unicodedata import category


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
        if len(self._index) != len(self.glosses):
            repeated = sorted({g for g in self.glosses if self.glosses.count(g) > 1})
            raise CorpusError(f"the vocabulary lists glosses twice: {', '.join(repeated[:5])}; list each once")
        if any(not gloss or gloss != gloss.strip() or len(gloss.split()) != 1 for gloss in self.glosses):
            bad = next(g for g in self.glosses if not g or g != g.strip() or len(g.split()) != 1)
            raise CorpusError(f"the vocabulary holds {bad!r}; a gloss is one word without blanks")
        if bad := next((gloss for gloss in self.glosses if control_in(gloss)), None):
            raise CorpusError(f"the vocabulary holds {bad!r}; a gloss has no control characters or lone surrogates")

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
    """

    name: str
    root: Path
    train: tuple[Sample, ...]
    dev: tuple[Sample, ...]
    test: tuple[Sample, ...]
    glosses: Vocabulary
    notes: tuple[str, ...] = field(default=())

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
