"""The pictures that a model is shown: made as those that it was trained on, which its checkpoint says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from slakit.config import AugmentConfig, TrainConfig, checked_dataclass, from_dict
from slakit.data.augment import ClipTransform, apply_plan, evaluation_crop
from slakit.data.video.cropping import Box, Squaring, read_crop, signer_box
from slakit.data.video.packed import PackedClip
from slakit.data.video.read import open_source
from slakit.models.recognizer import Recognizer
from slakit.records import Sample, VideoError

CROPS = ("auto", "signer", "none")


def settings_for(model: Recognizer) -> TrainConfig:
    """Pictures, decoding and precision as the checkpoint was trained and chosen with, where it says so; otherwise the
    published ones at the model's picture size: frames of 8/7 of it, the middle kept."""
    if trained := about(model).get("train"):
        names = ("augment", "decode", "precision", "batch_size")
        return from_dict(TrainConfig, {name: trained[name] for name in names if name in trained}, "train")
    side, _ = evaluation_crop(model.image_size)
    return TrainConfig(augment=AugmentConfig(image_size=side, crop_size=model.image_size))


def about(model: Recognizer) -> Mapping[str, Any]:
    """What is known of where a model comes from: its checkpoint's description, or what fit() noted; {} for nothing."""
    return getattr(model, "about", None) or {}


@checked_dataclass
class PictureFacts:
    """What a checkpoint keeps of a corpus' pictures: how they were made square, the size and filter of a prepared
    corpus, or the shape [height, width] of a clip as it was filmed; box: the square that was cut out of all clips."""

    aspect: Literal["stretch", "pad", "crop"] = "stretch"
    resize_filter: Literal["lanczos4", "antialias"] = "lanczos4"
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    shape: tuple[int, int] | None = None
    box: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Pictures:
    """How frames of any size become those of the model: made square, resized, the middle kept.

    augment: sizes, as in training. aspect: what crop="auto" does to a picture that is not square: "crop" cuts the
    square around the signer, "stretch" and "pad" show the whole. size, resize_filter: of a prepared corpus, which is
    resized twice; size None: once. square, shape: the one square that all clips were cut to, of pictures of that shape;
    it is cut out of others of that shape.
    """

    augment: AugmentConfig
    aspect: str = "crop"
    size: int | None = None
    resize_filter: str = "lanczos4"
    square: Box | None = None
    shape: tuple[int, int] | None = None

    @property
    def squaring(self) -> Squaring:
        """How clips of a corpus are shown that do not say how they are cut."""
        crop = "none" if self.aspect != "crop" else self.square or "signer"
        return Squaring(crop, "pad" if self.aspect == "pad" else "stretch", self.size, self.resize_filter, self.shape)

    def cut(self, crop: str | Sequence[int], height: int, width: int) -> str | Box:
        """ "signer", "none" or the square that is cut out of pictures of that size. ConfigError for a wrong crop."""
        crop = read_crop(crop, CROPS)
        if crop == "auto":
            crop = self.squaring.cut(height, width)
        return "none" if crop == "signer" and height == width else crop

    def box(self, frames: np.ndarray, crop: str | Sequence[int] = "auto") -> Box | None:
        """The square that is cut out of a clip, found in frames uint8 [T, H, W, 3] spread over it; None: the whole."""
        crop = self.cut(crop, *frames.shape[1:3])
        return crop if isinstance(crop, Box) else signer_box(frames) if crop == "signer" else None

    def fit(self, frames: np.ndarray, box: Box | None = None) -> np.ndarray:
        """uint8 [T, H, W, 3] -> uint8 [T, S, S, 3], S = crop_size, as the evaluation of training shows them."""
        side, size = self.augment.image_size, self.augment.crop_size
        frames = self.squaring.fit(frames, side, box)
        plan = ClipTransform(self.augment, train=False).plan(len(frames), side, side)
        fitted = np.empty((len(frames), size, size, 3), np.uint8)
        apply_plan(frames, plan, fitted)
        return fitted


def pictures_for(model: Recognizer, settings: TrainConfig | None = None) -> Pictures:
    """As the model's checkpoint says; settings: other ones than its own.

    A model that was trained on whole pictures which were not square is shown whole pictures; one that was trained on
    squares, or does not say on what, is shown the square around the signer.
    """
    augment = (settings or settings_for(model)).augment
    made = from_dict(PictureFacts, about(model).get("pictures") or {"aspect": "crop"}, "pictures")
    square = made.shape is not None and made.shape[0] == made.shape[1]
    aspect = "crop" if made.aspect == "stretch" and square else made.aspect
    return Pictures(augment, aspect, made.size, made.resize_filter, Box(*made.box) if made.box else None, made.shape)


def crop_of(model: Recognizer, sample: Sample) -> str | Box:
    """How a clip of a corpus is cut for a model: as the corpus says, else as the model's training clips were; whole
    where nobody says."""
    if sample.crop is not None:
        return read_crop(sample.crop)
    return "auto" if about(model).get("pictures") else "none"


def squaring_for(model: Recognizer) -> Squaring:
    """crop_of() for many clips."""
    return pictures_for(model).squaring if about(model).get("pictures") else Squaring()


def picture_facts(samples: Sequence[Sample]) -> dict[str, Any]:
    """PictureFacts of a corpus, for the checkpoint, by the first of its clips that can be opened."""
    for sample in samples:
        try:
            source = open_source(sample.source)
            if isinstance(source, PackedClip):
                kept = source.split.settings
                facts = {name: kept[name] for name in ("aspect", "resize_filter", "size")}
                return facts | ({"box": kept["crop"]} if isinstance(kept.get("crop"), list) else {})
            shape = [source.info.height, source.info.width]
            crops = {sample.crop or "none" for sample in samples}
            if crops == {"none"}:
                return {"aspect": "stretch", "shape": shape}
            boxes = [list(crop) for crop in crops if not isinstance(crop, str)]
            return {"aspect": "crop", "shape": shape} | ({"box": boxes[0]} if len(boxes) == len(crops) == 1 else {})
        except VideoError:
            continue
    return {}


def fit_frames(frames: np.ndarray, model: Recognizer | int, crop: str | Sequence[int] = "auto") -> np.ndarray:
    """Frames of any size as the evaluation shows them to the model: uint8 [T, S, S, 3].

    model: whose pictures; or its size S alone: then as published, resized to 8/7 of it (256 for 224), the middle kept.
    crop "auto" does with a picture that is not square what was done in training (a square around the signer where that
    is not known), "signer" cuts that square, "none" does not; or give the square (left, top, side) in pixels.
    """
    if isinstance(model, int):
        pictures = Pictures(AugmentConfig(image_size=evaluation_crop(model)[0], crop_size=model))
    else:
        pictures = pictures_for(model)
    return pictures.fit(frames, pictures.box(frames, crop))


def with_beam(settings: TrainConfig, beam_width: int | None) -> TrainConfig:
    """The settings with another beam width, where one is given."""
    return settings if beam_width is None else replace(settings, decode=replace(settings.decode, beam_width=beam_width))
