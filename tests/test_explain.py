"""Maps: gradients against finite differences, chunks against the whole clip, attention against hand-made products."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tiny_models import NETWORKS, frames, stir, tiny

from slakit import explain
from slakit.models import record_attention
from slakit.models.methods import METHODS
from slakit.models.packing import Clips
from slakit.records import SlakitError
from slakit.training.losses import recognition_loss

ALL = sorted(set(METHODS) - set(NETWORKS))


def clip(count: int, seed: int = 0) -> np.ndarray:
    return frames(count, seed).permute(0, 2, 3, 1).numpy()


def look(method: str, name: str = "tiny-vit", count: int = 24, double: bool = False, **options):
    model = tiny(method, name, **options)
    stir(model)
    if double:
        model.double()
    return explain.watch(model, clip(count))


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("over", explain.OVER)
def test_gradients_equal_finite_differences_in_float64(method, over):
    """Moving what one block's attention reads by a small step changes the score as the kept gradient says."""
    seen = look(method, count=16, double=True)
    block = 1
    target = explain.targets_of(seen, [2, 1], over)[0]
    cotangent = explain.feature_gradients(seen, [target])[0]
    with torch.enable_grad(), explain.kept_tokens(seen.model, block) as kept:
        features = seen.model.encoder(seen.model.normalise(seen.packed()), Clips([16]))
        (gradient,) = torch.autograd.grad(features, kept[0], cotangent)
    step = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3)).double()

    def score(size: float) -> float:
        handle = seen.model.encoder.backbone.blocks[block].ln_1.register_forward_hook(lambda *a: a[2] + size * step)
        with torch.no_grad():
            logits = seen.model.eval()(seen.packed(), torch.tensor([16])).sequence[0]
        handle.remove()
        return float(target(logits.log_softmax(-1)))

    analytic = float((gradient * step).sum())
    assert analytic != 0
    assert analytic == pytest.approx((score(1e-5) - score(-1e-5)) / 2e-5, rel=1e-5)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        *((m, "tiny-vit") for m in ALL), ("sla-lora", "tiny-coca"), ("sla-adapter", "tiny-avg"),
        ("sla-lora", "tiny-siglip"), ("sla-adapter", "tiny-flava"), ("frozen", "tiny-flava"),
    ],
)  # fmt: skip
def test_chunks_give_the_maps_of_the_whole_clip(method, name):
    seen = look(method, name, count=30, padding="published" if method == "adaptsign" else "features")
    targets = explain.targets_of(seen, [1, 2])
    assert len(list(explain.windows(seen, 7))) > 4
    ways = {
        "grad-cam": lambda chunk: explain.gradient_maps(seen, targets, "grad-cam", 0, chunk),
        "gradient x token": lambda chunk: explain.gradient_maps(seen, targets, "gradient x token", -1, chunk),
        "relevance": lambda chunk: explain.relevance_maps(seen, targets, chunk),
        "rollout": lambda chunk: explain.attention_rollout(seen, chunk)[None],
        "attention": lambda chunk: explain.attention_maps(seen, chunk=chunk)[None],
    }
    for way, maps in ways.items():
        whole, chunked = maps(1000), maps(7)
        assert whole.shape == (len(whole), 30, *seen.grid) and (whole >= 0).all() and whole.std() > 0, way
        np.testing.assert_allclose(chunked, whole, atol=1e-5 * whole.max(), rtol=0, err_msg=way)


def test_a_module_that_hides_its_reach_is_named(monkeypatch):
    seen = look("sla-lora")
    for block in seen.model.encoder.backbone.blocks:
        block.shift.reach = 0
    with pytest.raises(SlakitError, match="reach"):
        explain.gradient_maps(seen, explain.targets_of(seen, [1]), chunk=4)


