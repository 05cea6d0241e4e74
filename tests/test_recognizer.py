"""Properties over all methods and backbone families, parameter counts, messages, checkpoints."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import FAMILIES, NETWORKS, WHOLE_CLIP, frames, stir, tiny, tower

from slakit.models import (
    Backbone,
    Encoder,
    compare_with_papers,
    count_parameters,
    create_model,
    load_backbone,
    load_checkpoint,
    register_method,
    save_checkpoint,
)
from slakit.models.exact.live_bytes import LiveBytes
from slakit.models.methods import METHODS
from slakit.records import CheckpointError, ConfigError, SlakitError, Vocabulary
from slakit.training.losses import recognition_loss
from slakit.training.optimizers import make_optimizer
from slakit.training.presets import preset

OPTIONS = {"sla-lora": {"rank": 4, "n_div": 8}, "sla-adapter": {"width": 8}}
ALL = [(method, family) for method in METHODS if method not in NETWORKS for family in FAMILIES]
ALL += [(method, "its own") for method in NETWORKS]
LENGTHS = torch.tensor([21, 16])
TARGETS, COUNTS = torch.tensor([1, 2, 3, 4]), torch.tensor([2, 2])


def build(method: str, family: str = "tiny-vit", **options):
    return tiny(method, family, **{**OPTIONS.get(method, {}), **options})


def loss_of(model) -> torch.Tensor:
    return recognition_loss(model(frames(37), LENGTHS), TARGETS, COUNTS)[0]


def check_properties(method: str, family: str, folder) -> None:
    """What every method must hold on every tower."""
    alone_as_together = method not in WHOLE_CLIP  # where padded frames are not read, that is
    model = build(method, family, padding="features" if alone_as_together else "published")
    # Shapes.
    logits = model(frames(37), LENGTHS)
    assert logits.sequence.shape == logits.conv.shape == (2, 6, 6)
    assert logits.lengths.tolist() == [6, 4]
    assert (logits.frame is None) == (not METHODS[method].auxiliary_head)
    # A training step lowers the loss and moves nothing that is frozen.
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-3)
    first = loss_of(model)
    for _ in range(3):
        optimizer.zero_grad()
        loss_of(model).backward()
        assert all(p.grad is None for name, p in model.named_parameters() if name not in trained)
        optimizer.step()
    assert loss_of(model) < first
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved <= trained
    assert any(name.startswith("encoder") for name in moved) == (method != "frozen")
    # Packed equals one by one, whatever stands behind a clip's end.
    model.eval()
    with torch.no_grad():
        features = model.encode(frames(37), LENGTHS)
        together = model.recognize_features(features, LENGTHS)
        alone = model(frames(37)[21:], LENGTHS[1:])
        if alone_as_together:
            features[1, 16:] = 99.0
        again = model.recognize_features(features, LENGTHS)
    assert ((together.sequence[1, :4] - alone.sequence[0]).abs().max() < 1e-5) == alone_as_together
    assert torch.equal(together.sequence, again.sequence)
    # Save and load.
    save_checkpoint(model, folder / "run", corpus="toy", metrics={"wer": 1.0})
    loaded = load_checkpoint(folder / "run", glosses=model.vocabulary)
    with torch.no_grad():
        assert torch.equal(loaded(frames(37), LENGTHS).sequence, model(frames(37), LENGTHS).sequence)
    assert loaded.config == model.config
    assert loaded.about["metrics"] == {"wer": 1.0}


@pytest.mark.parametrize(("method", "family"), ALL)
def test_properties(method, family, tmp_path):
    check_properties(method, family, tmp_path)


@dataclass(frozen=True)
class NormsOptions:
    """shifts: whether the norms' shifts are trained too."""

    shifts: bool = True


def norms(backbone: Backbone, options: NormsOptions) -> Encoder:
    """A method nobody published: the gains of the blocks' norms are trained, and nothing else of the encoder."""
    for block in backbone.blocks:
        for norm in (block.ln_1, block.ln_2):
            norm.weight.requires_grad_(True)
            norm.bias.requires_grad_(options.shifts)
    return Encoder(backbone)


