"""Maps from attention weights: any block and head, rollout, relevance, and AdaptSign's two attentions of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from slakit.config import nearest
from slakit.explain.gradients import KINDS, gradient_maps
from slakit.explain.targets import Target, feature_gradients
from slakit.explain.watched import CHUNK, Seen, Window, encode_window, looking, windows
from slakit.models.recognizer import Recognizer
from slakit.models.towers.blocks import record_attention
from slakit.records import SlakitError


@contextmanager
def recording(module: nn.Module) -> Iterator[nn.Module]:
    """Within: a module with the switch `record` keeps the `weights` of its last call."""
    module.record = True
    try:
        yield module
    finally:
        module.record, module.weights = False, None


def _tokens(seen: Seen) -> int:
    """Class and patch tokens of a frame; further columns of attention weights are AdaptSign's prefix rows."""
    return seen.model.encoder.backbone.prefix_tokens + seen.grid[0] * seen.grid[1]


def _own_columns(weights: torch.Tensor, tokens: int) -> torch.Tensor:
    """[…, prefix + L] -> […, L] with rows that sum to 1 again."""
    kept = weights[..., -tokens:]
    return kept if kept.shape[-1] == weights.shape[-1] else kept / kept.sum(-1, keepdim=True)


def _by_window(seen: Seen, chunk: int, read: Callable[[Window], torch.Tensor], reduce: str = "mean") -> torch.Tensor:
    """read(window) -> [n, …] for every window; the inner parts joined and folded: [T, …]."""
    parts = []
    for window in windows(seen, chunk):
        with looking(seen):
            parts.append(read(window)[window.inner].detach())
    return seen.fold(torch.cat(parts), reduce)


def _as_maps(seen: Seen, values: torch.Tensor) -> np.ndarray:
    return values.unflatten(-1, seen.grid).float().cpu().numpy()


def attention_maps(
    seen: Seen,
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
    backbone = seen.model.encoder.backbone
    if not -backbone.depth <= block < backbone.depth:
        raise SlakitError(f"block={block} is no block of this encoder; it has {backbone.depth}, counted from 0")
    heads = backbone.blocks[block].attn.num_heads
    if head is not None and not 0 <= head < heads:
        raise SlakitError(f"head={head} is no head of block {block}; it has {heads}, counted from 0")
    if query is not None and not all(0 <= q < side for q, side in zip(query, seen.grid, strict=True)):
        raise SlakitError(f"query={query} is no patch; rows and columns are {seen.grid[0]} x {seen.grid[1]}, from 0")
    patches = seen.grid[0] * seen.grid[1]

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), record_attention(seen.model, [block], all_tokens=True) as recorded:
            encode_window(seen, window)
            weights = recorded[0].weights  # [n, heads, L, prefix + L]
            weights = weights.mean(1) if head is None else weights[:, head]
        if query is not None:
            row = backbone.prefix_tokens + query[0] * seen.grid[1] + query[1]
            return weights[:, row, -patches:]
        return weights[:, 0, -patches:] if backbone.prefix_tokens else weights[..., -patches:].mean(1)

    return _as_maps(seen, _by_window(seen, chunk, read))


def _first_row(seen: Seen, like: torch.Tensor) -> torch.Tensor:
    """[n, L]: all on the class token; without one, evenly on all tokens."""
    row = like.new_zeros(like.shape[0], _tokens(seen))
    if seen.model.encoder.backbone.prefix_tokens:
        row[:, 0] = 1
    else:
        row += 1 / row.shape[1]
    return row


def attention_rollout(seen: Seen, chunk: int = CHUNK) -> np.ndarray:
    """Attention rollout (Abnar and Zuidema 2020): heads averaged, half of every step for the residual path, blocks
    multiplied; from the class token down to the patches. It asks for no score, so it is the same for every gloss.

    Returns [T, h, w]; what temporal modules take from other frames is counted where it is read. AdaptSign's prefix rows
    are left out and rows brought back to sum 1.
    """
    prefix = seen.model.encoder.backbone.prefix_tokens

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), record_attention(seen.model) as recorded:
            encode_window(seen, window)
            row = None
            for attention in reversed(recorded):
                weights = _own_columns(attention.weights.mean(1), _tokens(seen))  # [n, L or 1, L]
                if row is None:
                    row = _first_row(seen, weights)
                mixed = weights[:, 0] * row[:, :1] if weights.shape[1] == 1 else (row[:, None] @ weights)[:, 0]
                row = 0.5 * row + 0.5 * mixed
        return row[:, prefix:]

    return _as_maps(seen, _by_window(seen, chunk, read))


