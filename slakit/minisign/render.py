"""One picture of a signer, with the true places of hands, mouth and face.

    rng = np.random.default_rng(0)
    signer, scene = sample_signer(rng, "film"), sample_scene(rng, "film")
    frame = render(sample_pose(rng), signer, scene)

Left and right are the signer's own; the right hand is on the left of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from slakit.minisign.backgrounds import draw_background
from slakit.minisign.camera import photograph
from slakit.minisign.canvas import Canvas
from slakit.minisign.draw_body import draw_head, draw_trunk, head_frame, mouth_place
from slakit.minisign.draw_hand import draw_arm
from slakit.minisign.hands import PLACE
from slakit.minisign.looks import Scene, Signer
from slakit.minisign.phonology import Pose
from slakit.minisign.skeleton import LEFT, PRESENT, RIGHT, articulate

OVERSAMPLING = 3
FIGURE = 1.10  # picture heights a body unit, at zoom 1
ORIGIN = (0.5, 0.45)  # where the body's origin lies in the picture


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture and the truth about it, in pixels (x to the right, y down) of this picture.

    image: uint8 [size, size, 3], RGB. right_hand, left_hand: centre of the palm, None at rest or outside the picture.
    mouth: its centre. face: (centre of the head, half its height).
    """

    image: np.ndarray
    right_hand: tuple[float, float] | None
    left_hand: tuple[float, float] | None
    mouth: tuple[float, float]
    face: tuple[tuple[float, float], float]


def render(pose: Pose | np.ndarray, signer: Signer, scene: Scene, size: int = 96, frame: int = 0) -> Frame:
    """Draws a pose, or a body vector [BODY_SIZE] of `articulate` and of motion, as a picture of size x size pixels.

    frame: number of the picture within its clip; it only moves the film grain.
    """
    body = articulate(pose, signer) if isinstance(pose, Pose) else pose
    side = size * OVERSAMPLING
    canvas = Canvas(_stage(signer, scene, side).copy(), *_transform(scene, side))
    draw_head(canvas, body, signer)
    arms = sorted((("right", RIGHT), ("left", LEFT)), key=lambda arm: body[arm[1]][PLACE][2])
    palms = {name: draw_arm(canvas, body[part], signer, name) for name, part in arms}

    def pixel(point: np.ndarray) -> tuple[float, float]:
        x, y = canvas.pixels(point) / OVERSAMPLING
        return float(x), float(y)

    def hand(name: str, present: float) -> tuple[float, float] | None:
        x, y = pixel(palms[name])
        return (x, y) if present > 0.5 and 0.0 <= x < size and 0.0 <= y < size else None

    right, left = body[PRESENT]
    centre, _, half_width = head_frame(body, signer)
    radius = half_width * signer.head_length * canvas.scale / OVERSAMPLING
    return Frame(
        photograph(canvas.image, scene, size, frame),
        hand("right", right),
        hand("left", left),
        pixel(mouth_place(body, signer)),
        (pixel(centre), float(radius)),
    )


def _transform(scene: Scene, side: int) -> tuple[float, tuple[float, float]]:
    """Pixels a body unit, and the pixel of the body's origin, in a drawing of side x side pixels."""
    x = 0.5 + scene.shift_x + (ORIGIN[0] - 0.5) * scene.zoom
    y = 0.5 + scene.shift_y + (ORIGIN[1] - 0.5) * scene.zoom
    return side * scene.zoom * FIGURE, (x * side, y * side)


@lru_cache(maxsize=16)
def _stage(signer: Signer, scene: Scene, side: int) -> Image.Image:
    """Background and trunk: what does not move within a clip."""
    image = draw_background(scene, side)
    draw_trunk(Canvas(image, *_transform(scene, side)), signer)
    return image
