"""sclite's alignment of two sentences, of any length.

sclite aligns with the costs 4 for a substitution and 3 for a deletion or insertion (SCTK, net_dp.c), so its counts can
exceed the plain edit distance: it prefers three deletions and three insertions (18) to five substitutions (20).

The table of costs has a cell for each pair of words: ten thousand million for two sentences of 100,000. Only every
thousandth row or so is kept; on the way back the rows between two of them are computed a second time, with their moves.
"""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

import numpy as np
from numba import njit

from slakit.records import CorpusError

Pairs = tuple[tuple[str | None, str | None], ...]

MAX_CELLS = 20_000_000_000  # 140,000 words by as many: some minutes
WHOLE = 2**22  # cells up to which every move is kept at once: 4 MB
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def fold(gloss: str) -> str:
    """Upper-case ASCII letters become lower case, nothing else does: sclite's idea of the same word."""
    return gloss.translate(_LOWER)


def align_words(reference: Sequence[str], hypothesis: Sequence[str], null: str | None = None) -> Pairs:
    """sclite's alignment: (reference word or None for an insertion, recognised word or None for a deletion), in order.

    Costs 4 / 3 / 3; in a cell the diagonal wins if it is no worse than both others, then a deletion if it is better
    than an insertion, then the insertion. null: a word that stands for none: it costs 0.001 to delete or insert and 1
    to meet itself (SCTK, word.c), which can decide between alignments that cost the same; it is left out of the answer.
    CorpusError for sentences that would take hours.
    """
    if len(reference) * len(hypothesis) > MAX_CELLS:
        raise CorpusError(
            f"{len(reference):,} words cannot be aligned with {len(hypothesis):,}: it would take hours; score sentence "
            "by sentence"
        )
    numbers: dict[str, int] = {} if null is None else {null: 0}
    left, top = (
        np.array([numbers.setdefault(fold(word), len(numbers) + (null is None)) for word in words], np.int64)
        for words in (reference, hypothesis)
    )
    # whole numbers, but single precision as in sclite where thousandths come in; word 0 is the null
    kind = np.int32 if left.all() and top.all() else np.float32
    down, across = (np.where(words == 0, kind(0.001), kind(3)).astype(kind) for words in (left, top))
    prices = np.array([0, 4, 1], kind)  # the same word, another word, two that stand for none
    pairs: list[tuple[str | None, str | None]] = []
    j = len(top)
    for first, moves in _blocks(left, top, down, across, prices):
        i = len(moves)
        while i or (j and not first):
            step = moves[i - 1, j] if i else 2  # in the first row everything is inserted
            i, j = i - (step < 2), j - (step != 1)
            pairs.append((reference[first + i] if step < 2 else None, hypothesis[j] if step != 1 else None))
    return tuple(pair for pair in reversed(pairs) if null is None or null not in pair)


def _blocks(left: np.ndarray, top: np.ndarray, down: np.ndarray, across: np.ndarray, prices: np.ndarray):
    """From the last to the first: (first row, moves uint8 [rows, columns + 1]); 0 diagonal, 1 deletion, 2 insertion."""
    rows = len(left)
    size = max(rows if rows * len(top) <= WHOLE else math.isqrt(rows), 1)
    cost = np.zeros(len(top) + 1, prices.dtype)
    cost[1:] = np.cumsum(across, dtype=prices.dtype)
    nothing, kept = np.zeros((0, 0), np.uint8), []
    starts = range(0, max(rows, 1), size)
    for start in starts:
        kept.append(cost.copy())
        if start != starts[-1]:
            _advance(cost, left[start : start + size], top, down[start : start + size], across, prices, nothing)
    for start in reversed(starts):
        block = slice(start, start + size)
        moves = np.zeros((len(left[block]), len(top) + 1), np.uint8)
        _advance(kept.pop(), left[block], top, down[block], across, prices, moves)
        yield start, moves


@njit(cache=True, nogil=True)
def _advance(cost, left, top, down, across, prices, moves):
    """The costs of a row become those `len(left)` rows below; moves [len(left), columns + 1], or none, are written."""
    keep = len(moves) > 0
    for i in range(len(left)):
        corner = cost[0]
        cost[0] += down[i]
        if keep:
            moves[i, 0] = 1
        for j in range(1, len(cost)):
            if left[i] != top[j - 1]:
                diagonal = corner + prices[1]
            else:
                diagonal = corner + (prices[2] if left[i] == 0 else prices[0])
            corner = cost[j]
            deletion, insertion = corner + down[i], cost[j - 1] + across[j - 1]
            if diagonal <= deletion and diagonal <= insertion:
                best, move = diagonal, 0
            elif deletion < insertion:
                best, move = deletion, 1
            else:
                best, move = insertion, 2
            cost[j] = best
            if keep:
                moves[i, j] = move
