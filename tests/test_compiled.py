"""Compiled blocks: the same results, one graph for any number of frames, and a way back where compiling fails."""

from __future__ import annotations

import copy
import functools

import pytest
import survival
import torch
import torch.nn.functional as F
from tiny_models import frames, stir, tiny
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.attention import sdpa_kernel

import slakit
from slakit.models.compiled import compiled, should_compile
from slakit.models.exact import query_attention
from slakit.models.packing import Clips
from slakit.models.towers import blocks
from slakit.models.towers import open_clip as towers
from slakit.models.towers.encoder import Encoder
from slakit.models.towers.open_clip import patch_product

CPU = torch.device("cpu")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
METHODS = {
    "sla-lora": {"blocks": "2-3", "rank": 2, "n_div": 8},
    "sla-adapter": {"blocks": "2-3", "width": 8},
    "adaptsign": {},
    "full": {},
    "frozen": {},
}
NETWORKS = ("vac", "sen", "corrnet", "corrnet+", "slowfastsign")


@pytest.fixture(autouse=True)
def clean():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def encoder(method: str) -> torch.nn.Module:
    model = tiny(method, **METHODS.get(method, {}))
    stir(model)
    return model.encoder.train()


def results(encoder, lengths, half=None):
    """Features, and all gradients in one vector, in float64 numbers."""
    parameter = next(encoder.parameters())
    images = (frames(sum(lengths)).double() / 127.5 - 1).to(parameter)
    encoder.zero_grad(set_to_none=True)
    with torch.autocast(parameter.device.type, half or torch.bfloat16, enabled=half is not None):
        features = encoder(images, Clips(lengths, parameter.device))
    found = [torch.zeros(0)]
    if features.requires_grad:
        weights = torch.linspace(-1, 1, features.numel()).view_as(features).to(features.device)
        (features.double() * weights).sum().backward()
        found = [p.grad.double().flatten().cpu() for p in encoder.parameters() if p.grad is not None]
    return features.detach().double().cpu(), torch.cat(found)


def distances(found, wanted):
    return [float((a - b).norm() / b.norm()) if b.numel() else 0.0 for a, b in zip(found, wanted, strict=True)]


@pytest.mark.parametrize(
    ("method", "half"), [("sla-lora", None), *((method, torch.bfloat16) for method in METHODS if method != "full")]
)
def test_results_are_those_of_the_plain_form_for_any_clips(method, half):
    """Against float64: no further away than the plain form. The graphs are checked, no kernels are made for them."""
    ours = encoder(method)
    exact = copy.deepcopy(ours).double()
    with compiled(ours, True, CPU, half, say=False, backend="aot_eager"):
        assert ours.compiled
        for lengths in ([5], [3, 4], [8, 2]):
            wanted, found = results(exact, lengths), results(ours, lengths, half)
            plain = copy.deepcopy(ours)
            plain.compiled = {}
            for far, usual in zip(
                distances(found, wanted), distances(results(plain, lengths, half), wanted), strict=True
            ):
                assert far <= 1.5 * usual + 1e-6
    assert ours.compiled == {}


@pytest.mark.parametrize("method", ["sla-lora", "adaptsign"])
def test_what_only_a_gpu_takes_gives_the_same_and_breaks_no_graph(monkeypatch, method):
    """Aligned rows, patches as a product, another choice of attention kernels: all of it on the CPU, in float64."""
    ours = encoder(method).double()
    wanted = results(ours, [3, 4])

    def fill(rows):
        return F.pad(rows, (0, 0, 0, -rows.shape[1] % query_attention.ALIGNED))

    for module in (blocks, query_attention):
        monkeypatch.setattr(module, "aligned", fill)
    monkeypatch.setattr(blocks, "kernels", lambda any_length: sdpa_kernel(blocks.ANY_LENGTH))
    monkeypatch.setattr(towers.OpenClipTower, "patches", lambda self, x: patch_product(self.conv1, x, self.grid))
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, fullgraph=True))
    with compiled(ours, True, CPU, None, say=False, backend="aot_eager"):
        assert ours.compiled
        assert max(distances(results(ours, [3, 4]), wanted)) < 1e-12


def as_on_a_gpu(monkeypatch) -> None:
    choose = Encoder.choose_kernels
    monkeypatch.setattr(Encoder, "choose_kernels", lambda self, frames, on_gpu: choose(self, frames, True))


