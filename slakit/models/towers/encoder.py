"""The image encoder that all frame-wise methods share: a tower with its adapted blocks, run over packed frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from slakit.models.exact.recompute import checkpointed
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.blocks import Attention, Block

# Parameters of a tower that are read after its blocks.
POOLING = ("ln_post", "proj", "attn_pool", "trunk.norm.", "trunk.attn_pool", "trunk.fc_norm", "trunk.head", "head")


EVERYWHERE = 10**6  # the reach, in frames, of an encoder whose features depend on the whole clip


class Encoder(nn.Module):
    """An adapted image tower: packed frames -> one feature a frame.

    The part below the first block that has anything to train runs without building a graph, and where the pooled
    feature is the class token, the last block computes that token alone (exactly the same number).
    gradients_everywhere: build the graph down to the first block all the same (for explanations).
    all_tokens: compute every token in the last block too (for attention maps of its patches).
    recompute: what of a trained block is computed again in the backward pass: "none", "mlp", "block" (all of it).
    compiled: the compiled forms of block_step() and Backbone.embed(), where they run compiled (see compiled.py).
    frames_seen: the numbers of frames that batches of training had so far.
    pads_each: whether a clip of a batch with the published padding is padded to its own length, not to the longest's.
    pathways: the parts of a feature that have a sequence model of their own in training, name -> (first, end).
    """

    pads_each = False
    pathways: dict[str, tuple[int, int]] = {}  # noqa: RUF012

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone, self.feature_dim = backbone, backbone.feature_dim
        self.gradients_everywhere = False
        self.all_tokens = False
        self.recompute: str = "none"
        self.compiled: dict[Callable, Callable] = {}
        self.frames_seen: set[int] = set()
        self.any_length = False  # what the Attentions have

    @property
    def reach(self) -> int:
        """How many frames away another frame can be and still change a frame's feature: the sum over all modules that
        look at neighbours, each with its own number in an attribute `reach`.
        """
        return sum(getattr(module, "reach", 0) for module in self.modules() if module is not self)

    def first_trained(self) -> int:
        """Index of the first block with a trainable parameter; 0 if the embedding is trained, depth if none is."""
        blocks, embedding = self.backbone.blocks, self.backbone.tower.named_parameters()
        if any(p.requires_grad for name, p in embedding if not name.startswith(POOLING)):
            return 0
        trained = (i for i, block in enumerate(blocks) if any(p.requires_grad for p in block.parameters()))
        return next(trained, len(blocks))

    @staticmethod
    def block_step(block: Block, x: torch.Tensor, clips: Clips, class_token_only: bool) -> Any:
        """One block, and what a method hangs on every block: what is compiled as one graph, or computed again."""
        return block(x, clips, class_token_only)

    def block_step_checkpointed(self, block: Block, *arguments: Any) -> Any:
        """block_step(), with activation checkpointing where that is asked for and a graph is built."""
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in block.parameters())
        recompute = self.recompute if trained else "none"
        block.recompute_mlp = recompute == "mlp"
        if recompute == "block":
            return checkpointed(self.run, self.block_step, block, *arguments)
        return self.run(self.block_step, block, *arguments)

    def run(self, function: Callable, module: nn.Module, *arguments: Any) -> Any:
        """function(module, *arguments), compiled where it is. Of tensors, the number of frames alone may change."""
        if self.compiled:
            self.mark_dynamic(*(argument for argument in arguments if isinstance(argument, torch.Tensor)))
        return self.compiled.get(function, function)(module, *arguments)

    def mark_dynamic(self, *tensors: torch.Tensor) -> None:
        """Tell the compiler that the number of frames changes from batch to batch, and nothing else does."""
        for tensor in tensors:
            torch._dynamo.maybe_mark_dynamic(tensor, 0)

    def choose_kernels(self, frames: int, on_gpu: bool) -> None:
        """On a GPU a number of frames gets the kernels that must be prepared for it where it comes a second time in
        training: that pays where the same numbers come again and again, and not for a few videos."""
        any_length = on_gpu and not (self.training and frames in self.frames_seen)
        if self.training:
            self.frames_seen.add(frames)
        if any_length == self.any_length:  # on a CPU always: no walk through the tower in every step
            return
        self.any_length = any_length
        for module in self.backbone.modules():
            if isinstance(module, Attention):
                module.any_length = any_length

    def prefix_context(self, images: torch.Tensor, frozen: bool) -> AbstractContextManager:
        """no_grad() for the frozen part, unless somebody wants gradients with respect to the frames."""
        needed = self.gradients_everywhere or images.requires_grad
        return torch.no_grad() if frozen and not needed else nullcontext()

    def forward(self, images: torch.Tensor, clips: Clips) -> torch.Tensor:
        """images, normalised [N, 3, S, S], packed as `clips` says -> features [N, feature_dim]."""
        blocks, trained = self.backbone.blocks, self.first_trained()
        self.choose_kernels(len(images), images.is_cuda)
        if self.compiled:  # made out here: inside they would be made for one batch's lengths
            self.mark_dynamic(*clips.masks())
        with self.prefix_context(images, trained > 0):
            x = self.run(Backbone.embed, self.backbone, images)  # [N, L, D]
        only_class = self.backbone.tower.pools_class_token and not self.all_tokens
        for index, block in enumerate(blocks):
            with self.prefix_context(images, index < trained):
                x = self.block_step_checkpointed(block, x, clips, only_class and index == len(blocks) - 1)
        return self.backbone.pool(x)


@contextmanager
def record_attention(
    model: nn.Module, blocks: Sequence[int] | None = None, all_tokens: bool = False
) -> Iterator[list[Attention]]:
    """Within: the blocks' Attentions keep their `weights`, and gradients reach back to the first block.

    Yields the Attention modules, first block first; their `weights` are cleared at the end. blocks: which ones
    (negative from the end), None: all. all_tokens: the queries of every token in the last block too, where otherwise
    only the class token is computed.
    """
    attentions = [module.attn for module in model.modules() if isinstance(module, Block)]
    if blocks is not None:
        attentions = [attentions[block] for block in blocks]
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    before = [(encoder.gradients_everywhere, encoder.all_tokens) for encoder in encoders]
    for attention in attentions:
        attention.record = True
    for encoder in encoders:
        encoder.gradients_everywhere, encoder.all_tokens = True, all_tokens
    try:
        yield attentions
    finally:
        for attention in attentions:
            attention.record, attention.weights = False, None
        for encoder, values in zip(encoders, before, strict=True):
            encoder.gradients_everywhere, encoder.all_tokens = values
