"""Grad-CAM and gradient maps of the patches, for any method and backbone, in the memory of a few frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from slakit.explain.targets import Target, feature_gradients, targets_of
from slakit.explain.watched import CHUNK, WatchedClip, Window, block_of, by_window, encode_window, watch
from slakit.models.recognizer import Recognizer
from slakit.models.towers.resnet import MapTower
from slakit.records import SlakitError


def grad_cam(tokens: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017, Eq. 1 and 2), each frame with its own weights.

    The weight of a channel is its gradient's mean over the frame's patches. [n, P, D], [n, P, D] -> [n, P].
    """
    return torch.einsum("npd,nd->np", tokens, gradient.mean(1)).clamp_min(0)


def gradient_times_token(tokens: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """gradient · token, patch by patch: to first order, what the score loses without the token. -> [n, P]."""
    return (tokens * gradient).sum(-1).clamp_min(0)


KINDS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "grad-cam": grad_cam,
    "gradient x token": gradient_times_token,
}


@contextmanager
def kept_tokens(model: Recognizer, block: int) -> Iterator[list[torch.Tensor]]:
    """What the attention of a block reads, after its LayerNorm, made the root of the graph; yields a list of [n, L, D].
    Of a convolutional network its last map, place by place.

    block: 0-based, negative from the end. Nothing below is differentiated, so that frozen encoders work.
    Not the residual stream: attention reads that through the LayerNorm, which ignores the length of a token, so that
    the gradient along the token itself is zero in the last block.
    """
    encoder, tower, roots = model.encoder, model.encoder.backbone.tower, []
    source = tower.maps if isinstance(tower, MapTower) else block_of(model, block).ln_1

    def keep(_, __, output):
        tokens = output.flatten(2).transpose(1, 2) if output.dim() == 4 else output
        roots.append(tokens.detach().requires_grad_(True))
        return roots[-1].transpose(1, 2).view_as(output) if output.dim() == 4 else roots[-1]

    before = encoder.gradients_everywhere
    handle = source.register_forward_hook(keep)
    encoder.gradients_everywhere = True
    try:
        yield roots
    finally:
        handle.remove()
        encoder.gradients_everywhere = before


def gradient_maps(
    clip: WatchedClip, targets: Sequence[Target], kind: str = "grad-cam", block: int = -1, chunk: int = CHUNK
) -> np.ndarray:
    """Which patches, at which time, raised each target's score.

    kind: "grad-cam" or "gradient x token". block: whose input is looked at (what its attention reads); of a network
    always the last map. Returns
    float32 [targets, T, h, w], not negative, in the units of the score: on one scale for all frames of the clip. A map
    says what raised the score to first order; it is no proof of what the model "means": see slakit.explain.checks.
    """
    if kind not in KINDS:
        raise SlakitError(f"kind={kind!r} is no gradient map; use one of {', '.join(KINDS)}")
    model, prefix = clip.model, clip.model.encoder.backbone.prefix_tokens
    gradients = feature_gradients(clip, targets)  # [targets, N, F]

    def read(window: Window) -> torch.Tensor:
        with torch.enable_grad(), kept_tokens(model, block) as roots:
            features = encode_window(clip, window)  # [n, F]
            tokens, maps = roots[0].detach()[:, prefix:], []
            for cotangent in gradients[:, window.places]:
                (gradient,) = torch.autograd.grad(features, roots[0], cotangent, retain_graph=True)
                maps.append(KINDS[kind](tokens, gradient[:, prefix:]))
        return torch.stack(maps, 1)  # [n, targets, P]

    return by_window(clip, read, chunk, "sum").swapaxes(0, 1)


def gloss_maps(
    model: Recognizer,
    frames: np.ndarray,
    tokens: Sequence[int],
    block: int = -1,
    kind: str = "gradient x token",
    over: str = "span",
) -> np.ndarray:
    """gradient_maps() of each gloss of a sequence in one call. frames: uint8 [T, S, S, 3]; -> [glosses, T, h, w]."""
    clip = watch(model, frames)
    return gradient_maps(clip, targets_of(clip, tokens, over), kind, block)


def frame_energy(maps: np.ndarray) -> np.ndarray:
    """Each frame's share of a map: [T, h, w] -> [T], sums to 1 (zeros for a map of zeros)."""
    total = maps.sum((1, 2))
    return total / max(float(total.sum()), 1e-30)
