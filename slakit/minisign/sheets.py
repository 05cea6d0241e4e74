"""Contact sheets: handshapes, mouths, signers, and film strips of glosses, as Pillow images.

Every function takes `scale` (enlargement with hard pixel edges) and returns an RGB image that a notebook shows as is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from slakit.minisign.lexicon import LEXICON
from slakit.minisign.looks import Scene, Signer, sample_scene, sample_signer
from slakit.minisign.motion import PATH_FRAMES, SIGN_FRAMES, sign_motion
from slakit.minisign.phonology import HANDSHAPES, MOUTHS, PALMS, HandPose, Pose
from slakit.minisign.render import render
from slakit.minisign.skeleton import mirror

LABEL_HEIGHT = 13
_PAPER, _INK = (255, 255, 255), (30, 30, 36)


def grid(
    cells: Sequence[Sequence[np.ndarray]], labels: Sequence[Sequence[str]] | None = None, scale: int = 3
) -> Image.Image:
    """Pictures uint8 [H, W, 3] in rows, each with its label above; all pictures must have one size."""
    height, width = (side * scale for side in cells[0][0].shape[:2])
    top = LABEL_HEIGHT if labels else 0
    columns = max(len(row) for row in cells)
    sheet = Image.new("RGB", (columns * (width + 3) + 3, len(cells) * (height + top + 3) + 3), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for r, row in enumerate(cells):
        for c, picture in enumerate(row):
            x, y = 3 + c * (width + 3), 3 + r * (height + top + 3)
            sheet.paste(Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST), (x, y + top))
            if labels:
                draw.text((x + 1, y), labels[r][c], fill=_INK, font=font)
    return sheet


def sample_look(domain: str = "pictures", seed: int = 0, strength: float = 1.0) -> tuple[Signer, Scene]:
    """A signer and a scene of the domain, for showing poses."""
    rng = np.random.default_rng(seed)
    return sample_signer(rng, domain, strength), sample_scene(rng, domain, strength)


def crop(image: np.ndarray, centre: tuple[float, float], side: int) -> np.ndarray:
    """The square of `side` pixels round `centre` (x, y), moved inwards where it would leave the picture."""
    x, y = (round(min(max(v - side / 2, 0), limit - side)) for v, limit in zip(centre, image.shape[1::-1], strict=True))
    return image[y : y + side, x : x + side]


def handshape_sheet(domain: str = "pictures", seed: int = 0, scale: int = 3, close: bool = False) -> Image.Image:
    """All handshapes (columns) with the palm to the viewer and to the signer (rows). close: only the hand."""
    signer, scene = sample_look(domain, seed)
    half = (len(HANDSHAPES) + 1) // 2
    cells, labels = [], []
    for palm in PALMS:
        for row in (HANDSHAPES[:half], HANDSHAPES[half:]):
            frames = [render(Pose(HandPose(h, "neutral", "up", palm)), signer, scene) for h in row]
            cells.append([crop(f.image, f.right_hand or (0, 0), 40) if close else f.image for f in frames])
            labels.append([f"{h}, palm to {palm}" for h in row])
    return grid(cells, labels, scale)


def mouth_sheet(domain: str = "pictures", signers: int = 3, scale: int = 3) -> Image.Image:
    """All mouth forms (columns) on several signers (rows)."""
    looks = [sample_look(domain, seed) for seed in range(signers)]
    cells = [[render(Pose(mouth=mouth), *look).image for mouth in MOUTHS] for look in looks]
    return grid(cells, [list(MOUTHS)] * signers, scale)


def gloss_frames(gloss: str, signer: Signer, scene: Scene, size: int = 96) -> np.ndarray:
    """The sign proper of a gloss, uint8 [T, size, size, 3]."""
    sign = LEXICON[gloss]
    bodies = sign_motion(sign, signer, SIGN_FRAMES.get(sign.movement, PATH_FRAMES))
    if not signer.right_handed:
        bodies = mirror(bodies)
    return np.stack([render(body, signer, scene, size, number).image for number, body in enumerate(bodies)])


def strips(glosses: Sequence[str], domain: str = "film", seed: int = 0, scale: int = 2, frames: int = 5) -> Image.Image:
    """One film strip a gloss, `frames` pictures of the sign proper at equal distances."""
    look = sample_look(domain, seed)
    cells = []
    for gloss in glosses:
        clip = gloss_frames(gloss, *look)
        cells.append([clip[i] for i in np.linspace(0, len(clip) - 1, frames).round().astype(int)])
    return grid(cells, [[gloss] + [""] * (frames - 1) for gloss in glosses], scale)
