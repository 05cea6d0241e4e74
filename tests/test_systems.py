"""The systems that the papers compare with, against numbers of their public code, and what else must hold for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import golden

from slakit.models import load_published_checkpoint
from slakit.models.published_import import UNUSED, described
from slakit.training.losses import recognition_loss
from slakit.training.presets import preset

FILES = {
    "vac": "vac", "vac_smkd": "vac-smkd", "tlp": "tlp", "sen": "sen", "corrnet": "corrnet",
    "corrnet_csldaily": "corrnet", "corrnet_plus": "corrnet+", "slowfast": "slowfastsign",
}  # fmt: skip
HEAVY = ("sen", "corrnet", "slowfast")  # the others cover every module but SlowFast's
TERMS = {"SeqCTC": "sequence", "ConvCTC": "conv", "Dist": "distillation", "Cu": "lift_update", "Cp": "lift_predict"}
TERMS |= {"Slow": "slow", "Fast": "fast"}
MAIN = "out.train.sequence_logits.main"
LENGTHS = torch.tensor([22, 17])
GLOSSES = {f"G{i}": [i, 1] for i in range(1, 13)}


def some(*heavy: str) -> list:
    """The golden files, the heavy ones in thorough tests alone."""
    return [pytest.param(name, marks=pytest.mark.thorough if name in heavy else ()) for name in FILES]


def state_of(numbers: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {key.removeprefix("state."): value for key, value in numbers.items() if key.startswith("state.")}
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def published(name: str, folder: Path):
    """(the model of a golden file, imported through a file as the training code writes it; its numbers)."""
    numbers = golden(f"systems/{name}")
    torch.save({"epoch": 3, "model_state_dict": state_of(numbers)}, folder / f"{name}.pt")
    return load_published_checkpoint(folder / f"{name}.pt", GLOSSES), numbers


def frames() -> torch.Tensor:
    return golden("systems/inputs")["frames"]


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", some(*HEAVY))
def test_features_and_logits_equal_the_public_code(name, tmp_path):
    model, numbers = published(name, tmp_path)
    assert model.config.method == FILES[name]
    for part, pictures, lengths in (("batch", frames(), LENGTHS), ("single", frames()[22:], LENGTHS[1:])):
        with torch.no_grad():
            features = model.encode(pictures, lengths)
            logits = model.recognize_features(features, lengths)
        close(features, numbers[f"out.{part}.features"], 1e-5)
        close(logits.conv.transpose(0, 1), numbers[f"out.{part}.conv_logits"], 1e-5)
        close(logits.sequence.transpose(0, 1), numbers[f"out.{part}.sequence_logits"], 1e-5)
        assert logits.lengths.tolist() == numbers[f"out.{part}.steps"].tolist()


@pytest.mark.parametrize("name", some(*(name for name in FILES if name != "tlp")))
def test_losses_gradients_and_statistics_equal_the_public_code(name, tmp_path):
    """One training pass without dropout, in float64, with the weights that the system's preset has."""
    model, numbers = published(name, tmp_path)
    model.double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.LSTM):
            module.dropout = module.p = 0.0
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs = golden("systems/inputs")
    weights = preset(f"{FILES[name]}/phoenix2014").train.loss_weights
    if name == "vac_smkd":  # the recorded run has the distillation too
        weights = preset("vac/phoenix2014").train.loss_weights
    logits = model(frames(), LENGTHS)
    total, terms = recognition_loss(logits, inputs["labels"] % 12 + 1, inputs["label_lengths"], weights)
    close(logits.sequence.transpose(0, 1), numbers.get("out.train.sequence_logits", numbers.get(MAIN)), 1e-4)
    for key, term in TERMS.items():
        if f"out.train.loss.{key}" in numbers:
            close(terms[term].detach().view(1), numbers[f"out.train.loss.{key}"], 1e-4)
    close(total.detach().view(1), numbers["out.train.loss.total"], 1e-4)
    total.backward()
    # Names: which of our tensors is which of theirs.
    state = state_of(numbers)
    _, ours = described(FILES[name], {key: value for key, value in state.items() if not UNUSED.search(key)}, tmp_path)
    parameters, buffers, counted = dict(model.named_parameters()), model.state_dict(), 0
    for key, expected in numbers.items():
        kind, _, theirs = key.removeprefix("out.train.").partition(".")
        if not key.startswith(("out.train.gradient_norm.", "out.train.moved_by.")) or UNUSED.search(theirs):
            continue
        names = [mine for mine, value in ours.items() if value is state[theirs]]
        if theirs == "conv2d.alpha":
            names = [mine for mine in ours if mine.endswith(".after.0.alpha")]
        if theirs.startswith("conv1d.fc.") and not names:
            continue  # shared with the classifier
        assert names, theirs
        if kind == "gradient_norm":
            found = torch.stack([parameters[mine].grad.norm() for mine in names]).norm()
        else:
            found = (buffers[names[0]] - before[names[0]]).norm()
        assert abs(found - expected) <= 1e-5 * expected + 1e-9, theirs
        counted += 1
    assert counted > 100
