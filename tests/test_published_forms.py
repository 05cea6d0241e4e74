"""slakit's forms equal the papers' equations written out plainly, in float64, features and every gradient."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from tiny_models import stir, tiny

from slakit.models.packing import Clips

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from published import PublishedAdaptSign, PublishedFull


def results(call, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    module.zero_grad(set_to_none=True)
    features = call()
    (features * torch.linspace(-1, 1, features.numel(), dtype=torch.float64).view_as(features)).sum().backward()
    gradients = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    return gradients | {"features": features.detach()}


def compare(ours: dict[str, torch.Tensor], plain: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == plain.keys() and len(ours) > 10
    for name in plain:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-10, atol=1e-10, msg=name)


@pytest.mark.parametrize("recompute", [False, True])
def test_adaptsign_equals_its_equations(recompute):
    encoder = tiny("adaptsign", "tiny-quick").encoder.double()
    stir(encoder)
    images = torch.randn(5, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = PublishedAdaptSign(encoder, recompute)
    compare(results(lambda: encoder(images, Clips([5])), encoder), results(lambda: plain(images), encoder))


def test_full_training_equals_the_plain_tower():
    encoder = tiny("full", "tiny-quick").encoder.double()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = PublishedFull(encoder.backbone)
    compare(results(lambda: encoder(images, Clips([3])), encoder), results(lambda: plain(images), encoder))
