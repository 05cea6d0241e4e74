"""Checks that keep maps honest: randomised weights, the pointing game, bootstrap intervals (curves: curves.py)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from slakit.data.augment import evaluation_crop
from slakit.data.corpora.minisign import load_landmarks
from slakit.models.recognizer import Recognizer
from slakit.records import Corpus, Sample, SlakitError
from slakit.scoring import bootstrap_mean

STAGES = ("head", "trained", "all")


def randomised(model: Recognizer, stage: str, seed: int = 0) -> Recognizer:
    """A copy whose weights are shuffled within each tensor (Adebayo et al. 2018, "Sanity Checks for Saliency Maps").

    stage: "head", the sequence model alone; "trained", everything that was trained; "all", the whole network.
    """
    if stage not in STAGES:
        raise SlakitError(f"stage={stage!r} is no set of weights; use one of {', '.join(STAGES)}")
    other = copy.deepcopy(model)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in other.named_parameters():
            if stage == "all" or name.startswith("sequence.") or (stage == "trained" and name in trained):
                order = torch.randperm(p.numel(), generator=generator).to(p.device)
                p.copy_(p.flatten()[order].view_as(p))
    return other


def similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two maps over all patches of all frames; 0 if one of them is constant."""
    one, other = (pd.Series(values.ravel()).rank().to_numpy() for values in (first, second))
    if min(np.std(one), np.std(other)) == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def peaks(maps: np.ndarray, image_size: int) -> np.ndarray:
    """Centre (x, y) in pixels of the strongest patch of each frame: [T, h, w] -> [T, 2]."""
    flat = maps.reshape(len(maps), -1).argmax(1)
    rows, columns = image_size / maps.shape[1], image_size / maps.shape[2]
    return np.stack([(flat % maps.shape[2] + 0.5) * columns, (flat // maps.shape[2] + 0.5) * rows], -1)


def inside(places: np.ndarray, points: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """Whether places [T, …, 2] lie within `radius` (a number or [T, P]) of one of the points [T, P, 2] of their frame.

    NaN points hold nothing. Returns bool [T, …].
    """
    spread = (slice(None), *[None] * (places.ndim - 2))
    distance = np.linalg.norm(places[..., None, :] - points[spread], axis=-1)  # [T, …, P]
    limit = radius if np.ndim(radius) == 0 else np.asarray(radius)[spread]
    return (distance <= limit).any(-1)


def peak_hits(maps: np.ndarray, points: np.ndarray, image_size: int, radius: np.ndarray | float) -> np.ndarray:
    """The pointing game (Zhang et al. 2016): whether the strongest patch of each frame lies at a point.

    maps [T, h, w]; points [T, P, 2] in pixels (x, y), NaN where there is none; radius in pixels. Returns bool [T].
    """
    return inside(peaks(maps, image_size), points, radius)


def chance_hits(grid: tuple[int, int], points: np.ndarray, image_size: int, radius: np.ndarray | float) -> np.ndarray:
    """What a peak on a random patch hits: [T], the share of patches whose centre lies at a point."""
    rows, columns = ((np.arange(side) + 0.5) * image_size / side for side in grid)
    centres = np.stack(np.meshgrid(columns, rows), -1).reshape(1, -1, 2)  # [1, patches, 2]
    return inside(np.repeat(centres, len(points), 0), points, radius).mean(1)


@dataclass(frozen=True)
class Estimate:
    """A mean over clips, and its bootstrap interval."""

    mean: float
    low: float
    high: float
    clips: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: Sequence[float], weights: Sequence[float] | None = None, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean of one value a clip (weighted, for instance by its frames) with the percentile interval over 10,000
    resamplings of the clips: glosses and frames of one clip are not independent, so clips are what is drawn.
    """
    interval = bootstrap_mean(values, weights, level, seed=seed)
    return Estimate(float(np.average(values, weights=weights)), interval.low, interval.high, len(values))


HAND_RADIUS = 12.0  # pixels of MiniSign's 96: palm and fingers


@dataclass(frozen=True, eq=False)
class SignerPlaces:
    """points [T, 3, 2] in pixels of the model's frames: right hand, left hand (NaN at rest), face; radius [T, 3]."""

    points: np.ndarray
    radius: np.ndarray

    def only(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(points, radius) of the "hands", the "face", or "hands or face"."""
        chosen = {"hands": slice(0, 2), "face": slice(2, 3), "hands or face": slice(0, 3)}[name]
        return self.points[:, chosen], self.radius[:, chosen]


def signer_places(corpus: Corpus, sample: Sample, image_size: int, video_size: int = 96) -> SignerPlaces:
    """The places of one MiniSign clip, after fit_frames() resized the picture to 8/7 and kept its middle."""
    marks = load_landmarks(corpus.root, sample.id)
    side, margin = evaluation_crop(image_size)
    scale = side / video_size
    points = np.stack([marks.right_hand, marks.left_hand, marks.face[:, :2]], 1) * scale - margin
    hand = np.full(len(points), HAND_RADIUS)
    return SignerPlaces(points, np.stack([hand, hand, marks.face[:, 2]], 1) * scale)
