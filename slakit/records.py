"""The words of every room: Span, Sample, Vocabulary, Corpus, and the errors.

Each error's message names the file or setting, the value and the way out.
"""

from __future__ import annotations

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
