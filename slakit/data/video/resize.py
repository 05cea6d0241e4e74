"""Frames to the square size that the encoder takes: OpenCV's LANCZOS4, which the published preprocessing uses.

OpenCV itself is not needed: its fixed-point arithmetic is done here, compiled by numba.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit
from PIL import Image

from slakit.records import ConfigError

FILTERS = ("lanczos4", "antialias")


@cache
def _lanczos4_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight source positions and weights for each target pixel, int64 and int32 [size, 8], edge pixels repeated.

    Weights are OpenCV's fixed point, units of 1/2048. Eight taps however strongly the picture shrinks: unlike
    "antialias" the filter does not widen (cv2.resize).
    """
    positions, weights = np.empty((size, 8), np.int64), np.empty((size, 8), np.int32)
    for target in range(size):
        position = np.float32((target + 0.5) * (length / size) - 0.5)
        first = int(np.floor(position))
        positions[target] = np.clip(np.arange(first - 3, first + 5), 0, length - 1)
        weights[target] = np.rint(_lanczos4_weights(float(position - np.float32(first))) * np.float32(2048))
    return positions, weights


def _lanczos4_weights(x: float) -> np.ndarray:
    """The eight float32 weights of OpenCV's interpolateLanczos4 for the fraction x in [0, 1)."""
    s45 = 0.70710678118654752440084436210485
    signs = [(1, 0), (-s45, -s45), (0, 1), (s45, -s45), (-1, 0), (s45, s45), (0, -1), (-s45, s45)]
    if x < np.finfo(np.float32).eps:
        return np.eye(8, dtype=np.float32)[3]
    y0 = -(x + 3) * np.pi * 0.25
    sine, cosine = np.sin(y0), np.cos(y0)
    weights = np.empty(8, np.float32)
    for tap in range(8):
        y = -(x + 3 - tap) * np.pi * 0.25
        weights[tap] = np.float32((signs[tap][0] * sine + signs[tap][1] * cosine) / (y * y))
    return weights * np.float32(1.0 / np.sum(weights, dtype=np.float32))


@njit(cache=True, nogil=True)
def _resize_fixed_point(frame, row_taps, row_weights, column_taps, column_weights, out):
    """[H, W, 3] -> out [height, width, 3]: columns first, then rows, rounded once at the end (units of 2^-22)."""
    height, width = out.shape[0], out.shape[1]
    across = np.empty((frame.shape[0], width * 3), np.int32)  # [H, width x 3]
    for y in range(frame.shape[0]):
        for x in range(width):
            red = green = blue = np.int32(0)
            for tap in range(8):
                weight, column = column_weights[x, tap], column_taps[x, tap]
                red += np.int32(weight * frame[y, column, 0])
                green += np.int32(weight * frame[y, column, 1])
                blue += np.int32(weight * frame[y, column, 2])
            across[y, 3 * x], across[y, 3 * x + 1], across[y, 3 * x + 2] = red, green, blue
    sums = np.empty(width * 3, np.int32)
    for y in range(height):
        sums[:] = 2**21
        for tap in range(8):
            weight, row = row_weights[y, tap], across[row_taps[y, tap]]
            for x in range(width * 3):
                sums[x] += weight * row[x]
        for x in range(width):
            for colour in range(3):
                out[y, x, colour] = min(max(sums[3 * x + colour] >> 22, 0), 255)


def resize(frames: np.ndarray, size: int | tuple[int, int], method: str = "lanczos4") -> np.ndarray:
    """uint8 [T, H, W, 3] -> uint8 [T, size, size, 3] (or (height, width)); the picture is stretched, aspect not kept.

    method: "lanczos4" is cv2.INTER_LANCZOS4, as published; "antialias" is Pillow's LANCZOS, better for large pictures
    made much smaller. Raises ConfigError for another method.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if frames.shape[1:3] == (height, width):
        return frames
    if method == "antialias":
        resized = [Image.fromarray(f).resize((width, height), Image.Resampling.LANCZOS) for f in frames]
        return np.stack([np.asarray(f) for f in resized]) if len(frames) else frames.reshape(0, height, width, 3)
    if method != "lanczos4":
        raise ConfigError(f"no resize method {method!r}; there are {', '.join(FILTERS)}")
    down, across = _lanczos4_taps(frames.shape[1], height), _lanczos4_taps(frames.shape[2], width)
    out = np.empty((len(frames), height, width, 3), np.uint8)
    for frame, target in zip(frames, out, strict=True):
        _resize_fixed_point(np.ascontiguousarray(frame), *down, *across, target)
    return out
