"""prepare: packed corpora are complete, exact where they should be, resumable, and damage in them is noticed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from loaders import make_loader
from media import pictures, write_frames, write_video
from PIL import Image

import slakit
from slakit.__main__ import main
from slakit.data.pool import stops_held
from slakit.data.prepare import prepare, prepared
from slakit.data.video.packed import PackedSplit, open_split
from slakit.data.video.read import probe_video, read_frames
from slakit.data.video.resize import resize
from slakit.data.video.source import DamageWarning
from slakit.machine import stop_on_signals
from slakit.records import ConfigError, Corpus, CorpusError, Sample, SlakitError, VideoError, Vocabulary

QUIET = {"show_progress": False}


def make(root: Path, clips: int = 4) -> Corpus:
    samples = []
    for number in range(clips):
        frames = pictures(6 + number, 40, 32, seed=number)
        name = f"clip{number}"
        source = write_video(root / f"{name}.mp4", frames) if number % 2 else write_frames(root / name, frames)
        samples.append(Sample(name, source, ("A", "B"), "s", None))
    return Corpus("folder", root, tuple(samples[:-1]), tuple(samples[-1:]), (), Vocabulary("AB"))


@pytest.fixture
def corpus(tmp_path) -> Corpus:
    return make(tmp_path / "raw")


def original(sample: Sample, size: int) -> np.ndarray:
    return resize(read_frames(sample.source), size)


def test_raw_is_exact_and_jpeg_is_pillows(corpus, tmp_path):
    raw = prepare(corpus, tmp_path / "raw_cache", size=48, encoding="raw", **QUIET)
    jpeg = prepare(corpus, tmp_path / "jpeg_cache", size=48, **QUIET)
    for before, exact, lossy in zip(corpus.train, raw.train, jpeg.train, strict=True):
        frames = original(before, 48)
        assert np.array_equal(read_frames(exact.source), frames)
        assert exact.num_frames == len(frames) == probe_video(exact.source).num_frames
        order = [len(frames) - 1, 0, 0, 2]
        assert np.array_equal(read_frames(exact.source, order), frames[order])
        piece = io.BytesIO()
        Image.fromarray(frames[1]).save(piece, "JPEG", quality=95)
        decoded = np.asarray(Image.open(piece))
        assert np.array_equal(read_frames(lossy.source, [1])[0], decoded)
    assert read_frames(raw.train[0].source, []).shape == (0, 48, 48, 3)
    with pytest.raises(VideoError, match="no frame 99"):
        read_frames(raw.train[0].source, [99])
    with pytest.raises(VideoError, match="max_bytes=10"):
        read_frames(raw.train[0].source, max_bytes=10)
    assert any("prepared frames from" in note for note in raw.notes)


def test_batches_from_the_cache_are_those_from_the_files(corpus, tmp_path):
    settings = {"image_size": 48, "crop_size": 40, "min_frames": 8, "seed": 3}
    cached = prepare(corpus, tmp_path / "cache", size=48, encoding="raw", **QUIET)
    for train in (True, False):
        files = make_loader(corpus.train, corpus.glosses, 2, train, **settings)
        packed = make_loader(cached.train, corpus.glosses, 2, train, **settings)
        for one, other in zip(files, packed, strict=True):
            assert one.ids == other.ids and (one.frames == other.frames).all()
    with_workers = make_loader(cached.train, corpus.glosses, 2, True, num_workers=2, **settings)
    one_process = make_loader(cached.train, corpus.glosses, 2, True, **settings)
    assert all((a.frames == b.frames).all() for a, b in zip(with_workers, one_process, strict=True))


def test_aspect_can_be_kept(corpus, tmp_path):
    padded = prepare(corpus, tmp_path / "pad", size=40, encoding="raw", aspect="pad", **QUIET)
    frames, source = read_frames(padded.train[0].source), read_frames(corpus.train[0].source)
    assert np.array_equal(frames[:, :, 4:36], source) and frames[:, :, :4].max() == 0 == frames[:, :, 36:].max()


def test_workers_write_the_same_bytes(corpus, tmp_path):
    prepare(corpus, tmp_path / "one", size=32, **QUIET)
    prepare(corpus, tmp_path / "two", size=32, workers=2, **QUIET)
    for name in ("train.frames", "dev.frames"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_killed_run_goes_on(tmp_path):
    """Kill the process in the middle, twice; the end is byte for byte that of an undisturbed run."""
    script = (
        "import sys, time, test_cache as t, slakit.data.prepare as c\n"
        "from pathlib import Path\n"
        "encode = c.encode\n"
        "def slow(*a, **k):\n    time.sleep(0.15)\n    return encode(*a, **k)\n"
        "c.encode = slow\n"
        "c.prepare(t.make(Path(sys.argv[1]), 9), sys.argv[2], size=32, show_progress=False)\n"
    )
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    out = tmp_path / "out"
    journal = out / "train.frames.journal"

    def lines() -> int:
        return len(journal.read_bytes().splitlines()) if journal.exists() else 0

    for stop in (3, 6):
        process = subprocess.Popen([sys.executable, "-c", script, tmp_path / "raw", out], env=environment)
        limit = time.monotonic() + 120
        while lines() < stop and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert stop <= lines() < 9 and not (out / "train.index.npz").exists()
        with pytest.raises(CorpusError, match="not to its end"):
            prepared(make(tmp_path / "raw", 9), out)
        with open(out / "train.frames.part", "ab") as part, open(journal, "ab") as log:
            part.write(b"half a clip")
            log.write(b'{"id": "clip')
    corpus = make(tmp_path / "raw", 9)
    done = prepare(corpus, out, size=32, **QUIET)
    assert [s.id for s in done.train] == [s.id for s in corpus.train]
    prepare(corpus, tmp_path / "whole", size=32, **QUIET)
    assert (out / "train.frames").read_bytes() == (tmp_path / "whole/train.frames").read_bytes()
    assert not list(open_split(out / "train.frames").verify())
    assert sorted(p.name for p in out.iterdir()) == [
        ".lock", "dev.frames", "dev.index.npz", "train.frames", "train.index.npz"
    ]  # fmt: skip


def test_a_damaged_unfinished_file_is_cut_back(corpus, tmp_path):
    out = tmp_path / "out"
    broken = replace(corpus, train=(*corpus.train, replace(corpus.train[0], id="x", source=tmp_path / "none")))
    with pytest.raises(VideoError, match="none"):
        prepare(broken, out, size=32, on_damage="error", **QUIET)
    part = out / "train.frames.part"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    prepare(corpus, out, size=32, on_damage="error", **QUIET)
    assert not list(open_split(out / "train.frames").verify())


def test_damage_on_disk_is_noticed(corpus, tmp_path):
    done = prepare(corpus, tmp_path / "out", size=32, **QUIET)
    frames = tmp_path / "out/train.frames"
    data = bytearray(frames.read_bytes())
    split = open_split(frames)
    at = int(split.offsets[int(split.starts[1]) + 2]) + 30  # third frame of the second clip
    data[at] ^= 1
    time.sleep(0.01)
    frames.write_bytes(data)
    assert list(open_split(frames).verify()) == [("clip1", 2)]
    assert len(read_frames(done.train[0].source)) == 6
    with pytest.raises(VideoError, match="frame 2 has a wrong checksum"):
        read_frames(done.train[1].source)
    assert len(read_frames(done.train[1].source, [0, 1])) == 2
    with pytest.warns(DamageWarning):
        assert len(read_frames(done.train[1].source, on_damage="keep-readable")) == 6
    frames.write_bytes(data[:-5])
    with pytest.raises(VideoError, match="its index says"):
        read_frames(done.train[0].source)
    (tmp_path / "out/train.index.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(VideoError, match=r"train\.index\.npz"):
        read_frames(done.train[0].source)


def test_unreadable_clips_are_named(corpus, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    mixed = replace(corpus, train=(*corpus.train, Sample("bad", text, ("A",))))
    done = prepare(mixed, tmp_path / "out", size=32, **QUIET)
    assert [s.id for s in done.train] == ["clip0", "clip1", "clip2"]
    assert any("train: 1 clips are not prepared, unreadable: bad" in note for note in done.notes)
    with pytest.raises(VideoError, match=r"left out: .*text\.mp4"):
        read_frames(tmp_path / "out/train.frames/bad")
    with pytest.raises(CorpusError, match="none of its 1 clips can be read; bad"):
        prepare(replace(mixed, train=mixed.train[-1:]), tmp_path / "none", size=32, **QUIET)


def test_settings_are_checked(corpus, tmp_path):
    for settings, match in (
        ({"encoding": "gif"}, "encoding='gif'"),
        ({"aspect": "keep"}, "aspect='keep'"),
        ({"resize_filter": "x"}, "resize_filter='x'"),
        ({"on_damage": "x"}, "on_damage='x'"),
        ({"size": 1}, "size=1"),
        ({"workers": 0}, "workers=0"),
    ):
        with pytest.raises(ConfigError, match=match):
            prepare(corpus, tmp_path / "out", **settings, **QUIET)
    prepare(corpus, tmp_path / "out", size=32, **QUIET)
    before = (tmp_path / "out/train.frames").stat().st_mtime_ns
    prepare(corpus, tmp_path / "out", size=32, **QUIET)
    assert (tmp_path / "out/train.frames").stat().st_mtime_ns == before  # a finished split is not touched
    with pytest.raises(ConfigError, match="prepared with size=32, now 48"):
        prepare(corpus, tmp_path / "out", size=48, **QUIET)
    other = replace(corpus, train=(*corpus.train, replace(corpus.train[0], id="new")))
    with pytest.raises(CorpusError, match="the clip new is not in it"):
        prepared(other, tmp_path / "out")
    assert json.loads(str(np.load(tmp_path / "out/train.index.npz")["settings"]))["size"] == 32


def test_frames_of_another_corpus_are_refused(corpus, tmp_path):
    """The same ids and another build: told by the source where it is there, by the annotation where it is not."""
    out = tmp_path / "out"
    prepare(corpus, out, size=32, **QUIET)
    other = make(tmp_path / "other")
    write_video(tmp_path / "other/clip1.mp4", pictures(9, 40, 32, seed=99))
    for call in (lambda c: prepare(c, out, size=32, **QUIET), lambda c: prepared(c, out)):
        with pytest.raises(CorpusError, match=r"train\.frames: its clip clip1 has another video .* delete"):
            call(other)
    corrected = replace(corpus, train=tuple(replace(sample, glosses=("B",)) for sample in corpus.train))
    assert prepared(corrected, out).train[0].glosses == ("B",)  # the videos are there and the same
    frames_gone = replace(corpus, train=tuple(replace(s, source=tmp_path / "gone" / s.id) for s in corpus.train))
    assert len(prepared(frames_gone, out).train) == 3
    with pytest.raises(CorpusError, match="or other glosses"):
        prepared(replace(frames_gone, train=tuple(replace(s, glosses=("B",)) for s in frames_gone.train)), out)
    with pytest.raises(CorpusError, match="clip0"):
        prepared(replace(frames_gone, train=tuple(replace(s, num_frames=99) for s in frames_gone.train)), out)
    recorded = make(tmp_path / "recorded")  # an own folder with the same names and glosses, of other pictures
    first = min((tmp_path / "recorded/clip0").iterdir())
    first.write_bytes(first.read_bytes() + b"more")
    with pytest.raises(CorpusError, match="its clip clip0 has another video"):
        prepared(recorded, out)
    first.unlink()
    with pytest.raises(CorpusError, match="its clip clip0 has another video"):
        prepared(recorded, out)
    for frame in (tmp_path / "recorded/clip0").iterdir():
        frame.unlink()
    assert len(prepared(recorded, out).train) == 3  # the frames are gone, their folders are not
    shorter = make(tmp_path / "shorter")
    next((tmp_path / "shorter/clip0").iterdir()).unlink()
    with pytest.raises(CorpusError, match="clip0"):  # folders of frames are listed by prepare
        prepare(shorter, out, size=32, **QUIET)


def test_an_unfinished_folder_of_another_corpus_is_refused(corpus, tmp_path):
    broken = replace(corpus, train=(*corpus.train, replace(corpus.train[0], id="x", source=tmp_path / "none")))
    with pytest.raises(VideoError, match="none"):
        prepare(broken, tmp_path / "out", size=32, on_damage="error", **QUIET)
    other = make(tmp_path / "other")
    write_video(tmp_path / "other/clip1.mp4", pictures(9, 40, 32, seed=99))
    with pytest.raises(CorpusError, match="its clip clip1 has another video"):
        prepare(other, tmp_path / "out", size=32, on_damage="error", **QUIET)


def test_two_builds_of_minisign_are_told_apart(tmp_path):
    tiny = {"train": 2, "dev": 1, "test": 1, "progress": False}
    prepare(slakit.load_corpus("minisign", tmp_path / "drawn", seed=0, **tiny), tmp_path / "out", size=32, **QUIET)
    assert len(slakit.load_corpus("minisign", tmp_path / "drawn", prepared=tmp_path / "out", seed=0, **tiny).train) == 2
    with pytest.raises(CorpusError, match="another corpus or build"):
        slakit.load_corpus("minisign", tmp_path / "drawn", prepared=tmp_path / "out", seed=1, **tiny)


def test_older_folders_say_what_to_do(corpus, tmp_path):
    prepare(corpus, tmp_path / "out", size=32, **QUIET)
    index = tmp_path / "out/train.index.npz"
    stored = dict(np.load(index))
    del stored["marks"]
    stored["settings"] = np.array(str(stored["settings"]).replace('"version": 2', '"version": 1'))
    np.savez(index, **stored)
    os.utime(tmp_path / "out/train.frames")  # not the one that is open
    for call in (lambda: prepared(corpus, tmp_path / "out"), lambda: prepare(corpus, tmp_path / "out", size=32)):
        with pytest.raises(
            VideoError, match=r"format 1 of prepared frames, not 2 .*delete .*out and run prepare again"
        ):
            call()


def test_an_index_of_any_bytes_is_read_or_refused(corpus, tmp_path):
    prepare(corpus, tmp_path / "out", size=32, **QUIET)
    index = tmp_path / "out/train.index.npz"
    sound, refused, random = index.read_bytes(), 0, np.random.default_rng(0)
    for _ in range(300):
        data = bytearray(sound)
        for place in random.integers(0, len(data), 3):
            data[place] = random.integers(256)
        index.write_bytes(data)
        try:
            PackedSplit(tmp_path / "out/train.frames")
        except VideoError as error:
            refused += 1
            assert "index" in str(error)
    assert refused > 100
    stored = dict(np.load(io.BytesIO(sound)))
    for name, value in (
        ("starts", np.array([0, 5, 99, 21])), ("offsets", stored["offsets"][::-1]), ("crcs", stored["crcs"][:-1]),
        ("ids", np.array(["a"])), ("starts", stored["starts"].astype(float)), ("settings", np.array("[]")),
        ("settings", np.array('{"version": 2, "encoding": "jpeg", "size": 1e9}')), ("marks", np.array("{}")),
    ):  # fmt: skip
        np.savez(index, **(stored | {name: value}))
        with pytest.raises(VideoError, match="no readable index"):
            PackedSplit(tmp_path / "out/train.frames")


def test_frames_smaller_than_needed_are_refused(corpus, tmp_path):
    cached = prepare(corpus, tmp_path / "cache", size=40, **QUIET)
    with pytest.raises(ConfigError, match=r"prepared with size 40, but augment.image_size is 48; .*--size 48"):
        make_loader(cached.train, corpus.glosses, 2, True, image_size=48, crop_size=40, min_frames=8)


def test_places_that_cannot_be_written(corpus, tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", "/proc/x", tmp_path / ("x" * 300)):
        with pytest.raises(SlakitError, match="writing failed"):
            prepare(corpus, out, size=32, **QUIET)
    with pytest.raises(ConfigError, match="no folder's name"):
        prepare(corpus, str(tmp_path / "a\0b"), size=32, **QUIET)


def the_command(tmp_path: Path) -> list[str]:
    """`slakit prepare` with two workers, of 24 clips in the layout "folder"."""
    corpus = make(tmp_path / "raw", 24)
    rows = [f"{s.source.name},A B,{split}" for split in ("train", "dev") for s in corpus.split(split)]
    (tmp_path / "raw/annotations.csv").write_text("\n".join(["path,glosses,split", *rows, ""]))
    options = ["--root", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--size", "512", "--workers", "2"]
    return [sys.executable, "-m", "slakit", "prepare", "folder", *options]


@pytest.mark.parametrize(
    "way", [signal.SIGTERM, *(pytest.param(s, marks=pytest.mark.thorough) for s in (signal.SIGKILL, 2, 1))]
)
def test_stopped_it_ends_with_a_sentence_without_workers_and_goes_on_later(tmp_path, way):
    """However it is stopped. A terminal sends Ctrl-C (2) to the workers, too."""
    command, journal = the_command(tmp_path), tmp_path / "out/train.frames.journal"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    hear = lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)]  # noqa: E731
    with subprocess.Popen(command, preexec_fn=hear, **options) as process:
        limit = time.monotonic() + 120
        while not journal.exists() or len(journal.read_bytes().splitlines()) < 2:
            assert time.monotonic() < limit and process.poll() is None, process.stdout.read()
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        (os.killpg if way == signal.SIGINT else os.kill)(process.pid, way)
        told = process.communicate(timeout=60)[0]
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive
    if way == signal.SIGKILL:
        return
    assert process.returncode == 130 and "Traceback" not in told, told
    assert told.strip().endswith("slakit: stopped; the same command goes on from here")
    kept = len(journal.read_bytes().splitlines())
    assert 2 <= kept < 24
    assert main(command[3:]) == 0
    corpus = slakit.load_corpus("folder", tmp_path / "raw")
    packed, straight = (prepare(corpus, tmp_path / name, size=512, **QUIET) for name in ("out", "straight"))
    for name in ("train.frames", "dev.frames", "train.index.npz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes()
    assert packed.notes[:-1] == straight.notes[:-1]


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signal masks")
@pytest.mark.parametrize("later", [0.0, 0.3, 0.8])
def test_ctrl_c_while_workers_still_start_prints_no_traceback_of_theirs(tmp_path, later):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    hear = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    with subprocess.Popen(the_command(tmp_path), preexec_fn=hear, **options) as process:
        parent, limit = psutil.Process(process.pid), time.monotonic() + 120
        while len(parent.children()) < 2:  # the one that tracks resources, and a first worker
            assert time.monotonic() < limit and process.poll() is None
            time.sleep(0.01)
        time.sleep(later)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=60)[0]
    assert process.returncode == 130 and "Traceback" not in told, told


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signal masks")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_that_another_thread_hears_waits_until_a_worker_has_all_that_it_needs(number):
    finished, after = threading.Event(), []
    other = threading.Thread(target=finished.wait)  # takes the signals that the main thread masks, as a bar's does
    other.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with stop_on_signals(), pytest.raises(KeyboardInterrupt):
            with stops_held():
                os.kill(os.getpid(), number)
                time.sleep(0.2)
                after.append("whole")
            after.append("not held")
    finally:
        signal.signal(signal.SIGINT, before)
        finished.set()
    assert after == ["whole"]


def test_two_at_once_are_refused(corpus, tmp_path):
    import fcntl

    (tmp_path / "out").mkdir()
    with open(tmp_path / "out/.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SlakitError, match="another process"):
            prepare(corpus, tmp_path / "out", **QUIET)
