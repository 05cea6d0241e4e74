"""Videos that are long, large, oddly named or bombs: in pieces, or refused with a way out."""

from __future__ import annotations

import struct
import subprocess
import sys

import numpy as np
import pytest
from media import pictures, write_video

import slakit
from slakit.__main__ import main
from slakit.data.clips import ClipStore
from slakit.data.prepare import encode
from slakit.data.video.cropping import signer_box, squared
from slakit.data.video.read import open_source, probe_video, read_frames
from slakit.data.video.resize import resize
from slakit.models import demo_model
from slakit.recognition import between_pauses, recognize
from slakit.records import Sample, VideoError


def gif(frames: int, width: int, height: int) -> bytes:
    """A GIF whose header promises that size; one pixel of it is drawn in each frame."""
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(3) + b"\xff\xff\xff"
    pause = b"!\xf9\x04\x00\x04\x00\x00\x00"
    return head + frames * (pause + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00") + b";"


@pytest.fixture
def small_room(monkeypatch):
    """As if a clip of some frames of 96x128 were too large to be read at once."""
    for module in ("slakit.data.video.source", "slakit.recognition.video"):
        monkeypatch.setattr(f"{module}.AT_ONCE", 100_000)


def test_pieces_are_the_frames(tmp_path):
    video = write_video(tmp_path / "a.mp4", pictures(40, 48, 64))
    source, whole = open_source(video), read_frames(video)
    parts = list(source.pieces(count=7))
    assert [len(part) for part in parts] == [7, 7, 7, 7, 7, 5] and np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(np.concatenate(list(source.pieces([3, 9, 31], count=2))), whole[[3, 9, 31]])
    with pytest.raises(VideoError, match="not all of its 40"):
        next(source.pieces([3, 40]))
    cut = tmp_path / "cut.mp4"  # damage is known at the end
    data = bytearray(video.read_bytes())
    at = len(data) // 2
    data[at : at + 40] = bytes(40)
    cut.write_bytes(data)
    with pytest.raises(VideoError, match="damaged"):
        list(open_source(cut).pieces(count=7))


def test_a_large_video_gives_the_same_answer_in_pieces(tmp_path, small_room):
    video = write_video(tmp_path / "large.mp4", pictures(50, 96, 128))
    model, sample = slakit.load_checkpoint(demo_model("sla-lora")), Sample("large", video, ())
    frames = read_frames(video)
    box = signer_box(frames)
    answer = recognize(model, video)
    assert np.array_equal(answer.frames, slakit.recognition.fit_frames(frames, model)) and answer.num_frames == 50
    assert isinstance(answer.frames, np.memmap), "kept on disk"
    settings = {"size": 48, "aspect": "crop", "resize_filter": "antialias", "encoding": "raw", "on_damage": "error"}
    pieces, _ = encode(sample, settings)
    expected = squared(frames, 48, box=box, method="antialias")
    assert np.array_equal(np.stack([np.frombuffer(piece, np.uint8) for piece in pieces]), expected.reshape(50, -1))
    kept = ClipStore(keep_in_memory=True)._whole(sample, 32)
    assert np.array_equal(kept, resize(frames, 32))


def test_a_bomb_is_refused_before_memory_is_taken(tmp_path):
    bomb = tmp_path / "bomb.gif"
    bomb.write_bytes(gif(1, 16000, 16000))
    code = f"""if True:
        import resource, sys
        from slakit.data.video.read import probe_video
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            probe_video({str(bomb)!r})
        except Exception as error:
            print(error)
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, megabytes = done.stdout.splitlines()
    assert "bomb.gif" in said and "64,000,000 pixels" in said and int(megabytes) < 100
    many = tmp_path / "many.gif"
    many.write_bytes(gif(100_001, 16, 16))
    model = slakit.create_model("frozen", ["A"], "tiny-clip", hidden_size=8)
    with pytest.raises(VideoError, match=r"more than the 100,000 .* with --stream"):
        recognize(model, many)


@pytest.mark.parametrize("name", ["10:30.mp4", "file:x.mp4", "data:text.mp4"])
def test_a_colon_in_a_name_is_no_protocol(tmp_path, monkeypatch, name):
    if sys.platform == "win32":
        pytest.skip("Windows has no such names")
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "plain.mp4", pictures(8)).rename(tmp_path / name)
    write_video(tmp_path / "x.mp4", pictures(5))
    assert probe_video(name).num_frames == 8 and len(read_frames(name)) == 8


def test_sentences_are_cut_where_nothing_moves(tmp_path, capsys):
    dice = np.random.default_rng(0)
    frames = np.full((120, 84, 84, 3), 90, np.uint8)
    for start, end in ((4, 40), (64, 110)):
        for t in range(start, end):
            top, left = dice.integers(0, 60, 2)
            frames[t, top : top + 20, left : left + 20] = 250
    parts = between_pauses(frames, 25.0, 0.6)
    assert parts == [(0, 52), (52, 120)], "in the middle of the pause; what is still at the ends is no sentence"
    assert between_pauses(frames, 25.0, 2.0) == [(0, 120)]
    model = slakit.load_checkpoint(demo_model("sla-lora"))
    whole = slakit.recognition.recognize_frames(model, frames, pauses=0.6)
    one, two = (slakit.recognition.recognize_frames(model, frames[a:b]) for a, b in parts)
    assert whole.glosses == one.glosses + two.glosses and whole.sentences == tuple(parts)
    assert [span.start for span in whole.spans] == [s.start for s in one.spans] + [s.start + 52 for s in two.spans]
    assert whole.score == pytest.approx(one.score + two.score) and len(whole.posteriors) == 30
    video = write_video(tmp_path / "two.mp4", frames)
    options = ["--checkpoint", str(demo_model("sla-lora")), "--pauses", "0.6", "--json"]
    assert main(["recognize", str(video), *options]) == 0
    assert '"sentences"' in capsys.readouterr().out
