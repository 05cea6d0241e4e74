"""The whole network, from frames to gloss logits, and create_model()."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from slakit.config import ModelConfig, from_dict, nearest, override, to_dict
from slakit.models import methods
from slakit.models.methods import Encoder, base_of, build_encoder, find_method, with_method
from slakit.models.packing import LEFT, Clips, padded_index, padded_lengths, replicate_padding
from slakit.models.sequence import NormLinear, SequenceModel, pool_by_four
from slakit.models.towers.encoder import EVERYWHERE
from slakit.models.towers.flava import FLAVA, FLAVA_TAG
from slakit.models.towers.weights import TINY_CLIP
from slakit.records import ConfigError, SlakitError, Vocabulary

for file in pkgutil.iter_modules(methods.__path__):  # each registers its methods
    importlib.import_module(f"{methods.__name__}.{file.name}")

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
# ModelConfig.normalize -> mean and deviation of x / 255.
NORMALIZE = {
    "published": ((0.5,) * 3, (0.5,) * 3),
    "clip": (CLIP_MEAN, CLIP_STD),
    "kinetics": ((0.45,) * 3, (0.225,) * 3),
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass
class Logits:
    """What a Recognizer returns; V classes, blank is 0.

    sequence: the BiLSTM head [B, T', V]: the prediction. conv: the head on the temporal convolution [B, T', V].
    frame: the auxiliary head on frame features [B, frames, V], or None. lengths: int64 [B], steps = ceil(T/4).
    frame_lengths: int64 [B], places of `frame` that count (see ModelConfig.auxiliary_lengths). Both are on the CPU.
    In training alone: lift, the two terms of lift pooling; pathways, name -> (conv, sequence) of SlowFastSign's.
    """

    sequence: torch.Tensor
    conv: torch.Tensor
    frame: torch.Tensor | None
    lengths: torch.Tensor
    frame_lengths: torch.Tensor
    lift: dict[str, torch.Tensor] = field(default_factory=dict)
    pathways: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)


class Recognizer(nn.Module):
    """Image encoder with its adaptation, sequence model, heads.

    config: the ModelConfig that built it, options complete. vocabulary: its glosses. about: the description of the
    checkpoint that it was loaded from; a model that was not loaded has none.
    """

    about: dict[str, Any]

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary, encoder: Encoder):
        super().__init__()
        self.config, self.vocabulary, self.encoder = config, vocabulary, encoder
        heads = len(vocabulary), config.hidden_size, config.lstm_layers, config.dropout, config.classifier
        choices = *heads, config.share_classifier, config.pooling, config.lift_kernel
        self.sequence = SequenceModel(encoder.feature_dim, *choices)
        self.pathways = nn.ModuleDict(
            {name: SequenceModel(end - first, *choices) for name, (first, end) in encoder.pathways.items()}
        )
        self.auxiliary = NormLinear(encoder.feature_dim, len(vocabulary)) if config.auxiliary_head else None
        mean, std = NORMALIZE[config.normalize]
        self.pixel_mean: torch.Tensor
        self.pixel_std: torch.Tensor
        self.register_buffer("pixel_mean", 255 * torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", 255 * torch.tensor(std).view(3, 1, 1), persistent=False)
        encoder.recompute = config.recompute

    @property
    def image_size(self) -> int:
        """Side of the square frames that the encoder takes, in pixels."""
        return self.encoder.backbone.image_size

    @property
    def needs_whole_clip(self) -> str:
        """What of the model reads the whole clip, so that it cannot be recognised while it arrives; "" for nothing."""
        if self.config.pooling == "lift":
            return "lift pooling, whose instance norm runs over all of a clip's time"
        reach = self.encoder.reach
        return "an encoder that counts from the start of the padded clip" if reach >= EVERYWHERE else ""

    def normalise(self, frames: torch.Tensor) -> torch.Tensor:
        """uint8 [N, 3, H, W] -> float, as ModelConfig.normalize says; float frames pass as they are."""
        if frames.dtype != torch.uint8:
            return frames
        mean, std = self.pixel_mean, self.pixel_std
        if self.config.normalize != "clip":  # one number for all channels: any memory layout is walked straight
            mean, std = mean[0], std[0]
        return frames.to(mean.dtype).sub_(mean).div_(std)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> Logits:
        """recognize_features(encode(frames, lengths), lengths)."""
        return self.recognize_features(self.encode(frames, lengths), lengths)

    def encode(self, frames: torch.Tensor, lengths: torch.Tensor | Sequence[int]) -> torch.Tensor:
        """Frame features.

        frames: uint8 RGB, or float and normalised already, [sum of lengths, 3, S, S], one video after the other;
        lengths: int64 [B]. Returns [B, T, F], zeros after a shorter video's end. With padding="published" the frames
        are replicated before the encoder and the features are [B, ceil(T/4)*4 + 12, F].
        """
        clips = Clips(lengths, frames.device)
        clips.check(frames)
        if self.config.padding == "published":
            index = padded_index(clips.lengths)  # [B, T_padded]
            starts = torch.tensor([sum(clips.lengths[:i]) for i in range(len(clips.lengths))])
            ends = padded_lengths(torch.tensor(clips.lengths)).tolist()
            ends = ends if self.encoder.pads_each else [index.shape[1]] * len(ends)
            order = torch.cat([row[:end] for row, end in zip(index + starts[:, None], ends, strict=True)])
            frames = frames[order.to(frames.device)]
            clips = Clips(ends, frames.device)
        return clips.pad(self.encoder(self.normalise(frames), clips))

    def recognize_features(self, features: torch.Tensor, lengths: torch.Tensor | Sequence[int]) -> Logits:
        """Logits from features as encode() gives them (cached ones too); what stands behind a clip's end is not read.

        features [B, T, F], lengths int64 [B] in real frames.
        """
        lengths = torch.as_tensor(lengths).cpu()  # counting steps there keeps a GPU from being waited for
        reported = padded_lengths(lengths)
        expected = int((reported if self.config.padding == "published" else lengths).max())
        if features.shape[0] != len(lengths) or features.shape[1] != expected:
            raise SlakitError(
                f"features of shape {tuple(features.shape)} do not fit {len(lengths)} clips with at most "
                f"{int(lengths.max())} frames; encode() gives [{len(lengths)}, {expected}, {self.encoder.feature_dim}]"
            )
        padded = features if self.config.padding == "published" else replicate_padding(features, lengths.tolist())
        conv, sequence, steps = self.sequence(padded, reported)
        frame, frame_lengths = self._auxiliary(padded, features, lengths, reported, steps)
        lift = self.sequence.conv.lift_terms()
        pathways = {}
        for name, (first, end) in self.encoder.pathways.items() if self.training else ():
            pathways[name] = self.pathways[name](padded[..., first:end], reported)[:2]
        return Logits(sequence, conv, frame, steps, frame_lengths, lift, pathways)

    def _auxiliary(self, padded, features, lengths, reported, steps) -> tuple[torch.Tensor | None, torch.Tensor]:
        choice = self.config.auxiliary_lengths
        counted = {"padded": reported, "frames": lengths, "pooled": steps}[choice]
        if self.auxiliary is None:
            return None, counted
        if choice == "frames":
            return self.auxiliary(padded[:, LEFT : LEFT + int(lengths.max())]), counted
        return self.auxiliary(pool_by_four(padded) if choice == "pooled" else padded), counted

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """Everything that training changes: trainable parameters, and the statistics of batch norms."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        buffers = {name for name, _ in self.named_buffers() if name.endswith(STATISTICS)}
        return {name: value for name, value in self.state_dict().items() if name in trained | buffers}


