"""Towers: stock image encoders, opened into blocks that can be adapted. Images [N, 3, S, S] -> features [N, F].

>>> import torch
>>> from slakit.models.towers.backbones import load_backbone
>>> backbone = load_backbone("tiny-clip", "tiny-clip")
>>> images = torch.zeros(2, 3, backbone.image_size, backbone.image_size)
>>> tokens = backbone.embed(images)  # [N, L, D]: a class token and the patches
>>> tokens.shape == (2, 1 + backbone.grid[0] * backbone.grid[1], backbone.width)
True
>>> backbone.pool(tokens).shape == (2, backbone.feature_dim)
True

blocks.py     Tower, Attention, MLP, Block: a transformer block with separate q, k, v and output projections
open_clip.py  open_clip's ViTs (OpenAI, LAION, CoCa) and timm's (SigLIP) as Tower and Blocks; flava.py: FLAVA's
weights.py    where weights come from: a tag, a file in a published layout, the tiny CLIP that is shipped
definition.py the JSON files that define a tower, bounded
backbones.py  Backbone = Tower and Blocks; load_backbone() by name
resnet.py     ResNet-18 in the same parts, for the compared systems; slowfast_weights.py: SlowFast's by their names
encoder.py    Encoder: an adapted Backbone over packed frames; attention weights recorded on request

Knows exact and packing, no method.
"""
