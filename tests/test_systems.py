"""The systems that the papers compare with, against numbers of their public code, and what else must hold for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import golden

from slakit.models import load_published_checkpoint

FILES = {
    "vac": "vac", "vac_smkd": "vac-smkd", "tlp": "tlp", "sen": "sen", "corrnet": "corrnet",
    "corrnet_csldaily": "corrnet", "corrnet_plus": "corrnet+", "slowfast": "slowfastsign",
}  # fmt: skip
TERMS = {"SeqCTC": "sequence", "ConvCTC": "conv", "Dist": "distillation", "Cu": "lift_update", "Cp": "lift_predict"}
TERMS |= {"Slow": "slow", "Fast": "fast"}
LENGTHS = torch.tensor([22, 17])
GLOSSES = {f"G{i}": [i, 1] for i in range(1, 13)}


def published(name: str, folder: Path):
    """(the model of a golden file, float64, imported through a file as the training code writes it; its numbers)."""
    numbers = golden(f"systems/{name}")
    state = {key.removeprefix("state."): value for key, value in numbers.items() if key.startswith("state.")}
    torch.save({"epoch": 3, "model_state_dict": {k: v.float() for k, v in state.items()}}, folder / f"{name}.pt")
    return load_published_checkpoint(folder / f"{name}.pt", GLOSSES).double(), numbers


def frames() -> torch.Tensor:
    return golden("systems/inputs")["frames"]


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", FILES)
def test_features_and_logits_equal_the_public_code(name, tmp_path):
    model, numbers = published(name, tmp_path)
    assert model.config.method == FILES[name]
    for part, pictures, lengths in (("batch", frames(), LENGTHS), ("single", frames()[22:], LENGTHS[1:])):
        with torch.no_grad():
            features = model.encode(pictures, lengths)
            logits = model.recognize_features(features, lengths)
        close(features, numbers[f"out.{part}.features"], 1e-6)
        close(logits.conv.transpose(0, 1), numbers[f"out.{part}.conv_logits"], 1e-6)
        close(logits.sequence.transpose(0, 1), numbers[f"out.{part}.sequence_logits"], 1e-6)
        assert logits.lengths.tolist() == numbers[f"out.{part}.steps"].tolist()
