"""The square around the signer: where the motion is, with room for the head, or the middle."""

from __future__ import annotations

import numpy as np
import pytest
from media import shared
from PIL import Image

from slakit.data.video.cropping import Box, camera_shifts, signer_box, signer_crop
from slakit.data.video.read import read_frames
from slakit.records import ConfigError, VideoError


def moving_hands(centre: int, noise: int = 0) -> np.ndarray:
    """[20, 180, 320, 3]: two bright hands that move up and down left and right of `centre`."""
    generator = np.random.default_rng(0)
    frames = np.full((20, 180, 320, 3), 90, np.int16) + generator.integers(-noise, noise + 1, (20, 180, 320, 3))
    for t in range(20):
        y = 90 + round(25 * np.sin(t / 3))
        frames[t, y : y + 16, centre - 40 : centre - 24] = frames[t, y : y + 16, centre + 24 : centre + 40] = 220
    return frames.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("noise", [0, 3])
@pytest.mark.parametrize("centre", [80, 160, 240])
def test_the_box_holds_the_hands_and_the_head_above(centre, noise):
    box = signer_box(moving_hands(centre, noise))
    assert box.left <= centre - 40 and centre + 40 <= box.left + box.side
    assert box.top <= 65 - 20 and 131 <= box.top + box.side  # hands move between 65 and 131
    assert 0 <= box.left and box.left + box.side <= 320 and box.top + box.side <= 180
    assert abs(box.left + box.side / 2 - centre) < 25


def test_a_camera_in_a_hand_is_followed_and_the_signer_found_before_a_shelf():
    """A shelf behind the hands, brightest on the left; the camera moves by up to 6 pixels."""
    generator, hands = np.random.default_rng(1), moving_hands(160)
    shelf = np.kron(generator.integers(0, 120, (12, 33)), np.ones((16, 10)))[:186, :326]
    shelf[:, :130] *= 2
    wide = np.repeat(shelf[None, :, :, None], 20, 0).repeat(3, 3).astype(np.uint8)
    wide[:, 3:183, 3:323][hands == 220] = 220
    corners = np.rint(3 + 3 * np.sin(np.arange(20)[:, None] / [2.5, 4])).astype(int)
    frames = np.stack([wide[t, y : y + 180, x : x + 320] for t, (x, y) in enumerate(corners)])
    shifts = np.array(camera_shifts([Image.fromarray(frame).convert("L") for frame in frames]))
    expected = np.median(corners, axis=0) - corners
    assert np.abs(shifts - expected).max() <= 1
    box = signer_box(frames)
    assert box.left <= 120 and 200 <= box.left + box.side and abs(box.left + box.side / 2 - 160) < 10
    still = moving_hands(240)
    assert camera_shifts([Image.fromarray(frame).convert("L") for frame in still]) == [(0, 0)] * 20


def test_nothing_moves():
    assert signer_box(np.full((9, 180, 320, 3), 90, np.uint8)) == Box(70, 0, 180)
    assert signer_box(np.full((1, 320, 180, 3), 90, np.uint8)) == Box(0, 70, 180)
    with pytest.raises(VideoError, match="no frames"):
        signer_box(np.empty((0, 9, 9, 3), np.uint8))


def test_a_box_by_hand():
    frames = moving_hands(160)
    assert np.array_equal(signer_crop(frames, box=Box(10, 20, 30)), frames[:, 20:50, 10:40])
    assert signer_crop(frames, 64).shape == (20, 64, 64, 3)
    with pytest.raises(ConfigError, match="leaves the picture of 320x180"):
        signer_crop(frames, box=Box(300, 0, 30))


@pytest.mark.parametrize("clip", ["ambulancia", "doctor", "dolor", "hoy", "yo"])
def test_real_clips(clip):
    """In all five the signer stands left of the middle; checked by eye: head and both hands lie in x 350-850."""
    frames = read_frames(shared("data", "msl150", f"{clip}.mp4"), reader="pyav")
    assert frames.shape[1:] == (720, 1280, 3)
    box = signer_box(frames)
    assert box.left <= 350 and box.left + box.side >= 850 and box.top <= 60
