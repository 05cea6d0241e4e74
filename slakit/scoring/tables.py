"""Tables beside the one number: variants of the WER, per signer, per length, confusions, glosses never recognised."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import jiwer
import pandas as pd

from slakit.records import ConfigError, Corpus, CorpusError, Sample
from slakit.scoring.cleanup import has_clean_up
from slakit.scoring.escapes import as_csv
from slakit.scoring.wer import COUNTS, NULL, Counts, Pairs, Score, Sentences, fold, prepare, right, score

DELETED = "(deleted)"


def plain_wer(
    references: Sentences,
    hypotheses: Sentences,
    corpus: str | Corpus | None = None,
    *,
    clean_references: bool = False,
    collapse_repeats: bool = False,
) -> float:
    """WER in percent by jiwer: the plain edit distance after the same clean-up, never above `score(...).wer`."""
    words = prepare(references, hypotheses, corpus, clean_references, collapse_repeats)
    numbers: dict[str, str] = defaultdict(lambda: str(len(numbers)))  # numbers: jiwer has its own idea of white space
    pairs = [tuple(" ".join(numbers[fold(w)] for w in side if w != NULL) for side in pair) for pair in words.values()]
    spoken = [pair for pair in pairs if pair[0]]
    inserted = sum(len(h.split()) for r, h in pairs if not r)  # jiwer refuses empty references
    total = sum(len(r.split()) for r, _ in spoken)
    if total == 0:
        raise CorpusError("there is no reference gloss, so there is no word error rate; check the references")
    counts = jiwer.process_words([r for r, _ in spoken], [h for _, h in spoken])
    return 100.0 * (counts.substitutions + counts.deletions + counts.insertions + inserted) / total


def variants(references: Sentences, hypotheses: Sentences, corpus: str | Corpus | None = None) -> pd.DataFrame:
    """The same hypotheses scored in every way that is in use, one row each.

    Rows: "raw" (no clean-up), "cleaned" (the official one: rules on the hypotheses), "symmetric" (rules on both sides),
    each also with the published collapse of repeats; a corpus without rules has only "raw". Columns: wer, official_wer,
    the counts, and plain_wer (jiwer).
    """
    ways: dict[str, dict] = {"raw": {"corpus": None}}
    if has_clean_up(corpus):
        ways["cleaned"] = {"corpus": corpus}
        ways["symmetric"] = {"corpus": corpus, "clean_references": True}
    rows = {}
    for name, settings in ways.items():
        for collapse in (False, True):
            result = score(references, hypotheses, collapse_repeats=collapse, **settings)
            rows[name + ", repeats collapsed" * collapse] = {
                "wer": result.wer,
                "official_wer": result.official_wer,
                **_columns(result),
                "plain_wer": plain_wer(references, hypotheses, collapse_repeats=collapse, **settings),
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _columns(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in COUNTS}


def _grouped(result: Score, group_of: Mapping[str, object], name: str) -> pd.DataFrame:
    groups = defaultdict(list)
    for video, counts in result.per_video.items():
        groups[group_of[video]].append(counts)
    rows = []
    for group in sorted(groups):
        total = Counts.total(groups[group])
        wer = total.wer if total.words else float("nan")
        rows.append({name: group, "videos": len(groups[group]), "wer": wer, **_columns(total)})
    return pd.DataFrame(rows).set_index(name)


def per_signer(result: Score, signers: Mapping[str, str] | Iterable[Sample]) -> pd.DataFrame:
    """One row a signer: videos, wer in percent, counts. signers: {video id: signer} or the samples of the split."""
    by_id = isinstance(signers, Mapping)
    names = cast("Mapping[str, str]", signers) if by_id else {sample.id: sample.signer for sample in signers}
    missing = [video for video in result.per_video if not names.get(video)]
    if missing:
        raise CorpusError(f"{len(missing)} videos have no signer ({', '.join(missing[:3])}); name one for each")
    return _grouped(result, names, "signer")


def per_length(result: Score, edges: Sequence[int] = (5, 10, 15)) -> pd.DataFrame:
    """One row a range of reference lengths: up to edges[0] glosses, then up to edges[1], ..., then longer."""
    if list(edges) != sorted(set(edges)) or not edges or edges[0] < 0:
        raise ConfigError(f"edges is {list(edges)}; give rising numbers of glosses, as (5, 10, 15)")
    starts = [0, *(edge + 1 for edge in edges)]
    names = [f"{start}-{edge}" if start < edge else f"{edge}" for start, edge in zip(starts, edges, strict=False)]
    names.append(f"{starts[-1]} or more")
    ranges = {video: sum(counts.words > edge for edge in edges) for video, counts in result.per_video.items()}
    return _grouped(result, ranges, "glosses").rename(index=dict(enumerate(names)))


def _pairs(result: Score) -> Pairs:
    return tuple(pair for video in result.per_video.values() for pair in video.pairs)


def confusions(result: Score, n: int = 20) -> pd.DataFrame:
    """The n most frequent substitutions: reference, recognised, count."""
    wrong = Counter((r, h) for r, h in _pairs(result) if r is not None and h is not None and not right(r, h))
    counts = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))
    return pd.DataFrame([(*pair, count) for pair, count in counts[:n]], columns=["reference", "recognised", "count"])


def never_recognised(result: Score) -> pd.DataFrame:
    """Reference glosses that were not right once: occurrences, deletions, and what most often came instead."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)  # reference gloss -> what was recognised in its place
    for reference, recognised in _pairs(result):
        if reference is not None:
            answers[reference][recognised or DELETED] += 1
    rows = [
        (gloss, given.total(), given[DELETED], min(given, key=lambda answer: (-given[answer], answer)))
        for gloss, given in answers.items()
        if not any(right(gloss, answer) for answer in given)
    ]
    rows.sort(key=lambda row: (-row[1], row[0]))
    return pd.DataFrame(rows, columns=["gloss", "occurrences", "deletions", "most_often"]).set_index("gloss")


def confusion_matrix(result: Score, n: int = 20) -> pd.DataFrame:
    """Counts for a heat map: rows the n reference glosses with most errors, columns what was recognised there.

    The columns are the same glosses, then the n glosses that most often came in their place, "(other)", "(deleted)".
    """
    errors = Counter(reference for reference, answer in _pairs(result) if reference and not right(reference, answer))
    rows = sorted(errors, key=lambda g: (-errors[g], g))[:n]
    names = {fold(gloss): gloss for gloss in reversed(rows)}
    answers = (answer for gloss, answer in _pairs(result) if gloss in rows and answer)
    instead = Counter(answer for answer in answers if fold(answer) not in names)
    further = sorted(instead, key=lambda g: (-instead[g], g))[:n]
    names |= {fold(gloss): gloss for gloss in reversed(further)}
    table = pd.DataFrame(0, index=rows, columns=[*rows, *further, "(other)", DELETED])
    for reference, recognised in _pairs(result):
        if reference in rows:
            column = DELETED if recognised is None else names.get(fold(recognised), "(other)")
            table.loc[reference, column] += 1
    return table


def csv_text(table: pd.DataFrame, number: str | None = None) -> str:
    """A table as CSV without its index, in which no spreadsheet computes. number: a format such as "%.4f"."""
    return table.map(as_csv).to_csv(index=False, lineterminator="\n", float_format=number)
