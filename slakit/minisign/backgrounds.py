"""What stands behind the signer: paper, gradients, shelves, windows, bricks, out-of-focus lights, a studio."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from slakit.minisign.canvas import darker, lighter, mix
from slakit.minisign.looks import Scene

_ACCENTS = ((176, 60, 52), (52, 92, 140), (206, 166, 72), (70, 120, 84), (206, 196, 176), (44, 40, 48), (150, 84, 120))


def draw_background(scene: Scene, size: int) -> Image.Image:
    """The scene's background, RGB, size x size pixels."""
    rng = np.random.default_rng(scene.seed)
    image = Image.new("RGB", (size, size), scene.wall)
    draw = ImageDraw.Draw(image)
    share = float(np.clip(scene.clutter, 0.0, 1.0))

    def accent(weight: float = 1.0):
        return mix(scene.wall, _ACCENTS[int(rng.integers(len(_ACCENTS)))], share * weight)

    def box(x0: float, y0: float, x1: float, y1: float, colour) -> None:
        draw.rectangle([round(v * size) for v in (x0, y0, x1, y1)], fill=colour)

    if scene.background == "gradient":
        _gradient(image, darker(scene.wall, 0.06 + 0.3 * share))
    elif scene.background == "shelf":
        for y in np.arange(0.04 + 0.1 * rng.random(), 1.0, 0.26):
            x = -0.02
            while x < 1.0:
                w = float(rng.uniform(0.025, 0.07))
                h = float(rng.uniform(0.12, 0.21))
                if rng.random() < 0.85:
                    box(x, y + 0.22 - h, x + w - 0.006, y + 0.22, darker(accent(0.85), 0.1))
                x += w
            box(0.0, y + 0.22, 1.0, y + 0.245, mix(scene.wall, (60, 42, 30), share))
    elif scene.background == "window":
        x = float(rng.uniform(-0.15, 0.45))
        box(x - 0.02, 0.0, x + 0.62, 0.66, mix(scene.wall, (238, 236, 228), share))
        box(x, 0.0, x + 0.6, 0.64, mix(scene.wall, (170, 200, 226), share))
        for _ in range(7):
            bx, w, h = rng.uniform(x, x + 0.5), rng.uniform(0.06, 0.14), rng.uniform(0.1, 0.42)
            box(bx, 0.64 - h, min(bx + w, x + 0.6), 0.64, darker(accent(0.5), 0.15))
        for bar in (x + 0.19, x + 0.40):
            box(bar, 0.0, bar + 0.018, 0.64, mix(scene.wall, (238, 236, 228), share))
        box(0.0, 0.80, 1.0, 1.0, darker(accent(0.6), 0.2))
    elif scene.background == "bricks":
        for row, y in enumerate(np.arange(0.0, 1.0, 0.075)):
            for x in np.arange(-0.2 + 0.085 * (row % 2), 1.0, 0.17):
                shade = float(rng.uniform(-0.18, 0.18)) * share
                brick = mix(scene.wall, (158, 84, 62), 0.7 * share)
                box(x, y, x + 0.158, y + 0.062, lighter(brick, shade) if shade > 0 else darker(brick, -shade))
    elif scene.background == "bokeh":
        _gradient(image, darker(scene.wall, 0.5 * share))
        for _ in range(26):
            cx, cy, r = rng.random() * size, rng.random() * size, rng.uniform(0.02, 0.075) * size
            draw.ellipse((cx - r, cy - r, cx + r, cy + r), fill=lighter(accent(0.9), 0.25 * share))
        image = image.filter(ImageFilter.GaussianBlur(0.012 * size))
    elif scene.background == "studio":
        _gradient(image, darker(scene.wall, 0.45 * share))
        draw = ImageDraw.Draw(image)
        for _ in range(6):
            x, w = rng.uniform(-0.1, 1.0), rng.uniform(0.05, 0.16)
            draw.polygon([v * size for v in (x, 0, x + w, 0, x + w + 0.25, 1, x + 0.25, 1)], fill=accent(0.55))
        draw.rectangle((0, 0.72 * size, size, size), fill=darker(accent(0.7), 0.25))
        image = image.filter(ImageFilter.GaussianBlur(0.010 * size))
    return image


def _gradient(image: Image.Image, end) -> None:
    """Blends the picture downwards into the colour `end`."""
    mask = Image.linear_gradient("L").resize(image.size)
    image.paste(Image.new("RGB", image.size, end), mask=mask)
