"""AdaptSign: golden numbers of the released code, literal forms in float64, its options, checkpoint import."""

from __future__ import annotations

import argparse
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import frames, golden, stir, tiny
from torch import nn

from slakit.models import load_adaptsign_checkpoint
from slakit.models.adaptsign_import import _backbone, read_gloss_dict, read_state_dict, released_names
from slakit.models.methods.adaptsign import AdaptSignOptions, adaptsign
from slakit.models.methods.adaptsign_attention import Aggregation, CrossFrameAttention
from slakit.models.packing import Clips
from slakit.models.recognizer import Logits
from slakit.records import CheckpointError, ConfigError
from slakit.training.losses import recognition_loss

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "golden"


def test_encoder_and_gradients_equal_the_released_code():
    numbers = golden("adaptsign_encoder_tiny")
    visual = {key.removeprefix("weights."): value for key, value in numbers.items() if key.startswith("weights.")}
    encoder = adaptsign(_backbone(visual, num_heads=4).requires_grad_(False), AdaptSignOptions(train_query=True))
    encoder.load_state_dict(released_names(visual))
    clips, images = numbers["input.frames"].shape[:2], numbers["input.frames"].flatten(0, 1)
    features = encoder(images, Clips([clips[1]] * clips[0])).unflatten(0, clips)
    assert (features - numbers["output.features"]).abs().max() < 1e-5
    (features * numbers["cotangent"]).sum().backward()
    found = {name: parameter.grad for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    expected = {key.removeprefix("grad."): value for key, value in numbers.items() if key.startswith("grad.")}
    expected = released_names(expected)
    assert len(expected) == 8  # six tensors, one of them fused of three
    for name, value in expected.items():
        if "in_proj" not in name:
            assert (found[name] - value).abs().max() < 1e-5 * max(1.0, float(value.abs().max())), name
    assert found["backbone.blocks.0.prefix.k"].abs().max() > 0  # the released code's first block gets none


class LiteralAggregation(nn.Module):
    """Eq. (4) and (5) as they stand: keys and values of all tokens projected, nn.MultiheadAttention."""

    def __init__(self, ours: Aggregation):
        super().__init__()
        self.ours = ours

    def forward(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        ours, attn = self.ours, self.ours.attn
        q, memory = ours.ln_1(query)[:, None], ours.ln_1(tokens)
        q, k, v = (attn.heads(p(x)) for p, x in ((attn.q_proj, q), (attn.k_proj, memory), (attn.v_proj, memory)))
        weights = (q @ k.transpose(-1, -2) / attn.head_dim**0.5).softmax(-1)
        query = query + attn.out_proj((weights @ v).transpose(1, 2).flatten(2))[:, 0]
        return query + ours.mlp(ours.ln_2(query))


def literal_cross_frame(module: CrossFrameAttention, x: torch.Tensor, lengths: list[int], tau: int) -> torch.Tensor:
    """Eq. (6) and (7) frame by frame, or the released code's form of them."""
    rows = []
    for clip in x.split(lengths):
        normal = module.ln(clip)
        for t in range(len(clip)):
            total = torch.zeros_like(clip[0, 0])
            for s in range(max(0, t - tau), min(len(clip), t + tau + 1)):
                scores = normal[s, 1:] @ normal[t, 0]
                if module.scale is not None:
                    total = total + ((scores / x.shape[-1] ** 0.5).sigmoid() - 0.5) @ normal[s, 1:]
                else:
                    total = total + ((scores.sigmoid() - 0.5) @ clip[s, 1:]) / ((2 * tau + 1) * (x.shape[1] - 1))
            rows.append(clip[t, 0] + (total if module.scale is None else module.scale * total))
    return torch.stack(rows)


def gradients(output: torch.Tensor, module: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of a fixed random functional of the output, with respect to inputs and every parameter."""
    cotangent = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(3))
    return list(torch.autograd.grad((output * cotangent).sum(), [*inputs, *module.parameters()]))


def test_aggregation_equals_its_literal_form_in_float64():
    module = Aggregation(32, 4).double()
    stir(module, scale=0.3)
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(5, 32, dtype=torch.float64, generator=generator, requires_grad=True)
    tokens = torch.randn(5, 9, 32, dtype=torch.float64, generator=generator, requires_grad=True)
    ours, literal = module(query, tokens), LiteralAggregation(module)(query, tokens)
    assert (ours - literal).abs().max() < 1e-10
    for a, b in zip(gradients(ours, module, [query, tokens]), gradients(literal, module, [query, tokens]), strict=True):
        assert (a - b).abs().max() < 1e-10


def test_half_precision_is_close():
    """Under autocast outputs and gradients are those of float32 but for the format's rounding."""
    torch.manual_seed(0)
    aggregation, cross = Aggregation(64, 4), CrossFrameAttention(64)
    stir(cross, scale=0.3)
    query, tokens = torch.randn(6, 64), torch.randn(6, 9, 64, requires_grad=True)
    results = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            y = aggregation(query, tokens) + cross(tokens, Clips([4, 2]), class_token_only=True)[:, 0]
        results.append([y.float(), *torch.autograd.grad(y.float().square().sum(), [tokens, *cross.parameters()])])
    for exact, found in zip(*results, strict=True):
        assert found.dtype == torch.float32 and (exact - found).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("tau", [0, 1, 2])
def test_cross_frame_equals_its_literal_form_in_float64(published, tau):
    module = CrossFrameAttention(16, tau, published=published).double()
    stir(module, scale=0.3)
    lengths = [4, 1, 6]
    x = torch.randn(11, 10, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    ours, literal = module(x, Clips(lengths))[:, 0], literal_cross_frame(module, x, lengths, tau)
    assert (ours - literal).abs().max() < 1e-10
    for a, b in zip(gradients(ours, module, [x]), gradients(literal, module, [x]), strict=True):
        assert (a - b).abs().max() < 1e-10


def test_future_alone_does_not_look_back():
    module = CrossFrameAttention(16, 2, direction="future", published=False)
    x = torch.randn(6, 5, 16, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[2, 1:] += 1
    difference = (module(x, Clips([6])) - module(changed, Clips([6])))[:, 0].abs().amax(-1)
    assert [bool(value > 0) for value in difference] == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    "options",
    [
        {"adapters": False},
        {"prefix": False},
        {"aggregation": False},
        {"cross_frame": False},
        {"aggregation": False, "cross_frame": False},
        {"shared_prefix": True},
        {"adapter_init": "normal"},
        {"variant": "paper"},
        {"variant": "paper", "direction": "future", "tau": 1, "project": False},
    ],
)
def test_every_part_can_be_left_out(options):
    model = tiny("adaptsign", **options)
    stir(model)
    logits = model(frames(30), torch.tensor([12, 18]))
    loss, _ = recognition_loss(logits, torch.tensor([1, 2, 3]), torch.tensor([1, 2]))
    loss.backward()
    idle = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not idle, idle


def test_without_its_parts_it_is_the_frozen_tower():
    off = dict.fromkeys(("adapters", "prefix", "aggregation", "cross_frame", "project"), False)
    model, frozen = tiny("adaptsign", **off).eval(), tiny("frozen").eval()
    lengths = torch.tensor([3, 4])
    assert torch.equal(model.encode(frames(7), lengths), frozen.encode(frames(7), lengths))


def test_a_released_checkpoint_gives_its_logits_and_loss():
    numbers = golden("adaptsign_checkpoint_tiny.io")
    model = load_adaptsign_checkpoint(SHARED / "adaptsign_checkpoint_tiny.pt", SHARED / "adaptsign_gloss_dict_tiny.npy")
    images = numbers["input.frames"]
    clips = Clips([images.shape[1]] * len(images))
    features = model.encoder(images.flatten(0, 1), clips).unflatten(0, images.shape[:2])
    conv, sequence, lengths = model.sequence(features, numbers["input.lengths"])
    assert torch.equal(lengths, numbers["output.lengths"])
    assert (conv - numbers["output.conv_logits"]).abs().max() < 1e-5
    assert (sequence - numbers["output.sequence_logits"]).abs().max() < 1e-5
    loss, _ = recognition_loss(
        Logits(sequence, conv, None, lengths, lengths), numbers["input.labels"], numbers["input.label_lengths"]
    )
    assert abs(float(loss) - float(numbers["output.loss_total"])) < 1e-5 * float(loss)
    assert model.vocabulary.glosses[0] == "G1"


class Harmful:
    """Unpickled the usual way, this would write a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.write_text, (self.path, "executed"))


def test_import_executes_nothing_of_a_pickle(tmp_path):
    witness = tmp_path / "witness"
    tensors = {"weight": torch.ones(2)}
    torch.save({"model_state_dict": tensors, "rng_state": Harmful(witness)}, tmp_path / "bad.pt")
    with pytest.raises(CheckpointError, match="lacks class_embedding"):
        load_adaptsign_checkpoint(tmp_path / "bad.pt", {"A": [1, 3]})
    (tmp_path / "dict.npy").write_bytes(
        b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (), }".ljust(117) + b"\n"
        + pickle.dumps(Harmful(witness))
    )  # fmt: skip
    with pytest.raises(CheckpointError):
        read_gloss_dict(tmp_path / "dict.npy")
    assert not witness.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_what_else_stands_in_a_training_file_is_passed_over(tmp_path, zipped):
    """As the released code writes it: optimiser, scheduler, random states; also in PyTorch's format before 1.6."""
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    content = {
        "epoch": 3,
        "model_state_dict": {"module.weight": torch.ones(2)},
        "optimizer_state_dict": optimizer.state_dict(),
        "scheduler_state_dict": torch.optim.lr_scheduler.MultiStepLR(optimizer, [40, 60]).state_dict(),
        "rng_state": {"numpy": np.random.get_state(), "random": random.getstate(), "torch": torch.get_rng_state()},
    }
    if zipped:
        content |= {"arguments": argparse.Namespace(lr=1e-4), "path": tmp_path}
    torch.save(content, tmp_path / "dev.pt", _use_new_zipfile_serialization=zipped)
    state = read_state_dict(tmp_path / "dev.pt")
    assert list(state) == ["weight"] and torch.equal(state["weight"], torch.ones(2))


def test_gloss_dictionaries():
    assert read_gloss_dict({"B": [2, 1], "A": [1, 5]}).glosses == ("A", "B")
    with pytest.raises(CheckpointError, match="not 1 to 2"):
        read_gloss_dict({"A": [1, 5], "B": [3, 5]})
    with pytest.raises(ConfigError, match="tau=-1"):
        tiny("adaptsign", tau=-1)
