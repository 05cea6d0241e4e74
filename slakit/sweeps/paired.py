"""Which orders of a paper hold here: over seeds by the spread of the runs, over clips by a paired bootstrap."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from slakit.scoring import paired_errors

SURE = 0.05  # a p-value below this is more than the choice of clips


def errors_of_clips(configurations: list[list[dict[str, Any]]]) -> pd.DataFrame:
    """One row a clip (split, clip, words) with a column "0", "1", … a configuration: its errors, mean over runs.

    configurations: of each its runs' metrics, whose "dev" and "test" hold "clips_errors", {clip: [errors, words]}. A
    configuration without them, or of other clips than the first one with them, has no column.
    """
    table, keys = pd.DataFrame(), ["split", "clip", "words"]
    for number, runs in enumerate(configurations):
        found = [
            pd.DataFrame(
                [(split, clip, words, errors) for clip, (errors, words) in part.get("clips_errors", {}).items()],
                columns=["split", "clip", "words", "errors"],
            )
            for run in runs
            for split in ("dev", "test")
            if (part := run.get(split))
        ]
        if not found or (every := pd.concat(found)).empty:
            continue
        means = pd.DataFrame(every.groupby(keys)["errors"].mean()).reset_index()
        column = means.rename(columns={"errors": str(number)})
        if table.empty:
            table = column
        elif table[keys].equals(column[keys]):
            table[str(number)] = column[str(number)]
    return table


def orders(
    summary: pd.DataFrame, column: str = "test_wer", names: list[str] | None = None, clips: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Every pair of configurations that the paper reports: does its order hold in ours, and is that more than chance?

    Columns: better (the paper's better one), worse, paper and ours (worse minus better, points of WER), error (the
    standard error of ours, from the spread over seeds), p (two-sided, of a paired bootstrap over the clips; empty
    without `clips`, as Results has them), verdict: "same" or "opposite" where the difference is more than twice its
    error and p, where there is one, below 0.05; otherwise "undecided". names: columns that name a configuration
    (default: the first). The summary's rows are those of Results.summary(), under its index.
    """
    paper, split = f"paper_{column}", column.split("_")[0]
    rows = summary.dropna(subset=[paper, column]) if {paper, column} <= set(summary) else summary.iloc[:0]
    here = clips.loc[clips["split"] == split] if clips is not None and len(clips) else pd.DataFrame()
    verdicts = []
    for pair in itertools.combinations(rows.reset_index(names="number").to_dict("records"), 2):
        good, bad = sorted(pair, key=lambda row: row[paper])
        if good[paper] == bad[paper]:
            continue
        labels = [" ".join(str(row[name]) for name in names or [rows.columns[0]]) for row in (good, bad)]
        ours = bad[column] - good[column]
        error = sum(row[f"{column}_std"] ** 2 / row["runs"] for row in (good, bad)) ** 0.5
        columns, p = [str(row["number"]) for row in (bad, good)], float("nan")
        if len(here) and set(columns) <= set(here):
            worse, better, words = (np.asarray(here[name], float) for name in (*columns, "words"))
            p = paired_errors(worse, better, words).p_value
        sure = abs(ours) > 2 * error and not p >= SURE  # never, where the error is not a number: one run each
        verdict = ("same" if ours > 0 else "opposite") if sure else "undecided"
        verdicts.append((*labels, bad[paper] - good[paper], ours, error, p, verdict))
    return pd.DataFrame(verdicts, columns=["better", "worse", "paper", "ours", "error", "p", "verdict"])


def orders_in_words(verdicts: pd.DataFrame) -> str:
    """What orders() found, as sentences: how many of the paper's orders hold here, and which, and which do not."""
    if verdicts.empty:
        return "no pair of configurations was run here for which the paper reports different figures"
    same, opposite, undecided = (list(verdicts["verdict"]).count(name) for name in ("same", "opposite", "undecided"))
    paired = "" if any(map(pd.isna, verdicts["p"])) else ", and in a paired test over clips"
    lines = [
        f"Of {len(verdicts)} orders in the paper {same} hold here by more than twice their error{paired}, "
        f"{opposite} are the other way round, {undecided} are undecided."
    ]
    for verdict, title in (("same", "hold"), ("opposite", "the other way round")):
        for row in verdicts.loc[verdicts["verdict"] == verdict].to_dict("records"):
            figures = f"paper {row['paper']:+.1f}, here {row['ours']:+.1f} ± {row['error']:.1f}"
            figures += "" if pd.isna(row["p"]) else f", p {row['p']:.2g}"
            lines.append(f"  {title}: {row['better']} better than {row['worse']} ({figures})")
    return "\n".join(lines)
