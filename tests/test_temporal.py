"""LoRA against dense algebra, temporal shift and adapters against literal forms, videos that must never mix."""

from __future__ import annotations

import pytest
import torch
from tiny_models import frames, stir, tiny
from torch import nn

from slakit.models import merge, open_clip_weights
from slakit.models.exact.depthwise import DepthwiseConv3d
from slakit.models.exact.low_rank import _HalfLoRA, lora_linears
from slakit.models.methods import chosen_blocks
from slakit.models.methods.lora import LoRALinear
from slakit.models.methods.sla_adapter import SlaAdapterOptions, TimeAwareAdapter
from slakit.models.methods.sla_lora import TemporalShift
from slakit.models.packing import Clips
from slakit.records import ConfigError


@pytest.mark.parametrize("bias", [True, False])
def test_lora_equals_the_dense_sum_in_float64(bias):
    """Forward and every gradient against a dense W + s B A, for inputs [frames, tokens, channels]."""
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(12, 20, bias=bias).double(), rank=3, alpha=6.0)
    stir(layer, scale=1.0)
    x = torch.randn(7, 5, 12, dtype=torch.float64, requires_grad=True)
    a, b, w = layer.lora_A, layer.lora_B, layer.weight
    dense = x @ (w + 2.0 * (b @ a)).T + (layer.bias if bias else 0)
    ours = layer(x)
    cotangent = torch.randn_like(ours)
    assert (ours - dense).abs().max() < 1e-12
    expected = torch.autograd.grad((dense * cotangent).sum(), [x, a, b])
    for found, wanted in zip(torch.autograd.grad((ours * cotangent).sum(), [x, a, b]), expected, strict=True):
        assert (found - wanted).abs().max() < 1e-10
    assert torch.autograd.gradcheck(lambda *inputs: layer(*inputs), (x[:1, :2].detach().requires_grad_(),))


def test_lora_in_half_precision_keeps_small_updates():
    torch.manual_seed(0)
    layer = LoRALinear(nn.Linear(256, 256), rank=4)
    nn.init.normal_(layer.lora_B, std=1e-3)
    x = torch.randn(64, 256)
    exact = (x.double() @ (layer.lora_B.double() @ layer.lora_A.double()).T).float()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        low = layer.scale * nn.functional.linear(nn.functional.linear(x, layer.lora_A), layer.lora_B).float()
        whole, plain = layer(x).float(), nn.functional.linear(x, layer.weight, layer.bias).float()
    assert (low - exact).norm() < 0.02 * exact.norm()
    assert torch.allclose(whole, plain + low, atol=0.02)  # the two products; merged weights would lose the update


