"""prepare: every clip of a corpus decoded and resized once, packed into one file for each split.

Published: each frame to 256 x 256 with OpenCV's LANCZOS4, aspect not kept. The frames are kept as JPEG of quality 95;
benchmarks/data_formats.py measures that against the other candidates. A run that is killed goes on where it was: the
journal names what is in the unfinished file, checksums say whether it is still there.
"""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from slakit.data.pool import ordered
from slakit.data.video.cropping import Squaring
from slakit.data.video.packed import SUFFIX, VERSION, belongs, index_path, mark, open_split
from slakit.data.video.read import open_source
from slakit.data.video.resize import FILTERS
from slakit.machine import locked, progress, stop_on_signals
from slakit.records import ConfigError, Corpus, CorpusError, Sample, SlakitError, VideoError

SPLITS = ("train", "dev", "test")
CHOICES = ("size", "aspect", "resize_filter")
BYTES_PER_PIXEL = {"jpeg": 0.35, "raw": 3.0}  # of a JPEG of quality 95, measured on camera clips at 256 x 256: 0.29


def prepare(
    corpus: Corpus,
    out: str | Path,
    size: int = 256,
    encoding: str = "jpeg",
    quality: int = 95,
    resize_filter: str = "lanczos4",
    aspect: str = "stretch",
    on_damage: str = "skip",
    workers: int = 1,
    show_progress: bool | None = None,
) -> Corpus:
    """Write the prepared corpus into `out` and return it, see `prepared`.

    encoding: "jpeg" with `quality`, or "raw" pixels (ten times the size, no loss). resize_filter: "lanczos4" as
    published, or "antialias". aspect: "stretch" as published, "pad" with black to a square, or "crop" to the square
    around the signer, as load_corpus(crop="signer") has it. on_damage: "skip" leaves damaged clips out by name,
    "keep-readable" takes what can be decoded, "error" stops. workers: processes.

    Call it again after an interruption (Ctrl-C, SIGTERM and SIGHUP end the workers, too); a finished split is not
    touched. Raises ConfigError for settings that cannot work or differ from those in `out`, CorpusError where `out`
    holds another corpus or build, or no clip of a split can be read, SlakitError for a disk that is full or read-only
    or where another process writes to `out`.
    """
    choices = (
        ("encoding", encoding, tuple(BYTES_PER_PIXEL)),
        ("resize_filter", resize_filter, FILTERS),
        ("aspect", aspect, ("stretch", "pad", "crop")),
        ("on_damage", on_damage, ("skip", "keep-readable", "error")),
    )
    for setting, value, known in choices:
        if value not in known:
            raise ConfigError(f"{setting}={value!r} is none of {', '.join(known)}")
    if not 8 <= size <= 4096 or not 1 <= quality <= 100 or workers < 1:
        raise ConfigError(f"size={size}, quality={quality}, workers={workers}: 8 to 4096, 1 to 100, 1 or more")
    settings = {"version": VERSION, "corpus": corpus.name, "size": size, "encoding": encoding, "quality": quality}
    crop = corpus.options.get("crop") or ("signer" if aspect == "crop" else "none")
    if crop == "none" and aspect == "crop":
        raise ConfigError('aspect="crop" cuts clips that crop="none" leaves whole; leave one of them out')
    settings |= {"resize_filter": resize_filter, "aspect": aspect if crop == "none" else "crop", "on_damage": on_damage}
    settings |= {} if crop in ("none", "signer") else {"crop": crop}
    out = Path(out)
    if re.search("[\0\ud800-\udfff]", str(out)):
        raise ConfigError(f"{str(out)!r} is no folder's name; choose another")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out) as mine, stop_on_signals():
            if not mine:
                raise SlakitError(f"{out}: another process is preparing here; wait for it or choose another folder")
            for split in SPLITS:
                if samples := corpus.split(split):
                    _prepare_split(samples, out / (split + SUFFIX), settings, workers, show_progress)
    except OSError as error:
        why = error.strerror or error
        raise SlakitError(f"{out}: writing failed ({why}); make room, or choose another folder") from error
    except BrokenProcessPool as error:
        raise SlakitError(f"{out}: a process ended, out of memory perhaps; run it again with fewer workers") from error
    return prepared(corpus, out)


