"""The most probable classes of each frame: where beam search spends its time when there are a thousand glosses.

On a CPU the classes of a frame fall into 128 groups. At least `top` classes reach the `top`-th largest group maximum,
so a value just below it, found by bisection, is a threshold that about 50 of 1300 classes pass; only those are sorted.
The group maxima and the counts compile to vector instructions.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit

GROUPS = 128


@njit(cache=True, nogil=True)
def _threshold(row, top, maxima):
    """A value that at least `top` entries of `row` reach; -inf where that cannot be told. Fills the group maxima."""
    maxima[:] = row[:GROUPS]
    whole = row.size - row.size % GROUPS
    for start in range(GROUPS, whole, GROUPS):
        for g in range(GROUPS):
            x = row[start + g]
            maxima[g] = x if x > maxima[g] else maxima[g]
    for g in range(row.size - whole):
        x = row[whole + g]
        maxima[g] = x if x > maxima[g] else maxima[g]
    high = maxima[0]
    low = maxima[0]
    for g in range(1, GROUPS):
        high = max(high, maxima[g])
        low = min(low, maxima[g])
    if top > GROUPS or low == -np.inf:
        return -np.inf
    for _ in range(12):
        middle = low + (high - low) / 2
        reached = 0
        for g in range(GROUPS):
            reached += maxima[g] >= middle
        if reached >= top:
            low = middle
        else:
            high = middle
    return low


@njit(cache=True, nogil=True)
def select_tokens(log_probs, lengths, top, limit):
    """The `top` largest log probabilities of each frame, largest first; of equal ones the smaller token.

    log_probs [B, T, V], lengths [B] -> values float64 [B, T, K], tokens int32 [B, T, K] with K = min(top, V), and
    (clip, frame) of the first frame that holds NaN or a value above `limit`, else (-1, -1). Frames beyond a length are
    not read.
    """
    batch, frames, classes = log_probs.shape
    k = min(top, classes)
    values = np.full((batch, frames, k), -np.inf, np.float64)
    tokens = np.zeros((batch, frames, k), np.int32)
    maxima = np.empty(GROUPS, log_probs.dtype)
    for b in range(batch):
        for t in range(lengths[b]):
            row = log_probs[b, t]
            wrong = 0
            for v in range(classes):
                wrong += not row[v] <= limit  # also true for NaN
            if wrong:
                return values, tokens, b, t
            value, token = values[b, t], tokens[b, t]
            if k > GROUPS:  # inserting into a long list is slow: sort the frame
                order = np.argsort(-row, kind="mergesort")
                for j in range(k):
                    token[j] = order[j]
                    value[j] = row[order[j]]
                continue
            grouped = classes >= 2 * GROUPS
            threshold = _threshold(row, k, maxima) if grouped else -np.inf
            count = 0
            for g in range(GROUPS if grouped else 1):
                if grouped and maxima[g] < threshold:
                    continue
                for v in range(g, classes, GROUPS if grouped else 1):
                    x = row[v]
                    if x < threshold or (count == k and x < value[k - 1]):
                        continue
                    if count < k:
                        j = count
                        count += 1
                    elif x > value[k - 1] or v < token[k - 1]:
                        j = k - 1
                    else:
                        continue
                    while j > 0 and (value[j - 1] < x or (value[j - 1] == x and token[j - 1] > v)):
                        value[j] = value[j - 1]
                        token[j] = token[j - 1]
                        j -= 1
                    value[j] = x
                    token[j] = v
    return values, tokens, -1, -1


def select_gpu(
    log_probs: torch.Tensor, lengths: np.ndarray, top: int, limit: float
) -> tuple[torch.Tensor, torch.Tensor, int, int]:
    """select_tokens() where the log probabilities are, so that only the chosen ones go to the CPU; tokens are int64."""
    if log_probs.device.type == "mps":  # has no float64
        log_probs = log_probs.cpu()
    batch, frames, classes = log_probs.shape
    k = min(top, classes)
    if frames == 0:
        return log_probs.new_zeros(batch, 0, k, dtype=torch.float64), torch.zeros(batch, 0, k, dtype=torch.long), -1, -1
    inside = torch.arange(frames)[None] < torch.from_numpy(lengths)[:, None]  # [B, T]
    bad = inside.to(log_probs.device) & ~(log_probs.amax(2) <= limit)  # amax carries NaN on
    if bool(bad.any()):
        clip, step = (int(x) for x in bad.nonzero()[0])
        return log_probs.new_zeros(0), log_probs.new_zeros(0), clip, step
    if k == classes:
        values, tokens = log_probs.sort(dim=-1, descending=True, stable=True)
        return values.double(), tokens, -1, -1
    # topk breaks ties as it likes: sort the few frames whole where a tie goes on behind the cut ...
    values, tokens = log_probs.topk(k + 1, dim=-1)
    cut = (values[..., k] == values[..., k - 1]) & inside.to(log_probs.device)
    # ... and elsewhere put equal values into the order of their tokens
    tokens, order = tokens[..., :k].sort(dim=-1)
    values, order = values[..., :k].gather(-1, order).sort(dim=-1, descending=True, stable=True)
    tokens = tokens.gather(-1, order)
    if bool(cut.any()):
        full_values, full_tokens = log_probs[cut].sort(dim=-1, descending=True, stable=True)
        values[cut], tokens[cut] = full_values[:, :k], full_tokens[:, :k]
    return values.double(), tokens, -1, -1


def select(
    log_probs: torch.Tensor, lengths: np.ndarray, top: int, limit: float
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """select_tokens() where the log probabilities are; the chosen ones on the CPU, where the search, which is short,
    takes place."""
    if log_probs.device.type == "cpu":
        return select_tokens(np.ascontiguousarray(log_probs.numpy()), lengths, top, limit)
    values, tokens, clip, step = select_gpu(log_probs, lengths, top, limit)
    return values.cpu().numpy(), tokens.int().cpu().numpy(), clip, step
