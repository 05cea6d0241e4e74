"""Maps from attention weights: any block and head, rollout, relevance, and AdaptSign's two attentions of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from slakit.config import nearest
from slakit.explain.gradients import KINDS, gradient_maps
from slakit.explain.targets import Target, feature_gradients
from slakit.explain.watched import CHUNK, WatchedClip, Window, block_of, by_window, encode_window
from slakit.models.methods.adaptsign_attention import Aggregation, CrossFrameAttention
from slakit.models.recognizer import Recognizer
from slakit.models.towers.blocks import Attention
from slakit.models.towers.encoder import record_attention
from slakit.models.towers.resnet import MapTower
from slakit.records import SlakitError


@contextmanager
def recording(module: Aggregation | CrossFrameAttention) -> Iterator[None]:
    """Within: the module keeps the `weights` of its last call."""
    module.record = True
    try:
        yield
    finally:
        module.record, module.weights = False, None


def _weights(module: Attention | Aggregation | CrossFrameAttention) -> torch.Tensor:
    assert module.weights is not None, "nothing was recorded"
    return module.weights


def _tokens(clip: WatchedClip) -> int:
    """Class and patch tokens of a frame; further columns of attention weights are AdaptSign's prefix rows."""
    return clip.model.encoder.backbone.prefix_tokens + clip.grid[0] * clip.grid[1]


def _token_columns(weights: torch.Tensor, tokens: int) -> torch.Tensor:
    """[…, prefix + L] -> […, L] with rows that sum to 1 again."""
    columns = weights[..., -tokens:]
    return columns if columns.shape[-1] == weights.shape[-1] else columns / columns.sum(-1, keepdim=True)


def attention_maps(
    clip: WatchedClip,
    block: int = -1,
    head: int | None = None,
    query: tuple[int, int] | None = None,
    chunk: int = CHUNK,
) -> np.ndarray:
    """How one token of each frame attends to the frame's patches: [T, h, w], as weights (the rest goes to the class
    token and to AdaptSign's prefix rows).

    block: 0-based, negative from the end. head: None averages them. query: the class token (None; towers without one:
    the mean over all patches), or the row and column of a patch (AdaptSign Fig. 3).
    """
    prefix, heads = clip.model.encoder.backbone.prefix_tokens, block_of(clip.model, block).attn.num_heads
    if head is not None and not 0 <= head < heads:
        raise SlakitError(f"head={head} is no head of block {block}; it has {heads}, counted from 0")
    if query is not None and not all(0 <= q < side for q, side in zip(query, clip.grid, strict=True)):
        raise SlakitError(f"query={query} is no patch; rows and columns are {clip.grid[0]} x {clip.grid[1]}, from 0")
    patches = clip.grid[0] * clip.grid[1]

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), record_attention(clip.model, [block], all_tokens=True) as recorded:
            encode_window(clip, window)
            weights = _weights(recorded[0])  # [n, heads, L, prefix + L]
            weights = weights.mean(1) if head is None else weights[:, head]
        if query is not None:
            return weights[:, prefix + query[0] * clip.grid[1] + query[1], -patches:]
        return weights[:, 0, -patches:] if prefix else weights[..., -patches:].mean(1)

    return by_window(clip, read, chunk)


def _first_row(clip: WatchedClip, like: torch.Tensor) -> torch.Tensor:
    """[n, L]: all on the class token; without one, evenly on all tokens."""
    row = like.new_zeros(like.shape[0], _tokens(clip))
    if clip.model.encoder.backbone.prefix_tokens:
        row[:, 0] = 1
    else:
        row += 1 / row.shape[1]
    return row


def attention_rollout(clip: WatchedClip, chunk: int = CHUNK) -> np.ndarray:
    """Attention rollout (Abnar and Zuidema 2020): heads averaged, half of every step for the residual path, blocks
    multiplied; from the class token down to the patches. It asks for no score, so it is the same for every gloss.

    Returns [T, h, w]; what temporal modules take from other frames is counted where it is read. AdaptSign's prefix rows
    are left out and rows brought back to sum 1.
    """
    prefix = clip.model.encoder.backbone.prefix_tokens

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), record_attention(clip.model) as recorded:
            encode_window(clip, window)
            row = _first_row(clip, _weights(recorded[-1]))
            for attention in reversed(recorded):
                weights = _token_columns(_weights(attention).mean(1), _tokens(clip))  # [n, L or 1, L]
                mixed = weights[:, 0] * row[:, :1] if weights.shape[1] == 1 else (row[:, None] @ weights)[:, 0]
                row = 0.5 * row + 0.5 * mixed
        return row[:, prefix:]

    return by_window(clip, read, chunk)