def relevance_maps(seen: Seen, targets: Sequence[Target], chunk: int = CHUNK) -> np.ndarray:
    """Gradient-weighted relevance (Chefer, Gur and Wolf 2021, Eq. 5 and 6): R <- R + E_h[(dA * A)+] R over the blocks,
    dA being the gradient of the target's score with respect to the attention weights A.

    Returns [targets, T, h, w], not negative, in the units of the score: one scale for all frames. Followed is the class
    token's way through the blocks; what AdaptSign's own two attentions read besides is not.
    """
    model, prefix = seen.model, seen.model.encoder.backbone.prefix_tokens
    gradients = feature_gradients(seen, targets)

    def read(window: Window) -> torch.Tensor:
        rows = []
        with torch.enable_grad(), record_attention(model) as recorded:
            root = model.encoder.backbone.blocks[0].ln_1.register_forward_hook(_root)
            try:
                features = encode_window(seen, window)
            finally:
                root.remove()
            weights = [attention.weights for attention in recorded]
            for cotangent in gradients[:, window.places]:
                found = torch.autograd.grad(features, weights, cotangent, retain_graph=True)
                row = _first_row(seen, features)
                for a, da in zip(reversed(weights), reversed(found), strict=True):
                    step = (a.detach() * da).clamp_min(0).mean(1)[..., -_tokens(seen) :]  # [n, L or 1, L]
                    row = row + (step[:, 0] * row[:, :1] if step.shape[1] == 1 else (row[:, None] @ step)[:, 0])
                rows.append(row[:, prefix:] - _first_row(seen, row)[:, prefix:])
        return torch.stack(rows, 1)

    return _as_maps(seen, _by_window(seen, chunk, read, "sum").transpose(0, 1))


def _root(_, __, output: torch.Tensor) -> torch.Tensor:
    """Start the graph here although everything below is frozen."""
    return output.requires_grad_(True) if output.is_leaf else output


def cross_frame_maps(seen: Seen, chunk: int = CHUNK) -> tuple[np.ndarray, list[int]]:
    """AdaptSign's attention from each frame's class token to the patches of its neighbours (Eq. (6), Fig. 4).

    Returns (float32 [T, K, h, w], the K offsets): the gate sigmoid(a) - 0.5 of frame t for the patches of frame
    t + offset, from -0.5 (taken away) to 0.5 (added), zeros beyond the video's ends. SlakitError for other methods.
    """
    module = getattr(seen.model.encoder, "cross_frame", None)
    if module is None:
        raise SlakitError(f"{seen.model.config.method} has no cross-frame attention here; adaptsign has")

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), recording(module):
            encode_window(seen, window)
            return module.weights  # [n, K, patches]

    return _as_maps(seen, _by_window(seen, chunk, read)), list(module.offsets)


def aggregation_maps(seen: Seen, block: int = -1, head: int | None = None, chunk: int = CHUNK) -> np.ndarray:
    """Where AdaptSign's collecting query looks in each frame after a block (Eq. (4)): [T, h, w], as weights.

    head: None averages them. SlakitError for other methods.
    """
    modules = getattr(seen.model.encoder, "aggregations", None)
    if modules is None:
        raise SlakitError(f"{seen.model.config.method} has no aggregation query here; adaptsign has")
    if not -len(modules) <= block < len(modules):
        raise SlakitError(f"block={block} is no block of this encoder; it has {len(modules)}, counted from 0")
    prefix = seen.model.encoder.backbone.prefix_tokens

    def read(window: Window) -> torch.Tensor:
        with torch.no_grad(), recording(modules[block]) as module:
            encode_window(seen, window)
            weights = module.weights  # [n, heads, L]
        return (weights.mean(1) if head is None else weights[:, head])[:, prefix:]

    return _as_maps(seen, _by_window(seen, chunk, read))


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
