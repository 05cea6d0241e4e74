"""Models: packed frames -> gloss logits.

In: the frames of a batch's videos, one after the other, uint8 [sum of lengths, 3, H, W], and their lengths, int64 [B].
Out: Logits, `.sequence` and `.conv` [B, T', V] for T' = ceil(T / 4) steps and V classes (blank is 0), `.frame`
[B, T, V] or None, `.lengths` [B]. An image tower with a method's adapters gives one feature a frame; a temporal
convolution and a BiLSTM give the logits.

>>> import torch
>>> from slakit.models import create_model
>>> model = create_model("sla-lora", ["HELLO", "WORLD"], "tiny-clip", rank=4, hidden_size=32)
>>> size = model.image_size
>>> frames = torch.randint(0, 256, (9 + 5, 3, size, size)).to(torch.uint8)  # two videos, of 9 and 5 frames
>>> logits = model(frames, torch.tensor([9, 5]))
>>> logits.sequence.shape, logits.lengths
(torch.Size([2, 3, 3]), tensor([3, 2]))

Its files, in reading order:
recognizer.py   the whole network, create_model(); sequence.py, what follows the encoder
packing.py      videos one after the other, the padding of their ends, steps of four frames
towers/         image encoders: open_clip's and FLAVA's towers, opened into blocks
methods/        one file a method: what is adapted, and how it is registered
exact/          the same algebra, faster: never needed to understand a model
checkpoints.py  written and read; description.py, what they say of themselves; hub.py, by name on the Hub; merging.py,
                LoRA folded into the weights; transfer.py, to start from one that knows other glosses
published_import.py   released checkpoints of eight systems; adaptsign_import.py, AdaptSign's; published_files.py
parameters.py   what each method trains, beside the papers' figures (README.md has the table)
compiled.py     blocks through torch.compile on a GPU
modes.py        evaluating(): inference for a while, also from several threads

Imports records, config and machine, never data; within it methods -> towers -> exact, never back.
"""

from slakit.models.adaptsign_import import load_adaptsign_checkpoint
from slakit.models.checkpoints import load_checkpoint, save_checkpoint
from slakit.models.hub import push_to_hub
from slakit.models.merging import merge, open_clip_weights
from slakit.models.methods import Encoder, register_method
from slakit.models.packing import Clips
from slakit.models.parameters import ParameterTable, compare_with_papers, count_parameters
from slakit.models.published_import import load_published_checkpoint
from slakit.models.recognizer import Logits, Recognizer, build_model, create_model
from slakit.models.towers.backbones import Backbone, backbone_names, load_backbone
from slakit.models.towers.encoder import record_attention
from slakit.models.towers.weights import demo_model

__all__ = [
    "Backbone", "Clips", "Encoder", "Logits", "ParameterTable", "Recognizer", "backbone_names", "build_model",
    "compare_with_papers", "count_parameters", "create_model", "demo_model", "load_adaptsign_checkpoint",
    "load_backbone", "load_checkpoint", "load_published_checkpoint", "merge", "open_clip_weights", "push_to_hub",
    "record_attention", "register_method", "save_checkpoint",
]  # fmt: skip
