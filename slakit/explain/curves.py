"""Deletion and insertion curves: does the score fall, or come back, where a map says?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from slakit.explain.targets import Target
from slakit.explain.watched import WatchedClip, frozen_eval, head
from slakit.models.packing import Clips
from slakit.records import SlakitError

FRACTIONS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
PACKED = 4  # masked clips that go through the model at once


@dataclass(frozen=True, eq=False)
class Curve:
    """A score while more and more of the clip is masked ("deletion") or shown ("insertion").

    fractions [n]: share of the patches or frames around the gloss, 0 to 1. scores [n]: exp of the target's score in the
    order of the map, most important first; for a gloss its (geometric mean) probability. random [repeats, n]: in random
    orders.
    """

    kind: str
    unit: str
    fractions: np.ndarray
    scores: np.ndarray
    random: np.ndarray

    @property
    def area(self) -> float:
        """Mean height of the curve in the map's order."""
        return _area(self.scores, self.fractions)

    @property
    def random_area(self) -> float:
        """Mean height of the curves in random orders."""
        return _area(self.random.mean(0), self.fractions)

    @property
    def gain(self) -> float:
        """How much better than random: above 0 where the map knows what counts, at most 1."""
        return self.random_area - self.area if self.kind == "deletion" else self.area - self.random_area


def _area(heights: np.ndarray, x: np.ndarray) -> float:
    """The area below straight lines between the points; numpy's own function has another name before 2.0."""
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(x)).sum())


def background(frames: np.ndarray, fill: str = "blur") -> np.ndarray:
    """What stands where something is masked: uint8 [T, S, S, 3]. fill: "blur", each frame's own blurred picture
    (fingers and mouth are gone, no new edges); "mean", the clip's mean colour.
    """
    if fill == "mean":
        return np.broadcast_to(frames.mean((0, 1, 2)).round().astype(np.uint8), frames.shape)
    if fill != "blur":
        raise SlakitError(f"fill={fill!r} is no background; use blur or mean")
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    coarse = F.adaptive_avg_pool2d(x, 6)
    smooth = F.interpolate(coarse, x.shape[2:], mode="bilinear", align_corners=False)
    return smooth.round().permute(0, 2, 3, 1).numpy().astype(np.uint8)


def _scores(clip: WatchedClip, target: Target, masks: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """exp(target) of the clip with `fill` where masks [k, T, h, w] are True.

    Only frames near masked ones go through the encoder again; the other features are the clip's own.
    """
    model, reach, order = clip.model, clip.model.encoder.reach, clip.order.numpy()
    touched = np.flatnonzero(masks[:, order].any((0, 2, 3)))
    first, end = (max(0, touched[0] - reach), touched[-1] + 1 + reach) if len(touched) else (0, 1)
    low, high = max(0, first - reach), min(len(order), end + reach)
    end = min(end, len(order))
    rows, columns = (clip.frames.shape[1] // side for side in clip.grid)
    plain, blurred = clip.frames[order[low:high]], fill[order[low:high]]
    scores, keys = {}, [mask.tobytes() for mask in masks]
    distinct = masks[np.array([keys.index(key) for key in dict.fromkeys(keys)])]  # the ends are the same in every order
    for start in range(0, len(distinct), PACKED):
        part = distinct[start : start + PACKED]
        pixels = np.repeat(np.repeat(part[:, order[low:high]], rows, -2), columns, -1)[..., None]  # [k, n, S, S, 1]
        clips = np.where(pixels, blurred, plain).reshape(-1, *clip.frames.shape[1:])
        with torch.no_grad(), frozen_eval(clip):
            images = model.normalise(clip.packed(clips)).to(clip.features.dtype)
            fresh = model.encoder(images, Clips([high - low] * len(part), images.device)).unflatten(0, (len(part), -1))
            features = clip.features.repeat(len(part), 1, 1)  # [k, N, F]
            features[:, first:end] = fresh[:, first - low : end - low]
            log_probs = head(model, features, len(clip.frames)).cpu()
        scores |= {mask.tobytes(): float(target(line).exp()) for mask, line in zip(part, log_probs, strict=True)}
    return np.array([scores[key] for key in keys])


def masking_curve(
    clip: WatchedClip,
    target: Target,
    values: np.ndarray,
    kind: str = "deletion",
    *,
    fill: str = "blur",
    fractions: Sequence[float] = FRACTIONS,
    repeats: int = 3,
    seed: int = 0,
    around: int | None = 6,
    random: np.ndarray | None = None,
) -> Curve:
    """Deletion and insertion (Petsiuk et al. 2018, RISE) among the frames where the gloss is recognised.

    values: a map [T, h, w], whose patches are ranked over all these frames, or an energy [T], whose frames are.
    around: how many frames before and after the target's own belong to them; None: the whole clip, where random orders
    waste most of their masks on frames that no map would choose, so that any map wins easily. "deletion"
    masks the highest values first: the score must fall faster than in random orders (`repeats` of them, from `seed`).
    "insertion" starts from the masked clip and shows the highest first: the score must rise faster. Frames and patches
    of equal value stand in a random order too. random: scores in random orders from another curve of the same clip,
    target and fractions, not to be computed again.
    """
    if kind not in ("deletion", "insertion"):
        raise SlakitError(f"kind={kind!r} is no curve; use deletion or insertion")
    shape = (len(clip.frames), *clip.grid)
    if random is None and repeats < 1:
        raise SlakitError(f"repeats={repeats} leaves nothing to compare with; use 1 or more")
    if values.shape not in (shape, shape[:1]):
        raise SlakitError(f"values have shape {values.shape}; give a map {shape} or one value for each frame")
    start, end = target.frames(len(clip.frames))
    start, end = (0, len(clip.frames)) if around is None else (max(0, start - around), end + around)
    ranked_values = values[start:end]
    rng = np.random.default_rng(seed)
    count = ranked_values.size
    ranked = np.lexsort((rng.random(count), -ranked_values.ravel()))
    orders = [ranked] if random is not None else [ranked, *(rng.permutation(count) for _ in range(repeats))]
    masks = []
    for order in orders:
        rank = np.argsort(order)  # of a permutation: its inverse
        for fraction in fractions:
            chosen = (rank < round(fraction * count)).reshape(ranked_values.shape)
            mask = np.zeros(shape, bool)
            mask[start:end] = (chosen if values.ndim == 3 else chosen[:, None, None]) ^ (kind == "insertion")
            masks.append(mask)
    scores = _scores(clip, target, np.stack(masks), background(clip.frames, fill)).reshape(len(orders), len(fractions))
    unit = "patches" if values.ndim == 3 else "frames"
    return Curve(kind, unit, np.array(fractions), scores[0], scores[1:] if random is None else random)
