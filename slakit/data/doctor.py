"""doctor: what is wrong with a corpus on disk, and what to do about it, before any GPU time is spent."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from slakit.data.annotation_checks import check_annotation
from slakit.data.augment import ClipTransform
from slakit.data.clip_checks import Look, absent, check_clips, strays
from slakit.data.clips import needed_steps, time_steps
from slakit.data.corpora import load_corpus
from slakit.data.corpora.official import OFFICIAL
from slakit.data.findings import Finding, Report, size_text
from slakit.data.prepare import BYTES_PER_PIXEL, SPLITS
from slakit.data.video.images import FrameFiles
from slakit.data.video.packed import PackedClip
from slakit.data.video.read import open_source, read_frames
from slakit.machine import progress
from slakit.records import Corpus, Sample, SlakitError, VideoError

__all__ = ["Finding", "Report", "doctor"]

SAMPLED = 30  # clips whose frames are decoded without deep=True, spread over each split


def doctor(
    name: str,
    root: str | Path | None = None,
    deep: bool = False,
    size: int = 256,
    show_progress: bool | None = None,
    **options,
) -> Report:
    """Look at a corpus: layout, counts, frames, lengths, glosses, room on disk. Never raises for what it is to find.

    deep: decode every frame of every clip, video files by both readers; otherwise three frames of SAMPLED clips of each
    split. size: of the cache whose room is estimated. options: what load_corpus takes; with prepared=… the prepared
    frames are looked at (deep checks every checksum).
    """
    report = Report(name, str(root), deep)
    try:
        corpus = load_corpus(name, root, **options)
    except SlakitError as error:
        report.add("error", "annotation", str(error), "mend this first; nothing else could be looked at")
        return report
    report.root = str(corpus.root)
    for note in corpus.notes:
        if "never occur in train" not in note:  # that comes below, with its share
            report.add("note", "layout", note)
    looks: dict[str, Look] = {}
    outside = bool(options.get("allow_outside"))
    lengths = {split: _lengths(corpus.split(split), split, report, looks, outside, show_progress) for split in SPLITS}
    report.lengths = {clip: count for counts in lengths.values() for clip, count in counts.items()}
    for split in SPLITS:
        report.splits[split] = _sizes(corpus, split, lengths[split])
    check_annotation(corpus, report)
    for split in SPLITS:
        _alignable(corpus.split(split), split, lengths[split], report)
        _readable(corpus.split(split), split, lengths[split], deep, report, show_progress)
    check_clips(corpus, looks, report)
    _room(report, size)
    return report


def _sizes(corpus: Corpus, split: str, lengths: dict[str, int]) -> dict:
    samples, official = corpus.split(split), OFFICIAL.get(corpus.name)
    return {
        "clips": len(samples),
        "official": " or ".join(f"{n}" for n in (getattr(official, split) if official else ())),
        "tokens": sum(len(sample.glosses) for sample in samples),
        "glosses": len({gloss for sample in samples for gloss in sample.glosses}),
        "frames": sum(lengths.values()),
        "bytes": _bytes(samples, lengths),
    }


def _lengths(
    samples: Sequence[Sample], split: str, report: Report, looks: dict[str, Look], outside: bool, show: bool | None
) -> dict[str, int]:
    """Frames of every clip by its file names or packets; clips that cannot be opened become findings.

    outside: whether links may leave the corpus' folder. looks: takes what is known of the others without decoding.
    """
    counts: dict[str, int] = {}
    missing, broken, differ, gaps, links = [], [], [], [], []
    reasons: dict[str, str] = {}
    for sample in progress(samples, f"counting {split}", show):
        try:
            source = open_source(sample.source)
            counts[sample.id], looks[sample.id] = source.num_frames, Look.at(source)
        except VideoError as error:
            there = isinstance(sample.source, tuple) or sample.source.exists()
            (broken if there else missing).append(sample.id)
            reasons[sample.id] = str(error)
            continue
        if sample.num_frames not in (None, counts[sample.id]):
            differ.append(f"{sample.id} ({counts[sample.id]} for {sample.num_frames})")
        if isinstance(source, FrameFiles) and (gap := absent(source.files)):
            gaps.append(f"{sample.id} ({gap} missing)")
        if isinstance(source, FrameFiles) and not outside and strays(source.files, Path(report.root).resolve()):
            links.append(sample.id)
    if missing:
        advice = f"{reasons[missing[0]]}; extract the archive again, or correct the root"
        report.add("error", "frames", f"{split}: {len(missing)} of {len(samples)} clips are not there", advice, missing)
    if broken:
        message = f"{split}: {len(broken)} of {len(samples)} clips are empty or cannot be opened"
        report.add("error", "frames", message, reasons[broken[0]], broken)
    if differ:
        message = f"{split}: {len(differ)} clips have another number of frames than annotated"
        report.add("warning", "frames", message, "the frames count; extract again if many clips are shorter", differ)
    if links:
        message = f"{split}: {len(links)} clips have frames that are links out of the corpus' folder"
        advice = "copy the files there, or pass -o allow_outside true if that is intended"
        report.add("error", "frames", message, advice, links)
    if gaps:
        message = f"{split}: {len(gaps)} clips have gaps in the numbers of their frames"
        report.add("warning", "frames", message, "the signing jumps there; extract these clips again", gaps)
    if single := [clip for clip, count in counts.items() if count == 1]:
        message = f"{split}: {len(single)} clips have a single frame"
        report.add("warning", "frames", message, "no sign can be seen in one picture; leave them out", single)
    if samples and not missing and not broken:
        report.add("ok", "frames", f"{split}: all {len(samples)} clips are there")
    return counts


def _alignable(samples: Sequence[Sample], split: str, lengths: dict[str, int], report: Report) -> None:
    """Labels that CTC cannot align with ceil(T / 4) time steps, as filmed and when rescaled to 0.8 of the length."""
    train = ClipTransform()
    never, short = [], []
    for sample in samples:
        if sample.id not in lengths:
            continue
        steps = needed_steps(sample.glosses)
        low, high = train.lengths(lengths[sample.id]) if split == "train" else (lengths[sample.id],) * 2
        if time_steps(high) < steps:
            never.append(sample.id)
        elif time_steps(low) < steps:
            short.append(sample.id)
    if never:
        message = f"{split}: {len(never)} clips are too short for their glosses"
        message += " (more glosses than time steps of 4 frames)"
        advice = "training leaves them out by name" if split == "train" else "they cannot be recognised fully"
        report.add("warning", "lengths", message, f"{advice}; look for missing frames in them", never)
    if short:
        message = (
            f"{split}: {len(short)} clips are too short for their glosses only when rescaled to 0.8 of their length"
        )
        report.add("note", "lengths", message, "they are left out of the epochs in which that happens", short)


def _readable(
    samples: Sequence[Sample], split: str, lengths: dict[str, int], deep: bool, report: Report, show: bool | None
) -> None:
    there = [sample for sample in samples if sample.id in lengths]
    chosen = there if deep else there[:: max(1, len(there) // SAMPLED)][:SAMPLED]
    problems: dict[str, str] = {}
    for sample in progress(chosen, f"reading {split}", show):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                count = lengths[sample.id]
                if deep:
                    read_frames(sample.source, reader="both")
                else:
                    read_frames(sample.source, sorted({0, count // 2, count - 1}))
        except VideoError as error:
            problems[sample.id] = str(error)
    if problems:
        message = f"{split}: {len(problems)} of {len(chosen)} clips looked at are damaged"
        more = "" if deep else "--deep looks at all; "
        advice = f"{next(iter(problems.values()))}; {more}extract or copy these again"
        report.add("error", "damage", message, advice, list(problems))
    elif chosen:
        what = "every frame" if deep else "three frames each"  # of video files by two readers, see read_frames
        report.add("ok", "damage", f"{split}: {len(chosen)} clips read ({what}) without damage")


def _bytes(samples: Sequence[Sample], lengths: dict[str, int]) -> int:
    """Bytes on disk: video files summed, folders estimated from the first frame of up to SAMPLED clips."""
    files, per_frame, frames = 0, [], 0
    there = [sample for sample in samples if sample.id in lengths]
    if there and isinstance(clip := open_source(there[0].source), PackedClip):
        return clip.split.path.stat().st_size
    for number, sample in enumerate(there):
        if isinstance(sample.source, Path) and sample.source.is_file():
            files += sample.source.stat().st_size
            continue
        frames += lengths[sample.id]
        if number % max(1, len(there) // SAMPLED) == 0 and isinstance(clip := open_source(sample.source), FrameFiles):
            per_frame.append(clip.files[0].stat().st_size)
    return files + (round(frames * sum(per_frame) / len(per_frame)) if per_frame else 0)


def _room(report: Report, size: int) -> None:
    frames = sum(row["frames"] for row in report.splits.values())
    need = {name: frames * size * size * factor for name, factor in BYTES_PER_PIXEL.items()}
    free = shutil.disk_usage(report.root).free
    jpeg, raw = size_text(need["jpeg"]), size_text(need["raw"])
    message = f"prepared at {size} x {size}: about {jpeg} as JPEG, {raw} as raw pixels; free here: {size_text(free)}"
    level = "note" if free > need["jpeg"] else "warning"
    report.add(level, "room", message, "" if level == "note" else "prepare into a folder on another disk")
