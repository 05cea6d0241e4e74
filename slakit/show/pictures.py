"""Pictures as arrays: frames under their maps, and whatever can be drawn as PNG bytes."""

from __future__ import annotations

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image

from slakit.records import SlakitError

HEAT = "inferno"  # readable without colour vision: brightness rises with the value


def png(picture: np.ndarray | Image.Image | Figure, dpi: int = 150) -> bytes:
    """PNG bytes, quickly rather than small: of pixels uint8 [H, W, 3], of a PIL image, or of a figure with its caption.

    A figure is drawn with `dpi` dots an inch and closed.
    """
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
        plt.close(picture)
    else:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def as_image(figure: Figure) -> Image.Image:
    """A figure as a PIL image (RGB); the figure is closed."""
    return Image.open(io.BytesIO(png(figure))).convert("RGB")


def stack(images: list[Image.Image]) -> Image.Image:
    """Images one under the other on white, at the left edge."""
    whole = Image.new("RGB", (max(i.width for i in images), sum(i.height for i in images)), "white")
    top = 0
    for image in images:
        whole.paste(image, (0, top))
        top += image.height
    return whole


def scale_of(maps: np.ndarray) -> float:
    """The value that is drawn brightest: the 99.5th percentile of the whole clip, so that one patch alone does not
    darken all others.
    """
    return max(float(np.quantile(maps, 0.995)), 0.25 * float(maps.max()), 1e-30)


def overlay(frames: np.ndarray, maps: np.ndarray, zoom: int = 4, top: float | None = None) -> np.ndarray:
    """Grey frames under their maps: uint8 [T, H * zoom, W * zoom, 3]; one scale for the whole clip.

    frames: uint8 [T, H, W, 3]; maps: [T, h, w], not negative. top: the value drawn brightest, None: scale_of(maps).
    Where a map is low it is transparent. The colours rise in brightness, so they read without colour vision.
    """
    if len(frames) != len(maps):
        raise SlakitError(f"{len(frames)} frames but {len(maps)} maps; give one map a frame")
    height, width = frames.shape[1] * zoom, frames.shape[2] * zoom
    levels = np.linspace(0, 1, 256)
    opacity = np.clip(1.6 * np.sqrt(levels), 0, 0.85)
    colours = (255 * matplotlib.colormaps[HEAT](levels)[:, :3] * opacity[:, None]).astype(np.float32)
    transparency = (1 - opacity).astype(np.float32)
    top = scale_of(maps) if top is None else top
    pictures = np.empty((len(frames), height, width, 3), np.uint8)
    for t, (frame, values) in enumerate(zip(frames, maps, strict=True)):
        heat = (255 * np.clip(_enlarged(values / top, height, width), 0, 1)).astype(np.uint8)
        grey = frame.mean(-1, dtype=np.float32).repeat(zoom, 0).repeat(zoom, 1)
        pictures[t] = (grey * transparency[heat])[..., None] + colours[heat]
    return pictures


def _enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map [h, w] -> [height, width], smoothly."""
    coarse = torch.from_numpy(np.ascontiguousarray(values)).float()[None, None]
    return F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)[0, 0].clamp_min(0).numpy()
