"""Films: frames beside their maps, with the gloss of the moment burnt in, written as MP4 or GIF."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from unicodedata import category

import av
import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from slakit.decoding import GlossSpan
from slakit.records import SlakitError, Span, unwritable, visible, written_whole
from slakit.show.pictures import overlay

# Those to try first; the last comes with matplotlib and has Latin, Greek, Cyrillic and Arabic letters.
FONTS = ["Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "Microsoft YaHei",
         "PingFang SC", "Noto Sans Arabic", "DejaVu Sans"]  # fmt: skip


def font(size: int, text: str = "") -> ImageFont.FreeTypeFont:
    """A font that has every letter of `text`: the first such of FONTS, or of all that are installed.

    Where none has them all, the one that lacks fewest, with a warning that names the letters.
    """
    needed = {letter for letter in text if not letter.isspace() and category(letter) not in ("Cc", "Cf")}
    preferred = [entry for name in FONTS for entry in font_manager.fontManager.ttflist if entry.name == name]
    preferred.sort(key=lambda entry: (entry.style != "normal", str(entry.weight) not in ("400", "normal", "regular")))
    preferred.sort(key=lambda entry: FONTS.index(entry.name))
    others = [entry for entry in font_manager.fontManager.ttflist if needed and entry.name not in FONTS]
    others = [entry for entry in others if "lastresort" not in entry.name.replace(" ", "").lower()]  # boxes for all
    best, lacking = font_manager.findfont(FONTS[-1]), needed | {""}
    for path in dict.fromkeys(entry.fname for entry in [*preferred, *others]):
        without = needed - _letters(path)
        if len(without) < len(lacking):
            best, lacking = path, without
        if not without:
            return ImageFont.truetype(path, size)
    warnings.warn(
        f"no installed font has {' '.join(sorted(lacking))}: drawn as boxes; install one that has, for instance Noto "
        "Sans CJK (Debian: apt-get install fonts-noto-cjk)",
        stacklevel=2,
    )
    return ImageFont.truetype(best, size)


@lru_cache(maxsize=1024)
def _letters(path: str) -> frozenset[str]:
    """The letters that a font file has; none where it cannot be read."""
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def film(
    frames: np.ndarray,
    maps: np.ndarray | Mapping[str, np.ndarray],
    spans: Sequence[Span | GlossSpan],
    caption: str = "",
    fps: float = 25.0,
    zoom: int = 4,
) -> np.ndarray:
    """Every frame beside its overlay, with the gloss of the moment and a time bar burnt in: uint8 [T, H', W', 3].

    maps: [T, h, w], or {name: maps} for several overlays side by side, each with its own scale and its name below it.
    spans: glosses in frames. caption: one line under the pictures that says what is shown.
    """
    rows = maps if isinstance(maps, Mapping) else {"": maps}
    caption, glosses = visible(caption), [visible(span.gloss) for span in spans]
    if not rows:
        raise SlakitError("a film needs at least one map; give maps or {name: maps}")
    plain = frames.repeat(zoom, 1).repeat(zoom, 2)
    pictures = np.concatenate([plain, *(overlay(frames, values, zoom) for values in rows.values())], 2)
    if isinstance(maps, Mapping):
        names = _names(["video", *rows], plain.shape[2])  # [18, W (1 + maps), 3]
        pictures = np.concatenate([pictures, np.broadcast_to(names, (len(frames), *names.shape))], 1)
    width, below, count = pictures.shape[2], 84, len(frames)
    large, line = font(26, "".join(glosses)), f"00.00 s   {caption}"
    small = _fitting(line, width - 8)
    film_frames = []
    for t, picture in enumerate(pictures):
        canvas = Image.new("RGB", (width + width % 2, picture.shape[0] + below + picture.shape[0] % 2), "black")
        canvas.paste(Image.fromarray(picture), (0, 0))
        draw, base = ImageDraw.Draw(canvas), picture.shape[0]
        now = " ".join(gloss for gloss, s in zip(glosses, spans, strict=True) if s.start <= t < s.end)
        draw.text((width // 2, base + 20), now, font=large, fill="white", anchor="mm")
        for s in spans:
            left, right = width * s.start // count, width * s.end // count
            colour = "#E69F00" if s.start <= t < s.end else "#666666"
            draw.rectangle((left, base + 40, max(left, right - 2), base + 50), fill=colour)
        draw.line((width * t // count, base + 37, width * t // count, base + 53), fill="white", width=2)
        draw.text((4, base + 70), f"{t / fps:5.2f} s   {caption}", font=small, fill="#DDDDDD", anchor="lm")
        film_frames.append(np.asarray(canvas))
    return np.stack(film_frames)


def _fitting(text: str, width: int, largest: int = 13) -> ImageFont.FreeTypeFont:
    """The largest font, of `largest` down to 8 pixels, in which the text is at most `width` pixels long."""
    at_most = font(largest, text)
    sizes = (at_most.font_variant(size=size) for size in range(largest, 8, -1))
    return next((f for f in sizes if f.getlength(text) <= width), at_most.font_variant(size=8))


def _names(names: Sequence[str], width: int) -> np.ndarray:
    """A strip with one name under each picture of `width` pixels: uint8 [18, width * names, 3]."""
    strip = Image.new("RGB", (width * len(names), 18), "black")
    draw = ImageDraw.Draw(strip)
    for k, name in enumerate(map(visible, names)):
        draw.text((width * k + width // 2, 9), name, font=_fitting(name, width - 4), fill="white", anchor="mm")
    return np.asarray(strip)


def save_film(path: str | Path, pictures: np.ndarray, fps: float = 25.0) -> Path:
    """Write pictures uint8 [T, H, W, 3] as .mp4 (H.264, plays in every browser) or as an endless .gif.

    The file is there whole or not at all; ConfigError where it cannot be written.
    """
    path = Path(path)
    if path.suffix not in (".gif", ".mp4"):
        raise SlakitError(f"{path.name}: films are written as .mp4 or .gif")
    try:
        with written_whole(path) as [new]:
            (_save_gif if path.suffix == ".gif" else _save_mp4)(new, pictures, fps)
    except (OSError, ValueError) as error:
        raise unwritable(path, error) from None
    return path


def _save_gif(path: Path, pictures: np.ndarray, fps: float) -> None:
    images = [Image.fromarray(p).quantize(128, dither=Image.Dither.NONE) for p in pictures]
    images[0].save(path, "GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)


def _save_mp4(path: Path, pictures: np.ndarray, fps: float) -> None:
    even = pictures[:, : pictures.shape[1] // 2 * 2, : pictures.shape[2] // 2 * 2]  # H.264 needs even sides
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=round(fps))
        stream.height, stream.width, stream.pix_fmt = *even.shape[1:3], "yuv420p"
        stream.options = {"crf": "20"}
        for picture in even:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())
