"""Prefix beam search on the CPU, compiled by numba at the first call and cached on disk.

The algorithm is ctcdecode's (parlance/ctcdecode, `ctc_beam_search_decoder.cpp` and `path_trie.cpp`); see
`slakit.decoding.search` for what that means. Two things make it fast and leave it exact: a frame's tokens are sorted by
log probability, so a prefix stops looking as soon as no later token can enter the beam, and the trie is four flat
arrays with at most `beam_width` new nodes a frame.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

TICKS = 2.0**30  # scores are compared in steps of 2^-30 nat: equal in mathematics stays equal in floating point


@njit(cache=True, nogil=True)
def _logaddexp(a, b):
    if a < b:
        a, b = b, a
    if b == -math.inf:
        return a
    return a + math.log1p(math.exp(b - a))


@njit(cache=True, nogil=True)
def _lm_step(state, token, classes, keys, log_probs, successors, backoffs, parents):
    """ln P(token | state) of the back-off n-gram model, and the state that follows."""
    total = 0.0
    while True:
        key = np.int64(state) * (classes + 1) + token
        i = np.searchsorted(keys, key)
        if i < keys.size and keys[i] == key:
            return total + log_probs[i], successors[i]
        total += backoffs[state]
        state = parents[state]


@njit(cache=True, nogil=True)
def _before(score_a, token_a, rank_a, score_b, token_b, rank_b):
    """The order of the beam: better score first, then the smaller last token (as ctcdecode), then the older entry."""
    a, b = math.floor(score_a * TICKS + 0.5), math.floor(score_b * TICKS + 0.5)
    if a != b:
        return a > b
    if token_a != token_b:
        return token_a < token_b
    return rank_a < rank_b


@njit(cache=True, nogil=True)
def new_trie(nodes):
    """parent, symbol, largest log probability seen while the parent was in the beam, its frame, position in the beam
    (-1: none) of the nodes; node 0 is the empty prefix."""
    peak, step = np.zeros(nodes, np.float64), np.zeros(nodes, np.int32)
    return np.zeros(nodes, np.int32), np.full(nodes, -1, np.int32), peak, step, np.full(nodes, -1, np.int32)


@njit(cache=True, nogil=True)
def new_beam(width, start):
    """A beam with the empty prefix as its one entry; its node must have the place 0. See advance()."""
    node, state = np.zeros(width, np.int32), np.full(width, start, np.int64)
    p_b, p_nb, score, bonus = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width)
    p_nb[0] = -np.inf
    return node, p_b, p_nb, score, bonus, state


@njit(cache=True, nogil=True)
def advance(values, tokens, length, first, classes, blank, token_bonus, lm_weight, lm, trie, beam, used, count):
    """The beam after `length` further frames, the first of them number `first`.

    values, tokens [T, K]; trie: parent, symbol, peak, step, place of its nodes, `used` of them, with room for `width`
    more a frame; beam: node, log P(ending in blank), log P(ending in the symbol), their sum, bonus, LM state of its
    `count` entries, best first. -> used, count.
    """
    keys, lm_log_probs, successors, backoffs, parents, _ = lm
    parent, symbol, peak, step, place = trie
    node, p_b, p_nb, score, bonus, state = beam
    width, k_max = node.size, values.shape[1]
    fused = keys.size > 0 or token_bonus.size > 0
    slot = np.full(classes, -1, np.int32)  # position among the tokens of this frame
    child = np.full((width, k_max), -1, np.int32)  # existing child of a beam entry for a token of this frame
    new_node = np.zeros(width, np.int32)
    new_b, new_nb, new_bonus, new_total = np.zeros(width), np.zeros(width), np.zeros(width), np.zeros(width)
    new_state = np.zeros(width, np.int64)
    new_token, new_rank, new_slot = np.zeros(width, np.int32), np.zeros(width, np.int32), np.zeros(width, np.int32)
    for t in range(length):
        value, token = values[t], tokens[t]
        for k in range(k_max):
            slot[token[k]] = k
        child[:count] = -1
        # children of beam entries that exist already lie on the path of some beam entry
        for j in range(count):
            current = node[j]
            while current != 0:
                above = parent[current]
                if place[above] >= 0:
                    k = slot[symbol[current]]
                    if k >= 0:
                        child[place[above], k] = current
                        if peak[current] < value[k]:
                            peak[current] = value[k]
                            step[current] = first + t
                current = above
        filled = 0
        for phase in range(2):
            for i in range(count):
                for k in range(k_max if phase == 1 else 1):
                    add = bonus[i]
                    follow = state[i]
                    if phase == 0:  # the prefix stays as it is
                        last, rank, chosen, b, nb = symbol[node[i]], i, -1, -np.inf, -np.inf
                        if slot[blank] >= 0:
                            b = value[slot[blank]] + score[i]
                        if node[i] != 0 and slot[last] >= 0:
                            emitted = value[slot[last]]
                            nb = emitted + p_nb[i]
                            above = place[parent[node[i]]]
                            if above >= 0:  # its parent is in the beam and is extended to it
                                same = symbol[node[above]] == last
                                nb = _logaddexp(nb, emitted + (p_b[above] if same else score[above]))
                        total = _logaddexp(b, nb) + add
                    else:  # the prefix grows by one token
                        last, rank, chosen = token[k], width + i, k
                        if not fused and filled == width:
                            if math.floor((score[i] + value[k]) * TICKS + 0.5) < math.floor(
                                new_total[width - 1] * TICKS + 0.5
                            ):
                                break  # tokens are sorted: nothing that follows can enter
                        if last == blank or (child[i, k] >= 0 and place[child[i, k]] >= 0):
                            continue
                        b = -np.inf
                        nb = value[k] + (p_b[i] if symbol[node[i]] == last else score[i])
                        if token_bonus.size > 0:
                            add += token_bonus[last]
                        if keys.size > 0:
                            lm_log_prob, follow = _lm_step(
                                state[i], last, classes, keys, lm_log_probs, successors, backoffs, parents
                            )
                            add += lm_weight * lm_log_prob
                        total = nb + add
                    j = filled
                    if filled == width:
                        j = width - 1
                        if not _before(total, last, rank, new_total[j], new_token[j], new_rank[j]):
                            continue
                    else:
                        filled += 1
                    while j > 0 and _before(total, last, rank, new_total[j - 1], new_token[j - 1], new_rank[j - 1]):
                        new_total[j], new_token[j], new_rank[j] = (
                            new_total[j - 1],
                            new_token[j - 1],
                            new_rank[j - 1],
                        )
                        new_slot[j], new_b[j], new_nb[j] = new_slot[j - 1], new_b[j - 1], new_nb[j - 1]
                        new_bonus[j], new_state[j] = new_bonus[j - 1], new_state[j - 1]
                        j -= 1
                    new_total[j], new_token[j], new_rank[j], new_slot[j] = total, last, rank, chosen
                    new_b[j], new_nb[j], new_bonus[j], new_state[j] = b, nb, add, follow
        for j in range(filled):
            if new_slot[j] < 0:
                new_node[j] = node[new_rank[j]]
            else:
                above, k = new_rank[j] - width, new_slot[j]
                if child[above, k] >= 0:
                    new_node[j] = child[above, k]
                else:
                    new_node[j] = used
                    parent[used], symbol[used], peak[used], step[used] = node[above], new_token[j], value[k], first + t
                    used += 1
        for k in range(k_max):
            slot[token[k]] = -1
        for j in range(count):
            place[node[j]] = -1
        count = filled
        for j in range(count):
            node[j], p_b[j], p_nb[j] = new_node[j], new_b[j], new_nb[j]
            bonus[j], state[j] = new_bonus[j], new_state[j]
            score[j] = _logaddexp(p_b[j], p_nb[j])
            place[node[j]] = j
    return used, count


@njit(cache=True, nogil=True)
def ranked(classes, lm_weight, lm, trie, beam, count, out_tokens, out_steps, out_sizes, out_scores, out_totals):
    """The best entries of the beam, written into the arrays of one clip (see search)."""
    keys, lm_log_probs, successors, backoffs, parents, _ = lm
    parent, symbol, _, step, place = trie
    node, _, _, score, bonus, state = beam
    width, n_best = node.size, out_sizes.size
    # order the beam, with the probability of the end of the sentence where there is a language model
    taken = np.zeros(width, np.bool_)
    for j in range(count):
        place[node[j]] = -1
        if keys.size > 0:
            lm_log_prob, _ = _lm_step(state[j], classes, classes, keys, lm_log_probs, successors, backoffs, parents)
            bonus[j] += lm_weight * lm_log_prob
    for n in range(min(n_best, count)):
        best = -1
        for j in range(count):
            if not taken[j] and (
                best < 0
                or _before(score[j] + bonus[j], symbol[node[j]], j, score[best] + bonus[best], symbol[node[best]], best)
            ):
                best = j
        taken[best] = True
        if score[best] == -np.inf:
            continue
        size = 0
        current = node[best]
        while current != 0:
            size += 1
            current = parent[current]
        out_sizes[n], out_scores[n] = size, score[best]
        out_totals[n] = score[best] + bonus[best]
        current = node[best]
        for position in range(size - 1, -1, -1):
            out_tokens[n, position] = symbol[current]
            out_steps[n, position] = step[current]
            current = parent[current]


@njit(cache=True, nogil=True)
def search(values, tokens, lengths, classes, width, blank, n_best, token_bonus, lm_weight, lm):
    """Prefix beam search over the selected tokens.

    values, tokens [B, T, K] of `slakit.decoding.select`, lengths [B]; token_bonus float64 [V] or empty;
    lm: `NgramLanguageModel.arrays` (no keys: no language model).
    -> tokens, steps int32 [B, N, T]; sizes int32 [B, N] (-1: no such hypothesis); CTC scores and totals [B, N].
    """
    batch, frames, _ = values.shape
    out_tokens = np.zeros((batch, n_best, frames), np.int32)
    out_steps = np.zeros((batch, n_best, frames), np.int32)
    out_sizes = np.full((batch, n_best), -1, np.int32)
    out_scores = np.full((batch, n_best), -np.inf, np.float64)
    out_totals = np.full((batch, n_best), -np.inf, np.float64)
    trie = new_trie(1 + frames * width)
    for video in range(batch):
        beam = new_beam(width, lm[5])
        trie[1][0], trie[4][0] = -1, 0
        length = lengths[video]
        args = (token_bonus, lm_weight, lm, trie, beam)
        _, count = advance(values[video], tokens[video], length, 0, classes, blank, *args, 1, 1)
        out = (out_tokens[video], out_steps[video], out_sizes[video], out_scores[video], out_totals[video])
        ranked(classes, lm_weight, lm, trie, beam, count, *out)
    return out_tokens, out_steps, out_sizes, out_scores, out_totals
