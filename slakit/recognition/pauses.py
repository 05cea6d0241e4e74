"""Where a video of several sentences can be cut: at stretches in which nothing moves.

A model that was trained on single sentences has learned that a clip is one: its BiLSTM begins and ends with it. Of a
longer video it is better shown one sentence at a time, and pauses are where signers part sentences themselves. Found by
motion alone, so it depends on no model; in a picture with other movement, or of somebody who signs without a pause,
nothing is found and the video stays whole.
"""

from __future__ import annotations

import numpy as np

from slakit.models.packing import STRIDE
from slakit.records import ConfigError

STILL = 0.2  # of the clip's usual motion (its 75th percentile): below, a frame is still
CELLS = 28  # motion is measured on pictures of so many cells a side
LEAST_SECONDS = 0.5  # a shorter part stays with the one before it


def motion(frames: np.ndarray) -> np.ndarray:
    """How much each frame differs from the one before: mean absolute difference of its liveliest hundredth of cells,
    float32 [T]; frames uint8 [T, S, S, 3]."""
    step = max(1, frames.shape[1] // CELLS)
    side = frames.shape[1] // step * step
    values = np.zeros(len(frames), np.float32)
    before = None
    for number in range(len(frames)):  # one after the other: they may lie on disk
        grey = np.asarray(frames[number, :side, :side], np.float32).mean(-1)  # [S, S]
        cells = grey.reshape(side // step, step, side // step, step).mean((1, 3)).ravel()
        if before is not None:
            moved = np.abs(cells - before)
            values[number] = np.sort(moved)[-max(1, len(moved) // 100) :].mean()
        before = cells
    if len(values) > 1:
        values[0] = values[1]
    return values


def between_pauses(frames: np.ndarray, fps: float, seconds: float) -> list[tuple[int, int]]:
    """The parts of a clip between pauses of `seconds` or more, cut in their middle: (start, end) in frames; they tile
    the clip, and all but the last are whole steps of the model. ConfigError for a pause that is no time."""
    if not seconds > 0:
        raise ConfigError(f"pauses={seconds!r} is no time; give seconds of stillness, such as 0.6")
    values = motion(frames)
    still = values < STILL * np.percentile(values, 75)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], still, [False]]).astype(np.int8)))
    cuts = [0]
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        middle = round((start + end) / 2 / STRIDE) * STRIDE
        long, inside = end - start >= seconds * fps, 0 < start and end < len(frames)
        if long and inside and middle - cuts[-1] >= LEAST_SECONDS * fps:
            cuts.append(middle)
    return list(zip(cuts, [*cuts[1:], len(frames)], strict=True))
