"""Prefix beam search that goes on from its beam: what comes late costs as much as what came first.

The same search as `beam_search`, and the same answer for what it was given so far. Nodes that no entry of the beam
stands on are forgotten, and so is the beginning that all entries share: it cannot change any more, its tokens are kept.
Entries that still differ in a token of more than `horizon` steps ago are decided for the best of them; in a stream
shorter than that nothing is decided early.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

from slakit.decoding.beam import advance, new_beam, new_trie, ranked
from slakit.decoding.hypothesis import LOG_PROB_LIMIT, Hypothesis, bad_value, check_input, check_positive, collapse
from slakit.decoding.language_model import NO_LANGUAGE_MODEL
from slakit.decoding.select import select
from slakit.records import ConfigError

HORIZON = 1500  # steps: four minutes at 25 frames a second


@njit(cache=True, nogil=True)
def _decided(trie, beam, count, until):
    """How many entries stay when what is older than the frame `until` is decided for the best one; they move up."""
    parent, _, _, step, place = trie
    node, p_b, p_nb, score, bonus, state = beam
    old = node[0]
    while old != 0 and step[old] >= until:
        old = parent[old]
    kept = 0
    for j in range(count):
        current = node[j]
        while current != 0 and step[current] >= until:
            current = parent[current]
        place[node[j]] = -1
        if current == old:
            node[kept], p_b[kept], p_nb[kept] = node[j], p_b[j], p_nb[j]
            score[kept], bonus[kept], state[kept] = score[j], bonus[j], state[j]
            kept += 1
    for j in range(kept):
        place[node[j]] = j
    return kept


@njit(cache=True, nogil=True)
def _rooted(trie, used, beam, count, room):
    """A trie of what the beam stands on, with room for so many further nodes, its root where the entries part.

    -> trie, used, and symbols and steps of the path from the old root to the new one.
    """
    parent, symbol, peak, step, _ = trie
    node = beam[0]
    through = np.zeros(used, np.int32)
    for j in range(count):
        current = node[j]
        while current != 0:
            through[current] += 1
            current = parent[current]
    # The new root is above the last node that all share: that one may be in the beam, and is told from the root.
    size, current = 0, node[0]
    while current != 0 and through[current] < count:
        current = parent[current]
    root = parent[current] if current != 0 else 0
    current = root
    while current != 0:
        size += 1
        current = parent[current]
    symbols, steps = np.zeros(size, np.int32), np.zeros(size, np.int32)
    current = root
    for place_of in range(size - 1, -1, -1):
        symbols[place_of], steps[place_of] = symbol[current], step[current]
        current = parent[current]
    renamed = np.full(used, -1, np.int32)
    renamed[root] = 0
    for j in range(count):
        current = node[j]
        while renamed[current] < 0:
            renamed[current] = 0  # seen; named below in their order, parents first
            current = parent[current]
    live = 1
    for old in range(used):
        if renamed[old] == 0 and old != root:
            renamed[old] = live
            live += 1
    trie = new_trie(live + room)
    for old in range(used):
        new = renamed[old]
        if new > 0:
            trie[0][new], trie[1][new] = renamed[parent[old]], symbol[old]
            trie[2][new], trie[3][new] = peak[old], step[old]
    for j in range(count):
        node[j] = renamed[node[j]]
        trie[4][node[j]] = j
    return trie, live, symbols, steps


class BeamStream:
    """push() the log probabilities of a stream as they come; hypotheses() of all so far at any time.

    Options as of beam_search(). settled: (token, step) of the glosses that cannot change any more, and are not in the
    trie; open_steps(): the earliest step of what may still change.
    """

    def __init__(
        self, classes: int, beam_width: int = 10, top_tokens: int = 40, blank: int = 0, collapse_repeats: bool = False,
        horizon: int = HORIZON,
    ):  # fmt: skip
        check_positive(beam_width=beam_width, top_tokens=top_tokens, horizon=horizon)
        self.classes, self.blank, self.top_tokens, self.horizon = classes, blank, top_tokens, horizon
        self.collapse_repeats, self.steps = collapse_repeats, 0
        self.settled: list[tuple[int, int]] = []
        self._trie, self._used, self._count = new_trie(1), 1, 1
        self._beam = new_beam(beam_width, NO_LANGUAGE_MODEL[5])
        self._trie[4][0] = 0

    @property
    def nodes(self) -> int:
        """Prefixes that are held: what the next push costs grows with them, and with nothing else."""
        return self._used

    def push(self, log_probs: torch.Tensor | np.ndarray) -> None:
        """Further steps, natural log probabilities [n, V]. ConfigError as from beam_search()."""
        tensor, sizes = check_input(log_probs[None], None, self.blank)
        if tensor.shape[2] != self.classes:
            raise ConfigError(f"{tensor.shape[2]} classes came, {self.classes} before; push steps of one model")
        values, tokens, clip, step = select(tensor, sizes, self.top_tokens, LOG_PROB_LIMIT)
        if clip >= 0:
            raise bad_value(tensor, clip, step)
        width, count = len(self._beam[0]), int(sizes[0])
        self._count = _decided(self._trie, self._beam, self._count, self.steps + count - self.horizon)
        self._trie, self._used, symbols, steps = _rooted(self._trie, self._used, self._beam, self._count, count * width)
        self.settled += zip(symbols.tolist(), steps.tolist(), strict=True)
        rest = (self.classes, self.blank, np.zeros(0), 0.0, NO_LANGUAGE_MODEL, self._trie, self._beam)
        self._used, self._count = advance(values[0], tokens[0], count, self.steps, *rest, self._used, self._count)
        self.steps += count

    def hypotheses(self, n_best: int = 1) -> list[Hypothesis]:
        """The best labellings of all that came, as beam_search() gives them."""
        keep = len(self._beam[0]) if self.collapse_repeats else n_best
        deep = self._used
        found = [np.zeros((keep, deep), np.int32) for _ in range(2)]
        sizes, scores, totals = np.full(keep, -1, np.int32), np.full(keep, -np.inf), np.full(keep, -np.inf)
        trie = (*self._trie[:4], self._trie[4].copy())  # the beam's places are needed afterwards
        rest = (self._count, found[0], found[1], sizes, scores, totals)
        ranked(self.classes, 0.0, NO_LANGUAGE_MODEL, trie, self._beam, *rest)
        result: list[Hypothesis] = []
        begun, times = [token for token, _ in self.settled], [step for _, step in self.settled]
        for n, size in enumerate(sizes.tolist()):
            if size < 0 or len(result) == n_best:
                continue
            tokens = (*begun, *found[0][n, :size].tolist())
            steps = (*times, *found[1][n, :size].tolist())
            if self.collapse_repeats:
                tokens, steps = collapse(tokens, steps)
                if any(other.tokens == tokens for other in result):
                    continue
            result.append(Hypothesis(tokens, float(scores[n]), steps, float(totals[n])))
        if not result:
            raise ConfigError("every class of some step has probability 0; pass logits.log_softmax(-1)")
        return result

    def shared(self) -> tuple[list[tuple[int, int]], int]:
        """(token, step) of all that cannot change any more, those in the trie included, and a step before which
        nothing else begins."""
        parent, symbol, _, step, _ = self._trie
        paths = []
        for node in self._beam[0][: self._count].tolist():
            path = []
            while node:
                path.append(node)
                node = int(parent[node])
            paths.append(path[::-1])
        common = 0
        while all(len(path) > common and path[common] == paths[0][common] for path in paths):
            common += 1
        fixed = [(int(symbol[node]), int(step[node])) for node in paths[0][:common]]
        others = [int(step[node]) for path in paths for node in path[common:]]
        return self.settled + fixed, min(others, default=self.steps)
