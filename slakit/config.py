"""Typed settings of a run. training/presets.py holds the named ones: one preset = one published setting.

Published defaults everywhere (CLIP-SLA section 4 "Training Details"; AdaptSign section 4.1 and its released code).
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from slakit.records import ConfigError

__all__ = [
    "IGNORED_BY_IDENTITY",
    "AugmentConfig",
    "DecodeConfig",
    "LossWeights",
    "ModelConfig",
    "RunConfig",
    "TrainConfig",
    "digest",
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


# Fields of TrainConfig that change no weight, or its rounding at most: a run is the same run with others.
IGNORED_BY_IDENTITY = frozenset(
    {"num_workers", "keep_in_memory", "checkpoint_seconds", "checkpoint_steps", "track", "compile"}
)


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


def digest(content: Any, *, ensure_ascii: bool = True) -> str:
    """SHA-256 in 64 hex digits over `content` as JSON with sorted keys: what identifies a run; callers cut it."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=ensure_ascii)
    return hashlib.sha256(text.encode()).hexdigest()


T = TypeVar("T")


def nearest(name: object, known: Iterable[str]) -> str:
    """The way out for an unknown name: "; did you mean 'x'?", or, where none is near, the names that are known."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name).lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    if close:
        return f"; did you mean {next(k for k in known if k.lower() == close[0])!r}?"
    listed = ", ".join(known[:40]) + (f", … ({len(known)} in all)" if len(known) > 40 else "")
    return f"; known: {listed}"


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `kind` with `values`; fields that are not named keep their defaults."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or kind.__name__} is {values!r}; expected a mapping of settings")
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    converted = {}
    for key, value in values.items():
        if key not in names:
            raise ConfigError(f"{_path(where, key)!r} is no setting of {kind.__name__}{nearest(key, names)}")
        converted[key] = convert(value, hints[key], _path(where, key))
    return kind(**converted)


def override(settings: T, changes: Mapping[str, Any], where: str = "") -> T:
    """A copy of the dataclass with some fields replaced; "decode.beam_width" reaches into a nested one.

    A dictionary is merged: its other keys stay.
    """
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        inner = getattr(settings, head, None)
        if rest and dataclasses.is_dataclass(inner):
            value = override(inner, {rest: value}, _path(where, head))
        elif dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            value = override(inner, value, _path(where, head))
        elif rest and isinstance(inner, Mapping):
            value = {**inner, rest: value}
        elif isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = {**inner, **value}
        elif rest:
            raise ConfigError(
                f"{_path(where, key)!r} is no setting of {type(settings).__name__}; {head!r} has no parts"
            )
        current = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        settings = from_dict(type(settings), {**current, head: value}, where)
    return settings


def at_least(least: int, **values: float | None) -> None:
    """ConfigError for a value below `least`; None stands for "not given" and passes."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{name}={value}; it is {least} or more")


def to_dict(settings: Any) -> dict[str, Any]:
    """The dataclass as plain dictionaries and lists that JSON can hold; from_dict() of it gives an equal one."""
    return _plain(dataclasses.asdict(settings))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _path(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def convert(value: Any, hint: Any, name: str) -> Any:
    """`value` as the type `hint` says, or a ConfigError that names `name`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return convert(value, choice, name)
            except ConfigError:
                words = typing.get_args(choice) if typing.get_origin(choice) is typing.Literal else ()
                if any(type(value) is type(word) for word in words):  # one of several words was meant
                    switch = ["true", "false"] if bool in arguments else []
                    raise _none_of(value, [*words, *switch], name) from None
        raise _wrong(value, hint, name)
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(a) for a in arguments}:
            return value
        raise _none_of(value, arguments, name)
    if hint is types.NoneType:
        if value is None:
            return None
    elif dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, name)
    elif origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        if isinstance(value, list | tuple):
            return tuple(convert(item, arguments[0], f"{name}[{i}]") for i, item in enumerate(value))
    elif origin is dict or hint is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise _wrong(value, hint, name)


def _none_of(value: Any, known: Iterable[Any], name: str) -> ConfigError:
    if value in ("true", "false") and value in known:
        return ConfigError(f"{name} is the word {value!r}; write {value} without quotation marks")
    return ConfigError(f"{name}={value!r} is not possible{nearest(value, [str(word) for word in known])}")


def _wrong(value: Any, hint: Any, name: str) -> ConfigError:
    expected = "None" if hint is types.NoneType else getattr(hint, "__name__", None)
    expected = str(hint).replace("typing.", "") if expected is None or typing.get_args(hint) else expected
    return ConfigError(f"{name}={value!r} is of type {type(value).__name__}; expected {expected}")
