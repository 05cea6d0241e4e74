"""Clips as from a phone: wide, off-centre, hand-held, the same every time; and a folder that is not overwritten."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

import slakit
from slakit.__main__ import main
from slakit.data.doctor import doctor
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


def test_the_doctor_says_that_wide_pictures_should_be_cut_and_how(tmp_path):
    folder = phone.draw(tmp_path / "clips", 2, 1, 1, progress=False)
    found = {f.level: f for f in doctor("folder", folder, show_progress=False).findings if f.check == "crop"}
    assert list(found) == ["warning"] and "320x180 (16:9)" in found["warning"].message
    share = int(re.search(r"fill (\d+) % of their width", found["warning"].message)[1])
    assert 18 <= share <= 40 and '"corpus_options": {"crop": "signer"}' in found["warning"].advice
    assert "-o crop signer" in found["warning"].advice
    found = {
        f.level: f for f in doctor("folder", folder, show_progress=False, crop="signer").findings if f.check == "crop"
    }
    assert list(found) == ["ok"] and "the square that is cut out is" in found["ok"].message
    report = doctor("folder", folder, show_progress=False, crop=(200, 0, 170))
    assert not report.healthy and any("smaller than the square" in finding.message for finding in report.findings)


def test_the_doctor_finds_what_folders_of_own_videos_suffer_from(tmp_path):
    """One folder with all of it: copies across splits, one signer, few repetitions, spellings, hidden letters."""
    folder = phone.draw(tmp_path / "clips", 3, 1, 1, progress=False)
    videos = sorted((folder / "videos").iterdir())
    (folder / "videos/again.mp4").write_bytes(videos[0].read_bytes())
    rows = [
        f"videos/{videos[0].name},LEARN Learn,train,anna", f"videos/{videos[1].name},LERAN WA\u200bTER,train,anna",
        f"videos/{videos[2].name},WATER,train,anna", "videos/again.mp4,LEARN Learn,test,anna",
    ]  # fmt: skip
    (folder / "annotations.csv").write_text("\n".join(["path,glosses,split,signer", *rows]), encoding="utf-8")
    report = doctor("folder", folder, show_progress=False)
    told = "\n".join(f"{finding.message} {finding.advice}" for finding in report.findings)
    for words in (
        "there is no dev split", "1 clips are in more than one split", "one signer, anna, is in all splits",
        "signed fewer than 5 times in train", "upper and lower case alone: 'LEARN' and 'Learn'",
        "characters that nobody sees", "nearly the same: LEARN and LERAN", "320x180 (16:9)",
    ):  # fmt: skip
        assert words in told, words
    (folder / "annotations.csv").write_text("path;glosses;split\na.mp4;HELLO;train\n")
    report = doctor("folder", folder)
    assert not report.healthy and "separated by ';', not commas" in report.findings[0].message
