"""Greedy and beam search against ctcdecode's recorded answers, brute force and a plain reference with a real trie."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from batched_beam import beam_search
from hypothesis import given, settings
from hypothesis import strategies as st

from slakit.decoding import collapse, greedy_search
from slakit.decoding.select import select_gpu, select_tokens
from slakit.records import ConfigError

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
BACKENDS = ("numba", "torch")


def random_log_probs(*shape: int, seed: int = 0, peak: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) * peak).log_softmax(-1)


def brute_force(log_probs: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], float]:
    """ln P of every labelling of one clip [T, V]: the sum over all V^T paths."""
    steps, classes = log_probs.shape
    total: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(classes), repeat=steps):
        label = tuple(k for k, _ in itertools.groupby(path) if k != blank)
        total[label] += math.exp(sum(log_probs[t, k] for t, k in enumerate(path)))
    return {label: math.log(p) for label, p in total.items() if p > 0}


class Node:
    """A trie node as ctcdecode has it: the reference below is written from its description, not from our code."""

    def __init__(self, parent, token, peak, step):
        self.parent, self.token, self.peak, self.step = parent, token, peak, step
        self.children: dict[int, Node] = {}
        self.alive, self.b, self.nb, self.new_b, self.new_nb = True, -np.inf, -np.inf, -np.inf, -np.inf

    def child(self, token, peak, step):
        node = self.children.get(token)
        if node is None:
            node = self.children[token] = Node(self, token, peak, step)
            return node
        if node.peak < peak:
            node.peak, node.step = peak, step
        if not node.alive:
            node.alive, node.b, node.nb, node.new_b, node.new_nb = True, -np.inf, -np.inf, -np.inf, -np.inf
        return node

    def drop(self):
        self.alive = False
        if not self.children and self.parent is not None:
            del self.parent.children[self.token]
            if not self.parent.children and not self.parent.alive:
                self.parent.drop()

    def all(self):
        found = [self] if self.alive else []
        for node in self.children.values():
            found += node.all()
        return found

    def sequence(self):
        node, tokens, steps = self, [], []
        while node.parent is not None:
            tokens.append(node.token)
            steps.append(node.step)
            node = node.parent
        return tuple(tokens[::-1]), tuple(steps[::-1])


def reference_search(log_probs: np.ndarray, width: int, top: int, blank: int):
    """Prefix beam search of one clip [T, V] -> [(tokens, score, steps)], best first.

    Where score and last token are equal (impossible prefixes are) ctcdecode's order is left to chance; here as in ours
    older entries of the beam come first, then the children of better parents.
    """
    root = Node(None, -1, 0.0, 0)
    root.b = 0.0
    beam = [root]
    for t, row in enumerate(log_probs):
        for token in np.argsort(-row, kind="stable")[:top]:
            for node in beam:
                total = np.logaddexp(node.b, node.nb)
                if token == blank:
                    node.new_b = np.logaddexp(node.new_b, row[token] + total)
                    continue
                if token == node.token:
                    node.new_nb = np.logaddexp(node.new_nb, row[token] + node.nb)
                child = node.child(int(token), row[token], t)
                child.new_nb = np.logaddexp(child.new_nb, row[token] + (node.b if token == node.token else total))
        place = {id(node): i for i, node in enumerate(beam)}

        def order(n, place=place):
            return -np.logaddexp(n.b, n.nb), n.token, (place[id(n)] if id(n) in place else width + place[id(n.parent)])

        for node in root.all():
            node.b, node.nb, node.new_b, node.new_nb = node.new_b, node.new_nb, -np.inf, -np.inf
        ranked = sorted(root.all(), key=order)
        beam = ranked[:width]
        for node in ranked[width:]:
            node.drop()
    return [
        (tokens, float(np.logaddexp(n.b, n.nb)), steps)
        for n in beam
        for tokens, steps in [n.sequence()]
        if np.logaddexp(n.b, n.nb) > -np.inf
    ]


def assert_same(found, expected, tolerance=1e-9):
    assert [(h.tokens, h.timesteps) for h in found] == [(tokens, steps) for tokens, _, steps in expected]
    for hypothesis, (_, score, _) in zip(found, expected, strict=True):
        assert abs(hypothesis.score - score) <= tolerance


@pytest.fixture(scope="module")
def recorded():
    path = SHARED / "data" / "ctc_cases.json"
    if not path.exists():
        pytest.skip("ctcdecode's recorded answers (shared/data/ctc_cases.json) are not here")
    return json.loads(path.read_text())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_equals_ctcdecode(recorded, backend, kind):
    """Labels, time steps and order of all ten hypotheses; scores to 1e-4 (ctcdecode sums in float32)."""
    for case in recorded["tiny"]:
        log_probs = np.log(np.array(case["probs"])).astype(kind)[None]
        tokens, score, steps = case["ctcdecode_beam10_top1"]
        assert_same(beam_search(log_probs, backend=backend)[0], [(tuple(tokens), -score, tuple(steps))], 1e-4)
    for case in recorded["mid"]:
        log_probs = np.log(np.array(case["probs"])).astype(kind)[None]
        expected = [(tuple(tokens), -score, tuple(steps)) for tokens, score, steps in case["ctcdecode_beam10"]]
        assert_same(beam_search(log_probs, n_best=10, backend=backend)[0], expected, 1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_wide_beam_equals_recorded_sums_over_all_paths(recorded, backend):
    for case in recorded["tiny"]:
        found = beam_search(np.log(np.array(case["probs"]))[None], beam_width=400, n_best=5, backend=backend)[0]
        for hypothesis, (tokens, score) in zip(found, case["oracle_top5"], strict=False):
            assert list(hypothesis.tokens) == tokens
            assert abs(hypothesis.score - score) < 1e-6


@pytest.mark.parametrize("backend", BACKENDS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_wide_beam_equals_brute_force(backend, data):
    """Every labelling of a short clip, with its exact probability, and nothing else."""
    classes = data.draw(st.integers(2, 4))
    steps = data.draw(st.integers(1, 6 if classes < 4 else 4))
    blank = data.draw(st.integers(0, classes - 1))
    log_probs = random_log_probs(steps, classes, seed=data.draw(st.integers(0, 10**6)), peak=data.draw(st.floats(0, 5)))
    expected = brute_force(log_probs.numpy(), blank)
    assert len(expected) < 130
    found = beam_search(log_probs[None], beam_width=130, n_best=130, top_tokens=classes, blank=blank, backend=backend)[
        0
    ]
    assert {h.tokens for h in found} == set(expected)
    assert all(abs(h.score - expected[h.tokens]) < 1e-9 for h in found)
    assert all(a.score >= b.score - 1e-8 for a, b in itertools.pairwise(found))


@pytest.mark.parametrize("backend", BACKENDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_narrow_beam_equals_the_reference(backend, data):
    """Narrow beams and few tokens, where the search is an approximation: the same one as ctcdecode's."""
    steps, classes = data.draw(st.integers(1, 14)), data.draw(st.integers(2, 12))
    width, top, blank = (data.draw(st.integers(1, n)) for n in (6, classes, classes))
    blank -= 1
    log_probs = random_log_probs(steps, classes, seed=data.draw(st.integers(0, 10**6)), peak=data.draw(st.floats(1, 6)))
    expected = reference_search(log_probs.numpy(), width, top, blank)
    found = beam_search(log_probs[None], None, width, top, blank, width, backend=backend)[0]
    assert_same(found, expected)


