"""Lean arithmetic: faster products and activations that keep little, each equal to the plain form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_models import frames, stir, tiny

from slakit.models import products

LENGTHS = torch.tensor([5, 3])


def gradients(model: torch.nn.Module, count: int = 8) -> dict[str, torch.Tensor]:
    """The gradient of every trainable parameter, for a loss that weighs all outputs differently."""
    torch.manual_seed(0)
    model.zero_grad(set_to_none=True)
    features = model.encode(frames(count), LENGTHS)
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None} | {"out": features}


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (1, 5), (0, 5)])
def test_linear_equals_pytorchs(shape):
    x, weight, bias = torch.randn(shape), torch.randn(4, 5), torch.randn(4)
    torch.testing.assert_close(products.linear(x, weight, bias), F.linear(x, weight, bias))
    torch.testing.assert_close(products.linear(x, weight), F.linear(x, weight))
    torch.testing.assert_close(products.linear(F.linear(x, weight), weight.T), F.linear(x, weight) @ weight)
    torch.testing.assert_close(products.linear(x.double(), weight.double()), F.linear(x.double(), weight.double()))


def test_a_model_is_the_same_without_onednn(monkeypatch):
    model = tiny("sla-lora", rank=4)
    stir(model)
    fast = gradients(model)
    monkeypatch.setattr(products, "_ONEDNN", None)
    plain = gradients(model)
    assert fast.keys() == plain.keys()
    for name in fast:
        torch.testing.assert_close(fast[name], plain[name], rtol=1e-5, atol=1e-5 * float(plain[name].abs().max()))
