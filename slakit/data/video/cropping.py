"""A square around the signer in a real camera clip, found by motion: no face detector, nothing to download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from slakit.data.video.resize import resize
from slakit.records import ConfigError, VideoError
from slakit.strict import brief

GRID = 64  # motion is measured on pictures of about this many pixels on the longer side
LOOKS = 24  # frames, spread over the clip, in which it is looked for
STEADY = 320  # a shaking camera is followed on pictures of about this many pixels on the longer side
FARTHEST = STEADY // 20  # pixels of those that it moves at most
REST = 0.2  # cells that may be left of the camera's motion: by so much edges of what stands still seem to move
LEAST_MOTION = 1.0  # grey levels (0 to 255) by which the liveliest pixels must change; below, nothing has moved


class Box(NamedTuple):
    """A square window in pixels of the upright picture: top left corner and side."""

    left: int
    top: int
    side: int


def read_crop(value: Any, words: Sequence[str] = ("signer", "none")) -> str | Box:
    """A crop as a user gives it: one of the words, or a square as (left, top, side) in pixels; else ConfigError."""
    if isinstance(value, str) and value in words:
        return value
    if isinstance(value, list | tuple) and len(value) == 3 and all(type(v) is int and v >= 0 for v in value):
        if value[2] > 0:
            return Box(*value)
    raise ConfigError(f"crop={brief(value)} is none of {', '.join(words)}, nor a square [left, top, side] in pixels")


def motion_energy(frames: np.ndarray, samples: int = LOOKS) -> np.ndarray:
    """Standard deviation over time of each cell's brightness, float64 [h, w], from frames uint8 [T, H, W, 3].

    At most `samples` frames are looked at, spread over the clip, each moved back by what the camera moved. Cells are
    square, about 1/64 of the longer side.
    """
    height, width = frames.shape[1:3]
    size = _size(height, width, GRID)
    chosen = np.unique(np.linspace(0, len(frames) - 1, samples).round().astype(int))
    grey = [Image.fromarray(frames[i]).convert("L") for i in chosen]
    shifts = camera_shifts(grey)
    moved = [_moved(picture, *shift) for picture, shift in zip(grey, shifts, strict=True)]
    cells = np.stack([np.asarray(p.resize(size, Image.Resampling.BOX), np.float64) for p in moved])
    energy = cells.std(axis=0)
    if not any(map(any, shifts)) or min(size) < 2:
        return energy
    energy = np.maximum(energy - REST * np.hypot(*np.gradient(cells.mean(axis=0))), 0.0)
    edge = -(
        -max(max(map(abs, shift)) for shift in shifts) * GRID // max(height, width)
    )  # where nothing was to be seen
    inner = np.zeros_like(energy)
    inner[edge:-edge, edge:-edge] = energy[edge:-edge, edge:-edge]
    return inner


def _moved(picture: Image.Image, right: int, down: int) -> Image.Image:
    """The picture moved left and up, its edges repeated."""
    if not right and not down:
        return picture
    rows, columns = (
        np.clip(np.arange(n) + m, 0, n - 1) for n, m in zip(picture.size[::-1], (down, right), strict=True)
    )
    return Image.fromarray(np.asarray(picture)[rows][:, columns])


def camera_shifts(pictures: Sequence[Image.Image]) -> list[tuple[int, int]]:
    """How far (right, down) each grey picture shows what the middle one of them shows, in pixels; zeros unless the left
    and the right third of the pictures tell the same: else it is the signer who moves, not the camera.

    A third's shift is the peak of the phase correlation (Kuglin and Hines, 1975).
    """
    width, height = pictures[0].size
    size = _size(height, width, STEADY)
    small = np.stack([np.asarray(p.resize(size, Image.Resampling.BOX), np.float32) for p in pictures])
    third = max(1, size[0] // 3)
    left, right = _shifts(small[..., :third]), _shifts(small[..., -third:])
    agree = np.abs(left - right).max(axis=1) <= 1
    if agree.mean() < 0.7:
        return [(0, 0)] * len(pictures)
    found = np.where(agree[:, None], (left + right) / 2, 0.0)
    ends = np.concatenate([found[:1], found, found[-1:]])
    calm = np.median([ends[:-2], found, ends[2:]], axis=0)  # no hand jumps there and back between two looks
    calm = (calm - np.median(calm, axis=0)) * max(width, height) / STEADY
    return [(int(right), int(down)) for right, down in calm.round()]


def _shifts(pictures: np.ndarray) -> np.ndarray:
    """(right, down) of each of the pictures [N, h, w] against the middle one, [N, 2]."""
    shape = pictures.shape[1:]
    window = np.outer(*map(np.hanning, shape))
    spectra = np.fft.rfft2((pictures - pictures.mean((1, 2), keepdims=True)) * window)
    cross = spectra * spectra[len(spectra) // 2].conj()
    peaks = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), shape)
    near = np.outer(*(np.minimum(np.arange(n), n - np.arange(n)) <= FARTHEST for n in shape))
    places = np.where(near, peaks, -np.inf).reshape(len(peaks), -1).argmax(axis=1)
    found = np.stack(np.unravel_index(places, shape), axis=1)  # [N, 2] of (down, right), what is beyond half is back
    half = np.array(shape) // 2
    return ((found + half) % shape - half)[:, ::-1]


def _size(height: int, width: int, longest: int) -> tuple[int, int]:
    scale = longest / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def signer_box(frames: np.ndarray) -> Box:
    """The square that holds the moving hands and the head above them; the middle of the picture where nothing moves.

    The span of the motion (without its outermost 3 %) gives the middle and the size; a third is added around it, more
    at the top for the head, which moves little. Never smaller than 0.6 of the picture's shorter side, never larger
    than the shorter side. frames: uint8 [T, H, W, 3]. Raises VideoError for a clip without frames.
    """
    if not len(frames):
        raise VideoError("there are no frames to find the signer in; read the clip first")
    height, width = frames.shape[1:3]
    short = min(height, width)
    if (edges := signed_in(frames)) is None:
        return _inside((width - short) / 2, (height - short) / 2, short, height, width)
    left, right, top, bottom = edges
    top = max(0.0, top - 0.35 * (bottom - top))  # the head
    side = min(max(1.33 * max(right - left, bottom - top), 0.6 * short), short)
    return _inside((left + right - side) / 2, (top + bottom - side) / 2, side, height, width)


def signed_in(frames: np.ndarray) -> tuple[float, float, float, float] | None:
    """Left, right, top and bottom of where it moves (without its outermost 3 %), in pixels; None where nothing does."""
    energy = motion_energy(frames)
    if energy.max() < LEAST_MOTION:
        return None
    energy = np.sqrt(np.where(energy > 0.08 * energy.max(), energy, 0.0))  # the body sways less than the hands
    cell = frames.shape[2] / energy.shape[1], frames.shape[1] / energy.shape[0]
    (left, right), (top, bottom) = _span(energy.sum(axis=0)), _span(energy.sum(axis=1))
    return left * cell[0], right * cell[0], top * cell[1], bottom * cell[1]


def _span(profile: np.ndarray) -> tuple[float, float]:
    """Where 3 % and 97 % of a profile's sum are reached, in cells."""
    reached = np.concatenate([[0.0], np.cumsum(profile)]) / profile.sum()
    low, high = np.interp([0.03, 0.97], reached, np.arange(len(reached)))
    return float(low), float(high)


