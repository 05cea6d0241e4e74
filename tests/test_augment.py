"""The published transforms: windows, flips, temporal rescale with its clamps and rounding, and their statistics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from media import pictures

from slakit.config import AugmentConfig
from slakit.data.augment import ClipTransform, apply_plan, rescaled_length, sample_generator
from slakit.data.video.resize import resize
from slakit.records import ConfigError, VideoError


def published_length(frames: int, u: float, low: int = 32, high: int = 230) -> int:
    """The public code's TemporalRescale, word for word."""
    lower, upper = 1 - 0.2, 1 + 0.2
    new = int(frames * (lower + (upper - lower) * u))
    if new < low:
        new = low
    if new > high:
        new = high
    if (new - 4) % 4 != 0:
        new += 4 - (new - 4) % 4
    return new


def test_rescaled_lengths_are_the_published_ones():
    for frames in range(1, 400):
        for u in (0.0, 0.1, 0.37, 0.5, 0.73, 0.999999):
            factor = 0.8 + (1.2 - 0.8) * u
            assert rescaled_length(frames, factor, 32, 230) == published_length(frames, u), (frames, u)
    assert rescaled_length(1000, 1.0, 32, 230) == 232  # rounding up comes after the clamp
    assert rescaled_length(1, 1.0, 32, 230) == 32


def test_training_statistics_over_many_draws():
    transform, plans = ClipTransform(), []
    for draw in range(6000):
        plans.append(transform.plan(100, 256, 256, sample_generator(0, 0, draw)))
    tops, lefts = np.array([p.top for p in plans]), np.array([p.left for p in plans])
    for offsets in (tops, lefts):  # uniform over 0 .. 32, both included
        counts = np.bincount(offsets, minlength=33)
        assert len(counts) == 33
        expected = len(plans) / 33
        assert ((counts - expected) ** 2 / expected).sum() < 65  # chi square, 32 degrees: 1 in 2000
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.05
    assert abs(np.mean([p.flip for p in plans]) - 0.5) < 0.025
    lengths = np.array([len(p.frames) for p in plans])
    assert set(lengths) <= set(range(80, 121, 4)) and abs(lengths.mean() - 101.5) < 1
    for plan in plans[:300]:
        assert (np.diff(plan.frames) >= 0).all() and plan.frames.min() >= 0 and plan.frames.max() < 100
        if len(plan.frames) <= 100:
            assert len(set(plan.frames.tolist())) == len(plan.frames)
    used = np.bincount(np.concatenate([p.frames for p in plans if len(p.frames) < 100]), minlength=100)
    assert used.min() > 0.9 * used.mean()  # every frame is as likely as another


def test_the_clamps():
    generator = np.random.default_rng(0)
    for frames, lengths in ((5, {32}), (400, {232})):
        assert {len(ClipTransform().plan(frames, 256, 256, generator).frames) for _ in range(50)} == lengths
    for frames in (5, 30, 100, 250, 299):
        low, high = ClipTransform().lengths(frames)
        drawn = {len(ClipTransform().plan(frames, 256, 256, generator).frames) for _ in range(300)}
        assert min(drawn) >= low and max(drawn) <= high
    everything = ClipTransform(AugmentConfig(temporal_scale=None)).plan(7, 256, 256, generator)
    assert everything.frames.tolist() == list(range(7))


def test_evaluation_is_the_centre_of_every_frame():
    plan = ClipTransform(train=False).plan(301, 256, 256)
    assert (plan.top, plan.left, plan.size, plan.flip) == (16, 16, 224, False)
    assert plan.frames.tolist() == list(range(301))
    assert ClipTransform(AugmentConfig(image_size=96, crop_size=84), train=False).plan(3, 96, 96).top == 6


def naive(frames: np.ndarray, plan) -> np.ndarray:
    """Pad with black, cut, mirror: one frame after the other with plain slicing."""
    out = []
    for number in plan.frames:
        padded = np.pad(frames[number], ((plan.size, plan.size), (plan.size, plan.size), (0, 0)))
        top, left = plan.top + plan.size, plan.left + plan.size
        picture = padded[top : top + plan.size, left : left + plan.size]
        out.append(picture[:, ::-1] if plan.flip else picture)
    return np.stack(out)


