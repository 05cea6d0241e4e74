"""From a sentence to motion: one body vector a frame, with transitions between signs and the true gloss spans.

Movement follows the minimum-jerk profile s = 10 t^3 - 15 t^4 + 6 t^5 (Flash and Hogan, 1985). How long a sign or a
transition takes is counted in whole frames by integer draws, so that spans are equal on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slakit.minisign.hands import FINGERS, HAND_SIZE, PLACE, SHAPES, THUMB, TURN
from slakit.minisign.lexicon import LEXICON, Sign
from slakit.minisign.looks import Signer
from slakit.minisign.phonology import HandPose, Pose
from slakit.minisign.skeleton import (
    BODY_SIZE,
    BROWS,
    HEAD,
    LEFT,
    MOUTH,
    MOUTH_FORMS,
    PRESENT,
    RIGHT,
    articulate,
    mirror,
)
from slakit.records import Span

FPS = 25.0
# frames of the sign proper at speed 1
SIGN_FRAMES = {"hold": 5, "open": 6, "close": 6, "circle-cw": 8, "circle-ccw": 8, "shake": 8, "nod": 8}
PATH_FRAMES = 6  # of every other movement
TRANSITION_FRAMES = 4
PATH = 0.21  # length of a straight movement, in picture heights
DEPTH = 0.40  # of a movement towards or away from the viewer
RADIUS, SHAKE, NOD = 0.110, 0.050, 0.050  # to each side; a circle is as wide as a straight movement is long
_STRAIGHT = {  # direction (outward, down, toward the viewer)
    "up": (0.0, -PATH, 0.0),
    "down": (0.0, PATH, 0.0),
    "in": (-PATH, 0.0, 0.0),
    "out": (PATH, 0.0, 0.0),
    "toward": (0.0, 0.0, DEPTH),
    "away": (0.0, 0.0, -DEPTH),
}


@dataclass(frozen=True, eq=False)
class Motion:
    """bodies: body vectors [T, BODY_SIZE]. spans: frames of the signs proper, in order, transitions left out."""

    bodies: np.ndarray
    spans: tuple[Span, ...]


def minimum_jerk(count: int) -> np.ndarray:
    """Shares [count] of the way at equal times, from 0 to 1, both included; [0] for a single frame."""
    t = np.linspace(0.0, 1.0, count)
    return t**3 * (10.0 - 15.0 * t + 6.0 * t**2)


def plan(glosses: tuple[str, ...], signer: Signer, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Frames of every sign, and of the transitions before, between and after them (one more)."""

    def frames(base: int) -> int:
        return max(3, round((base + int(rng.integers(-1, 2))) / signer.speed))

    signs = [frames(SIGN_FRAMES.get(LEXICON[gloss].movement, PATH_FRAMES)) for gloss in glosses]
    return signs, [frames(TRANSITION_FRAMES) for _ in range(len(glosses) + 1)]


def spans_of(glosses: tuple[str, ...], signs: list[int], transitions: list[int]) -> tuple[tuple[Span, ...], int]:
    """Gloss spans and the number of frames of a clip; it begins and ends with one frame at rest."""
    spans, frame = [], 1
    for gloss, frames, before in zip(glosses, signs, transitions, strict=False):
        spans.append(Span(gloss, frame + before, frame + before + frames))
        frame += before + frames
    return tuple(spans), frame + transitions[-1] + 1


def leading_pose(sign: Sign, rng: np.random.Generator | None = None) -> Pose:
    """The sign's pose by a right-handed signer in the middle of its movement, with small deviations if rng is given."""
    offset = tuple(rng.uniform(-0.008, 0.008, 3).tolist()) if rng else (0.0, 0.0, 0.0)
    turn = float(rng.uniform(-6.0, 6.0)) if rng else 0.0
    hand = HandPose(sign.handshape, sign.location, sign.orientation, sign.palm, offset, turn)
    return Pose(hand, hand if sign.hands == "two" else None, sign.mouth)


