"""load_published_checkpoint(): the released checkpoints of the compared systems, recognised by their keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from slakit.config import AugmentConfig, DecodeConfig, ModelConfig, TrainConfig, to_dict
from slakit.models.adaptsign_import import load_adaptsign_checkpoint
from slakit.models.methods import with_method
from slakit.models.published_files import check_classes, read_gloss_dict, read_state_dict
from slakit.models.recognizer import Recognizer, build_model
from slakit.models.towers.resnet import fill, resnet_names
from slakit.models.towers.slowfast_weights import slowfast_names
from slakit.records import CheckpointError

# A part of a key -> the system that has it, the most particular one first.
SYSTEMS = (
    ("conv2d.visual.", "adaptsign"),
    ("conv2d.s1.pathway0_stem.", "slowfastsign"),
    (".attpool.", "corrnet+"),
    (".spatial_aggregation1.", "corrnet"),
    (".ssem.", "sen"),
    ("temporal_conv.1.predictor.", "tlp"),
    ("conv2d.conv1.weight", "vac"),
)
# Released names of what is added to ResNet-18 -> ours.
GATE = ((r"conv_transform|down_conv\b", "down"), (r"conv_back", "up"), (r"conv_enhance", "dilated"))
SEN = (
    (r"ssem\.alpha", "emphasis.spatial_scale"),
    (r"tsem\.alpha", "emphasis.temporal_scale"),
    (r"ssem\.", "emphasis.spatial."),
    (r"tsem\.", "emphasis.temporal."),
    *GATE,
)
CORRELATION = (
    (r"weights2$", "theirs"),
    (r"weights4$", "summary"),
    (r"weights$", "gate.weights"),
    (r"theirs$", "weights"),
    (r"spatial_aggregation(\d)", lambda m: f"gate.dilated.{int(m[1]) - 1}"),
    (r"down_conv2", "value"),
    (r"down_conv\b", "gate.down"),
    (r"conv_back", "gate.up"),
    (r"attpool\.", ""),
)
UNUSED = re.compile(r"\.mlp\.|\.weights3$")  # CorrNet+ stores them and never reads them


def load_published_checkpoint(
    path: str | Path, gloss_dict: str | Path | Mapping[str, Sequence[int]], num_heads: int | None = None
) -> Recognizer:
    """A recognizer with the weights of a released checkpoint, in evaluation mode; save_checkpoint() writes it as ours.

    Known are VAC, VAC-SMKD (AdaBrowse's stage one too), TLP, SEN, CorrNet, CorrNet+, SlowFastSign and AdaptSign. path:
    the `.pt` file of their training code; nothing that its pickle asks for is executed. gloss_dict: the
    `gloss_dict.npy` beside it, or the dictionary. num_heads: see load_adaptsign_checkpoint(). All sizes are read from
    the tensors. `about` holds the published evaluation (frames of 256 pixels cut to 224, beam search with equal
    neighbours merged, float32, batches of two in the order of the annotation), which evaluate() follows.
    Raises CheckpointError for other files, and for a dictionary of another size: it names the corpus it looks like.
    """
    path = Path(path)
    state = read_state_dict(path)
    system = next((name for part, name in SYSTEMS if any(part in key for key in state)), None)
    if system is None:
        known = ", ".join(name for _, name in SYSTEMS)
        raise CheckpointError(f"{path} is a checkpoint of none of {known}; its first key is {next(iter(state))!r}")
    if system == "adaptsign":
        model = load_adaptsign_checkpoint(path, gloss_dict, num_heads)
    else:
        vocabulary = read_gloss_dict(gloss_dict)
        config, ours = described(system, {key: value for key, value in state.items() if not UNUSED.search(key)}, path)
        classes = ours["sequence.classifier.weight"]
        check_classes(classes.shape[0 if config.classifier == "linear" else 1], vocabulary, path)
        model = build_model(config, vocabulary)
        expected = model.state_dict()
        fill(model, {name: shaped(value, expected.get(name)) for name, value in ours.items()}, path)
    side = 8 * model.image_size // 7
    protocol = TrainConfig(
        augment=AugmentConfig(image_size=side, crop_size=model.image_size),
        decode=DecodeConfig(collapse_repeats=True), precision="float32",
    )  # fmt: skip
    kept = ("augment", "decode", "precision", "batch_size")
    model.about = {"train": {name: to_dict(protocol)[name] for name in kept}, "trained_on": f"published as {path.name}"}
    return model.eval()


def described(
    system: str, state: Mapping[str, torch.Tensor], path: Path
) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    """(the setting that the tensors speak of, the tensors under our names)."""
    try:
        encoder, options = _encoder(system, state)
        heads, classifiers = _heads(state)
        hidden_size = heads["sequence.conv.0.weight"].shape[0]
        lift = heads.get("sequence.conv.3.predictor.0.weight")
        layers = sum(bool(re.fullmatch(r"sequence\.lstm\.weight_hh_l\d+", key)) for key in heads)
    except (LookupError, ValueError) as error:
        raise CheckpointError(f"{path} looks like {system} but lacks a part of it: {error}") from error
    if system == "vac" and classifiers == {"classifier": "norm", "share_classifier": True}:
        system = "vac-smkd"
    pooling = {"pooling": "max"} if lift is None else {"pooling": "lift", "lift_kernel": lift.shape[-1]}
    config = replace(
        with_method(ModelConfig(), system), pretrained=None, hidden_size=hidden_size, lstm_layers=layers,
        options=options, **classifiers, **pooling,
    )  # fmt: skip
    return config, {**encoder, **heads}


def _encoder(system: str, state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The network's tensors under our names, and the method's options."""
    network = {key.removeprefix("conv2d."): value for key, value in state.items() if key.startswith("conv2d.")}
    if system == "slowfastsign":
        blocks = {tuple(map(int, m.groups())) for key in network if (m := re.match(r"s(\d)\.pathway0_res(\d+)\.", key))}
        depths = [sum(stage == number for stage, _ in blocks) for number in range(2, 6)]
        options = {"width": network["s1.pathway0_stem.conv.weight"].shape[0], "depths": depths}
        return {f"encoder.backbone.{key}": value for key, value in slowfast_names(network).items()}, options
    alpha, added, plain = network.pop("alpha", torch.empty(0)), {}, {}
    numbers = sorted({int(m[1]) for key in network if (m := re.match(r"corr(\d)\.", key))})
    shift = 0 if system == "corrnet+" else 1  # CorrNet counts its modules, CorrNet+ the stages
    for number, scale in zip(numbers, alpha, strict=True):
        added[f"blocks.{2 * (number + shift) - 1}.after.0.alpha"] = scale.view(1)
    for key, value in network.items():
        if m := re.match(r"corr(\d)\.", key):
            added[f"blocks.{2 * (int(m[1]) + shift) - 1}.after.0.{_renamed(key[m.end() :], CORRELATION)}"] = value
        elif m := re.match(r"temporal_weight(\d)\.", key):
            inner = key[m.end() :]
            name = "scale" if inner == "alpha" else f"gate.{_renamed(inner, GATE)}"
            added[f"blocks.{2 * int(m[1]) - 1}.after.1.{name}"] = value
        else:
            plain[_renamed(key, SEN)] = value
    options: dict[str, Any] = {"width": network["conv1.weight"].shape[0]}
    if system == "corrnet":
        options["stages"] = [number + shift for number in numbers]
    return {f"encoder.backbone.{key}": value for key, value in {**resnet_names(plain), **added}.items()}, options


def _heads(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The sequence models' tensors under our names, and which classifiers they have."""
    ours, lifting = {}, any(".predictor." in key for key in state)
    prefixes = {"": "sequence", "main_": "sequence", "slow_": "pathways.slow", "fast_": "pathways.fast"}
    numbered = {None: "sequence", "0": "sequence", "1": "pathways.slow", "2": "pathways.fast"}
    for key, value in state.items():
        if m := re.match(r"conv1d\.(main_|slow_|fast_|)temporal_conv\.", key):
            inner = _lifted(key[m.end() :]) if lifting else key[m.end() :]
            ours[f"{prefixes[m[1]]}.conv.{inner}"] = value
        elif m := re.match(r"temporal_model\.(?:(\d)\.)?rnn\.", key):
            ours[f"{numbered[m[1]]}.lstm.{key[m.end() :]}"] = value
        elif m := re.match(r"(classifier|conv1d\.fc)\.(?:(\d)\.)?(weight|bias)$", key):
            part = "classifier" if m[1] == "classifier" else "conv_classifier"
            ours[f"{numbered[m[2]]}.{part}.{m[3]}"] = value
    own = [key for key in ours if ".conv_classifier." in key]
    shared = all(torch.equal(ours[key], ours[key.replace(".conv_", ".")]) for key in own)
    for key in own if shared else ():
        del ours[key]
    kind = "linear" if "sequence.classifier.bias" in ours else "norm"
    return ours, {"classifier": kind, "share_classifier": shared}


def _lifted(inner: str) -> str:
    """Places of the nested module list with lift pooling -> those of one plain list."""
    place, rest = inner.split(".", 1)
    if place in "02":
        second, rest = rest.split(".", 1)
        return f"{2 * int(place) + int(second)}.{rest}"
    return f"{2 * int(place) + 1}.{rest.replace('insnorm', 'norm')}"


def _renamed(name: str, rules: tuple) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def shaped(value: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """A kernel of one frame, stored with that axis, as ours without it; anything else as it is, in float32."""
    value = value.float() if value.is_floating_point() else value
    if like is None or value.shape == like.shape or value.squeeze().shape != like.squeeze().shape:
        return value
    return value.reshape(like.shape)
