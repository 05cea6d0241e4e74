"""Loaders for the tests: settings of training and augmentation given by their names, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from slakit.config import AugmentConfig, TrainConfig
from slakit.data.clips import ClipStore
from slakit.data.loader import ClipLoader, clip_loader
from slakit.records import Sample, Vocabulary

AUGMENT = ("image_size", "crop_size", "flip", "temporal_scale", "min_frames", "max_frames")
PLACE = ("epoch", "start_batch", "rank", "world_size", "store")


def make_loader(
    samples: Sequence[Sample], vocabulary: Vocabulary, batch_size: int = 2, train: bool = True, **options: Any
) -> ClipLoader:
    """clip_loader of a TrainConfig with these options; on_damage makes a store."""
    augment = AugmentConfig(**{name: options.pop(name) for name in AUGMENT if name in options})
    place = {name: options.pop(name) for name in PLACE if name in options}
    if "on_damage" in options:
        place["store"] = ClipStore(on_damage=options.pop("on_damage"))
    settings = TrainConfig(batch_size=batch_size, augment=augment, **options)
    return clip_loader(samples, vocabulary, settings, train=train, **place)
