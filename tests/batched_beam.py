"""Prefix beam search as batched tensor operations: the independent reference of the compiled search.

All clips advance one frame at a time; a frame is about sixty operations on tensors of at most [B, W, W] or [B, W, K]
(W prefixes in the beam, K tokens of the frame), so memory does not grow with the number of classes.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from unittest import mock

import torch

from slakit import decoding

TICKS = 2.0**30  # as in slakit.decoding.beam: scores are compared in steps of 2^-30 nat


def beam_search(*arguments, backend: str = "numba", **options):
    """slakit's beam search; backend "torch": with search_batch() below in the place of the compiled search."""
    with mock.patch("slakit.decoding.search.search", search_batch) if backend == "torch" else nullcontext():
        return decoding.beam_search(*arguments, **options)


def _lm_step(state: torch.Tensor, token: torch.Tensor, wanted: torch.Tensor, classes: int, lm):
    """ln P(token | state) of the back-off n-gram model and the state that follows; 0 where not `wanted` (blanks)."""
    keys, log_probs, successors, backoffs, parents = lm
    total = torch.zeros(state.shape, dtype=torch.float64, device=state.device)
    log_prob, following = total.clone(), torch.zeros_like(state)
    open_ = wanted
    while bool(open_.any()):
        key = state * (classes + 1) + token
        place = torch.searchsorted(keys, key).clamp(max=len(keys) - 1)
        found = open_ & (keys[place] == key)
        log_prob = torch.where(found, total + log_probs[place], log_prob)
        following = torch.where(found, successors[place], following)
        open_ = open_ & ~found
        total = total + backoffs[state]
        state = torch.where(open_, parents[state], state)
    return log_prob, following


def _sort_keys(total: torch.Tensor, token: torch.Tensor, rank: torch.Tensor, possible: torch.Tensor, classes: int):
    """Whole numbers [B, N] whose ascending order is: better score, smaller last token, smaller rank."""
    token_bits = (classes + 1).bit_length()
    rank_bits = int(rank.max()).bit_length() + 1
    cap = float(2 ** (62 - token_bits - rank_bits) - 1)
    ticks = (total * TICKS + 0.5).floor()
    best = ticks.masked_fill(~possible, -math.inf).amax(1, keepdim=True)
    best = torch.where(best == -math.inf, torch.zeros_like(best), best)
    behind = (best - ticks).clamp(max=cap).long()  # impossible (-inf) comes last
    keys = (behind << (token_bits + rank_bits)) | ((token + 1) << rank_bits) | rank
    return keys.masked_fill(~possible, torch.iinfo(torch.long).max)


