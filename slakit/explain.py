"""Where a model looks: relevance maps of the patches for each recognised gloss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
import torch

from slakit.decoding import align
from slakit.errors import SlakitError
from slakit.models.recognizer import Recognizer


@contextmanager
def kept_tokens(model: Recognizer, block: int):
    """The tokens that enter a block (0-based, negative from the end), made the root of the graph; yields a list.

    Nothing below the block is differentiated, so that frozen encoders work and the memory stays small.
    """
    encoder, kept = model.encoder, []

    def keep(_, arguments):
        kept.append(arguments[0].detach().requires_grad_(True))  # [N, L, D]
        return (kept[-1], *arguments[1:])

    before = encoder.gradients_everywhere
    handle = encoder.backbone.blocks[block].register_forward_pre_hook(keep)
    encoder.gradients_everywhere = True
    try:
        yield kept
    finally:
        handle.remove()
        encoder.gradients_everywhere = before


def gloss_maps(model: Recognizer, frames: np.ndarray, tokens: Sequence[int], block: int = -1) -> np.ndarray:
    """Gradient x activation of the patch tokens that enter `block`, for each gloss of a recognised sequence.

    frames: uint8 [T, S, S, 3] as the model takes them; tokens: class indices of the sequence. A gloss' score is the
    mean log probability over the time steps where CTC's best alignment emits it. Returns float32 [glosses, T, h, w],
    not negative, on one common scale: frames and glosses can be compared. A map says which patches, at which time,
    raised the score to first order; it is no proof of what the model "means".
    """
    if not len(tokens):
        raise SlakitError("nothing was recognised, so there is nothing to explain; give the indices of true glosses")
    device, training = next(model.parameters()).device, model.training
    model.eval()
    packed = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).to(device)  # [T, 3, S, S]
    maps = []
    with torch.enable_grad(), kept_tokens(model, block) as kept, torch.backends.cudnn.flags(enabled=False):
        logits = model(packed, torch.tensor([len(frames)], device=device))
        log_probs = logits.sequence[0].float().log_softmax(-1)  # [T', V]
        for span in align(log_probs.detach().cpu(), None, tokens):
            (gradient,) = torch.autograd.grad(
                log_probs[span.start : span.end, span.token].mean(), kept[0], retain_graph=True
            )
            maps.append(
                (gradient * kept[0]).detach().sum(-1)[:, model.encoder.backbone.prefix_tokens :]
            )  # [T, patches]
    model.train(training)
    relevance = torch.stack(maps).clamp_min(0).cpu()  # [glosses, T, patches]
    side = round(relevance.shape[-1] ** 0.5)
    return relevance.unflatten(-1, (side, side)).numpy()


def peak_hits(maps: np.ndarray, points: np.ndarray, image_size: int, radius: float) -> np.ndarray:
    """Whether the strongest patch of each frame lies within `radius` pixels of a point.

    maps [T, h, w]; points [T, P, 2] in pixels (x, y), NaN where there is none. Returns bool [T].
    """
    flat = maps.reshape(len(maps), -1).argmax(1)
    cell = image_size / maps.shape[-1]
    peak = np.stack([flat % maps.shape[-1], flat // maps.shape[-1]], -1) * cell + cell / 2  # [T, 2]
    distance = np.linalg.norm(points - peak[:, None], axis=-1)
    return (distance <= radius).any(1)