def relevance_maps(clip: WatchedClip, targets: Sequence[Target], chunk: int = CHUNK) -> np.ndarray:
    """Gradient-weighted relevance (Chefer, Gur and Wolf 2021, Eq. 5 and 6): R <- R + E_h[(dA * A)+] R over the blocks,
    dA being the gradient of the target's score with respect to the attention weights A.

    Returns [targets, T, h, w], not negative, in the units of the score: one scale for all frames. Followed is the class
    token's way through the blocks; what AdaptSign's own two attentions read besides is not.
    """
    model, prefix = clip.model, clip.model.encoder.backbone.prefix_tokens
    gradients = feature_gradients(clip, targets)

    def read(window: Window) -> torch.Tensor:
        rows = []
        with torch.enable_grad(), record_attention(model) as recorded:
            root = block_of(model, 0).ln_1.register_forward_hook(_root)
            try:
                features = encode_window(clip, window)
            finally:
                root.remove()
            weights = [_weights(attention) for attention in recorded]
            for cotangent in gradients[:, window.places]:
                gradients_of_weights = torch.autograd.grad(features, weights, cotangent, retain_graph=True)
                row = _first_row(clip, features)
                for a, da in zip(reversed(weights), reversed(gradients_of_weights), strict=True):
                    step = (a.detach() * da).clamp_min(0).mean(1)[..., -_tokens(clip) :]  # [n, L or 1, L]
                    row = row + (step[:, 0] * row[:, :1] if step.shape[1] == 1 else (row[:, None] @ step)[:, 0])
                rows.append(row[:, prefix:] - _first_row(clip, row)[:, prefix:])
        return torch.stack(rows, 1)

    return by_window(clip, read, chunk, "sum").swapaxes(0, 1)


def _root(_, __, output: torch.Tensor) -> torch.Tensor:
    """Start the graph here although everything below is frozen."""
    return output.requires_grad_(True) if output.is_leaf else output


def cross_frame_maps(clip: WatchedClip, chunk: int = CHUNK) -> tuple[np.ndarray, list[int]]:
    """AdaptSign's attention from each frame's class token to the patches of its neighbours (Eq. (6), Fig. 4).

    Returns (float32 [T, K, h, w], the K offsets): the gate sigmoid(a) - 0.5 of frame t for the patches of frame
    t + offset, from -0.5 (taken away) to 0.5 (added), zeros beyond the video's ends. SlakitError for other methods.
    """
    module = getattr(clip.model.encoder, "cross_frame", None)
    if module is None:
        raise SlakitError(f"{clip.model.config.method} has no cross-frame attention here; adaptsign has")

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), recording(module):
            encode_window(clip, window)
            return _weights(module)  # [n, K, patches]

    return by_window(clip, read, chunk), list(module.offsets)


def aggregation_maps(clip: WatchedClip, block: int = -1, head: int | None = None, chunk: int = CHUNK) -> np.ndarray:
    """Where AdaptSign's collecting query looks in each frame after a block (Eq. (4)): [T, h, w], as weights.

    head: None averages them. SlakitError for other methods.
    """
    modules = getattr(clip.model.encoder, "aggregations", None)
    if modules is None:
        raise SlakitError(f"{clip.model.config.method} has no aggregation query here; adaptsign has")
    block_of(clip.model, block)  # there are as many of these as blocks
    module, prefix = modules[block], clip.model.encoder.backbone.prefix_tokens

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), recording(module):
            encode_window(clip, window)
            weights = _weights(module)  # [n, heads, L]
        return (weights.mean(1) if head is None else weights[:, head])[:, prefix:]

    return by_window(clip, read, chunk)


LAYERED = (*KINDS, "attention", "aggregation")  # look at one block
UNSCORED = ("attention", "rollout", "aggregation")  # ask for no score: the same for every gloss


def kinds_of(model: Recognizer) -> list[str]:
    """The kinds that maps_of() knows for this model."""
    if isinstance(model.encoder.backbone.tower, MapTower):
        return [*KINDS]
    of_the_method = ["aggregation"] if getattr(model.encoder, "aggregation", False) else []
    return [*KINDS, "relevance", "attention", "rollout", *of_the_method]


def maps_of(clip: WatchedClip, targets: Sequence[Target], kind: str = "grad-cam", block: int = -1) -> np.ndarray:
    """Maps [targets, T, h, w] of any kind; block: for those that look at one. SlakitError for an unknown kind."""
    if kind in KINDS:
        return gradient_maps(clip, targets, kind, block)
    if kind not in kinds_of(clip.model):
        raise SlakitError(f"{clip.model.config.method} has no map {kind!r}{nearest(kind, kinds_of(clip.model))}")
    if kind == "relevance":
        return relevance_maps(clip, targets)
    if kind == "rollout":
        one = attention_rollout(clip)
    else:
        one = attention_maps(clip, block) if kind == "attention" else aggregation_maps(clip, block)
    return np.broadcast_to(one, (len(targets), *one.shape))
