"""Lean arithmetic: faster products and activations that keep little, each equal to the plain form."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_models import frames, stir, tiny

from slakit.models.exact import linear as products
from slakit.models.exact import recompute as lean
from slakit.models.exact.live_bytes import LiveBytes

LENGTHS = torch.tensor([5, 3])


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The gradient of every trainable parameter, for a loss that weighs all outputs differently."""
    model.zero_grad(set_to_none=True)
    features = model.encode(model.normalise(frames(8)), LENGTHS)
    (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None} | {"out": features}


@pytest.mark.parametrize("shape", [(7, 5), (2, 3, 5), (1, 5), (0, 5)])
def test_linear_equals_pytorchs(shape):
    x, weight, bias = torch.randn(shape), torch.randn(4, 5), torch.randn(4)
    torch.testing.assert_close(products.fast_linear(x, weight, bias), F.linear(x, weight, bias))
    torch.testing.assert_close(products.fast_linear(x, weight), F.linear(x, weight))
    torch.testing.assert_close(products.fast_linear(F.linear(x, weight), weight.T), F.linear(x, weight) @ weight)
    torch.testing.assert_close(products.fast_linear(x.double(), weight.double()), F.linear(x.double(), weight.double()))


def test_a_model_is_the_same_without_onednn(monkeypatch):
    model = tiny("sla-lora", rank=4)
    stir(model)
    fast = gradients(model)
    monkeypatch.setattr(products, "_ONEDNN", None)
    plain = gradients(model)
    assert fast.keys() == plain.keys()
    for name in fast:
        scale = float(plain[name].detach().abs().max())
        torch.testing.assert_close(fast[name], plain[name], rtol=1e-5, atol=1e-5 * scale)


def kept(model: torch.nn.Module) -> int:
    """Bytes that the encoder's forward pass leaves for the backward pass."""
    images = model.normalise(frames(8))
    live = LiveBytes()
    live.ignore(model)
    with live:
        features = model.encode(images, LENGTHS)
        total = live.live()
    assert features.requires_grad
    return total


METHODS = [
    ("full", {}, 0.75),
    ("sla-lora", {"rank": 4, "blocks": "2-3"}, 0.75),
    ("sla-lora", {"rank": 4, "blocks": "1-3", "shift_place": "stream"}, 0.75),
    ("sla-adapter", {"width": 8, "blocks": "1-3", "activation": True}, 0.99),
    ("adaptsign", {"variant": "published"}, 0.98),
    ("adaptsign", {"variant": "paper"}, 0.98),
]


@pytest.mark.parametrize(("method", "options", "share"), METHODS)
@pytest.mark.parametrize("tower", ["tiny-vit", "tiny-quick"])
def test_what_is_computed_again_changes_no_gradient_and_saves_bytes(method, options, share, tower, monkeypatch):
    model = tiny(method, tower, **options).double()
    stir(model)
    with lean.without_recompute():
        plain, much = gradients(model), kept(model)
    monkeypatch.setattr(lean, "WIDTH", 1)
    found, little = gradients(model), kept(model)
    assert plain.keys() == found.keys() and len(plain) > 1
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], rtol=0, atol=1e-10, msg=name)
    assert little <= share * much, f"{little:,} of {much:,} bytes"


def test_quick_gelu_keeps_its_input_alone_and_has_the_right_gradient():
    x = torch.randn(3, 400, dtype=torch.float64, requires_grad=True)
    y, plain = lean.QuickGELU()(x), x * torch.sigmoid(1.702 * x)
    torch.testing.assert_close(y, plain, rtol=0, atol=1e-14)
    (saved,) = y.grad_fn.saved_tensors
    assert saved.data_ptr() == x.data_ptr()
    weights = torch.randn_like(x)
    ours, theirs = (torch.autograd.grad(z, x, weights)[0] for z in (y, plain))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def test_a_graph_that_is_used_twice_gives_the_same_twice(monkeypatch):
    monkeypatch.setattr(lean, "WIDTH", 1)
    model = tiny("sla-lora", rank=4, blocks="1-3")
    stir(model)
    loss = model.encode(frames(8), LENGTHS).square().sum()
    parameters = [p for p in model.encoder.parameters() if p.requires_grad]
    first, second = (torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None)


def test_nothing_is_kept_below_the_first_adapted_block(monkeypatch):
    monkeypatch.setattr(lean, "WIDTH", 1)
    last, all_three = (kept(tiny("sla-lora", rank=4, blocks=blocks)) for blocks in ("3", "1-3"))
    model = tiny("sla-lora", rank=4, blocks="3")
    seen = []
    model.encoder.backbone.blocks[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = model.normalise(frames(8))
    live = LiveBytes()
    live.ignore(model)
    model.encoder.backbone.blocks[1].register_forward_hook(lambda *_: seen.append(live.live()))
    with live:
        model.encode(images, LENGTHS)
    tokens, below = seen
    # Two blocks deep there is nothing but their output, and what the running block still holds (a few of its tensors).
    assert tokens.grad_fn is None and not tokens.requires_grad
    assert below < 8 * tokens.nbytes
    assert last < 0.4 * all_three
