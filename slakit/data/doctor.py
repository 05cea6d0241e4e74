"""doctor: what is wrong with a corpus on disk, and what to do about it, before any GPU time is spent."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from slakit.data.augment import ClipTransform
from slakit.data.clips import needed_steps, time_steps
from slakit.data.corpora import load_corpus
from slakit.data.corpora.official import OFFICIAL
from slakit.data.prepare import BYTES_PER_PIXEL, SPLITS
from slakit.data.video.images import FrameFiles
from slakit.data.video.packed import PackedClip
from slakit.data.video.read import open_source, read_frames
from slakit.machine import progress
from slakit.records import Corpus, Sample, SlakitError, VideoError

NAMED = 8  # clips that a finding names
SAMPLED = 30  # clips whose frames are decoded without deep=True, spread over each split


@dataclass(frozen=True)
class Finding:
    """One result. level: "ok", "note", "warning" (training is possible) or "error". advice: what to do about it."""

    level: str
    check: str
    message: str
    advice: str = ""
    clips: tuple[str, ...] = ()


@dataclass
class Report:
    """What doctor found. splits: split -> clips, official, tokens, glosses, frames, bytes. healthy: no error in it.

    lengths: frames of every clip that could be opened, by its id (not in the JSON).
    """

    name: str
    root: str
    deep: bool
    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, dict] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)

    def add(self, level: str, check: str, message: str, advice: str = "", clips: Sequence[str] = ()) -> None:
        self.findings.append(Finding(level, check, message, advice, tuple(clips[:NAMED])))

    def json(self) -> str:
        """Everything but `lengths` as JSON."""
        content = {"healthy": self.healthy, **asdict(replace(self, lengths={}))}
        del content["lengths"]
        return json.dumps(content, ensure_ascii=False, indent=1)

    def text(self) -> str:
        """A table of the splits, the findings with the worst first, and the verdict."""
        lines = [f"{self.name} in {self.root}{' (every frame decoded)' if self.deep else ''}", ""]
        if self.splits:
            lines.append("split    clips  official   tokens  glosses     frames      disk")
        for split, row in self.splits.items():
            lines.append(
                f"{split:6}{row['clips']:8,}{row['official'] or '-':>10}{row['tokens']:9,}{row['glosses']:9,}"
                f"{row['frames']:11,}{_size(row['bytes']):>10}"
            )
        order = {"error": 0, "warning": 1, "note": 2, "ok": 3}
        for finding in sorted(self.findings, key=lambda f: order[f.level]):
            lines += ["", f"{finding.level.upper():8}{finding.check}: {finding.message}"]
            if finding.clips:
                lines.append(f"        clips: {', '.join(finding.clips)}")
            if finding.advice:
                lines.append(f"        -> {finding.advice}")
        return "\n".join([*lines, "", "healthy" if self.healthy else "NOT healthy: see the errors above"])


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
        report.add("note", "layout", note)
    lengths = {split: _lengths(corpus.split(split), split, report, show_progress) for split in SPLITS}
    report.lengths = {clip: count for counts in lengths.values() for clip, count in counts.items()}
    for split in SPLITS:
        _count(corpus, split, lengths[split], report)
    _classes(corpus, report)
    _unseen(corpus, report)
    for split in SPLITS:
        _alignable(corpus.split(split), split, lengths[split], report)
        _readable(corpus.split(split), split, lengths[split], deep, report, show_progress)
    _room(report, size)
    return report


def _lengths(samples: Sequence[Sample], split: str, report: Report, show: bool | None) -> dict[str, int]:
    """Frames of every clip by its file names or packets; clips that cannot be opened become findings."""
    counts: dict[str, int] = {}
    missing, broken, differ = [], [], []
    reasons: dict[str, str] = {}
    for sample in progress(samples, f"counting {split}", show):
        try:
            counts[sample.id] = open_source(sample.source).num_frames
        except VideoError as error:
            there = isinstance(sample.source, tuple) or sample.source.exists()
            (broken if there else missing).append(sample.id)
            reasons[sample.id] = str(error)
            continue
        if sample.num_frames not in (None, counts[sample.id]):
            differ.append(f"{sample.id} ({counts[sample.id]} for {sample.num_frames})")
    if missing:
        advice = f"{reasons[missing[0]]}; extract the archive again, or correct the root"
        report.add("error", "frames", f"{split}: {len(missing)} of {len(samples)} clips are not there", advice, missing)
    if broken:
        message = f"{split}: {len(broken)} of {len(samples)} clips are empty or cannot be opened"
        report.add("error", "frames", message, reasons[broken[0]], broken)
    if differ:
        message = f"{split}: {len(differ)} clips have another number of frames than annotated"
        report.add("warning", "frames", message, "the frames count; extract again if many clips are shorter", differ)
    if samples and not missing and not broken:
        report.add("ok", "frames", f"{split}: all {len(samples)} clips are there")
    return counts


def _count(corpus: Corpus, split: str, lengths: dict[str, int], report: Report) -> None:
    samples, official = corpus.split(split), OFFICIAL.get(report.name)
    accepted = getattr(official, split) if official else ()
    report.splits[split] = {
        "clips": len(samples),
        "official": " or ".join(f"{n}" for n in accepted),
        "tokens": sum(len(sample.glosses) for sample in samples),
        "glosses": len({gloss for sample in samples for gloss in sample.glosses}),
        "frames": sum(lengths.values()),
        "bytes": _bytes(samples, lengths),
    }
    if accepted and len(samples) not in accepted:
        message = f"{split}: {len(samples)} clips, officially {' or '.join(map(str, accepted))}"
        advice = "numbers cannot be compared with published ones; is this the full release?"
        report.add("warning", "counts", message, advice)
    elif accepted:
        report.add("ok", "counts", f"{split}: {len(samples)} clips, the official number")
    repeated = [sample.id for sample in samples if needed_steps(sample.glosses) > len(sample.glosses)]
    if repeated:
        message = f"{split}: {len(repeated)} clips have a gloss twice in a row"
        report.add("note", "glosses", message, "with collapse_repeats=True, as published, never recognised fully")


def _classes(corpus: Corpus, report: Report) -> None:
    official = OFFICIAL.get(report.name)
    if official and official.classes and len(corpus.glosses) != official.classes:
        message = f"{len(corpus.glosses)} classes with blank, published dictionaries have {official.classes}"
        report.add("warning", "glosses", message, "published checkpoints will not fit this vocabulary")


def _unseen(corpus: Corpus, report: Report) -> None:
    known = {gloss for sample in corpus.train for gloss in sample.glosses}
    for split in ("dev", "test"):
        tokens = [gloss for sample in corpus.split(split) for gloss in sample.glosses]
        unseen = Counter(gloss for gloss in tokens if gloss not in known)
        if unseen:
            share = 100 * sum(unseen.values()) / len(tokens)
            message = f"{split}: {len(unseen)} glosses never occur in train, {share:.2f} % of the tokens"
            advice = f"no model can learn them: WER has this floor ({next(iter(unseen))}, …)"
            report.add("note", "glosses", message, advice)


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
    message = (
        f"prepared at {size} x {size}: about {_size(need['jpeg'])} as JPEG, {_size(need['raw'])} as raw pixels; "
        f"free here: {_size(free)}"
    )
    level = "note" if free > need["jpeg"] else "warning"
    report.add(level, "room", message, "" if level == "note" else "prepare into a folder on another disk")


def _size(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