@pytest.mark.parametrize("method", ALL)
def test_reach_is_as_far_as_a_frame_is_felt(method):
    model = tiny(method)
    stir(model, scale=0.5)
    model.eval()
    one = frames(24)
    other = one.clone()
    other[12] = 255 - other[12]
    with torch.no_grad():
        change = (model.encode(one, [24]) - model.encode(other, [24]))[0].abs().amax(1)
    felt = np.flatnonzero(change.numpy() > 0)
    assert felt.min() >= 12 - model.encoder.reach and felt.max() <= 12 + model.encoder.reach
    assert change[12] > 0


def test_grad_cam_is_the_papers_formula():
    """Written out with loops: channel weights are means of the gradient over a frame's patches; ReLU at the end."""
    rng = torch.Generator().manual_seed(0)
    tokens, gradient = torch.randn(2, 3, 4, generator=rng), torch.randn(2, 3, 4, generator=rng)
    for n, p in itertools.product(range(2), range(3)):
        weights = [sum(float(gradient[n, q, d]) for q in range(3)) / 3 for d in range(4)]
        expected = max(0.0, sum(w * float(tokens[n, p, d]) for d, w in enumerate(weights)))
        assert float(explain.grad_cam(tokens, gradient)[n, p]) == pytest.approx(expected, abs=1e-6)


