"""A Pillow canvas in body units: limbs as tapered capsules, rotated ellipses, polygons, all with dark outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from slakit.minisign.looks import Colour

_HALF_CIRCLE = np.exp(1j * np.linspace(-np.pi / 2, np.pi / 2, 7))
_CIRCLE = np.linspace(0.0, 2 * np.pi, 25)[:-1]


@lru_cache(maxsize=4096)
def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour between a (share 0) and b (share 1)."""
    red, green, blue = (round((1.0 - share) * x + share * y) for x, y in zip(a, b, strict=True))
    return red, green, blue


def darker(colour: Colour, share: float) -> Colour:
    return mix(colour, (12, 8, 14), share)


def lighter(colour: Colour, share: float) -> Colour:
    return mix(colour, (255, 255, 255), share)


@lru_cache(maxsize=256)
def _superellipse(squareness: float) -> tuple[np.ndarray, np.ndarray]:
    c, s = np.cos(_CIRCLE), np.sin(_CIRCLE)
    return np.sign(c) * np.abs(c) ** squareness, np.sign(s) * np.abs(s) ** squareness


def oval(centre, radii: tuple[float, float], roll: float = 0.0, squareness: float = 1.0) -> np.ndarray:
    """Points [24, 2] of an ellipse, turned by `roll` radians; squareness < 1 makes it boxier, > 1 pointed."""
    x, y = _superellipse(round(squareness, 2))
    points = complex(*centre) + complex(math.cos(roll), math.sin(roll)) * (radii[0] * x + 1j * (radii[1] * y))
    return points.view(np.float64).reshape(-1, 2)


class Canvas:
    """Draws on `image` with a transform from body units to pixels.

    scale: pixels a unit. origin: pixel of the body's origin. Points are arrays [n, 2] of (right, down).
    """

    def __init__(self, image: Image.Image, scale: float, origin: tuple[float, float]):
        self.image = image
        self.scale = scale
        self.origin = np.asarray(origin)
        self._draw = ImageDraw.Draw(image)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        return np.asarray(points)[..., :2] * self.scale + self.origin

    def polygon(self, points: np.ndarray, fill: Colour, outline: Colour | None = None, width: float = 0.006) -> None:
        flat = self.pixels(points).ravel().tolist()
        if outline is None:
            self._draw.polygon(flat, fill=fill)
        else:
            self._draw.polygon(flat, fill=fill, outline=outline, width=max(1, round(width * self.scale)))

    def line(self, points: np.ndarray, colour: Colour, width: float) -> None:
        pixels = max(1, round(width * self.scale))
        self._draw.line(self.pixels(points).ravel().tolist(), fill=colour, width=pixels, joint="curve")

    def dot(self, centre: np.ndarray, radius: float, colour: Colour) -> None:
        x, y = self.pixels(centre)
        r = radius * self.scale
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def fill(self, polygons: np.ndarray, colours: Sequence[Colour]) -> None:
        """Fills polygons [n, points, 2], given in pixels, in the order given."""
        for flat, colour in zip(polygons.reshape(len(colours), -1).tolist(), colours, strict=True):
            self._draw.polygon(flat, fill=colour)

    def capsules(self, start, end, radius, end_radius, colours: Sequence[Colour]) -> None:
        """Tapered limbs from start [n, 2] to end [n, 2] with radii [n], in the order given."""
        self.fill(self.capsule_outlines(start, end, radius, end_radius), colours)

    def capsule_outlines(self, start, end, radius, end_radius) -> np.ndarray:
        """Polygons [n, 14, 2] in pixels round tapered limbs from start [n, 2] to end [n, 2] with radii [n]."""
        a, b = (np.ascontiguousarray(self.pixels(points)).view(np.complex128) for points in (start, end))  # [n, 1]
        along = (b - a) / np.maximum(np.abs(b - a), 1e-9)
        head = b + (np.asarray(end_radius)[:, None] * self.scale) * along * _HALF_CIRCLE  # [n, 7]
        tail = a - (np.asarray(radius)[:, None] * self.scale) * along * _HALF_CIRCLE
        return np.concatenate([head, tail], axis=1).view(np.float64).reshape(len(a), 14, 2)
