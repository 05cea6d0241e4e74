"""What doctor finds in the annotation alone: counts, vocabulary, spellings, splits, signers, repetitions."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

from slakit.data.clips import needed_steps
from slakit.data.corpora.official import OFFICIAL
from slakit.data.findings import NAMED, Report
from slakit.data.prepare import SPLITS
from slakit.records import Corpus

FEW = 5  # examples of a gloss in training below which doctor speaks of few, in a corpus of one's own


def check_annotation(corpus: Corpus, report: Report) -> None:
    """Every check of this file; the findings go into the report."""
    _count(corpus, report)
    _classes(corpus, report)
    _unseen(corpus, report)
    _spellings(corpus, report)
    _splits(corpus, report)
    if corpus.name == "folder":
        _repetitions(corpus, report)


def _count(corpus: Corpus, report: Report) -> None:
    official = OFFICIAL.get(report.name)
    for number, split in enumerate(SPLITS):
        samples, row = corpus.split(split), report.splits[split]
        accepted = getattr(official, split) if official else ()
        frames = official.frames[number] if official else None
        if accepted and len(samples) not in accepted:
            message = f"{split}: {len(samples)} clips, officially {' or '.join(map(str, accepted))}"
            advice = "numbers cannot be compared with published ones; is this the full release?"
            report.add("warning", "counts", message, advice)
        elif frames and row["frames"] != frames:
            share = 100 * row["frames"] / frames
            message = f"{split}: {row['frames']:,} frames, officially {frames:,} ({share:.1f} %)"
            advice = "extract the archives again and compare their checksums" if share < 100 else "is this the release?"
            report.add("warning", "counts", message, advice)
        elif accepted:
            what = f"{len(samples)} clips" + (f" with {frames:,} frames" if frames else "")
            report.add("ok", "counts", f"{split}: {what}, the official number")
        repeated = [sample.id for sample in samples if needed_steps(sample.glosses) > len(sample.glosses)]
        if repeated:
            message = f"{split}: {len(repeated)} clips have a gloss twice in a row"
            report.add("note", "glosses", message, "with collapse_repeats=True, as published, never recognised fully")


def _classes(corpus: Corpus, report: Report) -> None:
    official = OFFICIAL.get(report.name)
    if official and official.classes and len(corpus.glosses) not in official.classes:
        known = " or ".join(map(str, official.classes))
        message = f"{len(corpus.glosses)} classes with blank, published dictionaries have {known}"
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


def _spellings(corpus: Corpus, report: Report) -> None:
    """Glosses that a person reads as one and a computer as two, or the other way round."""
    glosses = sorted({gloss for split in SPLITS for sample in corpus.split(split) for gloss in sample.glosses})
    if hidden := [gloss for gloss in glosses if _plain(gloss) != gloss]:
        message = f"{len(hidden)} glosses hold characters that nobody sees: {_shown(hidden)}"
        report.add("warning", "spelling", message, "remove them, unless the script needs them")
    advice = "each is a class of its own; write one way what is one sign"
    if twins := _twins(glosses, lambda gloss: unicodedata.normalize("NFKC", _plain(gloss))):
        report.add(
            "warning", "spelling", f"{len(twins)} glosses differ in their Unicode form alone: {twins[0]}", advice
        )
    if twins := _twins(glosses, str.casefold):
        report.add(
            "warning", "spelling", f"{len(twins)} glosses differ in upper and lower case alone: {twins[0]}", advice
        )
    if near := _near(glosses):
        message = f"{len(near)} pairs of glosses are spelt nearly the same: {', '.join(near[:NAMED])}"
        report.add("note", "spelling", message, "two signs, or one that was mistyped?")
    if dropped := [gloss for gloss in glosses if ";" in gloss or gloss.endswith("*") or gloss == "@"]:
        message = f"{len(dropped)} glosses hold a ;, end in * or are an @: {_shown(dropped)}"
        advice = "scoring follows sclite, which drops that *, that @ and whatever follows a ;"
        if equal := _twins(glosses, lambda gloss: gloss.split(";", 1)[0].removesuffix("*")):
            advice += f", so that {equal[0]} count as equal"
        report.add("warning", "spelling", message, f"{advice}; spell them with other characters")


def _plain(gloss: str) -> str:
    """Without zero-width characters, marks of direction, soft hyphens, unassigned and private ones."""
    return "".join(letter for letter in gloss if unicodedata.category(letter) not in ("Cf", "Cn", "Co"))


def _shown(glosses: Iterable[str]) -> str:
    """Glosses for a sentence, what nobody sees as an escape."""
    named = [repr(gloss) for gloss in glosses]
    return ", ".join(named[:NAMED]) + (", …" if len(named) > NAMED else "")


def _near(glosses: Iterable[str]) -> list[str]:
    """Pairs that differ by a letter missing, changed or exchanged with the next; not short ones, nor with digits."""
    shapes: defaultdict[str, list[str]] = defaultdict(list)
    for gloss in glosses:
        if len(gloss) >= 5 and not any(letter.isdigit() for letter in gloss):
            for place in range(len(gloss)):
                shapes[gloss[:place] + gloss[place + 1 :]].append(gloss)
            shapes[gloss].append(gloss)
    pairs = {tuple(sorted({a, b})) for group in shapes.values() for a in group for b in group if a != b}
    return [f"{a} and {b}" for a, b in sorted(pairs) if a.casefold() != b.casefold()]


def _twins(glosses: Iterable[str], key: Callable[[str], str]) -> list[str]:
    """Groups of glosses with the same key, each in words."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for gloss in glosses:
        groups[key(gloss)].append(gloss)
    return [" and ".join(map(repr, group)) for group in groups.values() if len(group) > 1]


def _splits(corpus: Corpus, report: Report) -> None:
    if not corpus.train:
        report.add("warning", "splits", "there is no train split", "nothing can be trained; only evaluated")
    if not corpus.dev:
        advice = (
            "training chooses its best epoch by dev; put a tenth of the clips there, of other sentences than train's"
        )
        report.add("warning", "splits", "there is no dev split", advice)
    signers = {split: {sample.signer for sample in corpus.split(split)} for split in SPLITS if corpus.split(split)}
    everybody = set().union(*signers.values())
    if corpus.name == "folder" and everybody == {""}:
        advice = "a column signer shows whether WER is about people whom the model knows"
        report.add("note", "signers", "nobody says who signs", advice)
    if "train" in signers and everybody != {""} and corpus.name == "folder":
        if lone := sorted(everybody - signers["train"]):
            advice = "WER on them is about strangers; film two more in train, or expect it to be high"
            report.add("note", "signers", f"{len(lone)} signers are not in train: {_shown(lone)}", advice)
    if len(signers) > 1 and len(everybody) == 1 and everybody != {""}:
        message = f"one signer, {everybody.pop()}, is in all splits"
        report.add("note", "signers", message, "WER says nothing about anybody else; film others for dev and test")


def _repetitions(corpus: Corpus, report: Report) -> None:
    counts = Counter(gloss for sample in corpus.train for gloss in sample.glosses)
    if rare := sorted((gloss for gloss in counts if counts[gloss] < FEW), key=lambda gloss: counts[gloss]):
        message = f"{len(rare)} of {len(counts)} glosses are signed fewer than {FEW} times in train: "
        message += ", ".join(f"{gloss} ({counts[gloss]})" for gloss in rare[:NAMED])
        report.add("warning", "repetitions", message, "film more of them: a model learns a sign from its repetitions")