def test_grad_cam_agrees_with_the_grad_cam_package():
    pytorch_grad_cam = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    seen = look("sla-lora", count=16)
    target = explain.targets_of(seen, [2])[0]
    model = seen.model.eval().requires_grad_(True)
    rows, columns = seen.grid

    class OneSequence(torch.nn.Module):
        """Frames are the package's batch, one sequence is its output."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x, torch.tensor([len(x)])).sequence.log_softmax(-1)

    def patches(x):
        return x[:, 1:].unflatten(1, (rows, columns)).permute(0, 3, 1, 2)

    cam = pytorch_grad_cam.GradCAM(OneSequence(), [model.encoder.backbone.blocks[-1].ln_1], reshape_transform=patches)
    theirs = cam(model.normalise(seen.packed()), [target])  # [T, 32, 32], each frame's own maximum is 1
    ours = explain.gradient_maps(seen, [target], "grad-cam")[0]
    scaled = ours / ours.max((1, 2), keepdims=True).clip(1e-12)
    middles = theirs[:, 4::8, 4::8]
    assert np.corrcoef(scaled.ravel(), middles.ravel())[0, 1] > 0.9


def test_scores_are_what_they_say():
    seen = look("frozen", count=24)
    lines = seen.log_probs.double()
    table = lines.numpy()
    span, step = explain.targets_of(seen, [1, 2], "span"), explain.targets_of(seen, [1, 2], "step")
    assert set(step[0].steps) <= set(span[0].steps) and len(step[0].steps) == 1
    assert float(span[1](lines)) == pytest.approx(float(np.mean([table[t, 2] for t in span[1].steps])))
    sentence = explain.targets_of(seen, [1, 2], "sentence")[0]
    total = 0.0  # over every path of 6 steps that reads 1 2 after repeats and blanks are taken out
    for path in itertools.product((0, 1, 2), repeat=len(lines)):
        merged = [k for k, _ in itertools.groupby(path) if k]
        total += float(np.exp(sum(table[t, k] for t, k in enumerate(path)))) if merged == [1, 2] else 0.0
    assert float(sentence(lines)) == pytest.approx(np.log(total), rel=1e-9)
    assert span[0].frames(24) == (4 * span[0].steps[0], 4 * span[0].steps[-1] + 4)


def test_rollout_and_relevance_are_the_papers_products():
    """Whole matrices in float64, block by block, instead of the row that we carry."""
    seen = look("frozen", count=8, double=True)
    model, length = seen.model, 17
    target = explain.targets_of(seen, [2])[0]
    cotangent = explain.feature_gradients(seen, [target])[0]
    images = model.normalise(seen.packed()).requires_grad_(True)
    with torch.enable_grad(), record_attention(model, all_tokens=True) as recorded:
        features = model.encoder(images, Clips([8]))
        weights = [attention.weights for attention in recorded]
        gradients = torch.autograd.grad(features, weights, cotangent)
    identity = torch.eye(length, dtype=torch.float64).expand(8, -1, -1)
    rollout, relevance = identity, identity
    for a, da in zip(weights, gradients, strict=True):
        rollout = (0.5 * a.detach().mean(1) + 0.5 * identity) @ rollout
        relevance = relevance + (a.detach() * da).clamp_min(0).mean(1) @ relevance
    found = explain.attention_rollout(seen).reshape(8, -1)
    np.testing.assert_allclose(found, rollout[:, 0, 1:], rtol=1e-5)
    found = explain.relevance_maps(seen, [target])[0].reshape(8, -1)
    np.testing.assert_allclose(found, relevance[:, 0, 1:], rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("method", ["frozen", "sla-lora", "adaptsign"])
def test_attention_of_any_block_head_and_query(method):
    seen = look(method, count=8)
    model = seen.model
    with torch.no_grad(), record_attention(model, all_tokens=True) as recorded:
        model.encode(seen.packed(), [8])
        weights = [attention.weights for attention in recorded]
    for block, head in itertools.product(range(3), (None, 0, 3)):
        chosen = weights[block].mean(1) if head is None else weights[block][:, head]
        for query, row in ((None, 0), ((1, 2), 1 + 4 + 2)):
            found = explain.attention_maps(seen, block, head, query)
            np.testing.assert_allclose(found.reshape(8, -1), chosen[:, row, -16:], atol=1e-6)
    for wrong in ({"block": 3}, {"head": 4}, {"query": (4, 0)}):
        with pytest.raises(SlakitError, match=str(next(iter(wrong)))):
            explain.attention_maps(seen, **wrong)


@pytest.mark.parametrize("variant", ["published", "paper"])
def test_adaptsigns_own_attentions(variant):
    seen = look("adaptsign", count=9, variant=variant)
    encoder = seen.model.encoder
    maps, offsets = explain.cross_frame_maps(seen, chunk=4)
    assert offsets == [-2, -1, 0, 1, 2] and maps.shape == (9, 5, 4, 4) and np.abs(maps).max() <= 0.5
    assert not maps[0, :2].any() and not maps[8, 3:].any() and maps[4].all()
    tokens = {}
    handle = encoder.cross_frame.register_forward_pre_hook(lambda m, a: tokens.update(x=a[0]))
    with torch.no_grad():
        seen.model.encode(seen.packed(), [9])
    handle.remove()
    x = encoder.cross_frame.ln(tokens["x"])
    scale = 64**-0.5 if variant == "published" else 1.0
    for t, (i, k) in itertools.product((2, 5), enumerate(offsets)):
        gate = torch.sigmoid(scale * (x[t + k, 1:] @ x[t, 0])) - 0.5
        np.testing.assert_allclose(maps[t, i].ravel(), gate.detach(), atol=1e-5)
    collected = explain.aggregation_maps(seen)
    assert collected.shape == (9, 4, 4) and (collected.sum((1, 2)) < 1).all() and collected.min() > 0
    per_head = [explain.aggregation_maps(seen, head=h) for h in range(4)]
    np.testing.assert_allclose(np.mean(per_head, 0), collected, atol=1e-6)
    assert encoder.cross_frame.weights is None and not encoder.cross_frame.record
    with pytest.raises(SlakitError, match="frozen has no"):
        explain.cross_frame_maps(look("frozen"))


class SavedBytes:
    """Counts the bytes that autograd keeps at a time; storages that several graph nodes share count once."""

    def __init__(self):
        self.now = self.peak = 0
        self.owners: dict[int, int] = {}

    def __enter__(self):
        class Kept:
            def __init__(kept, tensor):
                # detached: a node that keeps its own output would keep itself alive
                kept.tensor, kept.key = tensor.detach(), tensor.untyped_storage().data_ptr()
                self.owners[kept.key] = self.owners.get(kept.key, 0) + 1
                if self.owners[kept.key] == 1:
                    self.now += tensor.untyped_storage().nbytes()
                    self.peak = max(self.peak, self.now)

            def __del__(kept):
                self.owners[kept.key] -= 1
                if not self.owners[kept.key]:
                    self.now -= kept.tensor.untyped_storage().nbytes()

        self.hooks = torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error):
        self.hooks.__exit__(*error)


@pytest.mark.parametrize("method", ["frozen", "sla-lora", "sla-adapter", "adaptsign"])
def test_300_frames_within_the_memory_of_training(method):
    trained = tiny("sla-lora" if method == "frozen" else method)  # frozen training keeps no graph of the encoder
    packed, lengths, labels = frames(300), torch.tensor([300]), torch.tensor([1, 2, 3])
    with SavedBytes() as training:
        logits = trained.train()(packed, lengths)
        recognition_loss(logits, labels, torch.tensor([3]))[0].backward()
    seen = look(method, count=300)
    targets = explain.targets_of(seen, [1, 2, 3])
    for block in (0, -1):
        with SavedBytes() as explaining:
            explain.gradient_maps(seen, targets, block=block)
        assert 0 < explaining.peak < training.peak
    with SavedBytes() as explaining:
        explain.relevance_maps(seen, targets)
    assert 0 < explaining.peak < training.peak


def test_nothing_of_the_model_is_changed():
    model = tiny("adaptsign")
    model.train()
    before = {name: (p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    seen = explain.watch(model, clip(12))
    explain.gradient_maps(seen, explain.targets_of(seen, [1]))
    explain.relevance_maps(seen, explain.targets_of(seen, [1]))
    assert model.training and not model.encoder.gradients_everywhere and not model.encoder.all_tokens
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == before[name][0] and torch.equal(parameter, before[name][1])
        assert parameter.grad is None


def test_the_way_back_through_the_lstm_is_without_cudnn():
    """cuDNN's LSTM refuses a backward pass in evaluation mode; on the CPU the switch can be seen all the same."""
    seen, states = look("frozen"), []
    handle = seen.model.sequence.lstm.register_forward_hook(lambda *a: states.append(torch.backends.cudnn.enabled))
    explain.feature_gradients(seen, explain.targets_of(seen, [1]))
    handle.remove()
    assert states == [False] and torch.backends.cudnn.enabled


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ALL)
def test_maps_on_a_gpu_equal_those_on_the_cpu(method):
    there, here = look(method), look(method)
    there.model.cuda()
    there = explain.watch(there.model, there.frames, precision="float32")
    targets = explain.targets_of(here, [1, 2])
    ours, theirs = (explain.gradient_maps(seen, targets) for seen in (here, there))
    np.testing.assert_allclose(theirs, ours, atol=1e-3 * ours.max())