def create_model(
    method: str = "sla-lora",
    glosses: Vocabulary | Sequence[str] = (),
    backbone: str | None = None,
    pretrained: str | Path | None = "default",
    seed: int = 0,
    **options: Any,
) -> Recognizer:
    """A recognizer, ready to train.

    method: "frozen", "partial", "full", "sla-lora", "sla-adapter", "adaptsign", which stand on a ViT tower; "vac",
    "vac-smkd", "tlp", "sen", "corrnet", "corrnet+", "slowfastsign", which have a network of their own.
    glosses: a corpus' vocabulary.
    backbone, pretrained: see load_backbone(); None is ViT-B-16, or the method's own network. "default" is "openai", for
    "tiny-clip" and FLAVA their own weights, for networks what they are published with: "imagenet", or a file; the
    small one of slakit for pictures of 84 pixels is "tiny-resnet" (width=16).
    seed: of everything that starts at random. options: any field of ModelConfig (normalize="clip", padding=…,
    auxiliary_head=False, …) or of the method's own options (rank=8, width=384, …).
    Raises ConfigError for an unknown name or a wrong value, with the nearest possibility.
    """
    named = {"backbone": backbone and str(backbone), "pretrained": pretrained and str(pretrained), "seed": seed}
    given = {name: value for name, value in named.items() if name != "backbone" or value is not None}
    return build_model(model_config(with_method(ModelConfig(), method), {**given, **options}), glosses)


