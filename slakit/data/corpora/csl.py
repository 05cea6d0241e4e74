"""CSL, the continuous part of USTC's SLR dataset: 100 sentences x 50 signers x 5 takes (Huang et al., AAAI 2018).

Two packagings are in use. The public repositories expect `video0` to `video24999` (folders of frames), and lists
train.txt and dev.txt with lines <somebody's path>/video<k>|<glosses>. The official one has a folder for each sentence,
color/000 to color/099 with 250 .avi files each, and corpus.txt with the sentences, words separated by blanks.
Clip k is sentence k // 250; positions 0-199 within it (signers 1 to 40) are train, 200-249 dev. There is no test split.
"""

from __future__ import annotations

import re
from pathlib import Path

from slakit.data.corpora.reading import find_root, first_folder, inside, make_corpus, read_lines
from slakit.data.video.images import natural_key
from slakit.records import Corpus, CorpusError, Sample

FRAMES = ("features/fullFrame-256x256px", "frames", "videos", ".")
CLIPS, TAKES, TRAIN_CLIPS = 250, 5, 200  # of a sentence; of a signer; of the sentence's clips in train


def load(
    root: str | Path | None,
    vocabulary: str = "published",
    drop_last_sample: bool = False,
    allow_outside: bool = False,
) -> Corpus:
    """CSL in either packaging; root holds train.txt and dev.txt, or corpus.txt and color/.

    Of the paths in the lists only the name video<k> counts. vocabulary, drop_last_sample: see make_corpus. Raises
    CorpusError.
    """
    if root is not None and (Path(root) / "corpus.txt").exists() and not (Path(root) / "train.txt").exists():
        return _load_sentences(Path(root), vocabulary, drop_last_sample, allow_outside)
    folder = find_root(root, "csl", "train.txt", ("CSL", "csl", "csl_dataset"))
    frames = first_folder(folder, FRAMES)
    splits = {}
    for split in ("train", "dev"):
        samples, lines = [], {}
        for row in read_lines(folder / f"{split}.txt"):
            path, separator, glosses = row.fields["line"].partition("|")
            name = re.fullmatch(r"(?:.*[/\\])?(video([0-9]{1,5}))/?", path.strip())
            if not separator or not name:
                raise row.error(f"{row.fields['line'][:80]!r} is not <path>/video<number>|<glosses>; correct the line")
            if name[1] in lines:
                raise row.error(f"{name[1]} stands in line {lines[name[1]]} already; remove one of them")
            lines[name[1]] = row.line
            signer = f"P{int(name[2]) % CLIPS // TAKES + 1:02d}"
            source = inside(frames, name[1], row, allow_outside, folder)
            samples.append(Sample(name[1], source, tuple(glosses.split()), signer))
        splits[split] = samples
    where = frames.relative_to(folder)
    notes = ["packaging: flat folders video<k> with lists, frames from " + str(where), "there is no test split"]
    return make_corpus("csl", folder, splits, vocabulary, notes, drop_last_sample)


def _load_sentences(folder: Path, vocabulary: str, drop_last_sample: bool, allow_outside: bool) -> Corpus:
    splits: dict[str, list[Sample]] = {"train": [], "dev": []}
    notes, lines = ["packaging: a folder for each sentence, with corpus.txt", "there is no test split"], {}
    color = first_folder(folder, ("color", "video", "."))
    for row in read_lines(folder / "corpus.txt"):
        fields = row.fields["line"].split()
        if len(fields) < 2 or not re.fullmatch(r"[0-9]{1,6}", fields[0]):
            raise row.error(f"{row.fields['line'][:80]!r} is not <number> <words>; correct the line")
        sentence = int(fields[0])
        if sentence in lines:
            raise row.error(f"sentence {sentence} stands in line {lines[sentence]} already; remove one of them")
        lines[sentence] = row.line
        clips_folder = inside(color, f"{sentence:03d}", row, allow_outside, folder)
        if not clips_folder.is_dir():
            notes.append(f"sentence {sentence:03d} has no folder {clips_folder.relative_to(folder)}")
            continue
        clips = sorted((p for p in clips_folder.iterdir() if not p.name.startswith(".")), key=natural_key)
        if len(clips) != CLIPS:
            notes.append(f"sentence {sentence:03d} has {len(clips)} clips, not {CLIPS}")
        for position, clip in enumerate(clips):
            source = inside(color, f"{sentence:03d}/{clip.name}", row, allow_outside, folder)
            named = re.match(r"P([0-9]+)_", clip.name)
            signer = int(named[1]) if named else position // TAKES + 1
            split = "train" if signer <= TRAIN_CLIPS // TAKES else "dev"
            splits[split].append(Sample(f"{sentence:03d}_{clip.stem}", source, tuple(fields[1:]), f"P{signer:02d}"))
    if not any(splits.values()):
        raise CorpusError(f"{folder}: corpus.txt is there, but no clips in {color}; extract the color archives")
    return make_corpus("csl", folder, splits, vocabulary, notes, drop_last_sample)
