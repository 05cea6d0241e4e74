"""A folder of frames -> uint8 frames: natural order, every kind of PNG and JPEG turned into 8-bit RGB on purpose."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from slakit.data.video.source import Decoded, Source, VideoInfo
from slakit.records import VideoError
from slakit.strict import UNREADABLE

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")  # by content: Pillow would run PostScript of any name
MAX_PIXELS = 64_000_000  # of one frame; a larger header is taken for a bomb and refused before any memory is taken
NO_PICTURE = (*UNREADABLE, Image.DecompressionBombError)
# What Pillow says of EXIF that it passes over would stand among our sentences; the orientation is then as stored. A
# filter for good, since one for a while (catch_warnings) is no thread's own.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS is lower
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what nobody asked for


def natural_key(path: Path) -> list[tuple[int, int | str]]:
    """Sorting key by which frame2 comes before frame10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"([0-9]+)", path.name)]


def list_frames(folder: Path) -> tuple[Path, ...]:
    """The image files of a folder in natural order; hidden and other files are left out."""
    try:
        entries = [p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    except OSError as error:
        raise VideoError(
            f"{folder}: cannot list the frames ({error.strerror}); check the path and its rights"
        ) from None
    return tuple(sorted(entries, key=natural_key))


def _to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit values divided by 257 and rounded, alpha laid over black, other colour models converted."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float64)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError(f"has pixel values of mode {image.mode} beyond 16 bits")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8), mode=None)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image)
    return image.convert("RGB")


def _open(path: Path) -> Image.Image:
    """The image with nothing but its header read; VideoError where it is none, or absurdly large."""
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device would be waited for, or never end
        raise VideoError(f"{path}: not a file, so not a frame; remove it")
    try:
        image = Image.open(path, formats=FORMATS)
    except NO_PICTURE as error:
        raise VideoError(f"{path}: not a readable image ({error}); replace it or leave the clip out") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise VideoError(f"{path}: {image.width}x{image.height} pixels, more than the {MAX_PIXELS:,} of a frame")
    return image


def read_image(path: Path) -> np.ndarray:
    """One frame, uint8 [H, W, 3], RGB, upright (EXIF orientation applied). A cut or damaged file is a VideoError."""
    with _open(path) as image:
        try:
            image.load()
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
        except NO_PICTURE as error:
            raise VideoError(f"{path}: the image is damaged ({error}); replace it or leave the clip out") from None


def image_size(path: Path) -> tuple[int, int]:
    """Upright (height, width); VideoError where the file is no image, damaged, or absurdly large."""
    with _open(path) as image:
        width, height = image.size
        if image.format == "PNG":  # its orientation may stand behind the pixels
            return read_image(path).shape[:2]
        try:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except NO_PICTURE as error:
            raise VideoError(f"{path}: the image is damaged ({error}); replace it or leave the clip out") from None
    return (width, height) if turned else (height, width)


class FrameFiles(Source):
    """Frames that lie in files of their own, in the order given."""

    def __init__(self, files: tuple[Path, ...]):
        if not files:
            raise VideoError("the clip has no frame files; check the folder or the pattern that it was made from")
        self.files, self.name = files, str(files[0].parent)

    @property
    def num_frames(self) -> int:
        return len(self.files)

    def _probe(self) -> VideoInfo:
        height, width = image_size(self.files[0])
        codec = self.files[0].suffix.lower().lstrip(".").replace("jpg", "jpeg")
        count = len(self.files)
        return VideoInfo(self.name, codec, width, height, 0.0, count, "images", packets=count)

    def _decode(self, numbers: Sequence[int] | None, max_bytes: int, on_damage: str, reader: str) -> Decoded:
        files = self.files if numbers is None else [self.files[number] for number in numbers]
        problems: list[str] = []
        frames: np.ndarray | None = None
        filled = 0
        for path in files:
            if frames is None and os.path.isfile(path):  # only the header is read before memory is taken
                with _open(path) as image:
                    self._check_room(len(files), *image.size, max_bytes)
            try:
                picture = read_image(path)
            except VideoError as error:
                if on_damage == "error":
                    raise
                problems.append(str(error))
                continue
            if frames is None:
                frames = np.empty((len(files), *picture.shape), np.uint8)  # [T, H, W, 3]
            if picture.shape != frames.shape[1:]:
                raise VideoError(
                    f"{path}: {picture.shape[1]}x{picture.shape[0]} pixels, but the clip began with "
                    f"{frames.shape[2]}x{frames.shape[1]}; resize the frames of a clip to one size"
                )
            frames[filled] = picture
            filled += 1
        if frames is None:
            frames = np.empty((0, 0, 0, 3), np.uint8)
        return frames[:filled], problems