def model_config(start: ModelConfig, changes: Mapping[str, Any], where: str = "") -> ModelConfig:
    """`start` with changes, all of it checked: the one place that parts a model's settings from its method's.

    changes: fields of ModelConfig, and options of the method by their own names ("rank") or below "options", as a
    mapping or dotted ("options.rank"). "dropout", which both may have, is ModelConfig's. Another method begins with its
    own defaults. where: what the sentence of a ConfigError puts before the names.
    """
    method = changes.get("method", start.method)
    options, inner = find_method(method).options, changes.get("options")
    shared, own = ({item.name for item in fields(kind)} for kind in (ModelConfig, options))
    if isinstance(inner, Mapping):
        nested = {f"options.{name}": value for name, value in inner.items()}
        changes = nested | {key: value for key, value in changes.items() if key != "options"}
    common, special = {}, {}
    for key, value in changes.items():
        name = key.removeprefix("options.")
        if key not in shared and name not in own:
            path = f"{where}.{key}" if where else key
            raise ConfigError(f"{method} has no option {path!r}{nearest(name, (shared | own) - {'options'})}")
        (common if key in shared else special)[key if key in shared else name] = value
    start = with_method(start, method)
    before = start.options
    checked = to_dict(override(from_dict(options, before), special, where))
    changed = override(start, common, where)
    return replace(changed, options={**before, **{name: checked[name] for name in special}})


def build_model(config: ModelConfig, glosses: Vocabulary | Sequence[str]) -> Recognizer:
    """A recognizer from a whole ModelConfig (a preset's, a checkpoint's). Same seed, same weights."""
    vocabulary = glosses if isinstance(glosses, Vocabulary) else Vocabulary(glosses)
    if len(vocabulary) < 2:
        raise ConfigError("a model needs glosses; give corpus.glosses, or a list of gloss names")
    method = find_method(config.method)
    if config.pretrained == "default":
        usual = {TINY_CLIP: TINY_CLIP, FLAVA: FLAVA_TAG}.get(config.backbone, "openai")
        config = replace(config, pretrained=method.defaults.get("pretrained", usual))
    base = base_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        encoder, checked = build_encoder(config.method, base, config.options)
        auxiliary = method.auxiliary_head if config.auxiliary_head is None else config.auxiliary_head
        config = replace(config, auxiliary_head=auxiliary, options=to_dict(checked))
        torch.manual_seed(config.seed + 1)  # the heads start alike whatever the method before them drew
        return Recognizer(config, vocabulary, encoder)