@torch.no_grad()
def search_batch(values, tokens, lengths, classes, width, blank, n_best, token_bonus, lm_weight, lm):
    """Prefix beam search over the selected tokens; arguments and answer as `slakit.decoding.beam.search`.

    -> NumPy: tokens, steps int32 [B, N, T]; sizes int32 [B, N] (-1: no such hypothesis); scores and totals [B, N].
    """
    values, tokens = torch.from_numpy(values), torch.from_numpy(tokens)
    device = values.device
    batch, frames, k_max = values.shape
    start = lm[5]
    keys, *lm_rest = (torch.from_numpy(part).to(device) for part in lm[:5])
    lm_arrays, has_lm = (keys, *lm_rest), len(keys) > 0
    bonus_table = torch.from_numpy(token_bonus).to(device) if token_bonus.size else None
    sizes = torch.from_numpy(lengths).to(device)
    longest = int(lengths.max())
    # beyond a clip's end the blank is certain: the beam stays as it is
    ended = (torch.arange(frames, device=device)[None] >= sizes[:, None])[..., None]  # [B, T, 1]
    others = [blank, *(c for c in range(k_max) if c != blank)][:k_max]
    tokens = torch.where(ended, torch.tensor(others, device=device), tokens.long())
    certain = torch.full((k_max,), -math.inf, dtype=torch.float64, device=device)
    certain[0] = 0.0
    values = torch.where(ended, certain, values)

    def full(shape: tuple[int, ...], value: float, dtype: torch.dtype) -> torch.Tensor:
        return torch.full((batch, *shape), value, dtype=dtype, device=device)

    nodes = 1 + longest * width  # the trie; node 0 is the empty prefix
    dump = nodes  # takes the writes that do not count
    parent_symbol = full((nodes + 1,), -1, torch.long)  # last token of a node
    peak = full((nodes + 1,), -math.inf, torch.float64)
    step = full((nodes + 1,), 0, torch.long)
    path = full((width, longest + 1), -1, torch.long)  # [B, W, depth]: the nodes from the empty prefix on
    path[:, 0, 0] = 0
    depth = full((width,), 0, torch.long)
    node = full((width,), 0, torch.long)
    exists = full((width,), False, torch.bool)
    exists[:, 0] = True
    p_b, p_nb = full((width,), -math.inf, torch.float64), full((width,), -math.inf, torch.float64)
    p_b[:, 0] = 0.0
    bonus, state = full((width,), 0.0, torch.float64), full((width,), start, torch.long)
    slot = full((classes + 1,), -1, torch.long)
    stay_rank = torch.arange(width, device=device)
    rank = torch.cat([stay_rank, (width + stay_rank).repeat_interleave(k_max)])[None].expand(batch, -1)
    clip = torch.arange(batch, device=device)[:, None]

    for t in range(longest):
        value, token = values[:, t], tokens[:, t]  # [B, K]
        score = torch.logaddexp(p_b, p_nb)
        last = parent_symbol.gather(1, node)  # [B, W], -1 for the empty prefix
        slot.fill_(-1).scatter_(1, token, torch.arange(k_max, device=device).expand(batch, -1))

        # descends[b, j, i]: prefix i is a strict prefix of j; child: the node after i on the way to j     [B, W, W]
        up = depth[:, None, :].expand(-1, width, -1)
        child = path.gather(2, (up + 1).clamp(max=longest))
        descends = (path.gather(2, up) == node[:, None, :]) & (depth[:, :, None] > up)
        descends &= exists[:, :, None] & exists[:, None, :]
        child = torch.where(descends, child, dump)
        child_slot = slot.gather(1, parent_symbol.gather(1, child.flatten(1)).clamp(min=-1) % (classes + 1)).view_as(
            child
        )
        listed = descends & (child_slot >= 0)
        emitted = value.gather(1, child_slot.clamp(min=0).flatten(1)).view_as(child)
        write = torch.where(listed & (emitted > peak.gather(1, child.flatten(1)).view_as(child)), child, dump).flatten(
            1
        )
        peak.scatter_(1, write, emitted.flatten(1))
        step.scatter_(1, write, t)
        is_parent = descends & (depth[:, :, None] == up + 1)  # i is the parent of j
        # existing[b, i, k]: the node that prefix i has for token k, or -1; in_beam: it is an entry of its own
        place = torch.where(listed, stay_rank * k_max + child_slot, width * k_max).flatten(1)
        existing = full((width * k_max + 1,), -1, torch.long).scatter_(1, place, child.flatten(1))[:, :-1]
        place = torch.where(listed & is_parent, stay_rank * k_max + child_slot, width * k_max).flatten(1)
        in_beam = full((width * k_max + 1,), False, torch.bool).scatter_(1, place, True)[:, :-1]

        # a prefix stays: blank, or its last token again, or its parent extended to it
        blank_slot = slot[:, blank : blank + 1]
        nothing = torch.tensor(-math.inf, dtype=torch.float64, device=device)
        stay_b = torch.where(blank_slot >= 0, value.gather(1, blank_slot.clamp(min=0)), nothing) + score
        last_slot = slot.gather(1, last % (classes + 1))
        emitted = torch.where(last_slot >= 0, value.gather(1, last_slot.clamp(min=0)), nothing)
        above = is_parent.int().argmax(2)
        arrives = torch.where(last.gather(1, above) == last, p_b.gather(1, above), score.gather(1, above))
        arrives = torch.where(is_parent.any(2), arrives, nothing)
        stay_nb = torch.logaddexp(emitted + p_nb, emitted + arrives)
        # a prefix grows by one token                                                                        [B, W, K]
        grow_nb = value[:, None] + torch.where(token[:, None] == last[..., None], p_b[..., None], score[..., None])
        grow_bonus, grow_state = bonus[..., None].expand_as(grow_nb), state[..., None].expand_as(grow_nb)
        wide_token = token[:, None].expand_as(grow_state)
        if bonus_table is not None:
            grow_bonus = grow_bonus + bonus_table[wide_token]
        may_grow = exists[..., None] & (wide_token != blank) & ~in_beam.view_as(grow_state)
        if has_lm:
            lm_log_prob, grow_state = _lm_step(grow_state, wide_token, may_grow, classes, lm_arrays)
            grow_bonus = grow_bonus + lm_weight * lm_log_prob

        # the best W of both                                                                             [B, W + W K]
        stay_total = torch.logaddexp(stay_b, stay_nb) + bonus
        total = torch.cat([stay_total, (grow_nb + grow_bonus).flatten(1)], 1)
        ends = torch.cat([last, wide_token.flatten(1)], 1)
        possible = torch.cat([exists, may_grow.flatten(1)], 1)
        order, chosen = _sort_keys(total, ends, rank, possible, classes).topk(width, dim=1, largest=False)
        exists = order != torch.iinfo(torch.long).max
        stays = chosen < width
        source = torch.where(stays, chosen, (chosen - width) // k_max)
        grown = (chosen - width).clamp(min=0)  # index into [B, W K]
        old = existing.gather(1, grown)
        fresh = 1 + t * width + stay_rank
        parent_symbol[:, 1 + t * width : 1 + (t + 1) * width] = ends.gather(1, chosen)
        peak[:, 1 + t * width : 1 + (t + 1) * width] = value.gather(1, grown % k_max)
        step[:, 1 + t * width : 1 + (t + 1) * width] = t
        node = torch.where(stays, node.gather(1, source), torch.where(old >= 0, old, fresh))
        path = path[clip, source]
        depth = depth.gather(1, source) + (~stays).long()
        path.scatter_(2, depth[..., None], node[..., None])
        p_b = torch.where(stays, stay_b.gather(1, source), nothing)
        p_nb = torch.where(stays, stay_nb.gather(1, source), grow_nb.flatten(1).gather(1, grown))
        bonus = torch.where(stays, bonus.gather(1, source), grow_bonus.flatten(1).gather(1, grown))
        state = torch.where(stays, state.gather(1, source), grow_state.flatten(1).gather(1, grown))

    if has_lm:
        bonus = bonus + lm_weight * _lm_step(state, torch.full_like(state, classes), exists, classes, lm_arrays)[0]
    score = torch.logaddexp(p_b, p_nb)
    last = parent_symbol.gather(1, node)
    order = _sort_keys(score + bonus, last, stay_rank.expand_as(last), exists, classes).argsort(1)[:, :n_best]
    real = exists.gather(1, order) & (score.gather(1, order) > -math.inf)
    way = path[clip, order][..., 1:].clamp(min=0)  # [B, N, T]
    shape = way.shape
    found_tokens = parent_symbol.gather(1, way.flatten(1)).view(shape)
    found_steps = step.gather(1, way.flatten(1)).view(shape)
    found_sizes = torch.where(real, depth.gather(1, order), -1)
    parts = (found_tokens, found_steps, found_sizes, score.gather(1, order), (score + bonus).gather(1, order))
    return tuple(part.cpu().numpy() for part in parts)
