"""Every kind of map by its name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slakit.errors import SlakitError
from slakit.explain.attention import aggregation_maps, attention_maps, attention_rollout, relevance_maps
from slakit.explain.gradients import KINDS, gradient_maps
from slakit.explain.seen import Seen
from slakit.explain.targets import Target
from slakit.models.recognizer import Recognizer
from slakit.strict import nearest

LAYERED = (*KINDS, "attention", "aggregation")  # look at one block
UNSCORED = ("attention", "rollout", "aggregation")  # ask for no score: the same for every gloss


def kinds_of(model: Recognizer) -> list[str]:
    """The kinds that maps_of() knows for this model."""
    own = ["aggregation"] if getattr(model.encoder, "aggregation", False) else []
    return [*KINDS, "relevance", "attention", "rollout", *own]


def maps_of(seen: Seen, targets: Sequence[Target], kind: str = "grad-cam", block: int = -1) -> np.ndarray:
    """Maps [targets, T, h, w] of any kind; block: for those that look at one. SlakitError for an unknown kind."""
    if kind in KINDS:
        return gradient_maps(seen, targets, kind, block)
    if kind not in kinds_of(seen.model):
        raise SlakitError(f"{seen.model.config.method} has no map {kind!r}{nearest(kind, kinds_of(seen.model))}")
    if kind == "relevance":
        return relevance_maps(seen, targets)
    if kind == "rollout":
        one = attention_rollout(seen)
    else:
        one = attention_maps(seen, block) if kind == "attention" else aggregation_maps(seen, block)
    return np.broadcast_to(one, (len(targets), *one.shape))
