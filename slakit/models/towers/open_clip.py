"""open_clip's and timm's image towers opened into a Tower (patches in, pooled feature out) and our Blocks."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU as StockQuickGELU
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from timm.models import vision_transformer as vit
from torch import nn

from slakit.models.exact.linear import FastLinear
from slakit.models.exact.recompute import QuickGELU
from slakit.models.towers.blocks import MLP, Attention, Block, Tower
from slakit.records import ConfigError


def split_rows(weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    """A fused [3 D, D] projection as three Linears: its rows are q, then k, then v."""

    def linear(part: int) -> nn.Linear:
        rows = weight.detach().chunk(3)[part]
        layer = FastLinear(rows.shape[1], rows.shape[0], bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(rows.clone())
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach().chunk(3)[part].clone())
        return layer

    return linear(0), linear(1), linear(2)


def patch_product(conv: nn.Conv2d, images: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """A convolution whose stride is its kernel's size, as one product: [N, 3, S, S] -> [N, rows * columns, D]."""
    (rows, columns), (high, wide) = grid, conv.kernel_size
    x = images.unflatten(2, (rows, high)).unflatten(4, (columns, wide))  # [N, 3, rows, high, columns, wide]
    x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # [N, rows * columns, 3 * high * wide]
    return F.linear(x, conv.weight.flatten(1), conv.bias)


class OpenClipTower(Tower):
    """open_clip's own VisionTransformer: OpenAI's, LAION's and CoCa's ViTs (class token, learned positions)."""

    prefix_tokens = 1

    def __init__(self, tower: VisionTransformer):
        super().__init__()
        if tower.attn_pool is not None and tower.attn_pool_contrastive is not None:
            raise ConfigError("towers with a parallel or cascaded attentional pooler are not supported")
        if isinstance(tower.patch_dropout, nn.Module) and not isinstance(tower.patch_dropout, nn.Identity):
            raise ConfigError("towers with patch dropout are not supported; choose a configuration without it")
        self.conv1, self.ln_pre, self.ln_post = tower.conv1, tower.ln_pre, tower.ln_post
        self.class_embedding, self.positional_embedding = tower.class_embedding, tower.positional_embedding
        self.attn_pool, self.proj = tower.attn_pool, tower.proj
        self.pool_type, self.ln_after_pool = tower.pool_type, tower.final_ln_after_pool
        self.grid, self.image_size = tower.grid_size, cast("tuple[int, int]", tower.image_size)[0]
        self.feature_dim = cast("nn.LayerNorm", tower.ln_post).normalized_shape[0]
        self.pools_class_token = tower.attn_pool is None and tower.pool_type == "tok"

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        x = self.patches(images)  # [N, g*g, D]
        x = torch.cat([self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)  # [N, 1+g*g, D]
        return self.ln_pre(x + self.positional_embedding.to(x.dtype))

    def patches(self, images: torch.Tensor) -> torch.Tensor:
        """Every patch through the first convolution: [N, 3, S, S] -> [N, g*g, D].

        On a GPU as the product that it is: patches do not overlap, and a convolution takes nine times as long there.
        """
        if images.device.type != "cuda":
            return self.conv1(images).flatten(2).transpose(1, 2)
        return patch_product(self.conv1, images, self.grid)

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        if self.attn_pool is not None:
            return self._first_query(x) if self.pool_type == "tok" else self._read(self.ln_post(self.attn_pool(x)))
        return (
            self.ln_post(self._read(x)) if self.ln_after_pool or self.pools_class_token else self._read(self.ln_post(x))
        )

    def _read(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 1:].mean(1) if self.pool_type == "avg" else x[:, 0]

    def _first_query(self, x: torch.Tensor) -> torch.Tensor:
        """CoCa: of the pooler's 256 queries only the first is read, and queries do not see each other."""
        pooler = self.attn_pool
        assert pooler is not None
        query = pooler.ln_q(pooler.query)[:1].expand(x.shape[0], -1, -1)
        keys = pooler.ln_k(x)
        return self.ln_post(pooler.attn(query, keys, keys, need_weights=False)[0])[:, 0]

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return features if self.proj is None else features @ self.proj


def open_clip_block(block: nn.Module) -> Block:
    """A ResidualAttentionBlock as ours, weights taken over."""
    if type(block) is not ResidualAttentionBlock:
        raise ConfigError(f"blocks of type {type(block).__name__} are not supported; choose a plain ViT backbone")
    attn = block.attn
    fc1, activation, fc2 = cast("tuple[nn.Linear, nn.Module, nn.Linear]", tuple(block.mlp))
    if type(activation) is StockQuickGELU:
        activation = QuickGELU()
    mlp = MLP(FastLinear.like(fc1), activation, FastLinear.like(fc2))
    projections = *split_rows(attn.in_proj_weight, attn.in_proj_bias), FastLinear.like(attn.out_proj)
    return Block(block.ln_1, Attention(*projections, attn.num_heads), block.ls_1, block.ln_2, mlp, block.ls_2)


class TimmTower(Tower):
    """A timm VisionTransformer inside open_clip (SigLIP and others): no class token, or one; any of timm's pools."""

    def __init__(self, trunk: vit.VisionTransformer, head: nn.Module):
        super().__init__()
        self.trunk, self.head = trunk, head
        trunk.blocks = nn.Sequential()
        self.prefix_tokens = trunk.num_prefix_tokens
        self.grid, self.image_size = tuple(trunk.patch_embed.grid_size), trunk.patch_embed.img_size[0]
        self.feature_dim = trunk.num_features
        self.pools_class_token = (
            trunk.attn_pool is None and trunk.global_pool == "token" and trunk.num_prefix_tokens == 1
        )

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        x = self.trunk.patch_embed(images)
        return self.trunk.norm_pre(self.trunk.patch_drop(self.trunk._pos_embed(x)))

    def pool(self, x: torch.Tensor) -> torch.Tensor:
        return self.trunk.forward_head(self.trunk.norm(x), pre_logits=True)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk.head(features))


def timm_block(block: Any) -> Block:
    """A timm Block as ours, weights taken over; variants with q/k norms, gates or drop path are refused."""
    attn, mlp = block.attn, block.mlp
    inert = [attn.q_norm, attn.k_norm, attn.norm, mlp.norm, block.drop_path1, block.drop_path2]
    if any(not isinstance(module, nn.Identity) for module in inert) or getattr(attn, "gate", None) is not None:
        raise ConfigError("timm towers with q/k norms, inner norms, gates or drop path are not supported")
    projections = split_rows(attn.qkv.weight, attn.qkv.bias)
    attention = Attention(*projections, FastLinear.like(attn.proj), attn.num_heads)
    feed = MLP(FastLinear.like(mlp.fc1), mlp.act, FastLinear.like(mlp.fc2))
    return Block(block.norm1, attention, block.ls1, block.norm2, feed, block.ls2)


def open_tower(tower: nn.Module, name: str) -> tuple[Tower, list[Block]]:
    """(tower without blocks, its blocks opened); ConfigError for a tower that is no plain ViT."""
    if type(tower) is VisionTransformer:
        return OpenClipTower(tower), [open_clip_block(block) for block in tower.transformer.resblocks]
    trunk = getattr(tower, "trunk", tower)
    if type(trunk) is vit.VisionTransformer and all(type(block) is vit.Block for block in trunk.blocks):
        blocks = [timm_block(block) for block in trunk.blocks]
        return TimmTower(trunk, tower.get_submodule("head")), blocks
    raise ConfigError(f"{name} has a {type(trunk).__name__} as image tower; slakit opens plain ViTs alone")
