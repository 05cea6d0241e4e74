"""Forced alignment at the rate of the frames: what an auxiliary CTC head on frame features knows about time.

Steps of a sequence model stand for four frames, see sixteen and, through the BiLSTM, all others: training does not care
when in that stretch a gloss is emitted, so its spikes wander. A head on single frames cannot put a gloss where no frame
shows it. Its posteriors are spiky, too, since blank and gloss compete in every frame; divided by the label prior they
become scaled likelihoods, as in hybrid recognisers (Bourlard and Morgan 1994) and in EESEN's decoding of CTC models
(Miao et al. 2015, section 3.3), and a gloss covers the frames in which it is seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from slakit.data.samples import Vocabulary
from slakit.decoding.alignment import GlossSpan, align
from slakit.errors import ConfigError

PRIOR_FLOOR = 1e-4  # classes that never appear in a clip have no larger say than this


def scaled_likelihoods(log_probs: torch.Tensor | np.ndarray, prior_weight: float = 1.0) -> np.ndarray:
    """ln (posterior / prior ** prior_weight), normalised in each frame: float64 [T, V].

    log_probs [T, V] of one clip; the prior of a class is its mean posterior over the clip, at least `PRIOR_FLOOR`.
    prior_weight 0 gives log_probs back. Raises ConfigError for a wrong shape or weight.
    """
    if getattr(log_probs, "ndim", None) != 2:
        raise ConfigError(
            f"log_probs has shape {list(getattr(log_probs, 'shape', []))}; give one clip, [frames, classes]"
        )
    if not (np.isfinite(prior_weight) and prior_weight >= 0):
        raise ConfigError(f"prior_weight is {prior_weight!r}; it must be a number, 0 or more")
    values = torch.as_tensor(log_probs).detach().cpu().double().numpy()
    if len(values) == 0:
        return values
    prior = np.maximum(np.exp(values).mean(0), PRIOR_FLOOR)  # [V]
    return torch.from_numpy(values - prior_weight * np.log(prior)).log_softmax(-1).numpy()


def frame_spans(
    log_probs: torch.Tensor | np.ndarray,
    tokens: Sequence[int],
    glosses: Vocabulary,
    fps: float = 25.0,
    prior_weight: float = 1.0,
    blank: int = 0,
) -> list[GlossSpan]:
    """When each gloss is signed, to the frame: Viterbi alignment of `tokens` with one row of log probabilities a frame.

    log_probs [T, V]: of the auxiliary head, frame by frame (`slakit.emissions`). prior_weight: see
    `scaled_likelihoods`. confidence: the mean posterior over the span, the prior still in it. Raises ConfigError
    as `align` does.
    """
    if not fps > 0:
        raise ConfigError(f"fps is {fps!r}; it must be above 0")
    values = scaled_likelihoods(log_probs, prior_weight)
    posteriors = torch.as_tensor(log_probs).detach().cpu().double().exp().numpy()
    return [
        GlossSpan(gloss, s.start, s.end, float(posteriors[s.start : s.end, s.token].mean()), float(fps))
        for s in align(values, None, tokens, blank)
        for gloss in glosses.decode([s.token])
    ]
