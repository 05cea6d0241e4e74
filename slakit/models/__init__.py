"""Models: batches of packed frames -> gloss logits."""

from slakit.models.backbones import Backbone, backbone_names, load_backbone
from slakit.models.blocks import record_attention
from slakit.models.checkpoints import load_checkpoint, save_checkpoint
from slakit.models.recognizer import Logits, Recognizer, build_model, create_model

__all__ = [
    "Backbone",
    "Logits",
    "Recognizer",
    "backbone_names",
    "build_model",
    "create_model",
    "load_backbone",
    "load_checkpoint",
    "record_attention",
    "save_checkpoint",
]
