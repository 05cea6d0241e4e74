"""Streaming against the offline decoder: equal where it promises to be, late by as much as it says."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import frames, stir, tiny

from slakit.data.video.cropping import Box
from slakit.models.packing import Clips
from slakit.recognition import fit_frames, recognize_frames
from slakit.recognition.streaming import StreamingRecognizer
from slakit.records import ConfigError

METHODS = ["frozen", "sla-lora", "sla-adapter", "adaptsign"]


@functools.cache
def model_of(method: str, padding: str = "features"):
    options = {"padding": "published"} if padding == "published" else {}
    model = tiny(method, **options).eval()
    stir(model, scale=0.5 if method == "sla-adapter" else 0.1)
    return model


def pictures(count: int, seed: int = 0, size: int = 32) -> np.ndarray:
    return frames(count, seed, size).permute(0, 2, 3, 1).contiguous().numpy()  # [count, size, size, 3]


def offline(model, raw: np.ndarray):
    """What recognize() does behind the reader."""
    return recognize_frames(model, raw, source="stream")


@torch.inference_mode()
def features_of(model, packed: torch.Tensor) -> torch.Tensor:
    return model.encoder(model.normalise(packed), Clips([len(packed)]))


@pytest.mark.parametrize("method", METHODS)
def test_reach_is_where_a_change_of_one_frame_ends(method):
    """Brute force: change one frame, see which features change."""
    model, middle = model_of(method), 12
    before = frames(25)
    after = before.clone()
    after[middle] = 255 - after[middle]
    changed = (features_of(model, before) != features_of(model, after)).any(1).nonzero()[:, 0]
    reach = model.encoder.reach
    assert middle - reach <= changed.min() and changed.max() <= middle + reach
    if method == "frozen":
        assert reach == 0
    if method == "sla-lora":  # one frame for each of three blocks: the bound is met
        assert reach == 3 and (changed.min(), changed.max()) == (middle - 3, middle + 3)


@pytest.mark.parametrize("padding", ["features", "published"])
@pytest.mark.parametrize("method", METHODS)
def test_one_chunk_that_holds_the_clip_is_exactly_offline(method, padding):
    model, raw = model_of(method, padding), pictures(30, size=40)
    whole = offline(model, raw)
    stream = StreamingRecognizer(model, chunk_frames=30, keep_frames=True)
    for part in np.split(raw, [1, 5, 22]):
        assert stream.push(part).glosses == ()
    result = stream.finish()
    assert np.array_equal(result.posteriors, whole.posteriors) and np.array_equal(result.frames, whole.frames)
    assert (result.glosses, result.spans, result.score) == (whole.glosses, whole.spans, whole.score)
    assert result.alternatives == whole.alternatives


@settings(max_examples=20, deadline=None)
@given(
    length=st.integers(1, 45),
    chunk=st.integers(1, 12),
    cuts=st.lists(st.integers(0, 45), max_size=5),
    method=st.sampled_from(METHODS),
    padding=st.sampled_from(["features", "published"]),
)
def test_with_all_the_context_only_rounding_differs(length, chunk, cuts, method, padding):
    """Chunks of any size, pushed in any portions: with unlimited lookahead the answer is the offline one."""
    model, raw = model_of(method, padding), pictures(length, seed=length)
    stream = StreamingRecognizer(model, chunk_frames=chunk, context_steps=100, lookahead_steps=100, keep_frames=True)
    for part in np.split(raw, sorted(min(cut, length) for cut in cuts)):
        stream.push(part)
    result, whole = stream.finish(), offline(model, raw)
    assert np.array_equal(result.frames, whole.frames)
    assert np.allclose(result.posteriors, whole.posteriors, atol=2e-5)
    if method == "frozen" and padding == "features":
        assert stream.encoder_frames == length, "every frame is encoded once"


@pytest.mark.parametrize("method", ["frozen", "sla-lora"])
@pytest.mark.parametrize("chunk,lookahead", [(4, 1), (7, 3)])
def test_every_step_is_decided_as_late_as_announced(method, chunk, lookahead):
    model, raw = model_of(method), pictures(90)
    stream = StreamingRecognizer(model, chunk_frames=chunk, lookahead_steps=lookahead, context_steps=4)
    delays, decided = [], 0
    for number, frame in enumerate(raw, 1):
        heard = stream.push(frame[None])
        assert heard.frames_received == number and heard.frames_decided % 4 == 0
        delays += [number - end for end in range(decided + 4, heard.frames_decided + 1, 4)]
        decided = heard.frames_decided
    assert len(delays) > 10
    least, most = stream.latency_frames
    assert least <= min(delays) and max(delays) <= most
    if chunk == 7:  # chunks and steps fall together in every way
        assert (min(delays), max(delays)) == (least, most)
    result = stream.finish()
    assert len(result.posteriors) == 23 and stream.state().frames_decided == 90
    assert len(stream._features) <= 4 * (4 + lookahead) + 32 and len(stream._window) <= chunk + 8, "memory is bounded"


def test_the_convolution_is_exact_and_the_window_alone_approximates():
    """The convolutional head has no recurrence: from windows it gives the offline numbers."""
    model, raw = model_of("sla-lora"), pictures(61)
    seen = []
    hook = model.sequence.conv.register_forward_hook(lambda _, __, output: seen.append(output[0].T))
    stream = StreamingRecognizer(model, chunk_frames=8, context_steps=2, lookahead_steps=2)
    stream.push(raw)
    result = stream.finish()
    hook.remove()
    packed = torch.from_numpy(raw).permute(0, 3, 1, 2)
    whole = offline(model, raw)
    with torch.inference_mode():
        expected = model.sequence.conv(_padded(features_of(model, fitted(model, packed))))[0].T  # [T', hidden]
    for part in seen:
        place = int((expected[:, None] - part[None, :1]).abs().amax(-1).argmin())
        assert torch.allclose(expected[place : place + len(part)], part, atol=1e-4)
    assert result.posteriors.shape == whole.posteriors.shape


def fitted(model, packed: torch.Tensor) -> torch.Tensor:
    shaped = fit_frames(packed.permute(0, 2, 3, 1).numpy(), model.image_size)
    return torch.from_numpy(shaped).permute(0, 3, 1, 2)


def _padded(features: torch.Tensor) -> torch.Tensor:
    """[T, F] -> [1, F, padded T]: six copies in front, the published number behind."""
    end = features[-1:].expand(-len(features) % 4 + 6, -1)
    return torch.cat([features[:1].expand(6, -1), features, end]).T[None]


def test_crop_is_decided_by_the_first_chunk_or_by_hand():
    model, raw = model_of("frozen"), np.zeros((40, 48, 80, 3), np.uint8)
    raw[::2, 10:20, 50:70] = 255  # moves right of the middle
    stream = StreamingRecognizer(model, chunk_frames=8)
    stream.push(raw)
    assert isinstance(stream.crop, Box) and stream.crop.left > 16
    by_hand = StreamingRecognizer(model, chunk_frames=8, crop=Box(3, 2, 40), keep_frames=True)
    by_hand.push(raw)
    assert np.allclose(by_hand.finish().frames, fit_frames(raw, 32, Box(3, 2, 40)))


def test_training_mode_is_left_as_it_was():
    model = tiny("frozen").train()
    stream = StreamingRecognizer(model, chunk_frames=4)
    stream.push(pictures(9))
    stream.finish()
    assert model.training


def test_mistakes_say_what_to_do():
    model = model_of("frozen")
    with pytest.raises(ConfigError, match="chunk_frames is 0"):
        StreamingRecognizer(model, chunk_frames=0)
    stream = StreamingRecognizer(model)
    with pytest.raises(ConfigError, match="before a frame came"):
        stream.finish()
    with pytest.raises(ConfigError, match="push uint8"):
        stream.push(np.zeros((2, 8, 8, 3)))
    stream.push(pictures(3))
    stream.finish()
    with pytest.raises(ConfigError, match="is finished"):
        stream.push(pictures(3))


@pytest.mark.parametrize("lengths", ["padded", "frames", "pooled"])
def test_times_come_from_the_auxiliary_head_as_offline(lengths):
    model, raw = tiny("sla-lora", auxiliary_lengths=lengths).eval(), pictures(37)
    stream = StreamingRecognizer(model, chunk_frames=8, context_steps=99, lookahead_steps=99)
    stream.push(raw)
    result, whole = stream.finish(), offline(model, raw)
    assert result.glosses == whole.glosses and len(whole.glosses)
    assert [(s.start, s.end) for s in result.spans] == [(s.start, s.end) for s in whole.spans]
    exact = StreamingRecognizer(model, chunk_frames=37)
    exact.push(raw)
    assert exact.finish().spans == whole.spans
