"""What a model looks at: maps of the patches for each recognised gloss, and checks that keep them honest.

clip = explain.watch(model, "clip.mp4")                      # one look: features, log probabilities, glosses
targets = explain.targets_of(clip)                           # one score a recognised gloss
maps = explain.gradient_maps(clip, targets)                  # [glosses, T, h, w] on one scale
curve = explain.masking_curve(clip, targets[0], maps[0])     # does the score fall where the map says?
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
    "KINDS",
    "OVER",
    "Curve",
    "Estimate",
    "SignerPlaces",
    "Target",
    "WatchedClip",
    "aggregation_maps",
    "attention_maps",
    "attention_rollout",
    "background",
    "bootstrap",
    "chance_hits",
    "cross_frame_maps",
    "feature_gradients",
    "frame_energy",
    "gloss_maps",
    "grad_cam",
    "gradient_maps",
    "inside",
    "kept_tokens",
    "kinds_of",
    "maps_of",
    "masking_curve",
    "peak_hits",
    "peaks",
    "randomised",
    "relevance_maps",
    "signer_places",
    "similarity",
    "targets_of",
    "watch",
    "windows",
]
