"""What doctor finds by looking at clips without decoding them: gaps, copies, sizes and rates that differ."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from slakit.data.findings import NAMED, Report, size_text
from slakit.data.prepare import SPLITS
from slakit.data.video.cropping import signed_in, signer_crop
from slakit.data.video.images import FrameFiles
from slakit.data.video.packed import PackedClip
from slakit.data.video.read import open_source
from slakit.data.video.source import MAX_BYTES, ClipPath, Source, VideoInfo
from slakit.records import ConfigError, Corpus, Sample, VideoError

SEEN = 4  # clips of a signer in which is looked how much of the picture he fills
OPENED = 30  # folders of frames whose pictures are looked at for their size


@dataclass(frozen=True)
class Look:
    """key: equal for equal clips, known without reading them. info: of a video file or a prepared clip."""

    key: tuple
    info: VideoInfo | None = None

    @classmethod
    def at(cls, source: Source) -> Look:
        """VideoError where the source cannot be opened."""
        if isinstance(source, PackedClip):
            return cls(("packed", source.split.checksums(source.clip)), source.info)
        files = _files(source)
        sizes = [file.stat().st_size for file in (files[0], files[len(files) // 2], files[-1])]
        return cls((len(files), *sizes), None if isinstance(source, FrameFiles) else source.info)


def _files(source: Source) -> tuple[Path, ...]:
    return source.files if isinstance(source, FrameFiles) else (Path(source.name),)


def absent(files: Sequence[Path]) -> int:
    """How many frames are missing between the first and the last, by the one number in their names that changes."""
    numbers = [re.findall(r"[0-9]+", file.stem) for file in files]
    if len({len(row) for row in numbers}) != 1:
        return 0
    columns = [column for column in zip(*numbers, strict=True) if len(set(column)) > 1]
    if len(columns) != 1:
        return 0
    steps = [after - before for before, after in pairwise(sorted(map(int, columns[0])))]
    step = max(1, Counter(steps).most_common(1)[0][0])  # some keep every second frame
    return sum(gap // step - 1 for gap in steps if gap > step)


def strays(files: Sequence[Path], home: Path) -> bool:
    """Whether a frame is a link to somewhere outside of the corpus' folder."""
    with os.scandir(files[0].parent) as entries:  # tells links without asking for each file
        links = [entry.path for entry in entries if entry.is_symlink()]
    return not all(Path(os.path.realpath(link)).is_relative_to(home) for link in links)


def check_clips(corpus: Corpus, looks: dict[str, Look], report: Report) -> None:
    """Clips that are there twice, pictures of different sizes and rates. looks: of each clip that can be opened."""
    _copies(corpus, looks, report)
    _pictures(corpus, looks, report)


def _copies(corpus: Corpus, looks: dict[str, Look], report: Report) -> None:
    """The same clip under two names: those with equal keys are compared by their content."""
    sources: dict[str, ClipPath] = {}
    alike: defaultdict[tuple, list[tuple[str, str]]] = defaultdict(list)
    for split in SPLITS:
        for sample in corpus.split(split):
            if sample.id in looks:
                sources[sample.id] = sample.source
                alike[looks[sample.id].key].append((split, sample.id))
    across, within = [], []
    for group in alike.values():
        same: defaultdict[bytes, list[tuple[str, str]]] = defaultdict(list)
        for split, clip in group if len(group) > 1 else ():
            same[_digest(open_source(sources[clip]))].append((split, clip))
        for clips in same.values():
            if len(clips) > 1:
                names = " = ".join(clip for _, clip in clips[:NAMED])
                (within if len({split for split, _ in clips}) == 1 else across).append(names)
    if across:
        message = f"{len(across)} clips are in more than one split, under other names"
        report.add("warning", "copies", message, "WER on them is no test; keep each in one split", across)
    if within:
        message = f"{len(within)} clips are in their split more than once, under other names"
        report.add("note", "copies", message, "they count twice; keep one", within)