@pytest.mark.parametrize("classes,scale", [(300, 1.0), (1296, 4.0)])
def test_field_settings_equal_the_reference(classes, scale):
    log_probs = random_log_probs(4, 25, classes, seed=3, peak=scale)
    log_probs[..., 0] += 3.0
    log_probs = log_probs.log_softmax(-1)
    for backend in BACKENDS:
        found = beam_search(log_probs, n_best=10, backend=backend)
        for clip, hypotheses in enumerate(found):
            assert_same(hypotheses, reference_search(log_probs[clip].numpy(), 10, 40, 0))


@pytest.mark.parametrize("kind", ["continuous", "rounded", "uniform", "zeros"])
def test_both_backends_agree_also_on_ties(kind):
    log_probs = random_log_probs(6, 20, 50, seed=5)
    if kind == "rounded":
        log_probs = (log_probs.round() - 1).log_softmax(-1)
    elif kind == "uniform":
        log_probs = torch.full_like(log_probs, -math.log(50))
    elif kind == "zeros":
        log_probs[log_probs < -4] = -math.inf
        log_probs = log_probs.log_softmax(-1)
    lengths = [20, 0, 7, 1, 20, 13]
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        values = log_probs.to(dtype).clamp(max=0)
        one, two = (beam_search(values, lengths, n_best=10, top_tokens=9, backend=b) for b in BACKENDS)
        for a, b in zip(one, two, strict=True):
            assert [(h.tokens, h.timesteps) for h in a] == [(h.tokens, h.timesteps) for h in b]
            np.testing.assert_allclose([h.score for h in a], [h.score for h in b], rtol=0, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 100, 255, 256, 300, 1296])
