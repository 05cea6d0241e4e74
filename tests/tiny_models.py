"""Tiny image towers for the tests, one a family: the families' own classes at reduced depth, width and image size."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path

import pytest
import timm
import timm.models
import torch
from safetensors.torch import load_file

from slakit.models import Recognizer, create_model
from slakit.models.methods import METHODS

TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 16, "layers": 3}
CONFIGS = {
    "tiny-vit": {"embed_dim": 48, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-quick": {"embed_dim": 48, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "tiny-coca": {
        "embed_dim": 48,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 8, "output_tokens": True},
        "text_cfg": TEXT,
    },
    "tiny-avg": {
        "embed_dim": 48,
        "vision_cfg": {**VISION, "pool_type": "avg", "final_ln_after_pool": True, "ls_init_value": 0.1},
        "text_cfg": TEXT,
    },
    "tiny-siglip": {
        "embed_dim": 64,
        "vision_cfg": {"timm_model_name": "slakit_tiny_siglip", "timm_proj": "none", "image_size": 32},
        "text_cfg": TEXT,
    },
}
FLAVA = {
    "model_type": "flava_image_model", "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 128, "image_size": 32, "patch_size": 8,
}  # fmt: skip
NETWORKS = [name for name, method in METHODS.items() if method.network]  # methods with an image network of their own
WHOLE_CLIP = ("tlp", "corrnet+", "slowfastsign")  # in which a clip's result depends on its batch, and none is streamed
FAMILIES = (*CONFIGS, "tiny-flava")
# ViT-B/16's sizes but for the number of blocks, for counts of bytes
WIDE = {"image_size": 224, "patch_size": 16, "width": 768, "layers": 3}
OTHERS = {"tiny-flava": FLAVA, "wide-quick": {**CONFIGS["tiny-quick"], "embed_dim": 512, "vision_cfg": WIDE}}


@timm.models.register_model
def slakit_tiny_siglip(pretrained: bool = False, **options) -> timm.models.VisionTransformer:
    """SigLIP's kind of tower for timm: no class token, attention pooling."""
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4}
    return timm.models.VisionTransformer(**sizes, class_token=False, global_pool="map", num_classes=0)


@functools.cache
def tower(name: str) -> str:
    """The configuration file of a tiny tower, as load_backbone() takes it."""
    if name == "tiny-flava":
        pytest.importorskip("transformers", reason="FLAVA is an extra")
    path = Path(tempfile.mkdtemp(prefix="slakit-towers-")) / f"{name}.json"
    path.write_text(json.dumps((CONFIGS | OTHERS)[name]))
    return str(path)


def tiny(method: str, name: str = "tiny-vit", glosses: int = 5, **options) -> Recognizer:
    """A recognizer on a tiny random tower, or on the method's own network, as small."""
    settings, backbone = {"hidden_size": 32, "dropout": 0.0, **options}, None
    if method not in NETWORKS:
        backbone = tower(name)
    else:
        shape = {"depths": (1, 1, 1, 1), "feature_dropout": 0.0} if method == "slowfastsign" else {}
        settings = {"image_size": 32, "width": 16, **shape, **settings}
    return create_model(method, [f"G{i}" for i in range(glosses)], backbone, None, **settings)


def frames(count: int, seed: int = 0, size: int = 32) -> torch.Tensor:
    """uint8 [count, 3, size, size]."""
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def stir(model: torch.nn.Module, seed: int = 1, scale: float = 0.1) -> None:
    """Move every trainable parameter away from where it starts (adapters start as the identity)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator).to(parameter)


def golden(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a file of golden numbers; skips the test where the shared folder is absent."""
    path = Path(__file__).resolve().parents[1].parent / "shared" / "golden" / f"{name}.safetensors"
    if not path.is_file():
        pytest.skip(f"golden numbers {path.name} are not beside the project")
    return load_file(path)