def test_a_number_of_frames_gets_the_kernels_to_be_prepared_when_it_comes_again(monkeypatch):
    """In training alone; with both kinds of kernels the features and all gradients are the same."""
    as_on_a_gpu(monkeypatch)
    ours = encoder("sla-lora").double()
    chosen, kernels = [], blocks.kernels
    monkeypatch.setattr(blocks, "kernels", lambda any_length: chosen.append(any_length) or kernels(any_length))

    def step(*lengths):
        del chosen[:]
        found = results(ours, lengths)
        assert len(set(chosen)) == 1, "all blocks alike"
        return chosen[0], found

    new, first = step(3, 4)
    known, again = step(3, 4)
    assert (new, known) == (True, False) and max(distances(again, first)) < 1e-12
    assert step(5, 2)[0] is False, "the frames of a batch are counted together"
    assert step(5, 3)[0] is True
    with torch.no_grad():
        ours.eval()(torch.zeros(8, 3, 32, 32, dtype=torch.float64), Clips([8]))
    assert chosen[-1] is True


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("method", ["sla-lora", "adaptsign", "full"])
def test_no_batch_makes_new_graphs(method, gpu, monkeypatch):
    if gpu:
        as_on_a_gpu(monkeypatch)
    counter, ours = CompileCounterWithBackend("aot_eager"), encoder(method)
    with compiled(ours, True, CPU, None, say=False, backend=counter):
        before = counter.frame_count
        assert before > 0
        for lengths in ([5], [3, 4], [8, 2, 6], [3, 4], [8, 2, 6]):
            results(ours, lengths)
        assert counter.frame_count == before


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["sla-lora", "adaptsign"])
def test_kernels_give_the_same(method):
    """The whole way, kernels included; on a GPU where there is one."""
    ours = encoder(method).to(DEVICE)
    exact = copy.deepcopy(ours).double()
    wanted, plain = results(exact, [6, 5]), results(ours, [6, 5], torch.bfloat16)
    with compiled(ours, True, DEVICE, torch.bfloat16, say=False):
        found = results(ours, [6, 5], torch.bfloat16)
        assert ours.compiled
    for far, usual in zip(distances(found, wanted), distances(plain, wanted), strict=True):
        assert far <= 1.5 * usual


def test_what_cannot_be_compiled_runs_as_it_is_and_says_why(capsys):
    def broken(graph, inputs):
        raise RuntimeError("no such kernel")

    ours = encoder("sla-lora")
    wanted = results(ours, [4, 3])
    with compiled(ours, True, CPU, None, backend=broken):
        assert ours.compiled == {} and all(map(torch.equal, results(ours, [4, 3]), wanted))
    said = capsys.readouterr().out
    assert "not compiled" in said and "no such kernel" in said


@pytest.mark.parametrize("method", NETWORKS)
def test_networks_that_look_at_whole_clips_say_why_they_are_not_compiled(method, capsys):
    ours = encoder(method)
    wanted = results(ours, [4, 3])
    counter = CompileCounterWithBackend("aot_eager")
    with compiled(ours, True, CPU, None, backend=counter):
        assert bool(ours.compiled) == (method == "vac")
        assert max(distances(results(ours, [4, 3]), wanted)) < 1e-5
        results(ours, [12, 9])  # from 16 frames on a CPU takes other convolutions
        before = counter.frame_count
        for lengths in ([20], [8, 9, 10]):
            results(ours, lengths)
        assert counter.frame_count == before
    words = "compiling the encoder's blocks" if method == "vac" else "not compiled: the network's blocks look at whole"
    assert capsys.readouterr().out.startswith(words)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, KeyboardInterrupt])
def test_a_trial_that_is_broken_off_leaves_the_encoder_plain(monkeypatch, error):
    def stop(*arguments):
        raise error("now")

    monkeypatch.setattr("slakit.models.compiled._try", stop)
    ours = encoder("sla-lora")
    with pytest.raises(error), compiled(ours, True, CPU, None, say=False):
        pass
    assert ours.compiled == {}


@pytest.mark.parametrize("method", ["sla-lora", "vac"])
def test_nothing_is_left_behind(method):
    """No gradients, no random numbers drawn, no other mode or statistics; and `auto` leaves a CPU alone."""
    ours, state = encoder(method).eval(), torch.get_rng_state()
    before = copy.deepcopy(ours.state_dict())
    with compiled(ours, True, CPU, None, say=False, backend="aot_eager"):
        assert not ours.training and all(p.grad is None for p in ours.parameters())
        assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in ours.state_dict().items())
    assert not should_compile(ours, CPU)
    with compiled(ours, "auto", CPU, None):
        assert ours.compiled == {}


def test_a_run_that_is_told_to_compile_trains_as_any_other(tmp_path, monkeypatch, capsys):
    from slakit.training import run as training

    quick = lambda *arguments, **options: compiled(*arguments, **options, backend="aot_eager")  # noqa: E731
    monkeypatch.setattr(training, "compiled", quick)
    clips, losses = survival.corpus(tmp_path / "clips"), {}
    for wanted in (True, False):
        run = slakit.fit(
            survival.model(), clips, tmp_path / str(wanted), survival.SETTINGS, compile=wanted, show_progress=False
        )
        losses[wanted] = [row["loss_total"] for row in run.history]
        assert not run.model.encoder.compiled
    said = capsys.readouterr().out
    assert said.count("compiling the encoder's blocks") == said.count("on a CPU it gains nothing") == 1
    assert losses[True] == pytest.approx(losses[False], rel=1e-4)


def test_patches_by_one_product_are_the_convolution():
    conv = torch.nn.Conv2d(3, 10, 4, stride=4).double()
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
    wanted = conv(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patch_product(conv, images, (3, 3)), wanted, rtol=0, atol=1e-13)
