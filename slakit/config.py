"""Typed settings of a run. training/presets.py holds the named ones: one preset = one published setting.

Published defaults everywhere (CLIP-SLA section 4 "Training Details"; AdaptSign section 4.1 and its released code).
strict.py says how settings are checked and read; its functions can be had from here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import field, is_dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from slakit.records import ConfigError
from slakit.strict import (
    Even,
    NotNegative,
    Positive,
    Probability,
    Rate,
    Seed,
    TemporalScale,
    at_least,
    brief,
    check_plain,
    checked_dataclass,
    from_dict,
    from_json,
    nearest,
    override,
    parse_json,
    to_dict,
    to_json,
)  # fmt: skip

__all__ = [
    "IGNORED_BY_IDENTITY", "AugmentConfig", "DecodeConfig", "LossWeights", "ModelConfig", "NotNegative", "Positive",
    "RunConfig", "TrainConfig",
    "at_least", "brief", "check_plain", "checked_dataclass", "digest", "from_dict", "from_json", "nearest", "override",
    "parse_json", "to_dict", "to_json",
]  # fmt: skip

Pixels = Annotated[int, Field(ge=1, le=4096)]


@checked_dataclass
class ModelConfig:
    """A recognizer. `options` are the method's own settings (its Options dataclass names and checks them).

    pretrained: an open_clip tag, a file, None (random from `seed`), or "default": "openai", for "tiny-clip" its own.
    image_size: pixels; None keeps the backbone's own.
    normalize: "published" x/127.5 - 1, "clip" CLIP's mean and deviation, "kinetics" (x/255 - 0.45) / 0.225. Both
        papers' lineage uses the first, SlowFastSign the last.
    padding: "features" replicates the first and last frame's features (no padded frame meets the encoder);
        "published" replicates frames before the encoder, as the released code does.
    auxiliary_head: the CTC head on frame features (CLIP-SLA section 3); None: as the method's paper has it.
    auxiliary_lengths: its time axis. "padded": all padded frames, length ceil(T/4)*4+12, the batch's reported
        lengths; "frames": the T real frames; "pooled": averaged by fours, ceil(T/4).
    hidden_size, lstm_layers, dropout: TConv channels = BiLSTM output, its layers, dropout between them.
    classifier, share_classifier, pooling: of the sequence model, see SequenceModel: both papers have one normalised
        classifier for both heads and max pooling over time. lift_kernel: width of TLP's filters (its paper has 5).
    recompute: activation checkpointing in every trained block, less memory for more time: "mlp" computes its MLP again
        in the backward pass, "block" all of it.
    """

    method: str = "sla-lora"
    backbone: str = "ViT-B-16"
    pretrained: str | None = "default"
    image_size: Pixels | None = None
    seed: Seed = 0
    normalize: Literal["published", "clip", "kinetics"] = "published"
    padding: Literal["features", "published"] = "features"
    auxiliary_head: bool | None = None
    auxiliary_lengths: Literal["padded", "frames", "pooled"] = "padded"
    hidden_size: Even = 1024
    lstm_layers: Annotated[int, Field(ge=1, le=100)] = 2
    dropout: Probability = 0.3
    classifier: Literal["norm", "linear"] = "norm"
    share_classifier: bool = True
    pooling: Literal["max", "lift"] = "max"
    lift_kernel: Positive = 3
    recompute: Literal["none", "mlp", "block"] = "none"
    options: dict[str, Any] = field(default_factory=dict)


@checked_dataclass
class AugmentConfig:
    """Frames to image_size x image_size, one random crop and flip a clip, random temporal sampling (±20 %)."""

    image_size: Pixels = 256
    crop_size: Pixels = 224
    flip: Probability = 0.5
    temporal_scale: TemporalScale | None = 0.2
    min_frames: Positive = 32
    max_frames: Positive = 230

    def __post_init__(self) -> None:
        if self.min_frames > self.max_frames:
            raise ValueError(f"min_frames={self.min_frames}, max_frames={self.max_frames}: need 1 <= min <= max")


@checked_dataclass
class DecodeConfig:
    """Prefix beam search over the sequence head.

    collapse_repeats: merge equal neighbours once more after CTC, as the published repositories do (on in the presets of
    the papers). A perfect model then misses every gloss that is signed twice in a row; its WER, dev / test in percent:
    Phoenix-2014 0.09 / 0.15, Phoenix-2014-T 0.03 / 0.12, CSL-Daily 1.54 / 1.67.
    """

    beam_width: Annotated[int, Field(ge=1, le=10_000)] = 10
    top_tokens: Positive = 40
    collapse_repeats: bool = False


@checked_dataclass
class LossWeights:
    """Weights of the loss terms. AdaptSign's and CorrNet's code has 25 for the distillation, VAC's default is 10.

    lift_update, lift_predict: of models with pooling="lift" (TLP 0.001, CorrNet+ 0.0005). slow, fast: of the sums of
    the first three on SlowFastSign's two pathways alone (0.25).
    """

    sequence: Annotated[float, Field(ge=0)] = 1.0
    conv: Annotated[float, Field(ge=0)] = 1.0
    distillation: Annotated[float, Field(ge=0)] = 25.0
    clip: Annotated[float, Field(ge=0)] = 1.0
    lift_update: Annotated[float, Field(ge=0)] = 0.0
    lift_predict: Annotated[float, Field(ge=0)] = 0.0
    slow: Annotated[float, Field(ge=0)] = 0.0
    fast: Annotated[float, Field(ge=0)] = 0.0


@checked_dataclass
class TrainConfig:
    """Optimiser, schedule and data order of a training run.

    steps: of the optimiser, in the place of epochs, which are 0 then; rounded up to whole epochs.
    patience: steps without a lower WER on dev after which the run ends, once that is below 60 %; dev is scored four
        times in as many, in the place of evaluate_every. None: the run goes to its end.
    feature_views: 0: clips pass the encoder anew in every epoch. Above: the encoder keeps still, each clip's features
        are cached in so many versions, differently cropped and flipped, and the sequence model is trained alone.
    start_from: the weights to begin with. A checkpoint, as load_checkpoint() takes it: of the same method, backbone and
        sizes, or of a frozen encoder, whose sequence model is taken; its glosses may be others. A run is the same with
        the same weights, wherever they lie. Or settings of a run that comes first, in out_dir/start: those given here,
        all others as this run has them, with feature_views=1, until something else is said: {"epochs": 20}.
    milestones: epochs (counted from 0) after which the rate is multiplied by `gamma`; schedule "cosine" ignores them.
    head_learning_rate: for sequence model and heads; None: the same as `learning_rate`.
    precision: "auto" is bfloat16 on a GPU of compute capability 8 and above, float16 below, float32 on a CPU.
    accumulate: batches per optimiser step. clip_norm: 0 for none. max_bad_clips: clips that an epoch may go on without
    whose loss or gradient is not finite, and as many, of train or of dev, that cannot be read. max_frames_per_batch: a
    batch is made smaller than `batch_size` beyond it.
    length_buckets: clips of about the same length share a batch; so many batches are sorted together, 0 for none.
    num_workers: processes that read clips; None: as many as fit the machine.
    checkpoint_seconds, checkpoint_steps: inside an epoch the state is saved so often (0: never); at its end always.
    compile: whether the encoder goes through torch.compile, which takes half a minute at the start; "auto": on a GPU
        of compute capability 8 and above, for towers 256 channels wide and more.
    deterministic: deterministic kernels where torch has them. track: "tensorboard", "wandb", "mlflow"; "auto" is
        TensorBoard where it is installed; () for history.jsonl alone.
    """

    epochs: NotNegative = 40
    steps: Positive | None = None
    batch_size: Positive = 2
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    learning_rate: Rate = 1e-4
    head_learning_rate: Rate | None = None
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 1e-4
    schedule: Literal["steps", "cosine", "constant"] = "steps"
    milestones: tuple[int, ...] = (20, 30)
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.2
    patience: Positive | None = None
    feature_views: NotNegative = 0
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    accumulate: Positive = 1
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    max_bad_clips: NotNegative = 10
    max_frames_per_batch: Positive | None = None
    length_buckets: NotNegative = 0
    evaluate_every: Positive = 1
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 300.0
    checkpoint_steps: NotNegative = 0
    compile: Literal["auto"] | bool = "auto"
    deterministic: bool = False
    start_from: str | dict[str, Any] | None = None
    track: tuple[str, ...] = ("auto",)
    seed: Seed = 0
    num_workers: NotNegative | None = 0
    keep_in_memory: bool = False
    distillation_temperature: Annotated[float, Field(gt=0)] = 8.0
    loss_weights: LossWeights = field(default_factory=LossWeights)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if self.epochs and self.steps:
            raise ValueError(
                f"epochs={self.epochs} and steps={self.steps}: one of them says how long; for epochs set steps=null, "
                "for steps epochs=0"
            )
        if isinstance(self.start_from, dict):
            self.first_run()

    def first_run(self) -> TrainConfig:
        """The settings of the run that `start_from` describes."""
        assert isinstance(self.start_from, dict)
        usual = {"epochs": 0, "steps": None, "patience": None, "feature_views": 1, "start_from": None}
        first = override(self, usual | {"evaluate_every": 10**6} | self.start_from, "start_from")
        if not (first.epochs or first.steps) or not first.feature_views or first.start_from is not None:
            raise ConfigError(
                f"start_from={brief(self.start_from)} trains nothing first; give its epochs or steps, feature_views "
                "above 0, and no start of its own"
            )
        return first


# Fields of TrainConfig that change no weight, or its rounding at most: a run is the same run with others.
IGNORED_BY_IDENTITY = frozenset(
    {"num_workers", "keep_in_memory", "checkpoint_seconds", "checkpoint_steps", "track", "compile"}
)


@checked_dataclass
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
        lines = [f"{self.name} on {self.corpus}{wer}", *([self.note] if self.note else [])]
        return "\n".join(lines + _lines({"model": self.model, "train": self.train}))


def _lines(values: Mapping[str, Any], indent: str = "  ") -> list[str]:
    lines = []
    for name, value in values.items():
        inner = vars(value) if is_dataclass(value) else value
        lines += (
            [f"{indent}{name}:", *_lines(inner, indent + "  ")]
            if isinstance(inner, dict)
            else [f"{indent}{name}: {value}"]
        )
    return lines


def digest(content: Any, *, ensure_ascii: bool = True) -> str:
    """SHA-256 in 64 hex digits over `content` as JSON with sorted keys: what identifies a run; callers cut it."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=ensure_ascii)
    return hashlib.sha256(text.encode()).hexdigest()
