"""Typed settings of a run. presets.py holds the named ones: one preset = one published setting.

Published defaults everywhere (CLIP-SLA section 4 "Training Details"; AdaptSign section 4.1 and its released code).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

from slakit.errors import ConfigError
from slakit.strict import at_least, from_dict, override, to_dict

__all__ = [
    "AugmentConfig",
    "DecodeConfig",
    "LossWeights",
    "ModelConfig",
    "RunConfig",
    "TrainConfig",
    "from_dict",
    "from_json",
    "override",
    "to_dict",
    "to_json",
]


@dataclass(frozen=True)
class ModelConfig:
    """A recognizer. `options` are the method's own settings (its Options dataclass names and checks them).

    pretrained: an open_clip tag, a file, None (random from `seed`), or "default": "openai", for "tiny-clip" its own.
    image_size: pixels; None keeps the backbone's own.
    normalize: "published" x/127.5 - 1, "clip" CLIP's mean and deviation. Both papers' lineage uses the first.
    padding: "features" replicates the first and last frame's features (no padded frame meets the encoder);
        "published" replicates frames before the encoder, as the released code does.
    auxiliary_head: the CTC head on frame features (CLIP-SLA section 3); None: as the method's paper has it.
    auxiliary_lengths: its time axis. "padded": all padded frames, length ceil(T/4)*4+12, the batch's reported
        lengths; "frames": the T real frames; "pooled": averaged by fours, ceil(T/4).
    hidden_size, lstm_layers, dropout: TConv channels = BiLSTM output, its layers, dropout between them.
    recompute: activation checkpointing in every trained block, less memory for more time: "mlp" computes its MLP again
        in the backward pass, "block" all of it. True and False, as older files have them, are "block" and "none".
    """

    method: str = "sla-lora"
    backbone: str = "ViT-B-16"
    pretrained: str | None = "default"
    image_size: int | None = None
    seed: int = 0
    normalize: Literal["published", "clip"] = "published"
    padding: Literal["features", "published"] = "features"
    auxiliary_head: bool | None = None
    auxiliary_lengths: Literal["padded", "frames", "pooled"] = "padded"
    hidden_size: int = 1024
    lstm_layers: int = 2
    dropout: float = 0.3
    recompute: Literal["none", "mlp", "block"] | bool = "none"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.recompute, bool):
            object.__setattr__(self, "recompute", "block" if self.recompute else "none")


@dataclass(frozen=True)
class AugmentConfig:
    """Frames to image_size x image_size, one random crop and flip a clip, random temporal sampling (±20 %)."""

    image_size: int = 256
    crop_size: int = 224
    flip: float = 0.5
    temporal_scale: float | None = 0.2
    min_frames: int = 32
    max_frames: int = 230


@dataclass(frozen=True)
class DecodeConfig:
    """Prefix beam search over the sequence head.

    collapse_repeats: merge equal neighbours once more after CTC, as the published repositories do (on in the presets of
    the papers). A perfect model then misses every gloss that is signed twice in a row; its WER, dev / test in percent:
    Phoenix-2014 0.09 / 0.15, Phoenix-2014-T 0.03 / 0.12, CSL-Daily 1.54 / 1.67.
    """

    beam_width: int = 10
    top_tokens: int = 40
    collapse_repeats: bool = False


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss terms. AdaptSign's and CorrNet's code has 25 for the distillation, VAC's default is 10."""

    sequence: float = 1.0
    conv: float = 1.0
    distillation: float = 25.0
    clip: float = 1.0


