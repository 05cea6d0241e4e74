"""Signers and scenes: how they are drawn at random, for two domains whose ranges stand here as plain data.

"pictures" is what the tiny CLIP is pretrained on: illustrations of a sign dictionary. "film" is what the corpus
shows: footage with cluttered backgrounds, graded colours and grain. `strength` moves every range from the first
(0) to the second (1), and beyond.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from slakit.minisign.phonology import LOCATIONS
from slakit.records import ConfigError

DOMAINS = ("pictures", "film")
Colour = tuple[int, int, int]

# parameter: (range in "pictures", range in "film")
SCENE_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "zoom": ((0.95, 1.05), (0.90, 1.08)),
    "shift_x": ((-0.02, 0.02), (-0.05, 0.05)),  # in picture heights
    "shift_y": ((-0.01, 0.02), (-0.02, 0.03)),
    "exposure": ((0.94, 1.00), (0.96, 1.10)),  # factor on all light
    "contrast": ((0.92, 1.00), (0.82, 1.06)),
    "gamma": ((0.95, 1.05), (0.62, 0.92)),
    "grey": ((0.00, 0.08), (0.20, 0.55)),  # share of the colour that is taken away
    "tint": ((0.00, 0.03), (0.06, 0.22)),  # strength of the colour cast
    "side_light": ((0.00, 0.05), (0.12, 0.40)),
    "vignette": ((0.00, 0.04), (0.12, 0.40)),
    "grain": ((0.0, 1.5), (2.0, 5.0)),  # standard deviation in grey levels of 255
    "blur": ((0.00, 0.15), (0.20, 0.55)),  # standard deviation in pixels of a 96-pixel picture
    "clutter": ((0.00, 0.15), (0.55, 1.00)),  # contrast of what stands in the background
}
SCENE_LIMITS = {"grey": (0.0, 1.0), "contrast": (0.2, 2.0), "gamma": (0.4, 2.5)}  # beyond: no picture left
SIGNER_RANGES: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "shoulders": ((0.168, 0.186), (0.158, 0.200)),  # half width, in picture heights
    "head": ((0.096, 0.104), (0.092, 0.108)),  # half width of the head
    "head_length": ((1.24, 1.32), (1.18, 1.36)),  # height over width
    "arm": ((0.97, 1.03), (0.93, 1.06)),
    "girth": ((0.95, 1.08), (0.88, 1.18)),  # thickness of arms and trunk
    "hand": ((0.109, 0.117), (0.104, 0.119)),  # palm length
    "fingers": ((0.95, 1.05), (0.90, 1.08)),  # thickness
    "mouth": ((0.95, 1.05), (0.88, 1.10)),
    "speed": ((0.95, 1.05), (0.88, 1.14)),
    "reach": ((0.95, 1.05), (0.85, 1.18)),  # size of movements
    "personal_place": ((0.000, 0.006), (0.004, 0.014)),  # how far personal places lie from the lexicon's
}
# what can be met in "pictures", and what only film shows (with the probability that film takes it)
SKINS: tuple[Colour, ...] = (
    (242, 208, 180),
    (232, 190, 158),
    (224, 178, 142),
    (196, 146, 108),
    (160, 112, 80),
    (122, 82, 58),
    (92, 62, 46),
)
HAIRS: tuple[Colour, ...] = (
    (28, 22, 20),
    (58, 38, 26),
    (98, 64, 38),
    (150, 104, 58),
    (206, 170, 106),
    (140, 60, 34),
    (150, 150, 152),
)
CLOTHES = {
    "pictures": ((44, 62, 96), (40, 92, 110), (96, 44, 60), (60, 60, 66), (46, 98, 74), (92, 72, 128)),
    "film": ((34, 34, 40), (90, 96, 104), (126, 98, 78), (150, 132, 110), (62, 74, 60), (120, 62, 52), (176, 176, 172)),
}
HAIR_STYLES = {"pictures": ("short", "bob", "long", "bun"), "film": ("curls", "bald", "scarf", "side", "short", "long")}
GARMENTS = {"pictures": ("round", "collar"), "film": ("jacket", "stripes", "hood", "round", "collar")}
BACKGROUNDS = {"pictures": ("plain", "gradient"), "film": ("shelf", "window", "bricks", "bokeh", "studio")}
PAPER: tuple[Colour, ...] = ((236, 238, 240), (222, 230, 238), (238, 232, 220), (214, 226, 216), (232, 222, 230))
WALLS: tuple[Colour, ...] = ((126, 118, 108), (92, 104, 118), (146, 128, 104), (88, 96, 84), (110, 88, 84))
TINTS = ((1.0, 0.86, 0.62), (0.70, 0.90, 1.0), (0.80, 1.0, 0.78), (1.0, 0.80, 0.86), (0.98, 0.94, 0.70))


@dataclass(frozen=True)
class Signer:
    """A person: proportions in picture heights, looks, and habits of signing.

    right_handed: False mirrors the signs of the lexicon (the left hand leads). place: personal offset (outward, down,
    toward the viewer) of every location. speed: signs per time, 1 = the lexicon's. reach: size of movements.
    """

    name: str
    shoulders: float
    head: float
    head_length: float
    arm: float
    girth: float
    hand: float
    fingers: float
    mouth: float
    speed: float
    reach: float
    place: dict[str, tuple[float, ...]] = field(hash=False)
    right_handed: bool
    skin: Colour
    hair: Colour
    hair_style: str
    clothes: Colour
    garment: str
    long_sleeves: bool
    glasses: bool
    beard: bool


@dataclass(frozen=True)
class Scene:
    """Camera, light and background of one clip; the units stand beside SCENE_RANGES."""

    zoom: float
    shift_x: float
    shift_y: float
    exposure: float
    contrast: float
    gamma: float
    grey: float
    tint: float
    tint_colour: tuple[float, float, float]
    side_light: float
    light_from: float  # degrees: 0 = from the right of the picture
    vignette: float
    grain: float
    blur: float
    background: str
    wall: Colour
    clutter: float
    seed: int


def _share(domain: str, strength: float) -> float:
    if domain not in DOMAINS:
        raise ConfigError(f"the domain {domain!r} does not exist; choose one of {', '.join(DOMAINS)}")
    if not 0.0 <= strength <= 2.0:
        raise ConfigError(f"the film strength {strength!r} is outside 0 to 2")
    return strength if domain == "film" else 0.0


def _draw(rng: np.random.Generator, ranges: dict, share: float) -> dict[str, float]:
    drawn = {}
    for name, (pictures, film) in ranges.items():
        low, high = ((1.0 - share) * p + share * f for p, f in zip(pictures, film, strict=True))
        drawn[name] = float(rng.uniform(low, high))
    return drawn


def _pick(rng: np.random.Generator, options: dict[str, tuple], share: float):
    """An entry of "film" with probability `share`, otherwise one of "pictures"."""
    entries = options["film" if rng.random() < share else "pictures"]
    return entries[int(rng.integers(len(entries)))]


def sample_signer(rng: np.random.Generator, domain: str, strength: float = 1.0, name: str = "") -> Signer:
    """A signer of the domain "pictures" or "film"; ConfigError for another domain or a strength outside 0 to 2."""
    share = _share(domain, strength)
    drawn = _draw(rng, SIGNER_RANGES, share)
    spread = drawn.pop("personal_place")
    place = {location: tuple(float(v) for v in rng.uniform(-spread, spread, 3)) for location in LOCATIONS}
    style = _pick(rng, HAIR_STYLES, share)
    return Signer(
        name=name,
        place=place,
        right_handed=bool(rng.random() < 0.85),
        skin=SKINS[int(rng.integers(len(SKINS)))],
        hair=HAIRS[int(rng.integers(len(HAIRS)))],
        hair_style=style,
        clothes=_pick(rng, CLOTHES, share),
        garment=_pick(rng, GARMENTS, share),
        long_sleeves=bool(rng.random() < 0.65),
        glasses=bool(rng.random() < 0.25),
        beard=bool(style in ("short", "side", "bald") and rng.random() < 0.35),
        **drawn,
    )


def sample_scene(rng: np.random.Generator, domain: str, strength: float = 1.0) -> Scene:
    """Camera, light and background of the domain; ConfigError for another domain or a strength outside 0 to 2."""
    share = _share(domain, strength)
    drawn = _draw(rng, SCENE_RANGES, share)
    for name, (low, high) in SCENE_LIMITS.items():
        drawn[name] = min(max(drawn[name], low), high)
    background = _pick(rng, BACKGROUNDS, share)
    walls = PAPER if background in BACKGROUNDS["pictures"] else WALLS
    return Scene(
        tint_colour=TINTS[int(rng.integers(len(TINTS)))],
        light_from=float(rng.uniform(0.0, 360.0)),
        background=background,
        wall=walls[int(rng.integers(len(walls)))],
        seed=int(rng.integers(2**31)),
        **drawn,
    )
