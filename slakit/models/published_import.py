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
from slakit.models.published_files import HEADS, check_classes, read_gloss_dict, read_state_dict
from slakit.models.recognizer import Recognizer, build_model
from slakit.models.towers import resnet, slowfast_weights
from slakit.models.towers.resnet import fill
from slakit.models.towers.weights import renamed
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
# Torchvision's names and those of what is added to ResNet-18, behind the stage that a number names -> ours, in order.
NETWORK = (
    *resnet.NAMES,
    (r"^tower\.corr(\d)", lambda m: f"blocks.{2 * int(m[1]) - 1}.after.0"),
    (r"^tower\.temporal_weight(\d)\.alpha", lambda m: f"blocks.{2 * int(m[1]) - 1}.after.1.scale"),
    (r"^tower\.temporal_weight(\d)", lambda m: f"blocks.{2 * int(m[1]) - 1}.after.1.gate"),
    (r"after\.0\.weights$", "after.0.gate.weights"),
    (r"after\.0\.weights2", "after.0.weights"),
    (r"after\.0\.weights4", "after.0.summary"),
    (r"after\.0\.down_conv2", "after.0.value"),
    (r"after\.0\.(conv_back|down_conv)", r"after.0.gate.\1"),
    (r"spatial_aggregation(\d)", lambda m: f"gate.dilated.{int(m[1]) - 1}"),
    (r"attpool\.", ""),
    (r"([st])sem\.", lambda m: f"emphasis.{'spatial' if m[1] == 's' else 'temporal'}."),
    (r"(spatial|temporal)\.alpha", r"\1_scale"),
    (r"conv_transform|down_conv", "down"),
    ("conv_back", "up"),
    ("conv_enhance", "dilated"),
)
UNUSED = re.compile(r"\.mlp\.|\.weights3$")  # CorrNet+ stores them and never reads them


def load_published_checkpoint(
    path: str | Path,
    gloss_dict: str | Path | Mapping[str, Sequence[int]],
    num_heads: int | None = None,
    image_size: int | None = None,
) -> Recognizer:
    """A recognizer with the weights of a released checkpoint, in evaluation mode; save_checkpoint() writes it as ours.

    Known are VAC, VAC-SMKD (AdaBrowse's stage one too), TLP, SEN, CorrNet, CorrNet+, SlowFastSign and AdaptSign. path:
    the `.pt` file of their training code; nothing that its pickle asks for is executed. gloss_dict: the
    `gloss_dict.npy` beside it, or the dictionary. num_heads: see load_adaptsign_checkpoint(). image_size: what a
    convolutional network was trained at, which its tensors do not say, such as AdaBrowse's 160 or 96; None: 224. All
    other sizes are read from the tensors. `about` holds the published evaluation (frames of 256 pixels cut to 224, beam
    search with equal neighbours merged, float32, batches of two in the order of the annotation), which evaluate()
    follows.
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
        model = build_model(replace(config, image_size=image_size), vocabulary)
        expected = model.state_dict()
        fill(model, {name: shaped(value, expected.get(name)) for name, value in ours.items()}, path)
    sizes = AugmentConfig(image_size=round(8 * model.image_size / 7), crop_size=model.image_size)
    protocol = TrainConfig(augment=sizes, decode=DecodeConfig(collapse_repeats=True), precision="float32")
    train = {name: to_dict(protocol)[name] for name in ("augment", "decode", "precision", "batch_size")}
    model.about = {"train": train, "pictures": {"aspect": "stretch"}, "trained_on": f"published as {path.name}"}
    return model.eval()


def described(
    system: str, state: Mapping[str, torch.Tensor], path: Path
) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    """(the setting that the tensors speak of, the tensors under our names)."""
    network = {key.removeprefix("conv2d."): value for key, value in state.items() if key.startswith("conv2d.")}
    heads = {renamed(key, HEADS): value for key, value in state.items() if not key.startswith("conv2d.")}
    if system == "corrnet":  # which counts its modules; CorrNet+ counts the stages
        network = {renamed(key, [(r"^corr\d", lambda m: f"corr{int(m[0][4:]) + 1}")]): v for key, v in network.items()}
    stages = sorted({int(m[1]) for key in network if (m := re.match(r"corr(\d)\.", key))})
    own, linear = [key for key in heads if ".conv_classifier." in key], "sequence.classifier.bias" in heads
    try:
        if stages:
            scales = zip(stages, network.pop("alpha"), strict=True)
            network |= {f"corr{stage}.alpha": scale.view(1) for stage, scale in scales}
        if system == "slowfastsign":
            options: dict[str, Any] = {"width": network["s1.pathway0_stem.conv.weight"].shape[0]}
            blocks = {m[1] for key in network if (m := re.match(r"s(\d\.pathway0_res\d+)\.", key))}
            options["depths"] = [sum(block.startswith(stage) for block in blocks) for stage in "2345"]
        else:
            options = {"width": network["conv1.weight"].shape[0]} | ({"stages": stages} if system == "corrnet" else {})
        shared = all(torch.equal(heads[key], heads[key.replace(".conv_", ".")]) for key in own)
        hidden_size = heads["sequence.classifier.weight"].shape[linear]
    except (LookupError, ValueError) as error:
        raise CheckpointError(f"{path} looks like {system} but lacks a part of it: {error}") from error
    if system == "vac" and shared and not linear:
        system = "vac-smkd"
    lift = heads.get("sequence.conv.3.predictor.0.weight")
    config = replace(
        with_method(ModelConfig(), system), pretrained=None, hidden_size=hidden_size, options=options,
        classifier="linear" if linear else "norm",
        lstm_layers=sum(bool(re.fullmatch(r"sequence\.lstm\.weight_hh_l\d+", key)) for key in heads),
        share_classifier=shared, pooling="max" if lift is None else "lift",
        lift_kernel=3 if lift is None else lift.shape[-1],
    )  # fmt: skip
    names = slowfast_weights.NAMES if system == "slowfastsign" else NETWORK
    ours = {f"encoder.backbone.{renamed(key, names)}": value for key, value in network.items()}
    return config, ours | {key: value for key, value in heads.items() if not (shared and key in own)}


def shaped(value: torch.Tensor, like: torch.Tensor | None) -> torch.Tensor:
    """A kernel of one frame, stored with that axis, as ours without it; anything else as it is, in float32."""
    value = value.float() if value.is_floating_point() else value
    if like is None or value.shape == like.shape or value.squeeze().shape != like.squeeze().shape:
        return value
    return value.reshape(like.shape)
