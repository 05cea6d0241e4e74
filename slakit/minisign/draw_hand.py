"""Draws arms and hands: palm and back of the hand differ in colour, creases, knuckles and nails."""

from __future__ import annotations

import numpy as np

from slakit.minisign.canvas import Canvas, darker, lighter, mix
from slakit.minisign.hands import FINGER_WIDTH, KNUCKLES, THUMB_BASE, THUMB_WIDTH, hand_axes, hand_points
from slakit.minisign.looks import Signer
from slakit.minisign.skeleton import pose_arm

PALM_LIGHT = 0.48  # how much lighter the palm's skin is
PERSPECTIVE = 1.5  # growth of a hand per unit towards the viewer
OUTLINE = 0.045  # of the palm's length
# the palm: rays from the wrist to the knuckles, and the ball of the thumb
_RAY_START = np.array(
    [(0.20, -0.40, 0.0), (0.07, -0.42, 0.0), (-0.07, -0.42, 0.0), (-0.18, -0.38, 0.0), (0.10, -0.36, 0.03)]
)
_RAY_END = np.array([*((t * 0.97, f - 0.06, 0.0) for t, f in KNUCKLES), tuple(THUMB_BASE)])
_RAY_RADIUS = np.array([0.19, 0.19, 0.19, 0.18, 0.22])
_RAY_END_RADIUS = np.array([0.15, 0.15, 0.15, 0.14, 0.19])
_CREASES = np.array(
    [
        [(0.40, 0.16, 0.1), (0.05, 0.20, 0.1), (-0.40, 0.10, 0.1)],
        [(0.38, 0.02, 0.1), (0.08, -0.12, 0.1), (0.04, -0.38, 0.1)],
    ]
)
_KNUCKLE_DOTS = np.insert(KNUCKLES * (1.0, 0.86), 2, -0.12, axis=1)
_BONE_RADIUS = np.concatenate([np.repeat(FINGER_WIDTH / 2, 3), np.array([1.12, 0.95]) * THUMB_WIDTH / 2])
_BONE_END_RADIUS = np.concatenate(
    [np.outer(FINGER_WIDTH / 2, (1.0, 0.97, 0.88)).ravel(), np.array([1.0, 0.86]) * THUMB_WIDTH / 2]
)
_PARTS = (slice(0, 5), slice(5, 8), slice(8, 11), slice(11, 14), slice(14, 17), slice(17, 19))


def draw_arm(canvas: Canvas, hand: np.ndarray, signer: Signer, side: str) -> np.ndarray:
    """Draws arm and hand; returns the palm's centre in body units (right, down), [2]."""
    flip = np.array([1.0 if side == "right" else -1.0, 1.0])
    shoulder, elbow, wrist, palm = pose_arm(hand, signer)
    growth = 1.0 + PERSPECTIVE * (palm[2] - 0.12)
    thick = signer.girth * np.array([0.056, 0.049, 0.044 if signer.long_sleeves else 0.036])
    thick[2] *= 0.5 + 0.5 * growth
    points = np.array([shoulder, elbow, wrist])[:, :2] * flip
    sleeve = signer.clothes
    edge = 0.007
    fore = sleeve if signer.long_sleeves else signer.skin
    lines = [darker(sleeve, 0.55), darker(fore, 0.55)]
    canvas.capsules(points[:2], points[1:], thick[:2] + edge, thick[1:] + edge, lines)
    canvas.capsules(points[:2], points[1:], thick[:2], thick[1:], [sleeve, fore])
    if not signer.long_sleeves:  # the sleeve ends above the elbow
        cut = points[0] + 0.72 * (points[1] - points[0])
        canvas.capsules(points[:1], cut[None], thick[:1] * 1.04, thick[1:2] * 1.16, [sleeve])
    joint = points[0] + (0.012, 0.012) * flip  # hides the sleeve's outline where it grows out of the trunk
    canvas.dot(joint, float(thick[0]) * 1.04, sleeve)
    draw_hand(canvas, hand, palm[:2] * flip, signer.hand * growth, flip[0], signer)
    return palm[:2] * flip


def draw_hand(canvas: Canvas, hand: np.ndarray, centre: np.ndarray, size: float, flip: float, signer: Signer) -> None:
    """Draws the hand alone: centre of the palm (right, down), palm length `size`, flip -1 for a left hand."""
    axes = hand_axes(hand)
    axes[:, 0] *= flip
    fingers, thumb, facing = hand_points(hand, axes)  # [4, 4, 3], [3, 3], [4, 3]
    back, line = signer.skin, darker(signer.skin, 0.62)
    palm = mix(lighter(signer.skin, PALM_LIGHT), (255, 190, 170), 0.25)
    nail = lighter(mix(back, (255, 200, 200), 0.4), 0.45)
    to_viewer = float(axes[2, 2])

    def flat(points: np.ndarray) -> np.ndarray:
        return points[..., :2] * size + centre

    # 19 capsules: 5 rays of the palm, 3 bones of each finger, 2 bones of the thumb
    bones = flat(fingers)
    thumb_joints = flat(thumb)
    start = np.concatenate([flat(_RAY_START @ axes), bones[:, :-1].reshape(12, 2), thumb_joints[:-1]])
    end = np.concatenate([flat(_RAY_END @ axes), bones[:, 1:].reshape(12, 2), thumb_joints[1:]])
    thick = signer.fingers * size
    radius = np.concatenate([_RAY_RADIUS * size, _BONE_RADIUS * thick])
    end_radius = np.concatenate([_RAY_END_RADIUS * size, _BONE_END_RADIUS * thick])
    edge = OUTLINE * size
    outlines = canvas.capsule_outlines(start, end, radius + edge, end_radius + edge)
    bodies = canvas.capsule_outlines(start, end, radius, end_radius)
    shown = palm if to_viewer > 0 else back
    colours = [shown] * 5 + [palm if side > 0 else back for side in facing.ravel().tolist()] + [shown] * 2

    depth = [0.02, *fingers[:, 1:, 2].mean(axis=1).tolist(), float(thumb[1:, 2].mean())]  # palm, fingers, thumb
    for part in sorted(range(6), key=depth.__getitem__):
        rows = _PARTS[part]
        canvas.fill(outlines[rows], [line] * (rows.stop - rows.start))
        canvas.fill(bodies[rows], colours[rows])
        if part == 0 and to_viewer > 0.3:
            for crease in flat(_CREASES @ axes):
                canvas.line(crease, darker(palm, 0.30), 0.05 * size)
        elif part == 0 and to_viewer < -0.3:
            for knuckle in flat(_KNUCKLE_DOTS @ axes):
                canvas.dot(knuckle, 0.065 * size, darker(back, 0.25))
        elif 1 <= part <= 4 and facing[part - 1, 2] < -0.2:
            canvas.dot(bones[part - 1, 3], 0.55 * float(end_radius[rows.stop - 1]), nail)
        elif part == 5 and to_viewer < -0.2:
            canvas.dot(thumb_joints[2], 0.55 * float(end_radius[18]), nail)