@dataclass(frozen=True)
class TrainConfig:
    """Optimiser, schedule and data order of a training run.

    milestones: epochs (counted from 0) after which the rate is multiplied by `gamma`; schedule "cosine" ignores them.
    head_learning_rate: for sequence model and heads; None: the same as `learning_rate`.
    warm_start_epochs: epochs of the sequence model alone on cached features of the untouched encoder, before `epochs`.
    warm_start_views: how many differently cropped and flipped versions of each clip are cached for them.
    precision: "auto" is bfloat16 on a GPU of compute capability 8 and above, float16 below, float32 on a CPU.
    accumulate: batches per optimiser step. clip_norm: 0 for none. max_bad_clips: clips with a loss or gradient that is
    not finite that an epoch may skip. max_frames_per_batch: a batch is made smaller than `batch_size` beyond it.
    length_buckets: clips of about the same length share a batch; so many batches are sorted together, 0 for none.
    num_workers: processes that read clips; None: as many as fit the machine.
    checkpoint_seconds, checkpoint_steps: inside an epoch the state is saved so often (0: never); at its end always.
    compile: whether the encoder goes through torch.compile, which takes half a minute at the start; "auto": on a GPU
        of compute capability 8 and above, for towers 256 channels wide and more.
    deterministic: deterministic kernels where torch has them. track: "tensorboard", "wandb", "mlflow"; "auto" is
        TensorBoard where it is installed; () for history.jsonl alone.
    """

    epochs: int = 40
    batch_size: int = 2
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: float = 1e-4
    head_learning_rate: float | None = None
    weight_decay: float = 1e-4
    schedule: Literal["steps", "cosine", "constant"] = "steps"
    milestones: tuple[int, ...] = (20, 30)
    gamma: float = 0.2
    warm_start_epochs: int = 0
    warm_start_learning_rate: float | None = None
    warm_start_batch_size: int | None = None
    warm_start_views: int = 2
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    accumulate: int = 1
    clip_norm: float = 0.0
    max_bad_clips: int = 10
    max_frames_per_batch: int | None = None
    length_buckets: int = 0
    evaluate_every: int = 1
    checkpoint_seconds: float = 300.0
    checkpoint_steps: int = 0
    compile: Literal["auto"] | bool = "auto"
    deterministic: bool = False
    track: tuple[str, ...] = ("auto",)
    seed: int = 0
    num_workers: int | None = 0
    keep_in_memory: bool = False
    distillation_temperature: float = 8.0
    loss_weights: LossWeights = field(default_factory=LossWeights)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        for least, names in _LEAST.items():
            at_least(least, **{name: getattr(self, name) for name in names.split()})
        for name in ("learning_rate", "head_learning_rate", "warm_start_learning_rate"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name}={value}; it is more than 0 (published: 1e-4)")


_LEAST = {
    1: "batch_size accumulate evaluate_every warm_start_batch_size warm_start_views max_frames_per_batch",
    0: "epochs warm_start_epochs weight_decay gamma clip_norm max_bad_clips length_buckets num_workers "
    "checkpoint_seconds checkpoint_steps",
}


@dataclass(frozen=True)
class RunConfig:
    """A whole setting: corpus, model, training (with augmentation and decoding), and what the paper reports for it.

    root: the corpus' folder, None for its usual place. corpus_options: what load_corpus takes besides, for instance
    {"prepared": folder} or {"setup": "US"}. out_dir: where a run is kept.
    """

    name: str = ""
    corpus: str = "phoenix2014"
    root: str | None = None
    corpus_options: dict[str, Any] = field(default_factory=dict)
    out_dir: str = "runs/default"
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    published_wer: tuple[float, ...] = ()
    note: str = ""

    def model_options(self) -> dict[str, Any]:
        """The model's settings as keyword arguments of create_model()."""
        options = to_dict(self.model)
        own = options.pop("options")
        return {**options, **own}

    def __str__(self) -> str:
        wer = f"  (published WER dev/test: {' / '.join(map(str, self.published_wer))} %)" if self.published_wer else ""
        return "\n".join([f"{self.name} on {self.corpus}{wer}", *([self.note] if self.note else []), *_lines(self)])


def _lines(settings: Any, indent: str = "  ") -> list[str]:
    lines = []
    for item in fields(settings):
        value = getattr(settings, item.name)
        if isinstance(settings, RunConfig) and not is_dataclass(value):
            continue
        if is_dataclass(value):
            lines += [f"{indent}{item.name}:", *_lines(value, indent + "  ")]
        elif isinstance(value, dict):
            lines += [f"{indent}{item.name}:", *(f"{indent}  {key}: {inner}" for key, inner in value.items())]
        else:
            lines.append(f"{indent}{item.name}: {value}")
    return lines


def to_json(settings: Any) -> str:
    """The settings as indented JSON."""
    return json.dumps(to_dict(settings), indent=1, ensure_ascii=False)


def from_json(kind: type, text: str) -> Any:
    """The inverse of to_json(), strict about names and types; ConfigError where the text is no JSON."""
    try:
        return from_dict(kind, json.loads(text))
    except json.JSONDecodeError as error:
        raise ConfigError(f"the {kind.__name__} is no JSON: {error}") from None
