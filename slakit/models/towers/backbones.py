"""load_backbone(): any plain ViT image tower that open_clip can build, opened into blocks that can be adapted."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from torch import nn

from slakit.config import brief, nearest
from slakit.models.exact.recompute import QuickGELU
from slakit.models.packing import Clips
from slakit.models.towers.blocks import Block, Tower
from slakit.models.towers.definition import read_definition, without_hub
from slakit.models.towers.flava import FLAVA, is_flava, load_flava
from slakit.models.towers.open_clip import open_tower
from slakit.models.towers.weights import (
    TINY_CLIP,
    checksum,
    load_tower,
    quick_gelu,
    tiny_clip_files,
    weights_file,
    with_activation,
)  # fmt: skip
from slakit.records import CheckpointError, ConfigError


class Backbone(nn.Module):
    """An image tower: tokens in, blocks with separate q, k, v and output projections, pooled feature out.

    tower: patch embedding and pooling, with its grid, prefix_tokens, image_size and feature_dim (the class token after
    the last norm, without CLIP's projection); blocks: ModuleList of Block. base_names, base_checksum: of all weights as
    they were loaded, before any adaptation, and of the activation. definition: the content of the JSON file that it was
    built from, if any.
    """

    definition: dict[str, Any] | None = None

    def __init__(self, name: str, tower: Tower, blocks: list[Block]):
        super().__init__()
        self.name, self.tower = name, tower
        self.blocks = cast("list[Block]", nn.ModuleList(blocks))
        self.width, self.depth = blocks[0].width, len(blocks)
        self.grid, self.prefix_tokens, self.image_size = tower.grid, tower.prefix_tokens, tower.image_size
        self.feature_dim = tower.feature_dim
        self.activation = "quick_gelu" if any(isinstance(module, QuickGELU) for module in self.modules()) else "gelu"
        base = self.state_dict()
        self.base_names = frozenset(base)
        empty = any(value.is_meta for value in base.values())  # built to be looked at: sizes without numbers
        self.weights_checksum = "" if empty else checksum(base)
        self.base_checksum = with_activation(self.weights_checksum, self.activation)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images [N, 3, S, S] -> tokens [N, L, D]; ConfigError for another size than image_size."""
        size = self.image_size
        if images.dim() != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ConfigError(
                f"frames have shape {tuple(images.shape)}; {self.name} needs [N, 3, {size}, {size}]: crop them to "
                f"{size} pixels or load the backbone with image_size"
            )
        return self.tower.embed(images)

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens of the last block [N, L, D] -> features [N, feature_dim]."""
        return self.tower.pool(tokens)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        """Features -> CLIP's joint image-text space (without L2 normalisation): what the stock tower returns."""
        return self.tower.project(features)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, S, S] -> features [N, feature_dim], every frame by itself."""
        x, clips = self.embed(images), Clips([images.shape[0]], images.device)
        for block in self.blocks:
            x = block(x, clips)
        return self.pool(x)


def backbone_names() -> list[str]:
    """Names that load_backbone() knows (not every one of them has a plain ViT as image tower)."""
    return sorted({TINY_CLIP, FLAVA, *open_clip.list_models()})


def load_backbone(
    name: str, pretrained: str | Path | None = None, image_size: int | None = None, seed: int = 0
) -> Backbone:
    """An image tower by its open_clip name, opened.

    name: an open_clip model ("ViT-B-16", …), "tiny-clip" (the small CLIP shipped with the project), "FLAVA-ViT-B-16"
        (needs transformers, see flava.py), or a JSON model configuration file as open_clip reads it.
    pretrained: None for random weights from `seed`; an open_clip tag ("openai", "laion2b_s34b_b88k", …: downloaded
        once by open_clip); or a file (safetensors, OpenAI's archive, a PyTorch state dict), or the folder that holds it
        as a hub hands it out. Whether such weights want QuickGELU is decided by `quick_gelu` and said in one line.
    image_size: pixels, if not the tower's own; the position embedding of pretrained weights is resampled.
    Raises ConfigError for an unknown name, tag or size, CheckpointError for a file that does not fit.
    """
    if is_flava(name):
        backbone = Backbone(name, *load_flava(name, pretrained, image_size, seed))
        backbone.definition = read_definition(Path(name)) if Path(name).suffix == ".json" else None
        return backbone
    config = _register(name)
    tag, file, options = None, None, {}
    if name == TINY_CLIP and pretrained == TINY_CLIP:
        pretrained = tiny_clip_files()[1]
    if pretrained is not None:
        known = open_clip.list_pretrained_tags_by_model(config)
        if str(pretrained) in known:
            tag = str(pretrained)
            options["force_quick_gelu"] = bool(open_clip.get_pretrained_cfg(config, tag).get("quick_gelu", False))
        elif os.path.exists(place := Path(pretrained).expanduser()):
            file = weights_file(place)
            options["force_quick_gelu"] = _said_activation(config, name, file)
        elif Path(pretrained).suffix or len(Path(pretrained).parts) > 1:
            raise CheckpointError(f"there is no weights file {pretrained}")
        else:
            raise ConfigError(
                f"{name} has no pretrained weights {str(pretrained)!r}, and that is no file{nearest(pretrained, known)}"
            )
    if image_size is not None:
        _check_size(config, image_size)
        options["force_image_size"] = image_size
    config = config if tag else without_hub(config)
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        try:
            stock = open_clip.create_model(config, pretrained=tag, device=torch.get_default_device(), **options)
            stock = stock.get_submodule("visual")
        except UNBUILT as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            way = "" if tag is None or not _is_offline(error) else OFFLINE
            raise ConfigError(f"open_clip cannot build {name} with pretrained={pretrained!r}: {reason}{way}") from error
    if file is not None:
        load_tower(stock, file)
    tower, blocks = open_tower(stock, name)
    if image_size is not None and tower.image_size != image_size:
        raise ConfigError(f"{name} works at {tower.image_size} pixels alone, not at {image_size}")
    backbone = Backbone(name, tower, blocks)
    backbone.definition = read_definition(Path(name)) if Path(name).suffix == ".json" else None
    return backbone


UNBUILT = (RuntimeError, OSError, ValueError, AssertionError, TypeError, LookupError, ArithmeticError, AttributeError)
OFFLINE = (
    "; without a network give a file or a folder of weights as pretrained, or set HF_HOME to a folder whose hub cache "
    "holds them"
)


def _is_offline(error: BaseException) -> bool:
    """Whether weights could not be fetched: open_clip tells it in words alone."""
    return any(word in str(error) for word in ("ownload", "onnect", "HTTP", "urlopen", "offline", "Hub"))


def _said_activation(config: str, name: str, file: Path) -> bool:
    """Whether the file's tower has QuickGELU; says so in one line, and how that is known."""
    named = bool((open_clip.get_model_config(config) or {}).get("quick_gelu", False))
    found, reason = quick_gelu(file)
    if found is False and named:
        raise ConfigError(f"{file} was trained with GELU ({reason}), {name} has QuickGELU; name the one without")
    quick = named if found is None else found
    if name != TINY_CLIP:
        print(f"{file.name}: activation {'QuickGELU' if quick else 'GELU'}, as {reason}")
    return quick


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's warning that weights are random (they are wanted so, or come from a file right after), and
    without its errors, which are raised as well; and without the handler of its own that logging.warning() leaves
    behind, which would print every other library's lines a second time."""

    def is_news(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not message.startswith(("No pretrained weights loaded for model", "Failed to download weights"))

    root = logging.getLogger()
    before = list(root.handlers)
    root.addFilter(is_news)
    try:
        yield
    finally:
        root.removeFilter(is_news)
        root.handlers[:] = before


def _register(name: str) -> str:
    """open_clip's name of the model; configuration files are registered under their stem."""
    path = tiny_clip_files()[0] if name == TINY_CLIP else Path(name)
    if path.suffix == ".json":
        read_definition(path)
        open_clip.add_model_config(path)
        if path.stem not in open_clip.list_models():
            raise ConfigError(f"{path} is no open_clip model configuration: it needs embed_dim, vision_cfg, text_cfg")
        return path.stem
    if name not in open_clip.list_models():
        if ":" in name:
            raise ConfigError(
                f"{name!r} names a model of a hub, which is not fetched by that name; download it, and give its folder "
                "as pretrained and the architecture's name as backbone"
            )
        raise ConfigError(f"there is no backbone {brief(name)}{nearest(name, backbone_names())}")
    return name


def _check_size(config: str, image_size: int) -> None:
    vision = (open_clip.get_model_config(config) or {}).get("vision_cfg", {})
    patch = vision.get("patch_size", 16)
    if vision.get("timm_model_name"):
        return
    if image_size < patch or image_size % patch:
        raise ConfigError(f"image_size={image_size} is no multiple of {config}'s patch of {patch} pixels")