def _inside(left: float, top: float, side: float, height: int, width: int) -> Box:
    whole = round(side)
    return Box(round(min(max(left, 0), width - whole)), round(min(max(top, 0), height - whole)), whole)


def signer_crop(frames: np.ndarray, size: int | None = None, box: Box | None = None) -> np.ndarray:
    """The square around the signer, the same for the whole clip: uint8 [T, side, side, 3], or [T, size, size, 3].

    frames: uint8 [T, H, W, 3]. size: side to resize to; None keeps the pixels. box: overrides the search. Raises
    ConfigError for a box that leaves the picture.
    """
    box = box or signer_box(frames)
    height, width = frames.shape[1:3]
    if box.side < 1 or min(box.left, box.top) < 0 or box.left + box.side > width or box.top + box.side > height:
        raise ConfigError(f"{box} leaves the picture of {width}x{height} pixels; choose left, top and side inside it")
    cropped = frames[:, box.top : box.top + box.side, box.left : box.left + box.side]
    return np.ascontiguousarray(cropped) if size is None else resize(cropped, size, "antialias")


def squared(
    frames: np.ndarray, size: int, aspect: str = "stretch", method: str = "lanczos4", box: Box | None = None
) -> np.ndarray:
    """Frames of any shape as squares: uint8 [T, H, W, 3] -> uint8 [T, size, size, 3].

    box: the square that is cut out first. aspect: what is done to pictures that are no squares: "stretch" as published,
    or "pad" with black. method: of resize().
    """
    if box is not None:
        frames = signer_crop(frames, box=box)
    height, width = frames.shape[1:3]
    if aspect != "pad" or height == width:
        return resize(frames, size, method)
    scale = size / max(height, width)
    inner = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = (size - inner[0]) // 2, (size - inner[1]) // 2
    square = np.zeros((len(frames), size, size, 3), np.uint8)
    square[:, top : top + inner[0], left : left + inner[1]] = resize(frames, inner, method)
    return square


@dataclass(frozen=True)
class Squaring:
    """How the pictures of clips become squares, wherever they are read: to be trained on, scored, recognised, prepared.

    crop: of clips that do not say themselves (Sample.crop); shape: height and width of the pictures that a Box was
    chosen for, others are cut to the square around the signer. aspect: of what is not cut and no square, "stretch" or
    "pad". size, resize_filter: of a preparation, which resizes before training does; size None: there is none.
    """

    crop: str | Box = "none"
    aspect: str = "stretch"
    size: int | None = None
    resize_filter: str = "lanczos4"
    shape: tuple[int, int] | None = None

    def cut(self, height: int, width: int) -> str | Box:
        """ "signer", "none", or the square that is cut out of pictures of that size."""
        if isinstance(self.crop, str):
            return self.crop
        inside = self.crop.left + self.crop.side <= width and self.crop.top + self.crop.side <= height
        return self.crop if inside and self.shape in (None, (height, width)) else "signer"

    def fit(self, frames: np.ndarray, side: int, box: Box | None = None) -> np.ndarray:
        """uint8 [T, H, W, 3] -> uint8 [T, side, side, 3]; box: the square that is cut out of them."""
        return resize(squared(frames, self.size or side, self.aspect, self.resize_filter, box), side)
