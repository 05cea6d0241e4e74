"""What a corpus' pictures look like, coarsely: the same whether frames are read as they came or prepared, and another
where other videos, another crop or another film lie under the same clip ids."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from slakit.config import TrainConfig
from slakit.data.augment import ClipPlan
from slakit.data.clips import ClipStore
from slakit.records import ConfigError, Corpus, VideoError

CLIPS, FIELDS = 6, 8  # as many clips of train, as many fields along each side of a picture
FAR = 4.0  # grey levels of 255, the mean over fields and colours: re-encoding moves them by less than one


def looks(corpus: Corpus, store: ClipStore, settings: TrainConfig) -> dict[str, list[int]]:
    """Clip id -> the mean colours (0 to 255) of FIELDS x FIELDS fields of its middle frame; of clips over all of train.

    Clips that cannot be read are left out.
    """
    found, size = {}, settings.augment.image_size
    for sample in corpus.train[:: max(1, len(corpus.train) // CLIPS)][:CLIPS]:
        try:
            pictures, positions, _ = store.read(sample, size, _middle)
        except VideoError:
            continue
        rows = np.array_split(pictures[positions[0]].astype(np.float32), FIELDS)
        fields = [field.mean((0, 1)) for row in rows for field in np.array_split(row, FIELDS, axis=1)]
        found[sample.id] = np.concatenate(fields).round().astype(int).tolist()
    return found


def _middle(num_frames: int) -> ClipPlan:
    return ClipPlan(np.array([num_frames // 2]), 0, 0, 0, False)


def compare_looks(before: Mapping[str, list[int]], now: Mapping[str, list[int]], folder: Path) -> None:
    """ConfigError where the pictures of a run in `folder` were others than these."""
    both = sorted(before.keys() & now.keys())
    apart = {name: float(np.abs(np.subtract(before[name], now[name])).mean()) for name in both}
    if apart and (mean := sum(apart.values()) / len(apart)) > FAR:
        far = max(apart, key=lambda name: apart[name])
        raise ConfigError(
            f"{folder} holds a run on other pictures: under the same ids they differ by {mean:.0f} grey levels of 255, "
            f"most in {far}; give another out_dir, or the corpus' root, options and prepared frames of before"
        )
