"""Clips as from a phone: wide, off-centre, hand-held, the same every time; and a folder that is not overwritten."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import slakit
from slakit.__main__ import main
from slakit.data.video.read import open_source
from slakit.minisign import phone
from slakit.records import ConfigError


def test_the_plan_has_twelve_words_three_signers_and_no_sentence_twice():
    signers, clips = phone.plan_clips()
    assert Counter(clip.split for clip in clips) == {"train": 60, "dev": 24, "test": 24}
    assert len({clip.glosses for clip in clips}) == 108 and {g for clip in clips for g in clip.glosses} == set(
        phone.WORDS
    )
    assert {(clip.split, clip.signer) for clip in clips} == {(s, n) for s in ("train", "dev", "test") for n in signers}
    assert min(Counter(g for c in clips if c.split == "train" for g in c.glosses).values()) >= 5
    again = phone.plan_clips()[1]
    assert all(np.array_equal(a.bodies, b.bodies) and a.scene == b.scene for a, b in zip(clips, again, strict=True))
    assert phone.plan_clips(seed=1)[1][0].glosses != clips[0].glosses or phone.plan_clips(seed=1)[0] != signers
    for clip in clips:
        assert np.abs(np.diff(clip.camera, axis=0)).max() <= 2 * phone.SHAKE and len(np.unique(clip.camera, axis=0)) > 1
        assert 0 <= clip.camera.min() and clip.camera.max() <= 2 * phone.SHAKE


def test_a_folder_is_drawn_once_and_the_same(tmp_path, capsys):
    assert main(["draw", str(tmp_path / "a"), "--train", "2", "--dev", "1", "--test", "1"]) == 0
    assert "slakit doctor folder --root" in capsys.readouterr().out
    corpus = slakit.load_corpus("folder", tmp_path / "a")
    assert [len(corpus.split(name)) for name in ("train", "dev", "test")] == [2, 1, 1]
    info = open_source(corpus.train[0].source).info
    assert (info.width, info.height, info.fps) == (320, 180, 25)
    first = corpus.train[0].source
    content, time = first.read_bytes(), corpus.train[1].source.stat().st_mtime_ns
    first.unlink()
    phone.draw(tmp_path / "a", 2, 1, 1, progress=False)
    assert first.read_bytes() == content and corpus.train[1].source.stat().st_mtime_ns == time
    with pytest.raises(ConfigError, match="other things than these clips"):
        phone.draw(tmp_path / "a", 2, 1, 1, seed=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="name another"):
        phone.draw(tmp_path / "b")
    with pytest.raises(ConfigError, match="train=0 must be"):
        phone.plan_clips(train=0)
