"""Models: batches of packed frames -> gloss logits."""

from slakit.models.adaptsign_import import load_adaptsign_checkpoint
from slakit.models.checkpoints import load_checkpoint, merge, open_clip_weights, save_checkpoint
from slakit.models.parameters import ParameterTable, compare_with_papers, count_parameters
from slakit.models.recognizer import Logits, Recognizer, build_model, create_model
from slakit.models.towers.backbones import Backbone, backbone_names, load_backbone
from slakit.models.towers.encoder import record_attention

__all__ = [
    "Backbone",
    "Logits",
    "ParameterTable",
    "Recognizer",
    "backbone_names",
    "build_model",
    "compare_with_papers",
    "count_parameters",
    "create_model",
    "load_adaptsign_checkpoint",
    "load_backbone",
    "load_checkpoint",
    "merge",
    "open_clip_weights",
    "record_attention",
    "save_checkpoint",
]
