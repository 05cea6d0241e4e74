"""The building blocks of a sign: names of handshapes, places, orientations, palms and mouths, and poses made of them.

Left and right are the signer's own: the right hand of a signer who faces the viewer is on the LEFT of the picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from slakit.records import ConfigError

# name -> the words that a caption uses
HANDSHAPE_WORDS = {
    "fist": "a fist",
    "flat": "a flat hand",
    "five": "a hand with all fingers spread",
    "claw": "a bent claw hand",
    "index": "an extended index finger",
    "two": "two fingers spread in a V",
    "three": "three fingers spread",
    "thumb": "an extended thumb",
    "pinky": "an extended little finger",
    "ring": "thumb and index finger making a ring",
}
LOCATION_WORDS = {
    "forehead": "at the forehead",
    "temple": "beside the eye",
    "cheek": "at the cheek",
    "chin": "at the chin",
    "shoulder": "at the opposite shoulder",
    "chest": "at the chest",
    "belly": "at the belly",
    "neutral": "in front of the body",
    "side": "out to the side",
}
ORIENTATION_WORDS = {
    "up": "fingers up",
    "in": "fingers pointing inward",
    "down": "fingers down",
    "out": "fingers pointing outward",
}
PALM_WORDS = {"viewer": "palm to the viewer", "signer": "palm to the signer"}
MOUTH_WORDS = {
    "closed": "mouth closed",
    "open": "mouth wide open",
    "round": "mouth round and small",
    "teeth": "mouth wide with teeth",
}

HANDSHAPES = tuple(HANDSHAPE_WORDS)
LOCATIONS = tuple(LOCATION_WORDS)
ORIENTATIONS = tuple(ORIENTATION_WORDS)
PALMS = tuple(PALM_WORDS)
MOUTHS = tuple(MOUTH_WORDS)
HAND_PARAMETERS = ("handshape", "location", "orientation", "palm")
SIDES = ("right", "left")

_NAMES = {
    "handshape": HANDSHAPE_WORDS,
    "location": LOCATION_WORDS,
    "orientation": ORIENTATION_WORDS,
    "palm": PALM_WORDS,
    "mouth": MOUTH_WORDS,
}


def check_name(parameter: str, name: str) -> str:
    """`name` if it is a value of the phonological `parameter`, otherwise a ConfigError that lists the values."""
    if name not in _NAMES[parameter]:
        raise ConfigError(f"{parameter} {name!r} does not exist; choose one of {', '.join(_NAMES[parameter])}")
    return name


@dataclass(frozen=True)
class HandPose:
    """One hand: the names of its four parameters, and small deviations from the exact place and angle.

    offset: (outward, down, toward the viewer) in picture heights. turn: degrees in the picture plane.
    """

    handshape: str
    location: str
    orientation: str
    palm: str
    offset: tuple[float, ...] = (0.0, 0.0, 0.0)
    turn: float = 0.0

    def __post_init__(self) -> None:
        for parameter in HAND_PARAMETERS:
            check_name(parameter, getattr(self, parameter))

    def names(self) -> dict[str, str]:
        """{"handshape": "flat", "location": "chin", "orientation": "up", "palm": "viewer"}"""
        return {parameter: getattr(self, parameter) for parameter in HAND_PARAMETERS}


@dataclass(frozen=True)
class Pose:
    """Both hands (None: at rest, hanging down), mouth and head of one picture.

    head: (roll in degrees, sideways shift in picture heights). brows: -1 (frown) to 1 (raised).
    """

    right: HandPose | None = None
    left: HandPose | None = None
    mouth: str = "closed"
    head: tuple[float, float] = (0.0, 0.0)
    brows: float = 0.0

    def __post_init__(self) -> None:
        check_name("mouth", self.mouth)

    def names(self) -> dict[str, str]:
        """All parameters: {"right.handshape": "flat", ..., "mouth": "open"}; a hand at rest has none."""
        named = {}
        for side in SIDES:
            hand: HandPose | None = getattr(self, side)
            if hand is not None:
                named |= {f"{side}.{parameter}": name for parameter, name in hand.names().items()}
        return named | {"mouth": self.mouth}

    def mirrored(self) -> Pose:
        """The same pose with right and left exchanged."""
        return replace(self, right=self.left, left=self.right, head=(-self.head[0], -self.head[1]))


PARAMETERS = (*(f"{side}.{parameter}" for side in SIDES for parameter in HAND_PARAMETERS), "mouth")


def describe(pose: Pose, include: Iterable[str] | None = None) -> str:
    """An English caption of the pose.

    include: the parameters to speak of, out of `PARAMETERS` ("right.handshape", "mouth", ...) or without the side
    ("handshape": of both hands). None speaks of all. A hand at rest is mentioned if any parameter of it is included.
    ConfigError for an unknown parameter.
    """
    spoken = set(PARAMETERS if include is None else include)
    for name in sorted(spoken - set(PARAMETERS)):
        if name not in HAND_PARAMETERS:
            raise ConfigError(f"a caption knows no parameter {name!r}; it knows {', '.join(PARAMETERS)}")
        spoken |= {f"{side}.{name}" for side in SIDES}
    parts = []
    for side in SIDES:
        hand: HandPose | None = getattr(pose, side)
        chosen = [parameter for parameter in HAND_PARAMETERS if f"{side}.{parameter}" in spoken]
        if not chosen:
            continue
        if hand is None:
            parts.append(f"{side} hand at rest")
            continue
        words = {parameter: _NAMES[parameter][name] for parameter, name in hand.names().items() if parameter in chosen}
        lead = " ".join(words.pop(parameter) for parameter in ("handshape", "location") if parameter in words)
        parts.append(f"{side} hand: " + ", ".join(filter(None, [lead, *words.values()])))
    if "mouth" in spoken:
        parts.append(MOUTH_WORDS[pose.mouth])
    return "; ".join(["a signer", *parts]).replace("; ", ", ", 1)


def sample_hand(rng: np.random.Generator) -> HandPose:
    """A hand with uniformly drawn parameters and a small deviation of place and angle."""
    handshape, location, orientation, palm = (
        str(rng.choice(names)) for names in (HANDSHAPES, LOCATIONS, ORIENTATIONS, PALMS)
    )
    offset = tuple(float(v) for v in rng.uniform(-1.0, 1.0, 3) * (0.018, 0.018, 0.03))
    return HandPose(handshape, location, orientation, palm, offset, float(rng.uniform(-10.0, 10.0)))


def sample_pose(rng: np.random.Generator) -> Pose:
    """A random pose, independent of the lexicon.

    Second hand: at rest (half of the cases), the mirror image of the first (a quarter) or independent (a quarter).
    One hand alone is the right one in four of five cases.
    """
    first = sample_hand(rng)
    kind = rng.choice(("rest", "mirrored", "independent"), p=(0.5, 0.25, 0.25))
    if kind == "rest":
        second = None
    elif kind == "mirrored":
        shift = tuple(float(v) for v in rng.uniform(-0.008, 0.008, 3))
        second = replace(first, offset=tuple(a + b for a, b in zip(first.offset, shift, strict=True)))
    else:
        second = sample_hand(rng)
    head = (float(rng.uniform(-6.0, 6.0)), float(rng.uniform(-0.012, 0.012)))
    pose = Pose(first, second, str(rng.choice(MOUTHS)), head, float(rng.uniform(-0.6, 0.9)))
    return pose.mirrored() if rng.random() < (0.2 if second is None else 0.5) else pose