def test_a_new_method_is_one_function(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "norms", None)  # forgotten afterwards
    register_method("norms", NormsOptions, norms, auxiliary_head=False)
    check_properties("norms", "tiny-vit", tmp_path)
    assert not any(p.requires_grad for n, p in build("norms", shifts=False).named_parameters() if "ln_1.bias" in n)
    with pytest.raises(ConfigError, match="norms has no option 'shift'; did you mean 'shifts'"):
        build("norms", shift=False)


@pytest.mark.parametrize("method", METHODS)
def test_the_demo_settings_of_every_method_train(method):
    """One step on tiny-clip, as the preset says it: a finite loss, and the encoder moves (but the frozen one)."""
    run = preset(f"{method}/minisign")
    model = create_model(glosses=["A", "B", "C", "D", "E"], **run.model_options())
    before = {name: p.detach().clone() for name, p in model.encoder.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(model, run.train)
    logits = model(frames(16, size=84), torch.tensor([16]))
    loss, terms = recognition_loss(logits, torch.tensor([1, 2]), torch.tensor([2]), weights=run.train.loss_weights)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert set(terms) == {name for name, weight in vars(run.train.loss_weights).items() if weight} - (
        set() if model.auxiliary else {"clip"}
    )
    moved = [n for n, p in model.encoder.named_parameters() if n in before and not torch.equal(p, before[n])]
    assert bool(moved) == (method != "frozen")


class OneClip(torch.nn.Module):
    """The evaluation path for one clip of a fixed length: frames -> log-probabilities."""

    def __init__(self, model, length: int):
        super().__init__()
        self.model, self.length = model, length

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.model.encode(images, [self.length])
        return self.model.recognize_features(features, [self.length]).sequence.log_softmax(-1)


@pytest.mark.parametrize("method", METHODS)
def test_the_evaluation_path_exports(method):
    model = build(method).eval()
    stir(model)
    path = OneClip(model, 18).eval()
    images = torch.randn(18, 3, 32, 32)
    exported = torch.export.export(path, (images,), strict=False).module()
    with torch.no_grad():
        other = torch.randn(18, 3, 32, 32)
        assert (exported(other) - path(other)).abs().max() < 1e-5


@pytest.mark.parametrize("method", [name for name in METHODS if name not in NETWORKS])  # those see time, or mask it
def test_published_padding_equals_feature_padding_for_encoders_of_single_frames(method):
    same = {
        "sla-lora": {"temporal_shift": False},
        "adaptsign": {"cross_frame": False},
        "sla-adapter": {"time_aware": False},
    }
    options = {**same.get(method, {}), "auxiliary_head": True}
    models = [build(method, padding=padding, **options).eval() for padding in ("features", "published")]
    a, b = (model(frames(37), LENGTHS) for model in models)
    for name in ("sequence", "conv", "frame"):
        assert (getattr(a, name) - getattr(b, name)).abs().max() < 1e-5
    assert a.frame_lengths.tolist() == [36, 28]


def test_lengths_of_the_auxiliary_head():
    expected = {"padded": ((2, 36, 6), [36, 28]), "frames": ((2, 21, 6), [21, 16]), "pooled": ((2, 6, 6), [6, 4])}
    for choice, (shape, lengths) in expected.items():
        logits = build("frozen", auxiliary_head=True, auxiliary_lengths=choice)(frames(37), LENGTHS)
        assert (tuple(logits.frame.shape), logits.frame_lengths.tolist()) == (shape, lengths)


def test_normalisation():
    pictures = frames(2)
    published, clip = (build("frozen", normalize=name).normalise(pictures) for name in ("published", "clip"))
    assert (published - (pictures / 127.5 - 1)).abs().max() < 1e-6
    expected = (pictures[:, 2] / 255 - 0.40821073) / 0.27577711
    assert (clip[:, 2] - expected).abs().max() < 1e-5
    assert torch.equal(build("frozen").normalise(published), published)


@pytest.mark.parametrize("method", ["frozen", "partial", "sla-lora", "sla-adapter"])
def test_no_gradient_below_the_first_adapted_block(method):
    options = {"partial": {"num_blocks": 1}, "frozen": {}}.get(method, {"blocks": (3,)})
    model = build(method, **options)
    seen = {}
    for index, block in enumerate(model.encoder.backbone.blocks):
        block.register_forward_hook(lambda module, inputs, output, index=index: seen.update({index: output.grad_fn}))
    model(frames(20), torch.tensor([20]))
    assert [seen[i] is None for i in range(3)] == [True, True, method == "frozen"]
    # Somebody who asks for gradients of the frames gets them.
    images = torch.randn(20, 3, 32, 32, requires_grad=True)
    model(images, torch.tensor([20])).sequence.sum().backward()
    assert images.grad.abs().max() > 0


@pytest.mark.parametrize("method", ["sla-lora", "sla-adapter", "partial"])
def test_nothing_is_saved_below_the_first_adapted_block(method):
    model = build(method, **({"num_blocks": 1} if method == "partial" else {"blocks": "3"}))
    saved, below = [], []
    model.encoder.backbone.blocks[1].register_forward_hook(lambda *_: below.extend(saved))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t.nbytes) or t, lambda t: t):
        model.encode(frames(20), torch.tensor([20]))
    assert sum(below) == 0 < sum(saved)


