"""The pictures that a model is shown: made as those that it was trained on, which its checkpoint says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slakit.config import AugmentConfig, TrainConfig, from_dict
from slakit.data.augment import ClipTransform, apply_plan, evaluation_crop
from slakit.data.video.cropping import Box, signer_box, squared
from slakit.data.video.packed import PackedClip
from slakit.data.video.read import open_source
from slakit.data.video.resize import resize
from slakit.models.recognizer import Recognizer
from slakit.records import ConfigError, Sample, VideoError


def settings_for(model: Recognizer) -> TrainConfig:
    """Pictures, decoding and precision as the checkpoint was trained and chosen with, where it says so; otherwise the
    published ones at the model's picture size: frames of 8/7 of it, the middle kept."""
    if trained := about(model).get("train"):
        names = ("augment", "decode", "precision")
        return from_dict(TrainConfig, {name: trained[name] for name in names if name in trained}, "train")
    side, _ = evaluation_crop(model.image_size)
    return TrainConfig(augment=AugmentConfig(image_size=side, crop_size=model.image_size))


def about(model: Recognizer) -> Mapping[str, Any]:
    """What is known of where a model comes from: its checkpoint's description, or what fit() noted; {} for nothing."""
    return getattr(model, "about", None) or {}


@dataclass(frozen=True)
class Pictures:
    """How frames of any size become those of the model: made square, resized, the middle kept.

    augment: sizes, as in training. aspect: what crop="auto" does to a picture that is not square: "crop" cuts the
    square around the signer, "stretch" and "pad" show the whole. size, resize_filter: of a prepared corpus, which is
    resized twice; size None: once.
    """

    augment: AugmentConfig
    aspect: str = "crop"
    size: int | None = None
    resize_filter: str = "lanczos4"

    def looks(self, crop: str | Box, height: int, width: int) -> bool:
        """Whether the signer is looked for in pictures of that size."""
        if not isinstance(crop, Box) and crop not in ("auto", "signer", "none"):
            raise ConfigError(f"crop={crop!r} is none of auto, signer, none, nor a Box of left, top and side")
        return height != width and (crop == "signer" or (crop == "auto" and self.aspect == "crop"))

    def box(self, frames: np.ndarray, crop: str | Box = "auto") -> Box | None:
        """The square that is cut out of a clip, found in frames uint8 [T, H, W, 3] spread over it; None: the whole."""
        if isinstance(crop, Box):
            return crop
        return signer_box(frames) if self.looks(crop, *frames.shape[1:3]) else None

    def fit(self, frames: np.ndarray, box: Box | None = None) -> np.ndarray:
        """uint8 [T, H, W, 3] -> uint8 [T, S, S, 3], S = crop_size, as the evaluation of training shows them."""
        side, size = self.augment.image_size, self.augment.crop_size
        aspect = "pad" if self.aspect == "pad" else "stretch"
        frames = resize(squared(frames, self.size or side, aspect, self.resize_filter, box), side)
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
    made = about(model).get("pictures")
    if not made:
        return Pictures(augment)
    height, width = made.get("shape") or (0, 1)
    aspect = "crop" if made["aspect"] == "stretch" and height == width else made["aspect"]
    return Pictures(augment, aspect, made.get("size"), made.get("resize_filter", "lanczos4"))


def picture_facts(samples: Sequence[Sample]) -> dict[str, Any]:
    """How a corpus' pictures were made square, for the checkpoint: aspect, the filter and size of a prepared corpus,
    and otherwise the shape [height, width] of the first clip that can be opened. What pictures_for() reads."""
    for sample in samples:
        try:
            source = open_source(sample.source)
            if isinstance(source, PackedClip):
                return {name: source.split.settings[name] for name in ("aspect", "resize_filter", "size")}
            return {"aspect": "stretch", "shape": [source.info.height, source.info.width]}
        except VideoError:
            continue
    return {}


def fit_frames(frames: np.ndarray, model: Recognizer | int, crop: str | Box = "auto") -> np.ndarray:
    """Frames of any size as the evaluation shows them to the model: uint8 [T, S, S, 3].

    model: whose pictures; or its size S alone: then as published, resized to 8/7 of it (256 for 224), the middle kept.
    crop "auto" does with a picture that is not square what was done in training (a square around the signer where that
    is not known), "signer" cuts that square, "none" does not; or give a Box.
    """
    if isinstance(model, int):
        pictures = Pictures(AugmentConfig(image_size=evaluation_crop(model)[0], crop_size=model))
    else:
        pictures = pictures_for(model)
    return pictures.fit(frames, pictures.box(frames, crop))


def with_beam(settings: TrainConfig, beam_width: int | None) -> TrainConfig:
    """The settings with another beam width, where one is given."""
    return settings if beam_width is None else replace(settings, decode=replace(settings.decode, beam_width=beam_width))
