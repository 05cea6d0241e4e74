"""VAC (Min et al., ICCV 2021) and SMKD (Hao et al., ICCV 2021): a ResNet-18, all of it trained.

VAC: the Visual Alignment Constraint, that is CTC on the temporal convolution's own classifier as well, and the
distillation of the sequence head into it (training/losses.py); two linear classifiers with bias. SMKD in its released
form: one normalised classifier for both heads. AdaBrowse's stage one is SMKD's network at other picture sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

from slakit.models.methods import Encoder, register_method
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.resnet import ON_RESNET

# Two classifiers with bias, as VAC, TLP and SEN have them.
OWN_CLASSIFIERS = {"classifier": "linear", "share_classifier": False}


@dataclass(frozen=True)
class ResNetOptions:
    """width: channels of the first of the four stages; ImageNet's ResNet-18 has 64."""

    width: int = 64


class FrameByFrame(Encoder):
    """Frames that stand behind a clip's own padding do not enter the network (the released code masks them)."""

    pads_each = True


def vac(backbone: Backbone, options: ResNetOptions) -> Encoder:
    """The whole network is trained; nothing is added."""
    return FrameByFrame(backbone.requires_grad_(True))


register_method("vac", ResNetOptions, vac, **ON_RESNET, **OWN_CLASSIFIERS)
register_method("vac-smkd", ResNetOptions, vac, **ON_RESNET)
