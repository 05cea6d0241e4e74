"""What only a GPU can show: half-precision steps, counted memory against allocated, a resumed run. Skipped without one.

The benchmark's script is tried on the CPU at a tiny size.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import survival
import torch
from survival import SETTINGS, deltas, model, same, weights

import slakit
from slakit.models import create_model
from slakit.sweeps.costs import measure
from slakit.training.memory import memory_plan
from slakit.training.state import TrainingRun

ROOT = Path(__file__).resolve().parents[1]
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SHORT = replace(SETTINGS, epochs=3, start_from=None, batch_size=1, accumulate=1, checkpoint_steps=0)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return survival.corpus(tmp_path_factory.mktemp("clips"))


@on_gpu
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_steps(clips, tmp_path, precision):
    settings = replace(SHORT, precision=precision)
    run = slakit.fit(model(), clips, tmp_path, settings, device="cuda", show_progress=False)
    skipped = sum(row["steps_skipped"] for row in run.history)
    assert skipped == 0 if precision == "bfloat16" else skipped < 17
    begin, after = model().trainable_state(), weights(tmp_path)
    assert all(not torch.equal(begin[name], after[name]) for name in begin if "lora_" in name)
    assert all(torch.isfinite(value).all() for value in after.values())


@on_gpu
def test_counted_memory_is_the_allocators_peak():
    """A tower of 224 pixels: large enough that the allocator's rounding does not matter."""
    settings = replace(SETTINGS, precision="float16", batch_size=1, compile=False)
    vit = create_model("sla-lora", ["A", "B"], "ViT-B-32-quickgelu", None, blocks="5-12", rank=16).to("cuda")
    torch.cuda.empty_cache()
    peaks = [measure(vit, settings, frames=count, steps=1)["peak_memory_mb"] * 2**20 for count in (32, 96)]
    found = (peaks[1] - peaks[0]) / 64
    assert memory_plan(vit, settings, "cuda").per_frame == pytest.approx(found, rel=0.15)


@on_gpu
def test_attention_of_networks_needs_no_preparation_for_new_numbers_of_frames():
    """cuDNN's kernels do, a tenth of a second for each: CorrNet+ attends with every batch's own number of frames."""
    network, seen = create_model("corrnet+", ["A"], None, None, width=16, image_size=32, hidden_size=32).cuda(), []
    for module in network.encoder.modules():
        if hasattr(module, "k_proj"):
            module.k_proj.register_forward_hook(lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled()))
    network(torch.zeros(9, 3, 32, 32, dtype=torch.uint8, device="cuda"), torch.tensor([9]))
    assert seen == [False] * 3


@on_gpu
def test_a_resumed_run_ends_where_the_straight_one_does(clips, tmp_path, monkeypatch):
    """Kernels of a GPU may add up in another order each time: close, not to the bit."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    slakit.fit(model(), clips, straight, SHORT, device="cuda", show_progress=False)
    original, made = TrainingRun.save, []

    def stop(self, *arguments, **options):
        original(self, *arguments, **options)
        made.append(self.cursor.batch)
        if len(made) == 11:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            slakit.fit(model(), clips, resumed, SHORT, checkpoint_steps=1, device="cuda", show_progress=False)
    assert not same(weights(resumed), weights(straight))
    slakit.fit(model(), clips, resumed, SHORT, device="cuda", show_progress=False)
    moved = deltas(model().trainable_state(), weights(straight))
    assert deltas(weights(straight), weights(resumed)) < 1e-2 * moved


def benchmark(*options: str) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_benchmark_runs_through_on_the_cpu_and_writes_nothing():
    results = ROOT / "benchmarks" / "results" / "gpu.json"
    before = results.read_bytes() if results.exists() else None
    said = benchmark("--device", "cpu", "--tiny", "--no-compile")
    for form in ("sla-lora, eager", "adaptsign, eager", "published, recomputed", "published, kept", "whole step"):
        assert form in said
    assert "nothing is written" in said and before == (results.read_bytes() if results.exists() else None)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_benchmark_ends_politely():
    assert benchmark().startswith("no GPU here")