@pytest.mark.parametrize("method", ["sla-lora", "sla-adapter", "adaptsign", "corrnet+", "slowfastsign"])
def test_recompute_changes_nothing_but_memory(method):
    """The same gradients and statistics from fewer kept bytes, fewest where whole blocks are computed again."""
    gradients, statistics, kept = [], [], []
    for recompute in ("none", "mlp", "block"):
        model, live = build(method, recompute=recompute), LiveBytes()
        live.ignore(model)
        with live:
            loss = loss_of(model)
            kept.append(live.live())
        loss.backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
        statistics.append(list(model.buffers()))
    assert all(torch.equal(a, b) for found in statistics for a, b in zip(found, statistics[0], strict=True))
    for found in gradients[1:]:
        assert len(found) == len(gradients[0]) > 5
        assert all((a - b).abs().max() < 1e-5 for a, b in zip(found, gradients[0], strict=True))
    assert kept[2] < kept[1] < kept[0] if method not in NETWORKS else kept[2] < kept[1] == kept[0]


def test_recompute_is_one_of_three_words():
    with pytest.raises(ConfigError, match=r"recompute='blok' is not possible; did you mean 'block'"):
        build("sla-lora", recompute="blok")
    with pytest.raises(ConfigError, match=r"recompute=True is not possible; known: block, mlp, none"):
        build("sla-lora", recompute=True)


def test_same_seed_same_model_and_equal_heads():
    a, b, other = build("sla-lora", seed=3), build("sla-lora", seed=3), build("frozen", seed=3)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert torch.equal(a.sequence.classifier.weight, other.sequence.classifier.weight)


COUNTED = [
    ("frozen", {}, 23_107_584),
    ("partial", {}, 37_283_328),
    ("full", {"auxiliary_head": True}, 109_902_336),
    ("sla-lora", {}, 23_107_584 + 1_769_472),
    ("sla-adapter", {}, 23_107_584 + 6_422_528),
    ("adaptsign", {}, 72_002_563),
]
OWN_NETWORKS = {
    "vac": 34_303_072, "vac-smkd": 32_973_376, "tlp": 59_501_664, "sen": 34_513_232, "corrnet": 33_374_242,
    "corrnet+": 59_998_235, "slowfastsign": 133_601_920,
}  # fmt: skip


