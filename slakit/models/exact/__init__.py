"""The same algebra, faster: never needed to understand a model. Every rewrite has a test against the plain form.

linear.py           float32 products by oneDNN on a CPU
low_rank.py         products with W + s B A: LoRA as one product, several LoRA layers as one, W per head
query_attention.py  a few queries over layer-normed tokens, without the normed tokens
depthwise.py        the depth-wise 3D convolution of packed clips, without padding or unfolding
recompute.py        norms and activations computed again in the backward pass; activation checkpointing
live_bytes.py       how many bytes a computation keeps, counted on tensors without data

Knows packing alone: no tower, no method.
"""