@pytest.mark.parametrize("outs", [(20, 8, 14), (5,)], ids=["several", "to fewer channels"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_form_for_half_precision_is_the_dense_sum_for_layers_of_one_input(outs, bias):
    """In float64, where its roundings vanish: every output and every gradient, of other ranks and scales."""
    torch.manual_seed(0)
    layers = [LoRALinear(nn.Linear(12, out, bias=bias).double(), rank=2 + i, alpha=6.0) for i, out in enumerate(outs)]
    for layer in layers:
        stir(layer, scale=1.0)
        layer.requires_grad_(True)
    x = torch.randn(7, 5, 12, dtype=torch.float64, requires_grad=True)
    parameters = [p for layer in layers for p in (layer.weight, layer.bias, layer.lora_A, layer.lora_B)]
    ours = _HalfLoRA.apply(x, tuple(layer.scale for layer in layers), *parameters)
    wanted = [x @ layer.effective_weight().T + (layer.bias if bias else 0) for layer in layers]
    inputs = [x, *filter(torch.is_tensor, parameters)]
    for found, exact in zip(ours, wanted, strict=True):
        assert (found - exact).abs().max() < 1e-12
    weights = [torch.randn_like(exact) for exact in wanted]
    gradients = []
    for results in (ours, wanted):
        loss = sum((result * weight).sum() for result, weight in zip(results, weights, strict=True))
        gradients.append(torch.autograd.grad(loss, inputs))
    for found, exact in zip(*gradients, strict=True):
        assert (found - exact).abs().max() < 1e-10
    fixed = [p if p is None else p.detach() for p in parameters]  # as where only the frames' gradients are asked for
    ours = _HalfLoRA.apply(x, tuple(layer.scale for layer in layers), *fixed)
    loss = sum((result * weight).sum() for result, weight in zip(ours, weights, strict=True))
    assert (torch.autograd.grad(loss, x)[0] - gradients[1][0]).abs().max() < 1e-10


def test_layers_together_are_the_layers_one_by_one():
    """Whatever they are: LoRA in half precision, with and without a bias, dropping, plain."""
    torch.manual_seed(0)
    lora = [
        LoRALinear(nn.Linear(32, 16, bias=bias), rank=4, dropout=p) for bias, p in [(1, 0), (1, 0), (0, 0), (1, 0.5)]
    ]
    for layer in lora:
        stir(layer)
    plain, x = nn.Linear(32, 16), torch.randn(3, 5, 32)
    for layers in (lora[:2], lora[1:3], [lora[0], plain], lora[2:]):
        for half in (True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                torch.manual_seed(1)
                found = lora_linears(x, *layers)
                torch.manual_seed(1)
                wanted = [layer(x) for layer in layers]
            for ours, theirs in zip(found, wanted, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-2 if half else 0, atol=1e-2 if half else 0)


@pytest.mark.parametrize("options", [{"rank": 0}, {"rank": 65}])
def test_impossible_ranks(options):
    with pytest.raises(ConfigError, match=f"rank={options['rank']}"):
        tiny("sla-lora", **options)


def literal_shift(x: torch.Tensor, lengths: list[int], fold: int, replicate: bool) -> torch.Tensor:
    """CLIP-SLA Eq. (1), clip by clip and channel by channel."""
    result = x.clone()
    start = 0
    for length in lengths:
        for t in range(length):
            for c in range(2 * fold):
                source = t - 1 if c < fold else t + 1
                inside = 0 <= source < length
                value = x[start + source, :, c] if inside else x[start + t, :, c] * replicate
                result[start + t, :, c] = value
        start += length
    return result


@pytest.mark.parametrize("boundary", ["zeros", "replicate"])
def test_shift_is_equation_1(boundary):
    x = torch.randn(8, 3, 16, generator=torch.Generator().manual_seed(0))
    shift = TemporalShift(16, n_div=8, boundary=boundary)
    assert torch.equal(shift(x, Clips([5, 1, 2])), literal_shift(x, [5, 1, 2], 2, boundary == "replicate"))


def test_shift_can_leave_the_class_token_alone():
    x = torch.randn(4, 3, 16)
    shifted = TemporalShift(16, 8, class_token=False)(x, Clips([4]))
    assert torch.equal(shifted[:, 0], x[:, 0])
    assert torch.equal(shifted[:, 1:], literal_shift(x, [4], 2, False)[:, 1:])


def test_reversed_time_shifts_the_other_way():
    x = torch.randn(6, 2, 8)
    shift = TemporalShift(8, 4)
    swapped = torch.cat([x[..., 2:4], x[..., :2], x[..., 4:]], -1)  # the two folds change places
    found = shift(swapped.flip(0), Clips([6])).flip(0)
    expected = shift(x, Clips([6]))
    assert torch.equal(torch.cat([found[..., 2:4], found[..., :2], found[..., 4:]], -1), expected)


@pytest.mark.parametrize("kernel", ["3x3x3", "3x1x1"])
def test_depthwise_convolution_equals_conv3d_in_float64(kernel):
    torch.manual_seed(0)
    ours = DepthwiseConv3d(6, kernel).double()
    stir(ours, scale=1.0)
    size = int(kernel[-1])
    padding = (1, size // 2, size // 2)
    reference = nn.Conv3d(6, 6, (3, size, size), padding=padding, groups=6).double()
    reference.load_state_dict(ours.state_dict())
    lengths = [4, 1, 3]
    x = torch.randn(8, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    found = ours(x, Clips(lengths))
    clips = [reference(clip.permute(3, 0, 1, 2)[None])[0].permute(1, 2, 3, 0) for clip in x.split(lengths)]
    expected = torch.cat(clips)
    assert (found - expected).abs().max() < 1e-12
    cotangent = torch.randn_like(found)
    a = torch.autograd.grad((found * cotangent).sum(), [x, *ours.parameters()])
    b = torch.autograd.grad((expected * cotangent).sum(), [x, *reference.parameters()])
    assert all((p - q).abs().max() < 1e-10 for p, q in zip(a, b, strict=True))


def test_plain_adapter_is_equation_3():
    torch.manual_seed(0)
    adapter = TimeAwareAdapter(8, SlaAdapterOptions(width=4, time_aware=False), (2, 2), 1)
    stir(adapter, scale=1.0)
    x = torch.randn(3, 5, 8)
    hidden = nn.functional.gelu(x[:, 1:] @ adapter.down.weight.T + adapter.down.bias)
    expected = x[:, 1:] + hidden @ adapter.up.weight.T + adapter.up.bias
    found = adapter(x, Clips([3]))
    assert torch.allclose(found[:, 1:], expected, atol=1e-6)
    assert torch.equal(found[:, 0], x[:, 0])


@pytest.mark.parametrize(
    ("method", "options"),
    [("sla-lora", {"temporal_shift": False}), ("sla-adapter", {"width": 8}), ("partial", {}), ("full", {})],
)
def test_methods_start_as_the_frozen_tower_to_the_bit(method, options):
    model, frozen = tiny(method, **options).eval(), tiny("frozen").eval()
    lengths = torch.tensor([3, 4])
    assert torch.equal(model.encode(frames(7), lengths), frozen.encode(frames(7), lengths))


TEMPORAL = [
    ("sla-lora", {"n_div": 8}),
    ("sla-lora", {"n_div": 8, "shift_place": "stream", "shift_boundary": "replicate", "shift_class_token": False}),
    ("sla-adapter", {"width": 8}),
    ("sla-adapter", {"width": 8, "kernel": "3x1x1", "place": "branch", "activation": True}),
    ("adaptsign", {}),
    ("adaptsign", {"variant": "paper"}),
]


@pytest.mark.parametrize(("method", "options"), TEMPORAL)
def test_videos_of_a_pack_never_mix(method, options):
    model = tiny(method, **options).eval()
    stir(model)
    lengths = torch.tensor([4, 5, 3])
    one, other = frames(12), frames(12)
    other[4:9] = frames(5, seed=9)
    with torch.no_grad():
        a, b = model.encode(one, lengths), model.encode(other, lengths)
    assert torch.equal(a[[0, 2]], b[[0, 2]])
    assert not torch.equal(a[1], b[1])


@pytest.mark.parametrize(("method", "options"), TEMPORAL)
def test_neighbouring_frames_are_seen(method, options):
    model = tiny(method, **options).eval()
    stir(model)
    one, other = frames(9), frames(9)
    other[4] = frames(1, seed=9)[0]
    with torch.no_grad():
        change = (model.encode(one, [9]) - model.encode(other, [9]))[0].abs().amax(-1)
    assert change[3] > 0
    assert change[5] > 0


def test_the_class_token_alone_is_exact_in_adapted_blocks():
    for method, options in (
        *TEMPORAL[:4],
        ("partial", {}),
        ("adaptsign", {"aggregation": False, "cross_frame": False}),
    ):
        model = tiny(method, **options).double().eval()
        stir(model)
        images, lengths = torch.randn(7, 3, 32, 32, dtype=torch.float64), torch.tensor([3, 4])
        pruned = model.encode(images, lengths)
        model.encoder.backbone.tower.pools_class_token = False  # now every token of the last block is computed
        assert (pruned - model.encode(images, lengths)).abs().max() < 1e-12


def test_a_merged_model_is_the_same_function():
    model = tiny("sla-lora", n_div=8, rank=4, alpha=12.0).eval()
    stir(model)
    merged = merge(model).eval()
    lengths = torch.tensor([3, 4])
    with torch.no_grad():
        assert (merged.encode(frames(7), lengths) - model.encode(frames(7), lengths)).abs().max() < 1e-5
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert any("lora" in name for name, _ in model.named_parameters())
    with pytest.raises(ConfigError, match="frozen model"):
        merge(tiny("frozen"))


def test_merged_weights_run_in_the_stock_tower():
    import open_clip

    model = tiny("sla-lora", temporal_shift=False, rank=4).eval()
    stir(model)
    stock = open_clip.create_model("tiny-vit").eval()
    weights = {name.removeprefix("visual."): value for name, value in open_clip_weights(model).items()}
    stock.visual.load_state_dict(weights)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        ours = model.encoder.backbone.project(model.encode(images, [2])[0])
        assert (stock.visual(images) - ours).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("blocks", "depth", "expected"),
    [
        (None, 12, tuple(range(4, 12))),
        ("5-12", 12, tuple(range(4, 12))),
        ("3", 4, (2,)),
        ((2, 1), 4, (0, 1)),
        (None, 4, (1, 2, 3)),
    ],
)
def test_chosen_blocks(blocks, depth, expected):
    assert chosen_blocks(blocks, depth) == expected


@pytest.mark.parametrize("blocks", ["5-13", "x", (0,), "4-", ()])
def test_blocks_that_do_not_exist(blocks):
    with pytest.raises(ConfigError, match="blocks="):
        chosen_blocks(blocks, 12)
