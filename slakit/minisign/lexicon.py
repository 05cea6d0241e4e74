"""The glosses of MiniSign, each one a choice of phonological parameters, and the pairs that differ in a single one.

The signs are invented: they belong to no sign language.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from slakit.minisign.phonology import HAND_PARAMETERS, check_name
from slakit.records import ConfigError

MOVEMENTS = {
    "hold": "the hand keeps still",
    "up": "upward",
    "down": "downward",
    "in": "towards the middle of the body",
    "out": "away from the middle of the body",
    "toward": "towards the viewer",
    "away": "away from the viewer",
    "circle-cw": "a circle: up, outward, down, inward",
    "circle-ccw": "a circle: up, inward, down, outward",
    "shake": "from side to side, repeated",
    "nod": "up and down, repeated",
    "open": "the hand opens from a fist into its shape",
    "close": "the hand closes from its shape into a fist",
}
HANDS = ("one", "two")
SIGN_PARAMETERS = (*HAND_PARAMETERS, "movement", "hands", "mouth")


@dataclass(frozen=True)
class Sign:
    """A gloss and its phonological parameters; `kind` is its word class in the grammar.

    hands "two": the other hand mirrors the leading one. For movement "open" and "close", `handshape` is the open form.
    """

    gloss: str
    kind: str
    handshape: str
    location: str
    movement: str
    orientation: str
    palm: str
    hands: str
    mouth: str

    def __post_init__(self) -> None:
        for parameter in (*HAND_PARAMETERS, "mouth"):
            check_name(parameter, getattr(self, parameter))
        if self.movement not in MOVEMENTS or self.hands not in HANDS:
            raise ConfigError(f"the sign {self.gloss} has movement {self.movement!r} and hands {self.hands!r}, unknown")

    def parameters(self) -> dict[str, str]:
        """All parameters by name: {"handshape": "flat", ..., "movement": "away", "hands": "one", "mouth": "closed"}."""
        return {parameter: getattr(self, parameter) for parameter in SIGN_PARAMETERS}


_TABLE = """
YESTERDAY  time    flat   temple    away        up    signer  one  closed
TOMORROW   time    flat   temple    toward      up    signer  one  closed
YEAR       time    index  neutral   circle-cw   up    viewer  one  closed
MONTH      time    index  neutral   circle-ccw  up    viewer  one  closed
MOTHER     person  five   chin      hold        in    signer  one  closed
FATHER     person  five   forehead  hold        in    signer  one  closed
BROTHER    person  two    chest     nod         up    signer  one  open
SISTER     person  two    chest     nod         up    signer  one  round
PERSON     person  flat   side      down        up    viewer  one  closed
PEOPLE     person  flat   side      down        up    viewer  two  closed
ONE        number  index  side      hold        up    signer  one  closed
TWO        number  two    side      hold        up    signer  one  closed
THREE      number  three  side      hold        up    signer  one  closed
TREE       thing   five   neutral   shake       up    viewer  one  closed
ROOT       thing   five   neutral   shake       down  viewer  one  closed
WATER      thing   claw   cheek     nod         up    viewer  one  teeth
TEA        thing   claw   cheek     nod         up    viewer  one  closed
LIGHT      thing   five   temple    open        up    viewer  one  open
DARK       thing   five   temple    close       up    viewer  one  open
RISE       verb    flat   belly     up          in    signer  two  closed
FALL       verb    flat   belly     down        in    signer  two  closed
GIVE       verb    ring   chest     toward      up    viewer  one  round
TAKE       verb    ring   chest     away        up    viewer  one  round
KNOW       verb    pinky  cheek     hold        up    viewer  one  closed
THINK      verb    index  cheek     hold        up    viewer  one  closed
MEET       verb    index  neutral   in          up    signer  two  closed
PART       verb    index  neutral   out         up    signer  two  closed
GOOD       quality thumb  chest     hold        in    signer  one  teeth
BAD        quality thumb  chest     hold        in    viewer  one  teeth
HAPPY      quality five   shoulder  nod         up    signer  one  teeth
SICK       quality claw   belly     circle-cw   in    signer  one  round
"""
LEXICON: dict[str, Sign] = {sign.gloss: sign for sign in (Sign(*line.split()) for line in _TABLE.strip().splitlines())}
GLOSSES = tuple(sorted(LEXICON))
KINDS = tuple(dict.fromkeys(sign.kind for sign in LEXICON.values()))


def differing(first: str, second: str) -> tuple[str, ...]:
    """The parameters in which two glosses differ."""
    a, b = LEXICON[first].parameters(), LEXICON[second].parameters()
    return tuple(parameter for parameter in SIGN_PARAMETERS if a[parameter] != b[parameter])


def minimal_pairs() -> list[tuple[str, str, str]]:
    """All pairs of glosses that differ in exactly one parameter, as (gloss, gloss, parameter)."""
    pairs = ((a, b, differing(a, b)) for a, b in combinations(LEXICON, 2))
    return [(a, b, parameters[0]) for a, b, parameters in pairs if len(parameters) == 1]