def _foreign(path: Path, clip: str) -> CorpusError:
    return CorpusError(
        f"{path}: its clip {clip} has another video or other glosses than this corpus'; it was prepared from another "
        f"corpus or build: choose another folder, or delete {path.parent} and run prepare again"
    )


def prepared(corpus: Corpus, out: str | Path) -> Corpus:
    """The corpus with its clips taken from the prepared folder `out`, and their true lengths.

    Clips that prepare left out are gone from the splits and named in the notes. Raises CorpusError where a split or a
    clip has not been prepared, or was from another video or (where its source is gone) with other glosses.
    """
    out, notes = Path(out), [*corpus.notes, f"prepared frames from {out}"]
    splits: dict[str, tuple[Sample, ...]] = dict.fromkeys(SPLITS, ())
    asked, made = corpus.options.get("crop"), "none"
    for split in filter(corpus.split, SPLITS):
        samples, path = corpus.split(split), out / (split + SUFFIX)
        if not index_path(path).exists():
            raise CorpusError(f"{out}: {split} is not prepared, or not to its end; run prepare (again)")
        packed = open_split(path)
        made = packed.settings.get("crop", "signer" if packed.settings["aspect"] == "crop" else "none")
        if asked not in (None, made):
            raise CorpusError(
                f"{out} was prepared with crop {made!r}, and crop={asked!r} is asked for; leave crop out, or prepare "
                "it again into another folder"
            )
        usable = []
        for sample in samples:
            if sample.id in packed.clips:
                if not belongs(sample, packed.marks[sample.id], thorough=False):
                    raise _foreign(path, sample.id)
                length = packed.num_frames(sample.id)
                usable.append(replace(sample, source=path / sample.id, num_frames=length, crop=None))
            elif sample.id not in packed.left_out:
                raise CorpusError(f"{path}: the clip {sample.id} is not in it; it was prepared from another annotation")
        if lost := [sample.id for sample in samples if sample.id in packed.left_out]:
            notes.append(f"{split}: {len(lost)} clips are not prepared, unreadable: {', '.join(lost[:5])}")
        splits[split] = tuple(usable)
    options = corpus.options if made == "none" else {**corpus.options, "crop": made}
    return replace(corpus, **splits, notes=tuple(notes), options=options)


def encode(sample: Sample, settings: dict) -> tuple[list[bytes], str]:
    """The encoded frames of a clip, and why there are none (empty where all is well)."""
    damage = "keep-readable" if settings["on_damage"] == "keep-readable" else "error"
    try:
        source, size, aspect, method = open_source(sample.source), *(settings[name] for name in CHOICES)
        box = source.box(sample.crop or ("signer" if aspect == "crop" else "none"), damage)
        squares = Squaring(aspect="pad" if aspect == "pad" else "stretch", resize_filter=method)
        frames = source.resized(lambda pictures: squares.fit(pictures, size, box), None, damage)
        if not len(frames):
            raise VideoError(f"{sample.source}: no frames; look for its files")
    except VideoError as error:
        if settings["on_damage"] == "error":
            raise
        return [], str(error)
    if settings["encoding"] == "raw":
        return [frame.tobytes() for frame in frames], ""
    pieces = []
    for frame in frames:
        piece = io.BytesIO()
        Image.fromarray(frame).save(piece, "JPEG", quality=settings["quality"])
        pieces.append(piece.getvalue())
    return pieces, ""


