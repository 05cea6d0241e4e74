"""What the corpus readers share: annotation tables read strictly, and paths that cannot leave the corpus' folder."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from slakit.records import ConfigError, Corpus, CorpusError, Sample, Vocabulary, read_text

CONTROL = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")  # what stays is blanks and ends of lines
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".rar", ".7z")


@dataclass(frozen=True)
class Row:
    """One line of a table: where it stands, and its fields by column. CorpusError for control characters in them."""

    path: Path
    line: int
    fields: dict[str, str]

    def __post_init__(self) -> None:
        if control := next(filter(None, map(CONTROL.search, self.fields.values())), None):
            raise self.error(f"the control character {ord(control[0]):#04x} in {control.string[:40]!r}; remove it")

    def error(self, problem: str) -> CorpusError:
        """A CorpusError that names file and line."""
        return CorpusError(f"{self.path}, line {self.line}: {problem}")

    def number(self, column: str, least: int = 0) -> int:
        """The column as a whole number of `least` or more."""
        text = self.fields[column].strip()
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
            raise self.error(f"{column} is {text[:40]!r}, expected a whole number of {least} or more; correct the line")
        return int(text)


def read_table(path: Path, columns: Sequence[str], optional: Sequence[str] = (), separator: str = "|") -> list[Row]:
    """The rows of a table whose first line names the columns; CorpusError names file and line of what does not fit.

    All of `columns` must be there, in any order; `optional` ones may. Empty lines are passed over. No quoting: the
    official files have none.
    """
    lines = io.StringIO(read_text(path).replace("\r\n", "\n"), newline="\n")
    first = lines.readline().rstrip("\n")
    header = [name.strip() for name in first.split(separator)]
    missing = [name for name in columns if name not in header]
    if missing:
        raise CorpusError(
            f"{path}, line 1: no column {missing[0]!r} in {first[:80]!r}; expected {separator.join(columns)}"
        )
    known = {*columns, *optional}
    rows = []
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        fields = line.rstrip("\n").split(separator)
        if len(fields) != len(header):
            raise CorpusError(
                f"{path}, line {number}: {len(fields)} fields instead of {len(header)} ({separator.join(header)}); "
                "correct the line"
            )
        rows.append(Row(path, number, {k: v for k, v in zip(header, fields, strict=True) if k in known}))
    if not rows:
        raise CorpusError(f"{path}: only a header, no rows; the file is incomplete, extract it again")
    return rows


def read_lines(path: Path) -> Iterator[Row]:
    """The lines of a list without a header, each as the field "line"; CorpusError where there is none."""
    line = ""
    for number, line in enumerate(io.StringIO(read_text(path), newline=None), start=1):
        if line.strip():
            yield Row(path, number, {"line": line.rstrip("\n")})
    if not line:
        raise CorpusError(f"{path}: the file is empty; extract it again")


def read_csv(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> list[Row]:
    """The rows of a comma-separated table with quotes, as spreadsheets write it; the first line names the columns.

    CorpusError names file and line of what does not fit. Empty lines are passed over.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)  # a line break in a cell stays
    rows: list[Row] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in required if name not in header]
        if missing and (found := sniffed(header_line := ",".join(header))) != ",":
            raise CorpusError(
                f"{path}, line 1: the columns in {header_line[:80]!r} are separated by {found!r}, not commas; save it "
                f"with commas, or make one: slakit annotate {path.parent} --table {path} --out own.csv"
            )
        if missing or len(set(header)) != len(header):
            raise CorpusError(
                f"{path}, line 1: {'no column ' + repr(missing[0]) if missing else 'a column comes twice'} in "
                f"{','.join(header)[:80]!r}; expected {','.join(required)}"
                + (f" and perhaps {','.join(optional)}" if optional else "")
            )
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                raise CorpusError(f"{path}, line {reader.line_num}: {len(fields)} fields instead of {len(header)}")
            rows.append(Row(path, reader.line_num, dict(zip(header, fields, strict=True))))
    except csv.Error as error:
        raise CorpusError(f"{path}, line {reader.line_num}: {error}; check the quotes") from None
    if not rows:
        raise CorpusError(f"{path}: no rows; write one line for each clip")
    return rows


def sniffed(text: str) -> str:
    """The separator of a table: the one of comma, semicolon, tab and | that its first line has most of."""
    return max(",;\t|", key=text.partition("\n")[0].count)


def unique(rows: Iterable[Row], column: str) -> list[Row]:
    """The rows; CorpusError where one value of the column comes twice."""
    rows, lines = list(rows), {}
    for row in rows:
        value = row.fields[column]
        if value in lines:
            raise row.error(f"{column} {value[:80]!r} stands in line {lines[value]} already; remove one of them")
        lines[value] = row.line
    return rows


def clean_id(row: Row, column: str) -> str:
    """The column as a clip id: not empty, no blanks, no path separators, not hidden."""
    value = row.fields[column].strip()
    if not value or value.startswith(".") or re.search(r"[\s/\\:*?\"<>|\x00-\x1f]", value) or _longest(value) > 200:
        raise row.error(f"{column} {value[:80]!r} is no clip name (letters, digits, - and _); correct the line")
    return value


