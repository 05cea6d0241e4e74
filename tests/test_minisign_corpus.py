"""MiniSign on disk: plan, files, resumption, reading."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from slakit.data.corpora import load_corpus
from slakit.data.corpora.minisign import load_landmarks
from slakit.minisign import clips, corpus, lexicon, sentences
from slakit.records import ConfigError, CorpusError

TINY = {"train": 5, "dev": 2, "test": 2, "train_signers": 3, "dev_signers": 1, "test_signers": 2, "seed": 7}
MANY = {"train": 90, "dev": 40, "test": 7}
PROJECT = Path(__file__).resolve().parents[1]


def annotation_bytes(folder: Path) -> dict[str, bytes]:
    names = [f"annotations/{name}" for name in ("train.csv", "dev.csv", "test.csv", "spans.csv", "glosses.txt")]
    return {name: (folder / name).read_bytes() for name in [*names, "README.txt", "manifest.json"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    return corpus.build(tmp_path_factory.mktemp("minisign"), progress=False, **TINY)


def test_splits_share_no_signer_and_no_sentence(built):
    loaded = load_corpus("minisign", built.parent, progress=False, **TINY)
    assert loaded.root == built and loaded.name == "minisign"
    assert [len(loaded.split(split)) for split in ("train", "dev", "test")] == [5, 2, 2]
    people = [{sample.signer for sample in loaded.split(split)} for split in ("train", "dev", "test")]
    assert sum(map(len, people)) == len(set.union(*people)) == 6
    spoken = [sample.glosses for split in ("train", "dev", "test") for sample in loaded.split(split)]
    assert len(set(spoken)) == len(spoken)
    assert loaded.glosses.glosses == tuple(sorted(lexicon.LEXICON))
    for sample in (*loaded.train, *loaded.dev, *loaded.test):
        assert tuple(span.gloss for span in sample.spans) == sample.glosses
        edges = [edge for span in sample.spans for edge in (span.start, span.end)]
        assert edges == sorted(set(edges)) and edges[0] > 0 and edges[-1] < sample.num_frames
        assert sample.source.is_file() and sample.fps == 25.0


def test_default_corpus_plan_fits_ctc():
    signers, planned = clips.plan_corpus(clips.Settings())
    assert Counter(clip.split for clip in planned) == {"train": 640, "dev": 300, "test": 300}
    assert len({signer.skin + signer.clothes + signer.hair for signer in signers.values()}) >= 14
    handed = {split: {signers[c.signer].right_handed for c in planned if c.split == split} for split in clips.SPLITS}
    assert set(map(len, handed.values())) == {2}, "left-handers are in every split, in training too"
    for clip in planned:
        repeats = sum(a == b for a, b in pairwise(clip.glosses))
        assert clip.num_frames // 4 - 3 >= len(clip.glosses) + repeats, "two convolutions of 5 and two poolings by 2"
    spoken = Counter(gloss for clip in planned if clip.split == "train" for gloss in clip.glosses)
    assert set(spoken) == set(lexicon.LEXICON) and min(spoken.values()) >= 40
    assert 38 < np.mean([clip.num_frames for clip in planned]) < 54


def test_a_corpus_of_another_size_deals_no_sentence_to_another_split():
    """The first clips and the signers of a split are the same whatever the counts; a sentence knows its split."""
    few, many = (clips.plan_corpus(replace(clips.Settings(**TINY), **counts)) for counts in ({}, MANY))
    for split in clips.SPLITS:
        first, second = ([clip for clip in planned if clip.split == split] for _, planned in (few, many))
        assert len(first) < len(second) and first == second[: len(first)]
        assert {sentences.split_of(clip.glosses) for clip in second} == {split}
    elsewhere = clips.plan_corpus(replace(clips.Settings(**TINY), seed=1, dev=60))[1]
    known = {clip.glosses: clip.split for clip in many[1]}
    assert all(known.get(clip.glosses, clip.split) == clip.split for clip in elsewhere)


def test_annotation_bytes_are_the_same_in_another_process(built, tmp_path):
    """Same seed, same bytes: here, in a process with another hash seed, and when they were first written down."""
    _, planned = clips.plan_corpus(clips.Settings(**TINY))
    corpus.write_annotations(tmp_path / "here", planned, clips.Settings(**TINY))
    code = (
        "import sys; from pathlib import Path; from slakit.minisign import clips, corpus\n"
        f"settings = clips.Settings(**{TINY!r}); signers, planned = clips.plan_corpus(settings)\n"
        "corpus.write_annotations(Path(sys.argv[1]), planned, settings)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True, env=environment)
    here, there, before = (annotation_bytes(folder) for folder in (tmp_path / "here", tmp_path / "there", built))
    assert here == there
    assert {k: v for k, v in here.items() if k != "manifest.json"} == {
        k: v for k, v in before.items() if k != "manifest.json"
    }
    text = b"".join(here[f"annotations/{name}.csv"] for name in ("train", "dev", "test", "spans"))
    assert b"\r" not in text
    assert (clips.GENERATOR_VERSION, hashlib.sha256(text).hexdigest()[:16]) == (6, "3a5f0bd0f756ed3d"), (
        "the generator gives another corpus: raise GENERATOR_VERSION and write the new digest here"
    )


def test_videos_decode_to_the_frames_that_were_drawn(built):
    settings = clips.Settings(**TINY)
    signers, planned = clips.plan_corpus(settings)
    for clip in (planned[0], planned[-1]):
        drawn = np.stack([frame.image for frame in clips.draw_clip(clip, signers[clip.signer], settings)])
        with av.open(str(built / clip.video)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264" and stream.average_rate == 25
            read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        assert read.shape == drawn.shape == (clip.num_frames, 96, 96, 3)
        errors = ((read.astype(float) - drawn) ** 2).mean(axis=(1, 2, 3))
        assert (10.0 * np.log10(255.0**2 / errors)).min() > 30.0  # decibels, in every frame


def test_landmarks_on_disk_are_those_of_the_frames(built):
    settings = clips.Settings(**TINY)
    signers, planned = clips.plan_corpus(settings)
    clip = planned[1]
    stored = load_landmarks(built, clip.id)
    frames = list(clips.draw_clip(clip, signers[clip.signer], settings))
    assert stored.face.shape == (clip.num_frames, 3)
    for number, frame in enumerate(frames):
        np.testing.assert_allclose(stored.mouth[number], frame.mouth, atol=0.051)
        for side in ("right_hand", "left_hand"):
            expected = getattr(frame, side) or (np.nan, np.nan)
            np.testing.assert_allclose(getattr(stored, side)[number], expected, atol=0.051)
    leading = stored.right_hand if signers[clip.signer].right_handed else stored.left_hand
    assert all(np.isfinite(leading[span.start : span.end]).all() for span in clip.spans)
    with pytest.raises(CorpusError, match="nobody"):
        load_landmarks(built, "nobody")


def test_batch_runs_hide_the_bar_of_drawing(monkeypatch):
    monkeypatch.delenv("SLAKIT_PROGRESS", raising=False)
    assert not corpus.bar_of_clips(2, 2, True).disable and corpus.bar_of_clips(2, 2, False).disable
    monkeypatch.setenv("SLAKIT_PROGRESS", "0")  # a stored notebook is the same whether or not clips had to be drawn
    assert corpus.bar_of_clips(2, 2, True).disable


def test_clips_of_a_corpus_of_another_size_are_copied(built, tmp_path, monkeypatch):
    """Not drawn again; nor taken from other signers, other looks, or what another generator drew."""
    root = tmp_path / "several"
    shutil.copytree(built, root / built.name)
    drawn, write_clip = [], corpus.write_clip
    monkeypatch.setattr(corpus, "write_clip", lambda *a: (drawn.append(a[1].id), write_clip(*a)))
    more = {**TINY, "train": 6, "dev": 1}
    folder = corpus.build(root, progress=False, **more)
    assert drawn == ["train-0005"] and corpus.is_complete(folder)
    alone = corpus.build(tmp_path / "alone", progress=False, **more)
    for path in alone.rglob("*.*"):
        assert path.read_bytes() == (folder / path.relative_to(alone)).read_bytes(), path
    for other in ({"seed": 8}, {"film_strength": 0.2}, {"train_signers": 2}, {"size": 64}):
        drawn.clear()
        corpus.build(root, progress=False, **{**TINY, "train": 1, "dev": 1, "test": 1, **other})
        assert len(drawn) == 3, other
    manifest = root / built.name / corpus.MANIFEST
    manifest.write_text(manifest.read_text().replace('"generator": 6', '"generator": 5'))
    shutil.rmtree(folder)
    drawn.clear()
    corpus.build(root, progress=False, **more)
    assert len(drawn) == 9


def test_interrupted_build_goes_on_where_it_stopped(tmp_path):
    few = {**TINY, "train": 2, "dev": 1, "test": 1}
    folder = corpus.build(tmp_path, progress=False, **few)
    files = sorted(folder.glob("videos/*/*.mp4"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}
    lost = files[1]
    lost.unlink()
    lost.with_suffix(".123.part").write_bytes(b"half a video")
    settings = clips.Settings(**few)
    (folder / "manifest.json").write_text(corpus._manifest(settings, complete=False))
    assert not corpus.is_complete(folder)
    assert load_corpus("minisign", folder, progress=False).root == folder  # a build's own folder is completed too
    assert corpus.is_complete(folder)
    for path, (time, content) in before.items():
        assert path.read_bytes() == content
        assert (path.stat().st_mtime_ns == time) == (path != lost)
    time = lost.stat().st_mtime_ns
    assert corpus.build(tmp_path, progress=False, **few) == folder and lost.stat().st_mtime_ns == time


def test_processes_draw_the_same_files(built, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PARALLEL_FROM", 1)
    folder = corpus.build(tmp_path, progress=False, workers=2, **TINY)
    assert annotation_bytes(folder) == annotation_bytes(built)
    for path in [*built.glob("videos/*/*.mp4"), *built.glob("annotations/landmarks/*.npz")]:
        assert (folder / path.relative_to(built)).read_bytes() == path.read_bytes()
    assert not list(folder.rglob("*.part"))


def test_failing_process_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "PARALLEL_FROM", 1)
    folder = tmp_path / corpus.content_key(clips.Settings(**TINY))
    folder.mkdir()
    (folder / "videos").write_text("in the way")
    with pytest.raises(CorpusError, match=r"drawing stopped.*videos.*goes on where it stopped"):
        corpus.build(tmp_path, progress=False, workers=2, **TINY)


def test_nothing_is_drawn_into_a_folder_that_holds_another_corpus(tmp_path):
    (tmp_path / "features" / "fullFrame-210x260px").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds features, so it is no folder of MiniSign's, and nothing is drawn"):
        load_corpus("minisign", tmp_path, progress=False, **TINY)
    assert [item.name for item in tmp_path.iterdir()] == ["features"]


def test_wrong_settings_are_named(built, tmp_path):
    with pytest.raises(CorpusError, match=r"'minisgn'.*did you mean 'minisign'"):
        load_corpus("minisgn")
    with pytest.raises(ConfigError, match=r"trian.*did you mean 'train'"):
        load_corpus("minisign", tmp_path, trian=3)
    with pytest.raises(ConfigError, match="train='16x'"):
        load_corpus("minisign", tmp_path, train="16x")
    with pytest.raises(ConfigError, match=r"film_strength=7"):
        load_corpus("minisign", tmp_path, film_strength=7)
    with pytest.raises(ConfigError, match="size=65 must be even"):
        load_corpus("minisign", tmp_path, size=65)
    with pytest.raises(CorpusError, match="seed=7, not 8"):
        load_corpus("minisign", built, seed=8)
    assert corpus.content_key(clips.Settings(seed=1)) != corpus.content_key(clips.Settings(seed=2))
    assert not list(tmp_path.iterdir())


def test_damaged_annotation_names_file_and_line(tmp_path):
    few = {**TINY, "train": 1, "dev": 1, "test": 1}
    folder = corpus.build(tmp_path, progress=False, **few)
    path = folder / "annotations" / "dev.csv"
    path.write_text(path.read_text().replace("|S", " S"))
    with pytest.raises(CorpusError, match=r"dev\.csv, line 2: 4 fields"):
        load_corpus("minisign", folder)
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace("true", "false"))
    with pytest.raises(CorpusError, match=r"another version"):
        load_corpus("minisign", folder.rename(tmp_path / "renamed"))
    folder = tmp_path / "renamed"
    (folder / "manifest.json").write_text("{")
    with pytest.raises(CorpusError, match=r"manifest\.json is damaged"):
        load_corpus("minisign", folder)