def _prepare_split(samples: Sequence[Sample], path: Path, settings: dict, workers: int, show: bool | None) -> None:
    if index_path(path).exists():
        packed = open_split(path)
        _same(packed.settings, settings, path)
        for sample in samples:
            if sample.id in packed.clips and not belongs(sample, packed.marks[sample.id]):
                raise _foreign(path, sample.id)
        return
    part, journal = path.with_name(path.name + ".part"), path.with_name(path.name + ".journal")
    if path.exists() and not part.exists():
        os.replace(path, part)  # killed after the frames, before the index
    entries = _resume(part, journal, settings)
    for sample in samples:
        entry = entries.get(sample.id)
        if entry is not None and "left_out" not in entry and not belongs(sample, entry["mark"]):
            raise _foreign(path, sample.id)
    todo = [sample for sample in samples if sample.id not in entries]
    with open(part, "ab") as frames, open(journal, "a", encoding="utf-8") as log:
        if not log.tell():
            log.write(json.dumps(settings) + "\n")
        encoded = ordered(partial(encode, settings=settings), todo, workers)
        bar = progress(encoded, f"preparing {path.stem}", show, total=len(todo))
        for sample, (pieces, problem) in zip(todo, bar, strict=True):
            entry = {"id": sample.id, "lengths": [len(p) for p in pieces], "crcs": [zlib.crc32(p) for p in pieces]}
            entry["mark"] = mark(sample)
            if problem:
                entry["left_out"] = problem
            frames.writelines(pieces)
            frames.flush()  # first the frames, then the line that names them
            log.write(json.dumps(entry, ensure_ascii=False) + "\n")
            log.flush()
            entries[sample.id] = entry
        os.fsync(frames.fileno())
    good = {name: entry for name, entry in entries.items() if "left_out" not in entry}
    if not good:
        name, entry = next(iter(entries.items()))
        raise CorpusError(f"{path.stem}: none of its {len(entries)} clips can be read; {name}: {entry['left_out']}")
    _finish(path, part, journal, settings, entries, good)


def _finish(path: Path, part: Path, journal: Path, settings: dict, entries: dict, good: dict) -> None:
    lengths = [length for entry in good.values() for length in entry["lengths"]]
    new = index_path(path).with_name(".index.part.npz")
    with open(new, "wb") as file:
        np.savez(
            file,
            settings=np.array(json.dumps(settings)),
            left_out=np.array(json.dumps({k: e["left_out"] for k, e in entries.items() if k not in good})),
            marks=np.array(json.dumps({name: entry["mark"] for name, entry in entries.items()})),
            ids=np.array(list(good)),
            starts=np.cumsum([0, *(len(entry["lengths"]) for entry in good.values())], dtype=np.int64),
            offsets=np.cumsum([0, *lengths], dtype=np.int64),
            crcs=np.array([crc for entry in good.values() for crc in entry["crcs"]], np.uint32),
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    os.replace(new, index_path(path))
    journal.unlink()


def _resume(part: Path, journal: Path, settings: dict) -> dict[str, dict]:
    """What an interrupted run left that is whole: its entries; both files are cut back to them."""
    if not journal.exists():
        part.unlink(missing_ok=True)
        return {}
    entries: dict[str, dict] = {}
    sound_log = sound = 0
    with open(journal, "rb") as log, open(part, "ab+") as frames:
        for number, line in enumerate(log):
            try:
                entry = json.loads(line if line.endswith(b"\n") else b"")
            except ValueError:
                break  # the line that was being written
            if number == 0:
                _same(entry, settings, part)
            else:
                frames.seek(sound)
                pieces = [frames.read(length) for length in entry["lengths"]]
                if [zlib.crc32(piece) for piece in pieces] != entry["crcs"]:
                    break
                sound += sum(entry["lengths"])
                entries[entry["id"]] = entry
            sound_log += len(line)
        frames.truncate(sound)
    os.truncate(journal, sound_log)
    return entries


def _same(stored: dict, settings: dict, path: Path) -> None:
    for name in {**stored, **settings}:
        if (before := stored.get(name)) != (value := settings.get(name)):
            raise ConfigError(f"{path.parent}: prepared with {name}={before!r}, now {value!r}; choose another folder")
