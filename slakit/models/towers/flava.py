"""FLAVA's image encoder (ViT-B/16, CLIP-SLA section 4.4) from transformers, opened like the other towers.

An extra: `pip install "slakit[flava]"`. The frame feature is the class token after the last norm.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slakit.config import nearest
from slakit.models.towers.blocks import MLP, Attention, Block, Tower
from slakit.models.towers.definition import read_definition
from slakit.models.towers.weights import read_tower_weights, resample_positions
from slakit.records import CheckpointError, ConfigError

FLAVA = "FLAVA-ViT-B-16"
FLAVA_TAG = "facebook/flava-full"


class FlavaTower(Tower):
    """transformers' FlavaImageModel without its blocks and its pooler."""

    prefix_tokens = 1
    pools_class_token = True

    def __init__(self, model: Any, image_size: int, positions: torch.Tensor):
        super().__init__()
        self.conv1: nn.Conv2d = model.embeddings.patch_embeddings.projection
        self.class_embedding = model.embeddings.cls_token
        self.positional_embedding = nn.Parameter(positions)  # [1 + g*g, D]
        self.ln_post = model.layernorm
        side = image_size // self.conv1.kernel_size[0]
        self.grid, self.image_size = (side, side), image_size
        self.feature_dim = self.conv1.out_channels

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv1(images).flatten(2).transpose(1, 2)  # [N, D, g, g] -> [N, g*g, D]
        x = torch.cat([self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)  # [N, 1+g*g, D]
        return x + self.positional_embedding.to(x.dtype)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return self.ln_post(x[:, 0])


def flava_block(layer: Any) -> Block:
    """A FlavaLayer as ours, weights taken over."""
    inner = layer.attention.attention
    attention = Attention(inner.query, inner.key, inner.value, layer.attention.output.dense, inner.num_attention_heads)
    mlp = MLP(layer.intermediate.dense, layer.intermediate.intermediate_act_fn, layer.output.dense)
    return Block(layer.layernorm_before, attention, nn.Identity(), layer.layernorm_after, mlp, nn.Identity())


def is_flava(name: str) -> bool:
    """Whether the backbone is FLAVA's: by its name, or a JSON file with transformers' FlavaImageConfig."""
    return name == FLAVA or (Path(name).suffix == ".json" and "flava" in str(_read(name).get("model_type", "")))


def _read(name: str) -> dict[str, Any]:
    try:
        return read_definition(Path(name))
    except ConfigError:
        return {}  # load_backbone() says what is wrong with the file


def load_flava(
    name: str, pretrained: str | Path | None, image_size: int | None, seed: int
) -> tuple[FlavaTower, list[Block]]:
    """(tower, blocks) of FLAVA's image encoder.

    pretrained: None for random weights from `seed`; "facebook/flava-full" (downloaded once by transformers); a folder
    as transformers saves it; or a file with the tensors of FlavaModel or FlavaImageModel. image_size: positions are
    resampled. Raises ConfigError without transformers, CheckpointError for weights that do not fit.
    """
    try:
        transformers = import_module("transformers")
        config_class, model_class = transformers.FlavaImageConfig, transformers.FlavaImageModel
    except ImportError as error:
        raise ConfigError(f'{name} needs transformers: pip install "slakit[flava]" ({error})') from error
    config = config_class() if name == FLAVA else config_class(**_read(name))
    if config.hidden_dropout_prob or config.attention_probs_dropout_prob:
        raise ConfigError(f"{name} has dropout inside its encoder, which slakit does not keep; set it to 0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if pretrained is None or Path(pretrained).is_file():
            model = model_class(config, add_pooling_layer=False)
        elif str(pretrained) == FLAVA_TAG or Path(pretrained).is_dir():
            try:
                model = model_class.from_pretrained(pretrained, add_pooling_layer=False)
            except (OSError, ValueError, RuntimeError) as error:
                raise ConfigError(f"transformers cannot load {pretrained}: {str(error).splitlines()[0]}") from error
        else:
            raise ConfigError(
                f"{name} has no pretrained weights {str(pretrained)!r}, and that is no file"
                f"{nearest(pretrained, [FLAVA_TAG])}"
            )
    if pretrained is not None and Path(pretrained).is_file():
        _fill(model, Path(pretrained))
    patch, size = model.config.patch_size, image_size or model.config.image_size
    if size < patch or size % patch:
        raise ConfigError(f"image_size={size} is no multiple of {name}'s patch of {patch} pixels")
    positions = model.embeddings.position_embeddings.detach()[0]
    positions = resample_positions(positions, 1 + (size // patch) ** 2, name)
    return FlavaTower(model, size, positions.clone()), [flava_block(layer) for layer in model.encoder.layer]


def _fill(model: nn.Module, path: Path) -> None:
    """The image encoder's tensors out of a file of FlavaModel, FlavaForPreTraining or FlavaImageModel."""
    tensors = read_tower_weights(path)
    for start in ("flava.image_model.", "image_model."):
        inside = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
        tensors = inside or tensors
    expected = model.state_dict()
    lacking = [key for key, value in expected.items() if key not in tensors or tensors[key].shape != value.shape]
    if lacking:
        raise CheckpointError(
            f"{path} does not hold this FLAVA image encoder: {lacking[0]} is missing or has another shape"
        )
    model.load_state_dict({key: tensors[key] for key in expected})
