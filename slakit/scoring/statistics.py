"""How sure a word error rate is: bootstrap interval, paired bootstrap, NIST's matched-pairs test.

Bisani and Ney 2004, "Bootstrap Estimates for Confidence Intervals in ASR Performance Evaluation"; Gillick and Cox 1989,
"Some Statistical Issues in the Comparison of Speech Recognition Algorithms" (NIST: sc_stats -t mapsswe).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slakit.records import ConfigError, CorpusError
from slakit.scoring.wer import Pairs, Score, fold, right


@dataclass(frozen=True)
class Interval:
    """A confidence interval; of a WER in percent."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class PairedTest:
    """Two systems on the same videos. difference: WER of the first minus the second, in points (below 0: first better).

    p_value: two-sided; low, high: bootstrap interval of the difference (None for the matched-pairs test);
    z, segments: of the matched-pairs test (None for the bootstrap).
    """

    difference: float
    p_value: float
    low: float | None = None
    high: float | None = None
    z: float | None = None
    segments: int | None = None


def bootstrap_interval(score: Score, level: float = 0.95, samples: int = 10_000, seed: int = 0) -> Interval:
    """Percentile interval of the WER over resampled videos (Bisani and Ney 2004, equation 4)."""
    errors, words = _counts(score)
    return _interval(100.0 * _resampled([errors], words, level, samples, seed)[0], level)


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    weights: Sequence[float] | np.ndarray | None = None,
    level: float = 0.95,
    samples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean of one value a clip (weighted, for instance by its frames), over resampled clips.

    Glosses and frames of one clip are not independent, so clips are what is drawn. ConfigError where there are none.
    """
    x = np.asarray(values, float)
    w = np.ones_like(x) if weights is None else np.asarray(weights, float)
    if not len(x) or w.sum() <= 0:
        raise ConfigError("there are no clips to take a mean of; choose more clips")
    means, drawn = _resampled([x * w, w], w, level, samples, seed)
    return _interval(means[drawn > 0], level)  # without the resamples that hold clips of no weight alone


def paired_bootstrap(
    first: Score, second: Score, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> PairedTest:
    """Resample the videos, the same ones for both systems, and look at the difference of the two WERs.

    The p-value is twice the smaller share of resamples that favour a system (ties count for both), at most 1.
    CorpusError where the two were not scored on the same videos and references.
    """
    _check_same(first, second)
    (errors_1, words), (errors_2, _) = _counts(first), _counts(second)
    return paired_errors(errors_1, errors_2, words, level, samples, seed)


def paired_errors(
    first: np.ndarray, second: np.ndarray, words: np.ndarray, level: float = 0.95, samples: int = 10_000, seed: int = 0
) -> PairedTest:
    """paired_bootstrap() of counts alone: of each clip both systems' errors (or means over runs) and its glosses."""
    wer_1, wer_2 = (100.0 * ratio for ratio in _resampled([first, second], words, level, samples, seed))
    difference = wer_1 - wer_2
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    interval, overall = _interval(difference, level), 100.0 * float((first - second).sum() / words.sum())
    return PairedTest(overall, min(1.0, 2.0 * (tail + 1) / (samples + 1)), interval.low, interval.high)


def matched_pairs(first: Score, second: Score, min_good: int = 2) -> PairedTest:
    """Matched pairs sentence-segment word error test (MAPSSWE), as NIST's sc_stats runs it.

    A segment goes from the first error of either system to where both have `min_good` glosses right in a row, or to the
    end of the video; z = mean / standard error of the difference of errors a segment, p two-sided under the normal
    distribution. One thing differs: sc_stats overlooks insertions of the second system behind the last reference
    gloss, which makes its answer depend on the order of the systems; here they count for both.
    """
    _check_same(first, second)
    if min_good < 1:
        raise ConfigError(f"min_good is {min_good}; it must be 1 or more")
    differences = np.array(
        [a - b for video in first.per_video for a, b in segments(
            first.per_video[video].pairs, second.per_video[video].pairs, min_good
        )],
        dtype=float,
    )  # fmt: skip
    count = len(differences)
    mean = differences.mean() if count else 0.0
    deviation = differences.std(ddof=1) if count > 1 else 0.0
    # fewer than two segments, or all alike: no spread to judge a difference by
    z = float(mean / (deviation / math.sqrt(count))) if deviation > 0 else 0.0
    return PairedTest(first.wer - second.wer, math.erfc(abs(z) / math.sqrt(2)), z=z, segments=count)


def segments(first: Pairs, second: Pairs, min_good: int = 2) -> list[tuple[int, int]]:
    """The errors of two systems in each independent segment of one video (Gillick and Cox 1989, section 4)."""
    result: list[tuple[int, int]] = []
    errors, good, inside = [0, 0], 0, False
    for wrong in zip(_errors_by_gloss(first), _errors_by_gloss(second), strict=True):
        for inserted in (True, False):  # insertions stand before their gloss and break a run of right ones
            bad = [w[0] if inserted else w[1] for w in wrong]
            if any(bad):
                errors = [e + b for e, b in zip(errors, bad, strict=True)]
                good, inside = 0, True
            elif inside and not inserted:
                good += 1
                if good == min_good:
                    result.append((errors[0], errors[1]))
                    errors, good, inside = [0, 0], 0, False
    if inside:
        result.append((errors[0], errors[1]))
    return result


def _errors_by_gloss(pairs: Pairs) -> list[tuple[int, int]]:
    """For each reference gloss the insertions before it and whether it is wrong; last those behind the last gloss."""
    result, inserted = [], 0
    for reference, recognised in pairs:
        if reference is None:
            inserted += 1
        else:
            result.append((inserted, int(not right(reference, recognised))))
            inserted = 0
    return [*result, (inserted, 0)]


def _counts(score: Score) -> tuple[np.ndarray, np.ndarray]:
    videos = score.per_video.values()
    return np.array([v.errors for v in videos], float), np.array([v.words for v in videos], float)


def _interval(resampled: np.ndarray, level: float) -> Interval:
    low, high = np.percentile(resampled, [50.0 * (1.0 - level), 50.0 * (1.0 + level)])
    return Interval(float(low), float(high), level)


def _resampled(
    parts: list[np.ndarray], whole: np.ndarray, level: float, samples: int, seed: int
) -> tuple[np.ndarray, ...]:
    """sum(part) / sum(whole) over each resample of the clips, [samples] for each part; what has no sum counts as 1."""
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level is {level!r}; a confidence level lies between 0 and 1, as 0.95")
    if samples < 100:
        raise ConfigError(f"samples is {samples}; an interval needs 100 or more")
    count = len(whole)
    random = np.random.default_rng(seed)
    ratios = []
    for start in range(0, samples, 500):
        drawn = random.multinomial(count, np.full(count, 1.0 / count), size=min(500, samples - start))  # [s, clips]
        total = drawn @ whole
        ratios.append(np.stack([drawn @ part for part in parts]) / np.where(total > 0, total, 1.0))
    return tuple(np.concatenate(ratios, 1))


def _check_same(first: Score, second: Score) -> None:
    if set(first.per_video) != set(second.per_video):
        raise CorpusError("the two systems were scored on different videos; score both on the same split")
    for video, one in first.per_video.items():
        two = second.per_video[video]
        if [fold(r) for r, _ in one.pairs if r is not None] != [fold(r) for r, _ in two.pairs if r is not None]:
            raise CorpusError(
                f"the references of {video} differ between the two systems; score both with the same ones"
            )