def _digest(source: Source) -> bytes:
    """Of all that a clip's files hold; of a prepared clip nothing, its key has the checksum of every frame."""
    digest = hashlib.sha256()
    for path in () if isinstance(source, PackedClip) else _files(source):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.digest()


def _pictures(corpus: Corpus, looks: dict[str, Look], report: Report) -> None:
    """Sizes and rates that differ, and clips that take too much memory. Of folders of frames only some are opened."""
    infos = {clip: look.info for clip, look in looks.items() if look.info is not None}
    samples = [sample for split in SPLITS for sample in corpus.split(split) if sample.id in looks]
    folders = [sample for sample in samples if sample.id not in infos]
    for sample in folders[:: max(1, len(folders) // OPENED)]:
        try:
            infos[sample.id] = open_source(sample.source).info
        except VideoError:
            continue  # among the damaged already
    large = [clip for clip, info in infos.items() if 3 * info.num_frames * info.width * info.height > MAX_BYTES]
    if large:
        message = f"{len(large)} clips take more than {size_text(MAX_BYTES)} when they are decoded whole"
        report.add("warning", "pictures", message, "cut them at pauses, or make their pictures smaller", large)
    sizes = Counter(f"{info.width}x{info.height}" for info in infos.values())
    if len(sizes) > 1:
        message = f"pictures differ in size: {', '.join(f'{size} ({count})' for size, count in sizes.most_common(5))}"
        bent = len({round(info.width / info.height, 1) for info in infos.values()}) > 1
        advice = (
            "and in shape: made square, one is bent more than the other; film or cut all to one shape" if bent else ""
        )
        report.add("warning" if bent else "note", "pictures", message, advice)
    if corpus.name == "folder":
        _crop(corpus, infos, report)
    rates = Counter(round(info.fps, 1) for info in infos.values() if info.fps > 0)
    if rates and max(rates) > 1.1 * min(rates):
        message = f"frame rates differ: {', '.join(f'{rate:g} ({count})' for rate, count in rates.most_common(5))}"
        report.add("warning", "pictures", message, "frames count, not seconds: film or convert all at one rate")


def _crop(corpus: Corpus, infos: dict[str, VideoInfo], report: Report) -> None:
    """How much the signer fills of pictures that are no squares, and how they are cut; of a few clips of each."""
    wide = [sample for split in SPLITS for sample in corpus.split(split) if sample.id in infos]
    wide = [s for s in wide if infos[s.id].height and not 0.8 < infos[s.id].width / infos[s.id].height < 1.25]
    by_signer: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in wide:
        by_signer[sample.signer].append(sample)
    shares, sides, outside, shape = [], [], [], ""
    for sample in [clip for clips in by_signer.values() for clip in clips[:: max(1, len(clips) // SEEN)][:SEEN]]:
        try:
            source = open_source(sample.source)
            frames, info = source.look(), source.info
            box = source.box(sample.crop or "none")
            if (edges := signed_in(frames)) is not None:
                shares.append((edges[1] - edges[0]) / info.width)
            if box is not None:
                sides.append(box.side / info.width)
                signer_crop(frames[:1], box=box)
            shape = shape or f"{info.width}x{info.height}{' (16:9)' if 9 * info.width == 16 * info.height else ''}"
        except ConfigError as error:
            outside.append(f"{sample.id} ({error})")
        except VideoError:
            continue  # among the damaged already
    if outside:
        message = f"{len(outside)} of the clips looked at are smaller than the square that is cut out of them"
        report.add("error", "crop", message, "they would be refused; give a square inside, or crop signer", outside)
    if not shares:
        return
    fills = f"pictures are {shape} and the signer's hands fill {100 * median(shares):.0f} % of their width"
    if not sides and not any(sample.crop for sample in wide):
        advice = (
            "made square as they are, hands become thin and small; cut the square around the signer, in training and "
            'recognition alike: "corpus_options": {"crop": "signer"}, --corpus-options.crop signer for train, '
            "-o crop signer for prepare and doctor"
        )
        report.add("warning", "crop", fills, advice)
    elif sides:
        report.add("ok", "crop", f"{fills}; the square that is cut out is {100 * median(sides):.0f} % wide")