def inside(
    root: Path, relative: str, row: Row | None = None, allow_outside: bool = False, home: Path | None = None
) -> Path:
    """root / relative, refused where it would leave the root: absolute paths, '..', links to somewhere else.

    home: the corpus' folder, which links may not leave; default root. allow_outside: for those who link or list folders
    elsewhere on purpose.
    """

    def refuse(problem: str) -> CorpusError:
        message = f"the path {relative[:120]!r} {problem}; correct it, or pass allow_outside=True if that is intended"
        return row.error(message) if row else CorpusError(f"{root}: {message}")

    if not relative.strip() or "\0" in relative or len(relative) > 1000 or _longest(relative) > 255:
        raise refuse("is empty or no path")
    posix, windows = PurePosixPath(relative), PureWindowsPath(relative)
    if not allow_outside:
        if posix.is_absolute() or windows.drive or windows.root:
            raise refuse("is absolute")
        if ".." in posix.parts or ".." in windows.parts:
            raise refuse("climbs out of the corpus' folder")
    path = root / posix
    if path.suffix.lower() in ARCHIVES:
        raise refuse("is an archive, which must be extracted first")
    if not allow_outside:
        real, allowed = os.path.realpath(path), _real(str(home or root))
        if real != allowed and not real.startswith(allowed.rstrip(os.sep) + os.sep):
            raise refuse(f"is a link out of the corpus' folder, to {real}")
    return path


def _longest(path: str) -> int:
    """Bytes of the longest name in a path: no file system has one of more than 255."""
    return max(len(part.encode(errors="surrogatepass")) for part in re.split(r"[/\\]", path))


@lru_cache(maxsize=16)
def _real(root: str) -> str:
    return os.path.realpath(root)


def find_root(root: str | Path | None, name: str, marker: str, below: Sequence[str]) -> Path:
    """The folder that holds `marker`: the root itself or one of the folders `below` it, as the archives make them."""
    if root is None:
        raise CorpusError(
            f"{name} needs its folder: load_corpus({name!r}, root=…); data/README.md tells how to obtain it"
        )
    root = Path(root)
    if root.is_file():
        what = "is an archive; extract it and give the folder" if root.suffix.lower() in ARCHIVES else "is a file"
        raise CorpusError(f"{root}: {what}; the root of {name} is a folder")
    if not root.is_dir():
        holds = "that holds annotations.csv" if name == "folder" else f"in which {name} was extracted"
        raise CorpusError(f"{root}: no such folder; give the folder {holds}")
    for candidate in (root, *(root / part for part in below)):
        if (candidate / marker).exists():
            return candidate
    inside_root = ", ".join(sorted(p.name for p in root.iterdir())[:6]) or "nothing"
    archives = [p.name for p in root.iterdir() if p.suffix.lower() in ARCHIVES]
    hint = f"extract {archives[0]} first" if archives else "data/README.md shows the tree expected"
    raise CorpusError(f"{root}: no {marker} here, so this is not {name} (found: {inside_root}); {hint}")


def first_folder(root: Path, candidates: Sequence[str]) -> Path:
    """The first of the folders that exists, otherwise the first."""
    return next((root / c for c in candidates if (root / c).is_dir()), root / candidates[0])


def _composed(splits: dict[str, list[Sample]]) -> tuple[dict[str, list[Sample]], set[str]]:
    """The splits with every gloss in Unicode's form NFC, and those that this changed, as they now are."""
    changed: set[str] = set()
    composed: dict[str, list[Sample]] = {}
    for split, samples in splits.items():
        composed[split] = []
        for sample in samples:
            glosses = tuple(unicodedata.normalize("NFC", gloss) for gloss in sample.glosses)
            changed.update(new for new, old in zip(glosses, sample.glosses, strict=True) if new != old)
            composed[split].append(sample if glosses == sample.glosses else replace(sample, glosses=glosses))
    return composed, changed


def make_corpus(
    name: str,
    root: Path,
    splits: dict[str, list[Sample]],
    vocabulary: str = "published",
    notes: Sequence[str] = (),
    drop_last_sample: bool = False,
) -> Corpus:
    """The Corpus with its vocabulary and the notes that every reader gives.

    vocabulary: "published" takes the glosses of all splits in string order, as the public dictionaries do (so that
    published checkpoints fit); "train" those of the training split alone. drop_last_sample: leave out the last clip of
    each split, as the public loaders do for CSL-Daily and CSL.
    """
    if vocabulary not in ("published", "train"):
        raise ConfigError(f"vocabulary={vocabulary!r} is none of published, train")
    notes = list(notes)
    splits, changed = _composed(splits)
    if changed:
        notes.append(
            f"{len(changed)} glosses are written with combining characters and were composed (Unicode NFC), so that "
            f"one gloss is one class: {', '.join(sorted(changed)[:5])}"
        )
    if drop_last_sample:
        dropped = [samples[-1].id for samples in splits.values() if samples]
        splits = {split: samples[:-1] for split, samples in splits.items()}
        notes.append(f"the last clip of each split is left out, as the published loaders do: {', '.join(dropped)}")
    train, dev, test = (tuple(splits.get(split, ())) for split in ("train", "dev", "test"))
    owner: dict[str, str] = {}
    for split, samples in (("train", train), ("dev", dev), ("test", test)):
        for sample in samples:
            if sample.id in owner:
                raise CorpusError(f"{root}: the clip {sample.id} is in {owner[sample.id]} and in {split}; keep one")
            owner[sample.id] = split
    glosses = Vocabulary.from_samples(train if vocabulary == "train" else (*train, *dev, *test))
    known = {gloss for sample in train for gloss in sample.glosses}
    for split, samples in (("dev", dev), ("test", test)):
        unseen = Counter(gloss for sample in samples for gloss in sample.glosses if gloss not in known)
        if unseen:
            classes = (
                "are classes all the same, as published" if vocabulary == "published" else "are not in the vocabulary"
            )
            notes.append(
                f"{split}: {len(unseen)} glosses ({sum(unseen.values())} tokens) never occur in train and {classes}"
            )
    return Corpus(name, root, train, dev, test, glosses, tuple(notes))
