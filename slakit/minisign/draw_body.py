"""Draws the signer's trunk, head, hair and face."""

from __future__ import annotations

import numpy as np

from slakit.minisign.canvas import Canvas, darker, lighter, mix, oval
from slakit.minisign.looks import Signer
from slakit.minisign.skeleton import BROWS, HEAD, HEAD_Y, MOUTH, MOUTH_BELOW

NECK_Y = -0.03  # the head rolls about this point
MOUTH_SIZE = 1.35  # against life, so that a small encoder can read it


# Outline of the hair over the forehead, from ear to ear and back: across,down in half widths and heights of the head.
_FRINGE_TABLE = """
short -1.02,-0.1 -0.96,-0.62 -0.5,-1.02 0.5,-1.02 0.96,-0.62 1.02,-0.1 0.82,-0.5 0.2,-0.62 -0.8,-0.5
side  -1,-0.05 -0.98,-0.6 -0.5,-1.04 0.5,-1.06 1,-0.6 1,-0.1 0.85,-0.5 -0.35,-0.82 -0.85,-0.42
bob   -1,0.1 -0.96,-0.6 -0.5,-1 0.5,-1 0.96,-0.6 1,0.1 0.86,-0.42 0,-0.5 -0.86,-0.42
long  -1,0.2 -0.96,-0.6 -0.5,-1 0.5,-1 0.96,-0.6 1,0.2 0.82,-0.4 0.05,-0.86 -0.82,-0.4
bun   -1,-0.1 -0.94,-0.64 -0.5,-1 0.5,-1 0.94,-0.64 1,-0.1 0.8,-0.56 0,-0.72 -0.8,-0.56
curls -0.95,-0.3 -0.9,-0.66 -0.5,-0.98 0.5,-0.98 0.9,-0.66 0.95,-0.3 0.6,-0.58 0.2,-0.52 -0.25,-0.6 -0.65,-0.5
"""
FRINGES = {
    style: [tuple(map(float, point.split(","))) for point in points]
    for style, *points in (line.split() for line in _FRINGE_TABLE.strip().splitlines())
}


def draw_trunk(canvas: Canvas, signer: Signer) -> None:
    """Trunk, garment and neck: the part that does not move within a clip."""
    s, g = signer.shoulders, signer.girth
    cloth, line = signer.clothes, darker(signer.clothes, 0.5)
    right = np.array(
        [
            (0.048, -0.035),
            (0.40 * s, -0.006),
            (0.80 * s, 0.010),
            (s + 0.030 * g, 0.030),
            (s + 0.050 * g, 0.080),
            (s + 0.010, 0.22),
            (s * 0.92, 0.75),
        ]
    )
    outline = np.concatenate([right, right[::-1] * (-1.0, 1.0)])
    canvas.polygon(outline, cloth, line, 0.008)
    shade = np.array([(0.30 * s, 0.16), (0.95 * s, 0.2), (0.85 * s, 0.75), (0.25 * s, 0.75)])
    canvas.polygon(shade, darker(cloth, 0.10))
    if signer.garment == "stripes":
        for y in np.arange(0.09, 0.7, 0.085):
            canvas.polygon(np.array([(-s, y), (s, y), (s, y + 0.03), (-s, y + 0.03)]), lighter(cloth, 0.28))
    if signer.garment == "jacket":
        canvas.polygon(np.array([(-0.06, -0.01), (0.06, -0.01), (0.0, 0.30)]), lighter(cloth, 0.72))
        for side in (-1.0, 1.0):
            lapel = np.array([(0.055, -0.02), (0.115, 0.03), (0.085, 0.10), (0.0, 0.31)]) * (side, 1.0)
            canvas.polygon(lapel, lighter(cloth, 0.12), line, 0.006)
    if signer.garment == "hood":
        canvas.polygon(oval((0.0, 0.0), (0.135, 0.06)), lighter(cloth, 0.1), line, 0.006)
        for side in (-1.0, 1.0):
            canvas.line(np.array([(0.035, 0.05), (0.04, 0.17)]) * (side, 1.0), lighter(cloth, 0.6), 0.008)
    if signer.garment == "collar":
        for side in (-1.0, 1.0):
            flap = np.array([(0.048, -0.03), (0.085, 0.0), (0.055, 0.06), (0.0, 0.035)]) * (side, 1.0)
            canvas.polygon(flap, lighter(cloth, 0.35), line, 0.006)
    elif signer.garment in ("round", "stripes"):
        canvas.line(oval((0.0, -0.01), (0.062, 0.04))[:13], line, 0.009)


