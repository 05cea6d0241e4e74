"""Checks that keep maps honest: deletion and insertion curves, randomised weights, the pointing game, intervals."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from slakit.errors import SlakitError
from slakit.explain.seen import Seen, looking
from slakit.explain.targets import Target
from slakit.models.recognizer import Recognizer

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
PACKED = 8  # masked clips that go through the model at once


@dataclass(frozen=True, eq=False)
class Curve:
    """A score while more and more of the clip is masked ("deletion") or shown ("insertion").

    fractions [n]: share of patches or frames, from 0 to 1. scores [n]: exp of the target's score in the order of the
    map, most important first; for a gloss its (geometric mean) probability. random [repeats, n]: in random orders.
    """

    kind: str
    unit: str
    fractions: np.ndarray
    scores: np.ndarray
    random: np.ndarray

    @property
    def area(self) -> float:
        """Mean height of the curve in the map's order."""
        return float(np.trapezoid(self.scores, self.fractions))

    @property
    def random_area(self) -> float:
        """Mean height of the curves in random orders."""
        return float(np.trapezoid(self.random.mean(0), self.fractions))

    @property
    def gain(self) -> float:
        """How much better than random: above 0 where the map knows what counts, at most 1."""
        return self.random_area - self.area if self.kind == "deletion" else self.area - self.random_area


def background(frames: np.ndarray, fill: str = "blur") -> np.ndarray:
    """What stands where something is masked: uint8 [T, S, S, 3]. fill: "blur", each frame's own blurred picture
    (fingers and mouth are gone, no new edges); "mean", the clip's mean colour.
    """
    if fill == "mean":
        return np.broadcast_to(frames.mean((0, 1, 2)).round().astype(np.uint8), frames.shape)
    if fill != "blur":
        raise SlakitError(f"fill={fill!r} is no background; use blur or mean")
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    size = frames.shape[1] // 7 * 2 + 1  # a window of two sevenths of the picture, three times: nearly Gaussian
    for _ in range(3):
        x = F.avg_pool2d(F.pad(x, (size // 2,) * 4, mode="replicate"), size, 1)
    return x.round().permute(0, 2, 3, 1).numpy().astype(np.uint8)


def _scores(seen: Seen, target: Target, masks: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """exp(target) of the clip with `fill` where masks [k, T, h, w] are True."""
    rows, columns = (seen.frames.shape[1] // side for side in seen.grid)
    found = []
    for start in range(0, len(masks), PACKED):
        part = masks[start : start + PACKED]
        pixels = np.repeat(np.repeat(part, rows, -2), columns, -1)[..., None]  # [k, T, S, S, 1]
        clips = np.where(pixels, fill, seen.frames).reshape(-1, *seen.frames.shape[1:])
        with torch.no_grad(), looking(seen.model):
            logits = seen.model(seen.packed(clips), torch.full((len(part),), len(seen.frames))).sequence
        found += [float(target(log_probs).exp()) for log_probs in logits.float().log_softmax(-1).cpu()]
    return np.array(found)


def masking_curve(
    seen: Seen,
    target: Target,
    values: np.ndarray,
    kind: str = "deletion",
    *,
    fill: str = "blur",
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 3,
    seed: int = 0,
) -> Curve:
    """Deletion and insertion (Petsiuk et al. 2018, RISE), over a whole clip.

    values: a map [T, h, w], whose patches are ranked over all frames, or an energy [T], whose frames are. "deletion"
    masks the highest values first: the score must fall faster than in random orders (`repeats` of them, from `seed`).
    "insertion" starts from the masked clip and shows the highest first: the score must rise faster. Frames and patches
    of equal value stand in a random order too.
    """
    if kind not in ("deletion", "insertion"):
        raise SlakitError(f"kind={kind!r} is no curve; use deletion or insertion")
    shape = (len(seen.frames), *seen.grid)
    if values.shape not in (shape, shape[:1]):
        raise SlakitError(f"values have shape {values.shape}; give a map {shape} or one value for each frame")
    rng = np.random.default_rng(seed)
    count, filling = values.size, background(seen.frames, fill)
    ranked = np.lexsort((rng.random(count), -values.ravel()))
    masks = []
    for order in (ranked, *(rng.permutation(count) for _ in range(repeats))):
        place = np.empty(count, int)
        place[order] = np.arange(count)
        for fraction in fractions:
            chosen = (place < round(fraction * count)).reshape(values.shape)
            chosen = chosen if values.ndim == 3 else np.broadcast_to(chosen[:, None, None], shape)
            masks.append(chosen if kind == "deletion" else ~chosen)
    scores = _scores(seen, target, np.stack(masks), filling).reshape(1 + repeats, len(fractions))
    unit = "patches" if values.ndim == 3 else "frames"
    return Curve(kind, unit, np.array(fractions), scores[0], scores[1:])


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
    ranks = [pd.Series(values.ravel()).rank().to_numpy() for values in (first, second)]
    if min(np.std(r) for r in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


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
    x = np.asarray(values, float)
    w = np.ones_like(x) if weights is None else np.asarray(weights, float)
    if not len(x) or w.sum() <= 0:
        raise SlakitError("there are no clips to take a mean of; choose more clips")
    drawn = np.random.default_rng(seed).integers(0, len(x), (10_000, len(x)))
    total = w[drawn].sum(1)
    means = (x * w)[drawn].sum(1)[total > 0] / total[total > 0]
    low, high = np.percentile(means, [50 * (1 - level), 50 * (1 + level)])
    return Estimate(float((x * w).sum() / w.sum()), float(low), float(high), len(x))