def test_published_parameter_counts(monkeypatch):
    """ViT-B/16 with 1296 classes; one tower is built and copied, to save time."""
    import slakit.models.methods as methods
    import slakit.models.parameters as parameters

    tower_once = load_backbone("ViT-B-16", None)
    monkeypatch.setattr(methods, "load_backbone", lambda *arguments: copy.deepcopy(tower_once))
    monkeypatch.setattr(parameters, "load_backbone", lambda *arguments: tower_once)
    rows = {row["method"]: row for row in compare_with_papers()}
    assert {method: rows[method]["total"] for method in NETWORKS} == OWN_NETWORKS
    for method, options, expected in COUNTED:
        options = {"auxiliary_head": False, **options}
        model = create_model(method, [f"G{i}" for i in range(1295)], None, None, **options)
        table = count_parameters(model)
        assert table.trainable == expected, f"{method}\n{table}"
        auxiliary = rows[method]["auxiliary"] if not options["auxiliary_head"] else 0
        assert rows[method]["total"] - auxiliary == expected
        if method == "adaptsign":
            assert table.total == 157_801_219
    assert "BiLSTM" in str(table)
    assert abs(rows["full"]["total"] / 1e6 - rows["full"]["paper"]) < 0.05


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("sla-lroa",), {}, ["sla-lroa", "did you mean 'sla-lora'"]),
        (("sla-lora",), {"rnak": 4}, ["rnak", "did you mean 'rank'"]),
        (("sla-lora",), {"rank": "16x"}, ["rank='16x'", "expected int"]),
        (("sla-lora",), {"rank": True}, ["rank=True"]),
        (("sla-lora",), {"targets": ["q", "w"]}, ["'w'", "no layer"]),
        (("sla-lora",), {"n_div": 1}, ["n_div=1"]),
        (("sla-lora",), {"normalize": "clp"}, ["clp", "did you mean 'clip'"]),
        (("partial",), {"num_blocks": 9}, ["num_blocks=9"]),
        (("frozen",), {"rank": 4}, ["frozen has no option 'rank'"]),
    ],
)
def test_messages(arguments, options, words):
    with pytest.raises(ConfigError) as caught:
        create_model(*arguments, ["A"], tower("tiny-vit"), None, **options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_wrong_batches_are_named():
    model = build("frozen")
    with pytest.raises(SlakitError, match="37 frames for clips of"):
        model(frames(37), torch.tensor([21, 15]))
    with pytest.raises(SlakitError, match="do not fit 2 clips"):
        model.recognize_features(torch.zeros(2, 20, 64), LENGTHS)
    with pytest.raises(ConfigError, match="needs glosses"):
        create_model("frozen", [], tower("tiny-vit"), None)


def test_checkpoints_without_the_base_check_it(tmp_path):
    build("frozen")
    weights = [tmp_path / name for name in ("base.safetensors", "other.safetensors")]
    for seed, path in enumerate(weights):
        import open_clip

        torch.manual_seed(seed)
        save_file(open_clip.create_model("tiny-vit").state_dict(), path)
    model = create_model("sla-lora", ["A", "B"], tower("tiny-vit"), weights[0], rank=4, n_div=8, hidden_size=32)
    stir(model)
    save_checkpoint(model, tmp_path / "run")
    stored = load_file(tmp_path / "run.safetensors")
    assert not any("conv1" in name or name.endswith("q_proj.weight") for name in stored)
    assert load_checkpoint(tmp_path / "run")(frames(9), torch.tensor([9])).sequence.shape == (1, 3, 3)
    weights[1].replace(weights[0])
    with pytest.raises(CheckpointError, match="other base weights"):
        load_checkpoint(tmp_path / "run")


def test_glosses_that_differ_are_said(tmp_path):
    save_checkpoint(build("frozen"), tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"5 glosses in the checkpoint, 6 in the corpus; first missing .*: NEW"):
        load_checkpoint(tmp_path / "run", Vocabulary(["G0", "G1", "G2", "G3", "G4", "NEW"]))
    with pytest.raises(CheckpointError, match="order differs from place 2"):
        load_checkpoint(tmp_path / "run", ["G0", "G2", "G1", "G3", "G4"])


@pytest.mark.slow
def test_one_step_at_full_size():
    model = create_model("sla-lora", [f"G{i}" for i in range(1295)], "ViT-B-16", None)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-4)
    images = frames(16, size=224)
    first, _ = recognition_loss(model(images, torch.tensor([16])), torch.tensor([5, 7]), torch.tensor([2]))
    first.backward()
    optimizer.step()
    second, _ = recognition_loss(model(images, torch.tensor([16])), torch.tensor([5, 7]), torch.tensor([2]))
    assert second < first