def move_hand(hand: np.ndarray, movement: str, count: int, reach: float) -> np.ndarray:
    """The hand's vectors [count, HAND_SIZE] during a movement around its place."""
    hands = np.repeat(hand[None], count, axis=0)
    share, phase = minimum_jerk(count), np.linspace(0.0, 1.0, count)
    if movement in _STRAIGHT:
        hands[:, PLACE] += (
            (share - 0.5)[:, None] * np.array(_STRAIGHT[movement]) * (1.0 if movement in ("toward", "away") else reach)
        )
        if movement in ("toward", "away"):
            hands[:, 2] += 0.10  # not into the body
    elif movement.startswith("circle"):
        angle = 2.0 * np.pi * phase * (1.0 if movement == "circle-cw" else -1.0)
        hands[:, 0] += RADIUS * reach * np.sin(angle)
        hands[:, 1] -= RADIUS * reach * np.cos(angle)
    elif movement == "shake":
        hands[:, 0] += SHAKE * reach * np.sin(4.0 * np.pi * phase)
        hands[:, TURN] -= 10.0 * np.sin(4.0 * np.pi * phase)
    elif movement == "nod":
        hands[:, 1] += NOD * reach * np.sin(4.0 * np.pi * phase)
    elif movement in ("open", "close"):
        part = (share if movement == "open" else 1.0 - share)[:, None]
        shape = slice(FINGERS.start, THUMB.stop)
        hands[:, shape] = SHAPES["fist"] * (1.0 - part) + hand[shape] * part
    return hands


def sign_motion(sign: Sign, signer: Signer, count: int, rng: np.random.Generator | None = None) -> np.ndarray:
    """Body vectors [count, BODY_SIZE] of the sign proper by a right-handed signer of these proportions."""
    body = articulate(leading_pose(sign, rng), signer)
    bodies = np.repeat(body[None], count, axis=0)
    for part, used in ((RIGHT, True), (LEFT, sign.hands == "two")):
        if used:
            bodies[:, part] = move_hand(body[part], sign.movement, count, signer.reach)
    return bodies


def sentence_motion(
    glosses: tuple[str, ...], signer: Signer, signs: list[int], transitions: list[int], rng: np.random.Generator
) -> Motion:
    """A clip: rest, signs and the transitions between them, as `plan` counted them; mirrored for left-handers."""
    spans, total = spans_of(glosses, signs, transitions)
    rest = articulate(Pose(), signer)
    pieces = [rest[None]]
    moves = [sign_motion(LEXICON[g], signer, n, rng) for g, n in zip(glosses, signs, strict=True)]
    for move, frames in zip([*moves, rest[None]], transitions, strict=True):
        pieces += [transition(pieces[-1][-1], move[0], frames), move]
    bodies = np.concatenate(pieces)
    assert bodies.shape == (total, BODY_SIZE)
    _sway_head(bodies, rng)
    return Motion(bodies if signer.right_handed else mirror(bodies), spans)


def transition(start: np.ndarray, end: np.ndarray, frames: int) -> np.ndarray:
    """Body vectors [frames, BODY_SIZE] between two bodies, both left out; hands turn the shorter way."""
    end = end.copy()
    for hand in (0, HAND_SIZE):
        turn = hand + TURN
        end[turn] = start[turn] + (end[turn] - start[turn] + 180.0) % 360.0 - 180.0
    share = minimum_jerk(frames + 2)[1:-1, None]
    between = start + share * (end - start)
    near = np.minimum(share, 1.0 - share) * 2.0  # 0 at the signs, 1 half-way: the mouth relaxes between two signs
    between[:, MOUTH] = near * np.array(MOUTH_FORMS["closed"]) + (1.0 - near) * between[:, MOUTH]
    between[:, PRESENT] = (between[:, PRESENT] > 0.5).astype(float)
    return between


def _sway_head(bodies: np.ndarray, rng: np.random.Generator) -> None:
    """Adds slow movement of head and brows, interpolated between random positions every ten frames."""
    count = len(bodies)
    knots = np.arange(0, count + 10, 10)
    for column, size in ((HEAD.start, 4.0), (HEAD.start + 1, 0.008), (BROWS, 0.6)):
        bodies[:, column] += np.interp(np.arange(count), knots, rng.uniform(-size, size, len(knots)))