@pytest.mark.parametrize("top", [1, 40, 128, 129, 5000])
@pytest.mark.parametrize("kind", ["continuous", "rounded", "constant", "mostly impossible"])
def test_choice_of_tokens_equals_a_stable_sort(classes, top, kind):
    random = np.random.default_rng(classes + top)
    rows = random.normal(size=(2, 3, classes)).astype(np.float32) - 20
    if kind == "rounded":
        rows = rows.round()
    elif kind == "constant":
        rows[...] = -3
    elif kind == "mostly impossible":
        rows[random.random(rows.shape) < 0.9] = -np.inf
    order = np.argsort(-rows, axis=-1, kind="stable")[..., :top]
    lengths = np.array([3, 3])
    values, tokens, clip, _ = select_tokens(rows, lengths, top, 1e-3)
    assert clip == -1
    np.testing.assert_array_equal(tokens, order)
    np.testing.assert_array_equal(values, np.take_along_axis(rows, order, -1))
    values, tokens, clip, _ = select_gpu(torch.from_numpy(rows), lengths, top, 1e-3)
    assert clip == -1
    np.testing.assert_array_equal(tokens, order)
    np.testing.assert_array_equal(values, np.take_along_axis(rows, order, -1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_clip_does_not_depend_on_its_batch_or_padding(backend):
    log_probs = random_log_probs(3, 12, 30, seed=8)
    lengths = torch.tensor([12, 5, 9])
    together = beam_search(log_probs, lengths, n_best=3, backend=backend)
    spoilt = log_probs.clone()
    spoilt[1, 5:], spoilt[2, 9:] = float("nan"), 7.0
    assert beam_search(spoilt, lengths, n_best=3, backend=backend) == together
    for clip, length in enumerate(lengths.tolist()):
        assert beam_search(log_probs[clip : clip + 1, :length], n_best=3, backend=backend)[0] == together[clip]


@pytest.mark.parametrize("backend", BACKENDS)
def test_numpy_and_other_layouts_give_the_same(backend):
    log_probs = random_log_probs(2, 10, 20, seed=1)
    expected = beam_search(log_probs, backend=backend)
    assert beam_search(log_probs.numpy(), np.array([10, 10]), backend=backend) == expected
    frozen = log_probs.numpy()[::-1].copy()[::-1]
    frozen.setflags(write=False)
    assert beam_search(frozen, backend=backend) == expected
    assert beam_search(log_probs.permute(1, 0, 2).contiguous().permute(1, 0, 2), backend=backend) == expected
    assert beam_search(log_probs.requires_grad_(), torch.tensor([10.0, 10.0]), backend=backend) == expected


def test_torch_never_builds_more_than_its_input():
    """No tensor of the size batch x time x classes x beam: none is larger than log_probs itself."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for part in result if isinstance(result, (tuple, list)) else [result]:
                if isinstance(part, torch.Tensor):
                    self.size = max(self.size, part.numel())
            return result

    log_probs = random_log_probs(4, 30, 1000)
    with Largest() as largest:
        beam_search(log_probs, backend="torch")
    assert 0 < largest.size <= log_probs.numel()


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_clips_and_batches(backend):
    assert [(h.tokens, h.score) for h in beam_search(torch.zeros(1, 0, 5), backend=backend)[0]] == [((), 0.0)]
    assert [(h.tokens, h.score) for h in beam_search(random_log_probs(1, 3, 5), [0], backend=backend)[0]] == [((), 0.0)]
    assert beam_search(torch.zeros(0, 3, 5), backend=backend) == []
    assert greedy_search(torch.zeros(1, 0, 5))[0][0].tokens == ()
    assert greedy_search(torch.zeros(0, 4, 5)) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_impossible_classes_never_come_out(backend):
    log_probs = torch.full((1, 3, 4), -math.inf)
    log_probs[0, 0, 2] = log_probs[0, 1, 0] = log_probs[0, 2, 2] = 0.0
    assert [(h.tokens, h.score) for h in beam_search(log_probs, n_best=10, backend=backend)[0]] == [((2, 2), 0.0)]
    with pytest.raises(ConfigError, match="probability 0"):
        beam_search(torch.full((1, 3, 4), -math.inf), backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_collapse_of_repeats(backend):
    log_probs = torch.full((1, 5, 4), -9.0)
    for step, token in enumerate([1, 0, 1, 3, 3]):
        log_probs[0, step, token] = -0.01
    assert beam_search(log_probs, backend=backend)[0][0].tokens == (1, 1, 3)
    assert greedy_search(log_probs)[0][0].tokens == (1, 1, 3)
    collapsed = beam_search(log_probs, collapse_repeats=True, n_best=10, backend=backend)[0]
    assert collapsed[0].tokens == (1, 3) and collapsed[0].timesteps == (0, 3)
    assert len({h.tokens for h in collapsed}) == len(collapsed)
    assert greedy_search(log_probs, collapse_repeats=True)[0][0].tokens == (1, 3)
    assert collapse([4, 4, 2, 4], [0, 2, 3, 5]) == ((4, 2, 4), (0, 3, 5))


@given(seed=st.integers(0, 10**6), steps=st.integers(1, 20), classes=st.integers(1, 5), blank=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_greedy_equals_the_definition(seed, steps, classes, blank):
    blank = min(blank, classes - 1)
    log_probs = random_log_probs(1, steps, classes, seed=seed)
    best = log_probs[0].argmax(-1).tolist()
    found = greedy_search(log_probs, [steps], blank)[0][0]
    assert found.tokens == tuple(k for k, _ in itertools.groupby(best) if k != blank)
    assert found.score == pytest.approx(float(log_probs[0].amax(-1).sum()), abs=1e-9)
    for token, step in zip(found.tokens, found.timesteps, strict=True):
        assert best[step] == token
        run = [t for t in range(steps) if best[min(t, step) : max(t, step) + 1] == [token] * (abs(t - step) + 1)]
        assert log_probs[0, step, token] == max(log_probs[0, t, token] for t in run)


GOOD = random_log_probs(2, 4, 6)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"log_probs": GOOD[0]}, r"shape \[4, 6\]"),
        ({"log_probs": [[1.0]]}, "is a list"),
        ({"log_probs": torch.ones(1, 2, 3, dtype=torch.long)}, "int64"),
        ({"log_probs": np.ones((1, 2, 3), int)}, "int64"),
        ({"log_probs": GOOD.exp()}, "at most 0"),
        ({"log_probs": GOOD.masked_fill(GOOD == GOOD[1, 2, 3], float("nan"))}, "NaN .clip 1, time step 2"),
        ({"log_probs": torch.full((1, 2, 3), math.inf)}, "at most 0"),
        ({"lengths": [4]}, "batch of 2"),
        ({"lengths": [4, 5]}, "length of clip 1 is 5"),
        ({"lengths": [-1, 2]}, "length of clip 0 is -1"),
        ({"lengths": [1.5, 2]}, "whole numbers"),
        ({"blank": 6}, "blank is 6"),
        ({"blank": -1}, "blank is -1"),
    ],
)
def test_errors_of_both_decoders(arguments, message):
    arguments = {"log_probs": GOOD, **arguments}
    for backend in BACKENDS:
        with pytest.raises(ConfigError, match=message):
            beam_search(**arguments, backend=backend)
    with pytest.raises(ConfigError, match=message):
        greedy_search(**arguments)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"beam_width": 0}, "beam_width is 0"),
        ({"beam_width": 2.0}, "beam_width is 2.0"),
        ({"top_tokens": 0}, "top_tokens is 0"),
        ({"n_best": 11}, "n_best is 11"),
        ({"n_best": 0}, "n_best is 0"),
        ({"hot_words": {0: 1.0}}, "is the blank"),
        ({"hot_words": {9: 1.0}}, "no class index"),
        ({"hot_words": {"A": 1.0}}, "no class index"),
        ({"hot_words": {1: math.nan}}, "finite"),
        ({"insertion_bonus": math.inf}, "insertion_bonus"),
        ({"lm_weight": -1.0}, "lm_weight"),
    ],
)
def test_errors_of_beam_search(arguments, message):
    with pytest.raises(ConfigError, match=message):
        beam_search(GOOD, **arguments)
