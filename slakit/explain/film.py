"""Maps laid over frames, with the gloss burnt in, as pictures and as MP4 or GIF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import matplotlib
import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from slakit.data.samples import Span
from slakit.decoding import GlossSpan
from slakit.errors import SlakitError
from slakit.plots import HEAT, enlarge

FONTS = ["Noto Sans CJK SC", "Noto Sans Arabic", "DejaVu Sans"]  # the last comes with matplotlib: Latin, Arabic


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
    visible = np.clip(1.6 * np.sqrt(levels), 0, 0.85)
    colours = (255 * matplotlib.colormaps[HEAT](levels)[:, :3] * visible[:, None]).astype(np.float32)
    through = (1 - visible).astype(np.float32)
    top = scale_of(maps) if top is None else top
    made = np.empty((len(frames), height, width, 3), np.uint8)
    for t, (frame, small) in enumerate(zip(frames, maps, strict=True)):
        heat = (255 * np.clip(enlarge(small[None] / top, height, width)[0], 0, 1)).astype(np.uint8)
        grey = frame.mean(-1, dtype=np.float32).repeat(zoom, 0).repeat(zoom, 1)
        made[t] = (grey * through[heat])[..., None] + colours[heat]
    return made


def font(size: int) -> ImageFont.FreeTypeFont:
    """The first of FONTS that is installed."""
    paths = [font_manager.findfont(name, fallback_to_default=name == FONTS[-1]) for name in FONTS if _installed(name)]
    return ImageFont.truetype(paths[0], size)


def _installed(name: str) -> bool:
    return name in font_manager.get_font_names()


def film(
    frames: np.ndarray,
    maps: np.ndarray,
    spans: Sequence[Span | GlossSpan],
    caption: str = "",
    fps: float = 25.0,
    zoom: int = 4,
) -> np.ndarray:
    """Every frame beside its overlay, with the gloss of the moment and a time bar burnt in: uint8 [T, H', W', 3].

    spans: glosses in frames. caption: one line under the pictures that says what is shown.
    """
    plain = frames.repeat(zoom, 1).repeat(zoom, 2)
    pictures = np.concatenate([plain, overlay(frames, maps, zoom)], 2)  # [T, H, 2 W, 3]
    width, below, count = pictures.shape[2], 84, len(frames)
    large, line = font(26), f"00.00 s   {caption}"
    small = next((f for f in map(font, range(13, 8, -1)) if f.getlength(line) < width - 8), font(8))
    made = []
    for t, picture in enumerate(pictures):
        canvas = Image.new("RGB", (width + width % 2, picture.shape[0] + below + picture.shape[0] % 2), "black")
        canvas.paste(Image.fromarray(picture), (0, 0))
        draw, base = ImageDraw.Draw(canvas), picture.shape[0]
        now = " ".join(s.gloss for s in spans if s.start <= t < s.end)
        draw.text((width // 2, base + 20), now, font=large, fill="white", anchor="mm")
        for s in spans:
            left, right = width * s.start // count, width * s.end // count
            colour = "#E69F00" if s.start <= t < s.end else "#666666"
            draw.rectangle((left, base + 40, max(left, right - 2), base + 50), fill=colour)
        draw.line((width * t // count, base + 37, width * t // count, base + 53), fill="white", width=2)
        draw.text((4, base + 70), f"{t / fps:5.2f} s   {caption}", font=small, fill="#DDDDDD", anchor="lm")
        made.append(np.asarray(canvas))
    return np.stack(made)


def save_film(path: str | Path, pictures: np.ndarray, fps: float = 25.0) -> Path:
    """Write pictures uint8 [T, H, W, 3] as .mp4 (H.264, plays in every browser) or as an endless .gif."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        images = [Image.fromarray(p).quantize(128, dither=Image.Dither.NONE) for p in pictures]
        images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    elif path.suffix == ".mp4":
        even = pictures[:, : pictures.shape[1] // 2 * 2, : pictures.shape[2] // 2 * 2]  # H.264 needs even sides
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=round(fps))
            stream.height, stream.width, stream.pix_fmt = *even.shape[1:3], "yuv420p"
            stream.options = {"crf": "20"}
            for picture in even:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            container.mux(stream.encode())
    else:
        raise SlakitError(f"{path.name}: films are written as .mp4 or .gif")
    return path
