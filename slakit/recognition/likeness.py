"""How unlike its training clips a video looks to a model: a measure of the pictures, not of the answer.

A clip is the mean of its frame features. Its distance to the training clips' mean is counted in their own spread: along
the eight directions in which they differ most, and in all others together (Mahalanobis' distance under probabilistic
PCA, Tipping and Bishop 1999). A video that is farther away than all clips of training and dev is called unlike. The
confidence of an answer does not tell: a model that knows drawn signers may be 90 % sure of a gloss in a film of a
person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from slakit.config import checked_dataclass, from_dict, to_dict
from slakit.models.recognizer import Recognizer
from slakit.recognition.forward import log_probs
from slakit.recognition.pictures import about
from slakit.records import CheckpointError, Sample

KEY = "training_features"  # of a checkpoint's description
CLIPS = 512  # of a split; with a hundred of MiniSign's, one clip in nine of unseen signers was unlike (frozen)
DIRECTIONS = 8  # on MiniSign's demo models 8 part drawn from real signers better than 4, 16, 32 or single channels


@checked_dataclass
class TrainingFeatures:
    """What a checkpoint keeps of the training clips' mean features: their mean [F], the directions [D][F] in which they
    differ most, of length 1 over the spread there, the spread in a channel of the rest; distances: of the clips of
    training and dev, in equal steps from the nearest to the farthest."""

    mean: tuple[float, ...]
    directions: tuple[tuple[float, ...], ...]
    rest: float
    distances: tuple[float, ...]


@dataclass(frozen=True)
class Likeness:
    """distance: to the training clips, in their spreads; quantile: the share of them (and of dev) that is nearer."""

    distance: float
    quantile: float

    @property
    def like(self) -> bool:
        """Whether some clip of training or dev is as far away."""
        return self.quantile < 1

    def __str__(self) -> str:
        if self.like:
            return f"pictures like the training data: nearer to its middle than {100 * (1 - self.quantile):.0f} % of it"
        return "pictures UNLIKE the training data, farther from its middle than all of it: do not trust this answer"


def likeness(model: Recognizer, features: np.ndarray | None) -> Likeness | None:
    """Of a clip's mean feature [F] (ClipLogProbs.features); None where the model's checkpoint keeps no numbers."""
    kept = about(model).get(KEY)
    if not kept or features is None:
        return None
    known = from_dict(TrainingFeatures, {**kept, "directions": tuple(map(tuple, kept.get("directions", ())))}, KEY)
    sizes = {len(known.mean), *map(len, known.directions)}
    if sizes != {len(features)} or known.rest <= 0 or len(known.distances) < 2:
        raise CheckpointError(
            f"{KEY} of this checkpoint do not fit its model of {len(features)} channels; train it anew"
        )
    distance = float(_distances(known, features[None])[0])
    steps = np.linspace(0, 1, len(known.distances))
    return Likeness(distance, float(np.interp(distance, known.distances, steps)))


def training_features(
    model: Recognizer, train: Sequence[Sample], dev: Sequence[Sample] = (), **options: Any
) -> dict[str, Any]:
    """TrainingFeatures for a checkpoint, of up to CLIPS clips of each split, evenly chosen; {} where fewer than three
    of train can be read, or all look the same.

    options: as log_probs() takes them (settings, store, device, show_progress).
    """
    means = []
    for split in (train, dev):
        some = split[:: -(-len(split) // CLIPS) or 1]
        clips = log_probs(model, some, by_frame=False, unreadable={}, **options) if some else ()
        means += [[clip.features for clip in clips]]
    if len(means[0]) < 3:
        return {}
    trained = np.stack(means[0]).astype(np.float64)  # [N, F]
    middle = trained.mean(0)
    _, spreads, axes = np.linalg.svd((trained - middle) / np.sqrt(len(trained) - 1), full_matrices=False)
    count = min(DIRECTIONS, (len(trained) - 1) // 2, len(middle) - 1)
    rest = float(np.sqrt((spreads[count:] ** 2).sum() / (len(middle) - count)))
    if not rest > 0:
        return {}
    directions = axes[:count] / np.maximum(spreads[:count, None], rest)
    known = TrainingFeatures(_short(middle), tuple(map(_short, directions)), float(f"{rest:.5g}"), ())
    distances = _distances(known, np.stack([*means[0], *means[1]]))
    steps = np.linspace(0, 1, min(101, len(distances)))
    return to_dict(replace(known, distances=_short(np.quantile(distances, steps))))


def _distances(known: TrainingFeatures, features: np.ndarray) -> np.ndarray:
    """Of mean features [N, F]: root mean square over the channels, in spreads, [N]."""
    apart = features - np.asarray(known.mean)
    scaled = np.reshape(known.directions, (-1, apart.shape[1]))
    units = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    far = ((apart @ scaled.T) ** 2).sum(1)
    others = np.maximum((apart**2).sum(1) - ((apart @ units.T) ** 2).sum(1), 0) / known.rest**2
    return np.sqrt((far + others) / apart.shape[1])


def _short(values: np.ndarray) -> tuple[float, ...]:
    """As it is written down: five digits."""
    return tuple(float(f"{value:.5g}") for value in values)