@pytest.mark.parametrize("size", [20, 48, 50, 63, 80])
def test_pixels_against_plain_slicing(size):
    frames = pictures(9, 48, 64)
    transform = ClipTransform(AugmentConfig(crop_size=size, min_frames=4))
    flips = set()
    for draw in range(12):
        plan = transform.plan(9, 48, 64, sample_generator(3, 1, draw))
        flips.add(plan.flip)
        out = np.full((len(plan.frames), size, size, 3), 77, np.uint8)
        apply_plan(frames, plan, out)
        assert np.array_equal(out, naive(frames, plan))
    assert flips == {True, False}


def test_streams_do_not_repeat():
    draws = {
        (seed, epoch, index): sample_generator(seed, epoch, index).random(4).tobytes()
        for seed in range(4)
        for epoch in range(12)
        for index in range(40)
    }
    assert len(set(draws.values())) == len(draws)
    assert sample_generator(1, 2, 3).random() == sample_generator(1, 2, 3).random()


def test_values_that_cannot_work_are_named():
    for settings, match in (
        ({"crop_size": 0}, "crop_size=0"),
        ({"flip": 1.5}, "flip=1.5"),
        ({"temporal_scale": 1.0}, "temporal_scale=1.0"),
        ({"min_frames": 300}, "min_frames=300"),
    ):
        with pytest.raises(ConfigError, match=match):
            ClipTransform(AugmentConfig(**settings))
    with pytest.raises(ConfigError, match="random generator"):
        ClipTransform().plan(9, 256, 256)
    with pytest.raises(VideoError, match="no frames"):
        ClipTransform(train=False).plan(0, 256, 256)


def lanczos4(length: int, size: int) -> np.ndarray:
    """The filter in real numbers: sinc(x) sinc(x / 4) over eight taps, normalised; matrix [size, length]."""
    matrix = np.zeros((size, length))
    for target in range(size):
        position = (target + 0.5) * length / size - 0.5
        taps = math.floor(position) + np.arange(-3, 5)
        weights = np.sinc(position - taps) * np.sinc((position - taps) / 4)
        np.add.at(matrix[target], np.clip(taps, 0, length - 1), weights / weights.sum())
    return matrix


@pytest.mark.parametrize(("height", "width", "size"), [(26, 21, 32), (64, 64, 32), (40, 30, 17), (12, 12, 96)])
def test_resize_is_lanczos4(height, width, size):
    frames = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    exact = np.einsum("yh,thwc,xw->tyxc", lanczos4(height, size), frames.astype(float), lanczos4(width, size))
    found = resize(frames, size)
    assert np.abs(found - np.clip(exact, 0, 255)).max() < 1.5  # rounding, and weights in units of 1/2048


def test_resize_equals_opencv():
    """Golden numbers: cv2.resize(…, interpolation=cv2.INTER_LANCZOS4) of OpenCV 5.0.0, seeded noise in five sizes."""
    golden = np.load(Path(__file__).parent / "fixtures/lanczos4_opencv.npz")
    for name in golden.files:
        height, width, size = map(int, name.split("x"))
        frame = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
        difference = np.abs(resize(frame[None], size)[0].astype(int) - golden[name])
        assert difference.max() <= 1 and (difference > 0).mean() < 0.005, name


def test_resize_edges():
    frames = pictures(2, 20, 30)
    assert resize(frames, (20, 30)) is frames
    assert resize(np.full((1, 9, 7, 3), 200, np.uint8), 13).min() == 200  # a flat picture stays flat
    assert resize(frames[:0], 8).shape == (0, 8, 8, 3)
    assert resize(frames, 8, "antialias").shape == (2, 8, 8, 3)
    with pytest.raises(ConfigError, match="nearest"):
        resize(frames, 8, "nearest")
