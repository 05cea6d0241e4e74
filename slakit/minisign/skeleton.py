"""Bones: where the places of signing lie on a body, and arms by two-link inverse kinematics.

Unit: picture heights at zoom 1; picture axes are right, down, toward the viewer; the origin lies at the throat's
height in the middle of the body. The right hand of the signer is at negative x.
"""

from __future__ import annotations

import numpy as np

from slakit.minisign.hands import HAND_SIZE, PLACE, hand_axes, hand_vector
from slakit.minisign.looks import Signer
from slakit.minisign.phonology import SIDES, HandPose, Pose

UPPER_ARM, FOREARM = 0.235, 0.225
SHOULDER_Y = 0.070
HEAD_Y = -0.158  # centre of the head
MOUTH_BELOW = 0.46  # of half the head's height below its centre
HAND_CENTRE = 0.42  # the place is reached by this point, in palm lengths from the palm's centre along the fingers

# place of the hand's centre: outward from the middle (in half shoulder widths), down and toward the viewer
PLACES = {
    "forehead": (0.42, -0.265, 0.10),
    "temple": (0.98, -0.188, 0.10),
    "cheek": (0.88, -0.068, 0.10),
    "chin": (0.20, 0.045, 0.12),
    "shoulder": (-0.92, 0.075, 0.12),
    "chest": (0.18, 0.165, 0.12),
    "belly": (0.20, 0.360, 0.12),
    "neutral": (1.10, 0.230, 0.15),
    "side": (1.85, 0.060, 0.10),
}
REST_PLACE = (0.80, 0.565, 0.06)

# mouth: half width, half height, roundness (0 lens, 1 oval), teeth (0 / 1); in half head widths
MOUTH_FORMS = {
    "closed": (0.36, 0.030, 0.0, 0.0),
    "open": (0.36, 0.290, 0.8, 0.0),
    "round": (0.17, 0.170, 1.0, 0.0),
    "teeth": (0.54, 0.175, 0.35, 1.0),
}
# one vector describes a whole body: two hands, mouth, head roll (degrees), head shift, brows
RIGHT = slice(0, HAND_SIZE)
LEFT = slice(HAND_SIZE, 2 * HAND_SIZE)
MOUTH = slice(2 * HAND_SIZE, 2 * HAND_SIZE + 4)
HEAD = slice(2 * HAND_SIZE + 4, 2 * HAND_SIZE + 6)
BROWS = 2 * HAND_SIZE + 6
PRESENT = slice(2 * HAND_SIZE + 7, 2 * HAND_SIZE + 9)  # 1 while the right / left hand signs, 0 at rest
BODY_SIZE = 2 * HAND_SIZE + 9


def place_of(location: str, signer: Signer) -> np.ndarray:
    """Where `signer` makes signs of this location, (outward, down, toward viewer), [3]."""
    outward, down, toward = PLACES[location]
    return np.array([outward * signer.shoulders, down, toward]) + signer.place[location]


def rest_hand(signer: Signer) -> np.ndarray:
    """A hand that hangs down before the hips, [HAND_SIZE]."""
    place = np.array([REST_PLACE[0] * signer.shoulders, *REST_PLACE[1:]])
    return hand_vector("flat", place, "down", "signer", turn=-25.0)


def articulate_hand(hand: HandPose | None, signer: Signer) -> np.ndarray:
    """The hand's vector [HAND_SIZE] for this signer; None is the hand at rest."""
    if hand is None:
        return rest_hand(signer)
    place = place_of(hand.location, signer) + hand.offset
    return hand_vector(hand.handshape, place, hand.orientation, hand.palm, hand.turn)


def articulate(pose: Pose, signer: Signer) -> np.ndarray:
    """The body's vector [BODY_SIZE] that shows `pose` by `signer`; such vectors can be interpolated."""
    body = np.zeros(BODY_SIZE)
    body[RIGHT] = articulate_hand(pose.right, signer)
    body[LEFT] = articulate_hand(pose.left, signer)
    body[MOUTH] = MOUTH_FORMS[pose.mouth]
    body[HEAD] = pose.head
    body[BROWS] = pose.brows
    body[PRESENT] = [getattr(pose, side) is not None for side in SIDES]
    return body


def mirror(body: np.ndarray) -> np.ndarray:
    """The same bodies [..., BODY_SIZE] with right and left exchanged."""
    mirrored = body.copy()
    mirrored[..., RIGHT], mirrored[..., LEFT] = body[..., LEFT], body[..., RIGHT]
    mirrored[..., HEAD] = -body[..., HEAD]
    mirrored[..., PRESENT] = body[..., PRESENT][..., ::-1]
    return mirrored


def solve_arm(shoulder: np.ndarray, wrist: np.ndarray, upper: float, fore: float) -> tuple[np.ndarray, np.ndarray]:
    """Elbow and wrist [3] of a right arm by two-link inverse kinematics, the elbow out, low and slightly back.

    A wrist out of reach is drawn onto the reachable sphere, so that both bones keep their lengths.
    """
    line = wrist - shoulder
    distance = float(np.sqrt(line @ line))
    reach = min(max(distance, abs(upper - fore) + 1e-4), upper + fore - 1e-4)
    direction = line / max(distance, 1e-9)
    wrist = shoulder + direction * reach
    along = (upper**2 - fore**2 + reach**2) / (2.0 * reach)
    height = np.sqrt(max(upper**2 - along**2, 0.0))
    pole = np.array([-0.75, 1.0, -0.35])
    pole = pole - (pole @ direction) * direction
    return shoulder + along * direction + height * pole / np.sqrt(pole @ pole), wrist


def pose_arm(hand: np.ndarray, signer: Signer) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shoulder, elbow, wrist and palm centre [3] of a right arm that holds the hand vector at its place."""
    axes = hand_axes(hand)
    outward, down, toward = hand[PLACE]
    palm = np.array([-outward, down, toward]) - HAND_CENTRE * signer.hand * axes[1]
    shoulder = np.array([-signer.shoulders, SHOULDER_Y, 0.0])
    target = palm - 0.62 * signer.hand * axes[1]
    elbow, wrist = solve_arm(shoulder, target, UPPER_ARM * signer.arm, FOREARM * signer.arm)
    return shoulder, elbow, wrist, palm + (wrist - target)
