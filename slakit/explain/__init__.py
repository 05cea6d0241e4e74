"""What a model looks at, as numbers: maps of the patches for each gloss, and checks that keep the maps honest.

In: a Recognizer and a clip (a file, or frames uint8 [T, S, S, 3]). Out: maps float32 [glosses, T, h, w] on one scale,
curves, shares and intervals; slakit.show draws them.

>>> import numpy as np, slakit
>>> from slakit import explain
>>> model = slakit.create_model("sla-lora", ["RAIN", "SUN"], backbone="tiny-clip", hidden_size=32)
>>> frames = np.random.default_rng(0).integers(0, 256, (16, 84, 84, 3), np.uint8)
>>> clip = explain.watch(model, frames)  # once: features, log probabilities, glosses
>>> targets = explain.targets_of(clip, [1, 2])  # one score a gloss; without tokens, of the recognised ones
>>> maps = explain.gradient_maps(clip, targets)
>>> maps.shape
(2, 16, 7, 7)
>>> curve = explain.masking_curve(clip, targets[0], maps[0], repeats=1)  # does the score fall where the map says?
>>> curve.kind, curve.scores.shape
('deletion', (8,))

In reading order:
    watched.py    a clip watched once, and windows of it for gradients in little memory
    targets.py    the score that is explained
    gradients.py  Grad-CAM and gradient times token
    attention.py  attention, rollout, relevance, AdaptSign's own two attentions; maps_of: any kind by name
    curves.py     deletion and insertion
    checks.py     randomised weights, the pointing game, bootstrap intervals
    measured.py   tables of what benchmarks/maps.py measured

Stands on recognition; imports neither training nor show, and no matplotlib.
"""

from slakit.explain.attention import (
    aggregation_maps,
    attention_maps,
    attention_rollout,
    cross_frame_maps,
    kinds_of,
    maps_of,
    relevance_maps,
)
from slakit.explain.checks import (
    Estimate,
    SignerPlaces,
    bootstrap,
    chance_hits,
    inside,
    peak_hits,
    peaks,
    randomised,
    signer_places,
    similarity,
)
from slakit.explain.curves import Curve, background, masking_curve
from slakit.explain.gradients import KINDS, frame_energy, gloss_maps, grad_cam, gradient_maps, kept_tokens
from slakit.explain.targets import OVER, Target, feature_gradients, targets_of
from slakit.explain.watched import WatchedClip, watch, windows

__all__ = [
    "KINDS", "OVER", "Curve", "Estimate", "SignerPlaces", "Target", "WatchedClip", "aggregation_maps", "attention_maps",
    "attention_rollout", "background", "bootstrap", "chance_hits", "cross_frame_maps", "feature_gradients",
    "frame_energy", "gloss_maps", "grad_cam", "gradient_maps", "inside", "kept_tokens", "kinds_of", "maps_of",
    "masking_curve", "peak_hits", "peaks", "randomised", "relevance_maps", "signer_places", "similarity", "targets_of",
    "watch", "windows",
]  # fmt: skip