def test_wrong_requests_are_named():
    seen = look("frozen")
    for call, words in (
        (lambda: explain.targets_of(seen, [1], "word"), "over='word'"),
        (lambda: explain.targets_of(seen, []), "nothing was recognised"),
        (lambda: explain.gradient_maps(seen, [], "cam"), "kind='cam'"),
        (lambda: explain.gradient_maps(seen, explain.targets_of(seen, [1]), block=7), "block=7"),
        (lambda: explain.watch(seen.model, seen.frames[:, :16]), r"\[24, 16, 32, 3\]"),
        (lambda: explain.watch(seen.model, seen.frames.astype(np.float32)), "float32"),
    ):
        with pytest.raises(SlakitError, match=words):
            call()


@pytest.mark.parametrize("method", ["sla-lora", "adaptsign"])
def test_masking_curves_are_the_scores_of_masked_videos(method):
    """Every point again, by a whole forward pass of a clip masked pixel by pixel."""
    seen = look(method, count=40, padding="published" if method == "adaptsign" else "features")
    target = explain.targets_of(seen, [1, 2])[1]
    start, end = target.frames(40)
    start, end = max(0, start - 2), min(40, end + 2)
    rng = np.random.default_rng(0)
    values, blurred = rng.random((40, 4, 4)), explain.background(seen.frames, "mean")
    fractions = (0.0, 0.3, 1.0)
    for kind in ("deletion", "insertion"):
        curve = explain.masking_curve(seen, target, values, kind, fill="mean", fractions=fractions, around=2, repeats=1)
        for fraction, found in zip(fractions, curve.scores, strict=True):
            order = sorted((values[t, y, x], t, y, x) for t in range(start, end) for y in range(4) for x in range(4))
            chosen = {place[1:] for place in order[::-1][: round(fraction * len(order))]}
            video = seen.frames.copy()
            for t, y, x in itertools.product(range(start, end), range(4), range(4)):
                if ((t, y, x) in chosen) == (kind == "deletion"):
                    video[t, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = blurred[0, 0, 0]
            expected = float(target(explain.watch(seen.model, video).log_probs).exp())
            assert found == pytest.approx(expected, rel=1e-4)
    again = explain.masking_curve(
        seen, target, values, "insertion", fill="mean", fractions=fractions, around=2, random=curve.random
    )
    assert again.gain == curve.gain and curve.gain == pytest.approx(curve.area - curve.random_area)


def test_a_map_that_knows_beats_random_and_its_opposite_loses():
    """A map made from the answer itself: how far the score falls when a patch alone is masked."""
    seen = look("frozen", count=12)
    target = explain.targets_of(seen, [2])[0]
    fill = explain.background(seen.frames, "mean")
    single = np.zeros((12, 4, 4))
    for t, y, x in itertools.product(range(12), range(4), range(4)):
        video = seen.frames.copy()
        video[t, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8] = fill[0, 0, 0]
        single[t, y, x] = -float(target(explain.watch(seen.model, video).log_probs))
    for kind in ("deletion", "insertion"):
        better, worse = (
            explain.masking_curve(seen, target, sign * single, kind, fill="mean", around=None) for sign in (1, -1)
        )
        assert better.gain > 0 > worse.gain


@pytest.mark.parametrize("stage", ["head", "trained", "all"])
def test_randomised_weights_are_the_same_numbers_elsewhere(stage):
    model = tiny("sla-lora")
    stir(model)
    other = explain.randomised(model, stage)
    moved = set()
    for (name, mine), theirs in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(mine.flatten().sort().values, theirs.flatten().sort().values)
        if not torch.equal(mine, theirs):
            moved.add(name)
    head = {name for name in moved if name.startswith("sequence.")}
    assert head and (moved == head) == (stage == "head")
    assert any(not p.requires_grad for name, p in model.named_parameters() if name in moved) == (stage == "all")


def test_similarity_is_spearmans():
    first = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    assert explain.similarity(first, first**3) == pytest.approx(1)
    assert explain.similarity(first, -first) == pytest.approx(-1)
    assert explain.similarity(first, np.array([[[1.0, 2.0], [4.0, 3.0]]])) == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert explain.similarity(first, np.ones((1, 2, 2))) == 0


def test_the_pointing_game_by_hand():
    maps = np.zeros((2, 7, 7))
    maps[0, 2, 3] = maps[1, 6, 0] = 1
    points = np.array([[[42.0, 30.0], [np.nan, np.nan]], [[80.0, 80.0], [6.0, 70.0]]])
    assert explain.peaks(maps, 84).tolist() == [[42.0, 30.0], [6.0, 78.0]]
    assert explain.peak_hits(maps, points, 84, radius=6).tolist() == [True, False]
    assert explain.peak_hits(maps, points, 84, radius=np.array([[6, 6], [6, 8]])).tolist() == [True, True]
    # 12-pixel patches: centres 30, 42, 54 in both directions within 12 of (42, 42) are 1 + 4 of 49
    near = explain.chance_hits((7, 7), np.array([[[42.0, 42.0]]]), 84, radius=12.0)
    assert near.tolist() == [5 / 49]


def test_bootstrap_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        found = explain.bootstrap(rng.normal(3.0, 1.0, 40), seed=trial)
        held += found.low <= 3.0 <= found.high
    assert 0.88 <= held / 200 <= 0.99
    assert explain.bootstrap([0.0, 1.0], [3.0, 1.0]).mean == 0.25
    with pytest.raises(SlakitError, match="no clips"):
        explain.bootstrap([])
