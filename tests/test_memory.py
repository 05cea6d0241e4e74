"""memory_plan(): counted bytes against those that are really alive, and the advice when memory runs out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_models import frames, tiny

from slakit.config import AugmentConfig, TrainConfig
from slakit.models import create_model
from slakit.models.exact.live_bytes import LiveBytes
from slakit.models.packing import Clips
from slakit.records import Sample, SlakitError
from slakit.training.memory import MemoryPlan, memory_plan, naming_what_fits
from slakit.training.presets import preset

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
from published import PublishedAdaptSign
from training_step import kept_bytes

SETTINGS = TrainConfig(batch_size=4, accumulate=2, augment=AugmentConfig(max_frames=230))


def plan(available: int) -> MemoryPlan:
    return MemoryPlan("cuda", "float16", available, fixed=1000, per_frame=100, recomputed={"mlp": 50, "block": 20})


def test_bytes_a_frame_are_those_of_a_real_step():
    model = tiny("sla-lora", rank=4, blocks="2-3").train()
    found = memory_plan(model, SETTINGS, "cpu", 10**9)
    peaks = []
    for count in (16, 32):
        images, live = model.normalise(frames(count)), LiveBytes()
        live.ignore(model)
        with live:
            features = model.encode(images, torch.tensor([count]))
            features.sum().backward()
        peaks.append(live.peak)
        del features
    assert found.per_frame == pytest.approx((peaks[1] - peaks[0]) / 16, rel=0.15)
    assert max(found.recomputed.values()) < found.per_frame  # of which is least, the number of blocks decides
    assert found.fixed >= sum(p.nbytes for p in model.parameters())
    compiled = memory_plan(model, replace(SETTINGS, compile=True), "cpu", 10**9)
    assert compiled.per_frame == int(1.1 * found.per_frame) and compiled.fixed == found.fixed


def test_the_peak_is_that_of_every_single_operation():
    """Storages that live together, that are gone before the next comes, and that are used again in place."""
    with LiveBytes() as live:
        kept = [torch.zeros(100)]
        for _ in range(3):
            short = torch.zeros(1000)
            short.add_(1)
            del short
        kept.append(kept[0] + 1)
    assert live.peak == 4 * (100 + 1000) and live.live() == 4 * (100 + 100)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sla-lora", "sla-adapter", "adaptsign", "full", "partial", "frozen"])
def test_the_t4_presets_hold_the_longest_clip_of_phoenix(method):
    chosen = preset(f"{method}/phoenix2014@t4")
    options = chosen.model_options() | {"pretrained": None}
    model = create_model(glosses=[f"G{i}" for i in range(1295)], **options)
    longest = 4 * -(-chosen.train.augment.max_frames // 4)
    made = memory_plan(model, chosen.train, "cuda", available=15e9)
    assert made.frames_with(chosen.model.recompute) >= longest * chosen.train.batch_size == 232


def test_frames_fill_the_device_and_no_more():
    made = plan(10_000)
    assert made.frames == 80 and [made.frames_with(part) for part in ("mlp", "block")] == [160, 400]
    assert made.bytes_for(made.frames) <= 0.9 * 10_000 < made.bytes_for(made.frames + 1)
    assert plan(500).frames == 0


def test_a_gpu_that_is_not_here_is_planned_for_in_half_precision():
    model = tiny("sla-lora", rank=4)
    found = memory_plan(model, SETTINGS, "cuda", 10**9)
    assert found.device == "cuda" and found.precision == "float16"
    whole = memory_plan(model, TrainConfig(precision="float32"), "cuda", 10**9)
    assert found.per_frame < whole.per_frame and "frames" in str(found)


def test_the_advice_names_settings_that_fit():
    assert "batch_size=2 and accumulate=4" in plan(60_000).advice(232, SETTINGS)
    assert 'recompute="block", batch_size=1 and accumulate=8' in plan(10_000).advice(232, SETTINGS)
    assert 'fit: recompute="mlp", batch_size=1 and accumulate=8' in plan(16_000).advice(232, SETTINGS)
    assert "augment.max_frames=84" in plan(3_000).advice(232, SETTINGS)
    said = plan(60_000).advice(232, SETTINGS)
    assert 'or max_frames_per_batch=530; recompute="mlp" alone. recompute is the model\'s' in said


def test_running_out_of_memory_names_what_fits():
    model = tiny("sla-lora", rank=4)
    with pytest.raises(SlakitError, match=r"ran out \(tried to allocate\).*batches of up to \d+ frames"):
        with naming_what_fits(model, SETTINGS, torch.device("cpu")):
            raise torch.OutOfMemoryError("tried to allocate")
    for other in (KeyError("k"), RuntimeError("shapes do not fit")):
        with pytest.raises(type(other)) as caught, naming_what_fits(model, SETTINGS, torch.device("cpu")):
            raise other
        assert caught.value is other


def test_the_advice_is_of_the_clips_at_hand_and_can_be_followed():
    """Unknown lengths rule a budget of frames out; without rescaling clips are as long as they are; dev always."""
    model, cpu = tiny("sla-lora", rank=4), torch.device("cpu")
    known = [Sample("a", Path("a"), ("G",), num_frames=60), Sample("b", Path("b"), ("G",), num_frames=300)]
    unknown = [replace(sample, num_frames=None) for sample in known]
    whole = replace(SETTINGS, augment=AugmentConfig(temporal_scale=None))

    def said(samples, settings=SETTINGS, **options) -> str:
        with pytest.raises(SlakitError) as caught, naming_what_fits(model, settings, cpu, samples, **options):
            raise torch.OutOfMemoryError("no room")
        return str(caught.value)

    assert "up to 232 frames" in said(known) and "up to 300 frames" in said(known, whole)
    assert "up to 232 frames" in said(unknown) and "max_frames_per_batch" not in said(unknown)
    assert "is not known here" in said(unknown, whole) and "slakit prepare" in said(unknown, whole)
    dev = said(known, train=False)
    assert "in evaluation (no room)" in dev and "up to 300 frames" in dev and "batch_size=1 takes one" in dev
    assert "max_frames" not in dev


def test_an_allocation_that_the_machine_refuses_is_told_as_memory():
    """Four pebibytes: on the CPU that is a RuntimeError without a class of its own."""
    with pytest.raises(SlakitError, match=r"the memory of cpu ran out \(.*allocate.*batches of up to \d+ frames"):
        with naming_what_fits(tiny("sla-lora", rank=4), SETTINGS, torch.device("cpu")):
            torch.empty(2**50, dtype=torch.float32)


def encoded(encoder, images: torch.Tensor) -> torch.Tensor:
    """One clip."""
    return encoder(images, Clips([len(images)]))


def test_adaptsign_keeps_two_thirds_of_the_published_bytes_at_most():
    """Three blocks of ViT-B/16's width in float32; benchmarks/training_step.py counts all twelve."""
    encoder = tiny("adaptsign", "wide-quick").encoder.train()
    published = kept_bytes(PublishedAdaptSign(encoder, recompute=False), lambda module, images: module(images), None)
    assert 0 < kept_bytes(encoder, encoded, None) <= 0.65 * published


def test_a_clip_of_200_frames_trains_within_14_gb():
    """SLA-LoRA in blocks 5-12 of ViT-B/16, half precision: eight times what one more adapted block keeps."""
    both, last = (
        2**20 * kept_bytes(tiny("sla-lora", "wide-quick", blocks=blocks).encoder.train(), encoded, torch.float16)
        for blocks in ("2-3", "3-3")
    )
    block = both - last
    weights = 4 * 86e6 * 1.5  # float32 and half-precision copies of the frozen tower
    backward = 2 * block  # of the block at hand, generously
    assert 0 < 200 * (last + 7 * block + backward) + weights <= 14e9