def head_frame(body: np.ndarray, signer: Signer) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre of the head (right, down) in body units, its axes [2, 2] (rows: across, down) and half width."""
    roll, shift = np.radians(body[HEAD][0]), body[HEAD][1]
    axes = np.array([[np.cos(roll), np.sin(roll)], [-np.sin(roll), np.cos(roll)]])
    pivot = np.array([shift * 0.4, NECK_Y])
    centre = pivot + (shift * 0.6, 0.0) + (HEAD_Y - NECK_Y) * axes[1]
    return centre, axes, signer.head


def mouth_place(body: np.ndarray, signer: Signer) -> np.ndarray:
    """Centre of the mouth (right, down) in body units, [2]."""
    centre, axes, r = head_frame(body, signer)
    return centre + MOUTH_BELOW * r * signer.head_length * axes[1]


def draw_head(canvas: Canvas, body: np.ndarray, signer: Signer) -> None:
    """Head with hair, eyes, brows, nose and mouth."""
    centre, axes, r = head_frame(body, signer)
    roll, tall = float(np.radians(body[HEAD][0])), signer.head_length
    at = lambda x, y: centre + r * (x * axes[0] + y * tall * axes[1])  # noqa: E731
    skin, hair = signer.skin, signer.hair
    line, hair_line = darker(skin, 0.5), darker(hair, 0.45)
    style = signer.hair_style
    if style == "scarf":
        hair = lighter(signer.clothes, 0.25)
        hair_line = darker(hair, 0.45)
    # behind the face
    if style == "long":
        canvas.polygon(oval(at(0, 0.22), (1.24 * r, 1.36 * r * tall), roll, 0.7), hair, hair_line)
    elif style == "bob":
        canvas.polygon(oval(at(0, -0.04), (1.24 * r, 1.08 * r * tall), roll, 0.75), hair, hair_line)
    elif style == "bun":
        canvas.polygon(oval(at(0, -1.18), (0.42 * r, 0.36 * r), roll), hair, hair_line)
        canvas.polygon(oval(at(0, -0.12), (1.10 * r, 1.02 * r * tall), roll), hair, hair_line)
    elif style == "curls":
        for a in np.linspace(-3.5, 0.36, 11):
            canvas.polygon(oval(at(0.98 * np.cos(a), 0.92 * np.sin(a) - 0.12), (0.40 * r, 0.40 * r)), hair, hair_line)
    elif style == "scarf":
        canvas.polygon(oval(at(0, 0.12), (1.22 * r, 1.24 * r * tall), roll, 0.9), hair, hair_line)
    else:
        crown = oval(at(0, -0.14), (1.07 * r, 0.99 * r * tall), roll)
        canvas.polygon(crown, hair if style != "bald" else skin, hair_line)
    neck = 0.050 * signer.girth
    shade = darker(skin, 0.2) if style != "scarf" else darker(hair, 0.2)
    canvas.polygon(np.array([(-neck, -0.10), (neck, -0.10), (neck, -0.02), (0.0, 0.036), (-neck, -0.02)]), shade)
    if style != "scarf":
        for side in (-1.0, 1.0):
            canvas.polygon(oval(at(side * 1.0, 0.06), (0.16 * r, 0.24 * r), roll), skin, line)
    face_top = 0.0 if style != "scarf" else 0.10
    radii = (r * (1.0 if style != "scarf" else 0.92), (1.0 - face_top) * r * tall)
    canvas.polygon(oval(at(0, face_top), radii, roll, 0.92), skin, line)
    if signer.beard:
        jaw = oval(at(0, 0.0), (0.98 * r, 0.98 * r * tall), roll, 0.92)
        cheeks = [at(-0.70, 0.22), at(-0.45, 0.30), at(0.45, 0.30), at(0.70, 0.22)]
        canvas.polygon(np.concatenate([jaw[0:13], cheeks]), mix(skin, hair, 0.75))
    _fringe(canvas, at, style, hair)
    _face(canvas, at, body, signer, r, roll, line)


def _fringe(canvas: Canvas, at, style: str, hair) -> None:
    """Hair over the forehead."""
    if style in FRINGES:
        canvas.polygon(np.array([at(x, y) for x, y in FRINGES[style]]), hair)


def _face(canvas: Canvas, at, body: np.ndarray, signer: Signer, r: float, roll: float, line) -> None:
    skin, brow = signer.skin, darker(signer.hair, 0.3)
    lift = float(body[BROWS])
    for side in (-1.0, 1.0):
        eye = oval(at(side * 0.40, -0.06), (0.22 * r, 0.15 * r), roll)
        canvas.polygon(eye, (248, 246, 242), darker(skin, 0.6), 0.004)
        canvas.polygon(oval(at(side * 0.39, -0.055), (0.105 * r, 0.13 * r), roll), (36, 26, 24))
        inner, outer = at(side * 0.20, -0.33 - 0.05 * lift), at(side * 0.62, -0.31 - 0.10 * lift)
        canvas.line(np.array([inner, at(side * 0.42, -0.37 - 0.10 * lift), outer]), brow, 0.11 * r)
        if signer.glasses:
            frame = oval(at(side * 0.42, -0.05), (0.32 * r, 0.28 * r), roll)[[*range(24), 0]]
            canvas.line(frame, (30, 30, 36), 0.055 * r)
    canvas.line(np.array([at(0.02, 0.0), at(0.10, 0.20), at(-0.06, 0.22)]), darker(skin, 0.32), 0.07 * r)
    for side in (-1.0, 1.0):
        canvas.dot(at(side * 0.60, 0.24), 0.14 * r, mix(skin, (226, 120, 110), 0.22))
    size = signer.mouth * MOUTH_SIZE
    width, height, roundness, teeth = body[MOUTH] * np.array([size, size, 1.0, 1.0])
    squareness = 1.0 + 0.55 * (1.0 - float(np.clip(roundness, 0.0, 1.0)))
    lips = mix(darker(skin, 0.30), (190, 60, 70), 0.45)
    middle = at(0.0, MOUTH_BELOW)
    lip = 0.085 + 0.06 * max(0.0, 1.0 - width / 0.35)  # a small round mouth has full lips
    canvas.polygon(oval(middle, ((width + lip) * r, (height + lip) * r), roll, squareness), lips)
    if height > 0.05:
        canvas.polygon(oval(middle, (width * r, height * r), roll, squareness), (58, 14, 22))
        if teeth > 0.3:
            canvas.polygon(oval(middle, (0.95 * width * r, 0.78 * height * r), roll, 0.8), (252, 250, 244))
            half = 0.7 * width * r * np.array([np.cos(roll), np.sin(roll)])
            canvas.line(np.array([middle - half, middle + half]), (120, 100, 100), 0.03 * r)
        elif height > 0.30:
            tongue = oval(middle + np.array([0.0, 0.55 * height * r]), (0.6 * width * r, 0.36 * height * r), roll)
            canvas.polygon(tongue, (196, 86, 92))
    else:
        ends = np.array([at(-width * 0.95, MOUTH_BELOW), at(width * 0.95, MOUTH_BELOW)])
        canvas.line(ends, darker(lips, 0.55), 0.045 * r)
