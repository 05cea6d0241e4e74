"""The registry of adaptation methods, and the encoder that all frame-wise ones share.

A new method is one file: a dataclass of its options, a function (backbone, options) -> Encoder, and one call of
register_method(). It is then a name that create_model() takes.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slakit.config import from_dict, nearest
from slakit.models.exact.recompute import checkpointed
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.records import ConfigError


class Encoder(nn.Module):
    """An adapted image tower: packed frames -> one feature a frame.

    The part below the first block that has anything to train runs without building a graph, and where the pooled
    feature is the class token, the last block computes that token alone (exactly the same number).
    gradients_everywhere: build the graph down to the first block all the same (for explanations).
    all_tokens: compute every token in the last block too (for attention maps of its patches).
    recompute: what of a trained block is computed again in the backward pass: "none", "mlp", "block" (all of it).
    compiled: the compiled forms of block_step() and embed(), where they run compiled (see compiled.py).
    """

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone = backbone
        self.gradients_everywhere = False
        self.all_tokens = False
        self.recompute = "none"
        self.compiled: dict[Callable, Callable] = {}

    @property
    def feature_dim(self) -> int:
        return self.backbone.feature_dim

    @property
    def reach(self) -> int:
        """How many frames away another frame can be and still change a frame's feature: the sum over all modules that
        look at neighbours, each with its own number in an attribute `reach`.
        """
        return sum(getattr(module, "reach", 0) for module in self.modules() if module is not self)

    def first_trained(self) -> int:
        """Index of the first block with a trainable parameter; 0 if the embedding is trained, depth if none is."""
        blocks = self.backbone.blocks
        tower = self.backbone.tower
        if any(p.requires_grad for name, p in tower.named_parameters() if not name.startswith(_POOLING)):
            return 0
        trained = (i for i, block in enumerate(blocks) if any(p.requires_grad for p in block.parameters()))
        return next(trained, len(blocks))

    @staticmethod
    def embed(backbone: Backbone, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [N, 3, S, S] -> tokens [N, L, D]."""
        return backbone.embed(images)

    @staticmethod
    def block_step(block: nn.Module, x: torch.Tensor, clips: Clips, class_token_only: bool) -> Any:
        """One block, and what a method hangs on every block: what is compiled as one graph, or computed again."""
        return block(x, clips, class_token_only)

    def block_step_checkpointed(self, block: nn.Module, *arguments: Any) -> Any:
        """block_step(), with activation checkpointing where that is asked for and a graph is built."""
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in block.parameters())
        again = self.recompute if trained else "none"
        block.recompute_mlp = again == "mlp"
        if again == "block":
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

    def prefix_context(self, images: torch.Tensor, frozen: bool) -> Any:
        """no_grad() for the frozen part, unless somebody wants gradients with respect to the frames."""
        return (
            torch.no_grad() if frozen and not self.gradients_everywhere and not images.requires_grad else nullcontext()
        )

    def forward(self, images: torch.Tensor, clips: Clips) -> torch.Tensor:
        """images, normalised [N, 3, S, S], packed as `clips` says -> features [N, feature_dim]."""
        blocks, trained = self.backbone.blocks, self.first_trained()
        if self.compiled:  # made out here: inside they would be made for one batch's lengths
            self.mark_dynamic(*clips.masks())
        with self.prefix_context(images, trained > 0):
            x = self.run(self.embed, self.backbone, images)  # [N, L, D]
        last = len(blocks) - 1
        only_class = self.backbone.tower.pools_class_token and not self.all_tokens
        for index, block in enumerate(blocks):
            with self.prefix_context(images, index < trained):
                x = self.block_step_checkpointed(block, x, clips, index == last and only_class)
        return self.backbone.pool(x)


_POOLING = ("ln_post", "proj", "attn_pool", "trunk.norm.", "trunk.attn_pool", "trunk.fc_norm", "trunk.head", "head")


@dataclass(frozen=True)
class Method:
    """A name for create_model().

    options: dataclass of the method's settings. build: (backbone with everything frozen, options) -> Encoder.
    auxiliary_head: whether the paper trains it with the CTC head on frame features. adapters_only: whether a
    checkpoint may leave the backbone's own weights out.
    """

    name: str
    options: type
    build: Callable[[Backbone, Any], Encoder]
    auxiliary_head: bool
    adapters_only: bool = True


METHODS: dict[str, Method] = {}


def register_method(
    name: str, options: type, build: Callable, auxiliary_head: bool, adapters_only: bool = True
) -> None:
    """Make `name` known to create_model()."""
    METHODS[name] = Method(name, options, build, auxiliary_head, adapters_only)


def find_method(name: str) -> Method:
    """The method of that name; ConfigError that names the nearest one."""
    if name not in METHODS:
        raise ConfigError(f"there is no method {name!r}{nearest(name, METHODS)}")
    return METHODS[name]


def build_encoder(method: str, backbone: Backbone, options: dict[str, Any]) -> tuple[Encoder, Any]:
    """(encoder, checked options): the backbone is frozen first, then the method adds or unfreezes what it trains."""
    chosen = find_method(method)
    checked = from_dict(chosen.options, options)
    backbone.requires_grad_(False)
    return chosen.build(backbone, checked), checked


def chosen_blocks(blocks: str | tuple[int, ...] | None, depth: int) -> tuple[int, ...]:
    """Which blocks to adapt, as indices from 0.

    blocks: 1-based as in the papers, a range "5-12" or a tuple (5, 6, 12); None: all but the first third, which is
    5-12 of 12, the published choice. ConfigError for a block that the tower does not have.
    """
    if blocks is None:
        return tuple(range(depth // 3, depth))
    if isinstance(blocks, str):
        first, dash, last = blocks.partition("-")
        if not first.strip().isdigit() or (dash and not last.strip().isdigit()):
            raise ConfigError(f'blocks={blocks!r} is no range of blocks; write it as "5-12", or as a list of numbers')
        numbers = tuple(range(int(first), int(last or first) + 1))
    else:
        numbers = blocks
    if not numbers or any(not 1 <= number <= depth for number in numbers):
        raise ConfigError(f"blocks={blocks!r} does not fit a tower of {depth} blocks; number them 1 to {depth}")
    return tuple(sorted({number - 1 for number in numbers}))
