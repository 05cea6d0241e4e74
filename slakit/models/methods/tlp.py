"""TLP, temporal lift pooling (Hu et al., ECCV 2022): VAC with both max poolings over time replaced.

The pooling itself is in sequence.py (LiftPool), its two loss terms, "lift_update" and "lift_predict", in
training/losses.py.
"""

from __future__ import annotations

from slakit.models.methods import register_method
from slakit.models.methods.vac import OWN_CLASSIFIERS, ResNetOptions, vac
from slakit.models.towers.resnet import ON_RESNET

register_method("tlp", ResNetOptions, vac, pooling="lift", **ON_RESNET, **OWN_CLASSIFIERS)
