"""From a clean drawing to what the camera delivers: light, grading, blur, grain."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image

from slakit.minisign.looks import Scene

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


@lru_cache(maxsize=16)
def _light(scene: Scene, size: int) -> np.ndarray:
    """Factor on every pixel's light, float32 [size, size, 1]: exposure, side light, vignette."""
    axis = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    x, y = axis[None, :], axis[:, None]
    angle = np.radians(scene.light_from)
    side = 1.0 + scene.side_light * (np.cos(angle) * x + 0.6 * np.sin(angle) * y)
    vignette = 1.0 - scene.vignette * 0.5 * (x**2 + y**2)
    return (scene.exposure * side * np.clip(vignette, 0.0, None))[..., None].astype(np.float32)


@lru_cache(maxsize=16)
def _grading(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Colour matrix [3, 3] for row vectors (grey share, colour cast) and tone curve [1024] (contrast, gamma)."""
    matrix = (1.0 - scene.grey) * np.eye(3) + scene.grey * np.outer(_LUMA, np.ones(3))
    cast = 1.0 + scene.tint * (np.asarray(scene.tint_colour) / np.dot(scene.tint_colour, _LUMA) - 1.0) * 3.0
    values = np.linspace(0.0, 1.0, 1024)
    curve = (np.clip(values, 0.0, 1.0) ** scene.gamma - 0.5) * scene.contrast + 0.5
    return (matrix * cast).astype(np.float32), (255.0 * curve).astype(np.float32)


@lru_cache(maxsize=8)
def _grain(scene: Scene, size: int) -> np.ndarray:
    """A sheet of film grain, float32 [2 size, 2 size, 1], from which every frame takes another piece."""
    noise = np.random.default_rng(scene.seed + 1).standard_normal((2 * size, 2 * size, 1), dtype=np.float32)
    return scene.grain * noise


def _blurred(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """The picture [H, W, 3] blurred by a kernel of three taps and this standard deviation (at most 1 pixel)."""
    k = np.float32(0.5 * min(sigma, 0.9) ** 2)
    if k < 1e-3:
        return pixels
    for first, last, before, after in (
        (np.s_[:1], np.s_[-1:], np.s_[:-1], np.s_[1:]),
        (np.s_[:, :1], np.s_[:, -1:], np.s_[:, :-1], np.s_[:, 1:]),
    ):  # down, then across; the edge repeats
        part = k * pixels
        pixels = pixels - 2.0 * part
        pixels[after] += part[before]
        pixels[before] += part[after]
        pixels[first] += part[first]
        pixels[last] += part[last]
    return pixels


def photograph(drawing: Image.Image, scene: Scene, size: int, frame: int = 0) -> np.ndarray:
    """uint8 [size, size, 3] of a drawing whose side is a whole multiple of `size`. frame: chooses the grain."""
    image = drawing.reduce(drawing.width // size)
    pixels = _blurred(np.asarray(image, dtype=np.float32) / 255.0, scene.blur * size / 96.0)
    matrix, curve = _grading(scene)
    pixels = (pixels * _light(scene, size)) @ matrix
    pixels = curve.take((pixels * 1023.0).astype(np.int32), mode="clip")
    if scene.grain > 0.0:
        dx, dy = (frame * 7919 + 13) % size, (frame * 104729 + 7) % size
        pixels = pixels + _grain(scene, size)[dy : dy + size, dx : dx + size]
    return np.clip(pixels + 0.5, 0.0, 255.0).astype(np.uint8)
