"""The articulated hand: handshapes as joint angles, and where palm, fingers and thumb end up in space.

Local axes of a hand, lengths in palm lengths: t towards the thumb, f along the straight fingers, n out of the palm.
"""

from __future__ import annotations

import numpy as np

# One vector describes a hand: place (outward, down, toward viewer), two angles, 20 finger angles, 6 thumb directions.
PLACE = slice(0, 3)
TURN, PALM_TURN = 3, 4
FINGERS = slice(5, 25)  # [4 fingers, (knuckle, middle, end joint, spread, twist)] in degrees
THUMB = slice(25, 31)  # direction of its two bones in (t, f, n)
HAND_SIZE = 31

ORIENTATION_TURN = {"up": 0.0, "in": 90.0, "down": 180.0, "out": -90.0}  # degrees, fingers up = 0
PALM_ANGLE = {"viewer": 0.0, "signer": 180.0}

# index, middle, ring, little finger: knuckle (t, f) on the palm, length of the three bones, width
KNUCKLES = np.array([(0.36, 0.46), (0.12, 0.51), (-0.12, 0.47), (-0.35, 0.38)])
BONES = np.array([1.0, 1.1, 1.02, 0.90])[:, None] * np.array([0.44, 0.31, 0.25])  # [4, 3]
FINGER_WIDTH = np.array([0.25, 0.26, 0.25, 0.22])
THUMB_BASE = np.array([0.34, -0.22, 0.04])
THUMB_BONES = np.array([0.52, 0.44])
THUMB_WIDTH = 0.28

_STRAIGHT = (3.0, 3.0, 2.0)
_FOLDED = (88.0, 100.0, 55.0)
_CLAW = (28.0, 62.0, 42.0)
_THUMB_ACROSS = ((-0.10, 0.75, 0.75), (-0.80, 0.45, 0.30))
_THUMB_ALONG = ((0.42, 0.85, 0.05), (0.02, 1.0, 0.05))
_THUMB_OUT = ((0.85, 0.50, 0.0), (0.90, 0.45, 0.0))


def _shape(fingers: str, spread: tuple[float, ...], thumb: tuple) -> np.ndarray:
    """fingers: one letter a finger from index to little: s straight, f folded, c claw."""
    joints = {"s": _STRAIGHT, "f": _FOLDED, "c": _CLAW}
    angles = [(*joints[letter], degrees, 0.0) for letter, degrees in zip(fingers, spread, strict=True)]
    return np.concatenate([np.ravel(angles), np.ravel(thumb)])


_TOGETHER = (2.0, 0.0, -1.0, -3.0)
_SPREAD = (20.0, 6.0, -8.0, -24.0)
SHAPES = {
    "fist": _shape("ffff", _TOGETHER, _THUMB_ACROSS),
    "flat": _shape("ssss", _TOGETHER, _THUMB_ALONG),
    "five": _shape("ssss", _SPREAD, _THUMB_OUT),
    "claw": _shape("cccc", (16.0, 5.0, -6.0, -18.0), ((0.85, 0.30, 0.35), (0.45, 0.80, 0.45))),
    "index": _shape("sfff", (2.0, 0.0, -1.0, -3.0), _THUMB_ACROSS),
    "two": _shape("ssff", (16.0, -12.0, -1.0, -3.0), _THUMB_ACROSS),
    "three": _shape("sssf", (18.0, 0.0, -18.0, -6.0), _THUMB_ACROSS),
    "thumb": _shape("ffff", _TOGETHER, ((0.98, 0.20, 0.05), (1.0, -0.02, 0.0))),
    "pinky": _shape("fffs", (2.0, 0.0, -1.0, -12.0), _THUMB_ACROSS),
    "ring": _shape("fsss", (8.0, 4.0, -10.0, -25.0), ((0.90, 0.40, 0.10), (0.35, 0.90, 0.15))),
}
# the index finger of the ring bends sideways to the thumb, so that the hole faces out of the palm
SHAPES["ring"][:5] = (28.0, 72.0, 52.0, 8.0, 68.0)


def hand_vector(handshape: str, place: np.ndarray, orientation: str, palm: str, turn: float = 0.0) -> np.ndarray:
    """The vector [HAND_SIZE] of a hand at `place` (outward, down, toward the viewer)."""
    angles = (ORIENTATION_TURN[orientation] + turn, PALM_ANGLE[palm])
    return np.concatenate([place, angles, SHAPES[handshape]])


def _lean(pitch: float, yaw: float) -> np.ndarray:
    """Rotation [3, 3] for row vectors: by `pitch` degrees towards the viewer and `yaw` degrees inward."""
    p, y = np.radians((pitch, yaw))
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(p), -np.sin(p)], [0.0, np.sin(p), np.cos(p)]])
    about_y = np.array([[np.cos(y), 0.0, np.sin(y)], [0.0, 1.0, 0.0], [-np.sin(y), 0.0, np.cos(y)]])
    return about_x @ about_y


LEAN = _lean(12.0, 12.0)  # no hand lies flat in the picture plane: depth can be seen


def hand_axes(hand: np.ndarray) -> np.ndarray:
    """Rows t, f, n of a right hand in picture axes (right, down, toward the viewer), [3, 3], orthonormal.

    turn moves the fingers in the picture plane from up (0) over inward (90) to down (180); palm_turn rotates about
    the fingers.
    """
    a, p = np.radians(hand[TURN]), np.radians(hand[PALM_TURN])
    f = np.array([np.sin(a), -np.cos(a), 0.0])
    n = np.array([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)])
    t = np.array([n[1] * f[2] - n[2] * f[1], n[2] * f[0] - n[0] * f[2], n[0] * f[1] - n[1] * f[0]])  # n x f
    return np.stack([t, f, n]) @ LEAN


def hand_points(hand: np.ndarray, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints relative to the palm's centre, in palm lengths and picture axes.

    Returns fingers [4, 4, 3] (knuckle to tip), thumb [3, 3] (base to tip) and, for each of the 12 finger bones, how
    much its palm side faces the viewer, [4, 3] (-1 .. 1).
    """
    angles = np.radians(hand[FINGERS]).reshape(4, 5)
    bend = np.cumsum(angles[:, :3], axis=1)  # [4, 3]
    spread, twist = angles[:, 3], angles[:, 4]
    along = np.stack([np.sin(spread), np.cos(spread), np.zeros(4)], axis=1)  # [4, 3] in (t, f, n)
    across = np.stack([np.cos(spread), -np.sin(spread), np.zeros(4)], axis=1)
    fold = np.sin(twist)[:, None] * across + np.cos(twist)[:, None] * np.array([0.0, 0.0, 1.0])
    cos, sin = np.cos(bend)[..., None], np.sin(bend)[..., None]
    steps = BONES[..., None] * (cos * along[:, None] + sin * fold[:, None])  # [4, 3, 3]
    fingers = np.zeros((4, 4, 3))
    fingers[:, 0, :2] = KNUCKLES
    fingers[:, 1:] = fingers[:, :1] + np.cumsum(steps, axis=1)
    facing = (cos * fold[:, None] - sin * along[:, None]) @ axes[:, 2]
    bones = hand[THUMB].reshape(2, 3)
    bones = bones / np.linalg.norm(bones, axis=1, keepdims=True) * THUMB_BONES[:, None]
    thumb = THUMB_BASE + np.concatenate([np.zeros((1, 3)), np.cumsum(bones, axis=0)])
    return fingers @ axes, thumb @ axes, facing
