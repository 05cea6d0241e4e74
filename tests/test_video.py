"""Reading videos and folders of frames: complete and right, or refused with a reason."""

from __future__ import annotations

import csv
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from media import SHARED, pictures, reference_frames, shared, write_frames, write_video
from PIL import Image

from slakit.data.video.file import in_process_of_its_own
from slakit.data.video.images import read_image
from slakit.data.video.read import probe_video, read_frames
from slakit.data.video.second_reader import load_decord
from slakit.data.video.source import DamageWarning
from slakit.records import ConfigError, VideoError

INDEX = SHARED / "data/videos/index.csv"
ROWS = list(csv.DictReader(INDEX.open())) if INDEX.exists() else []


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", pictures(40), g="12")


@pytest.mark.parametrize("row", ROWS, ids=[r["file"] for r in ROWS])
def test_every_odd_file_is_read_rightly_or_refused(row):
    path, count = shared("data", "videos", row["file"]), int(row["decodable_frames"])
    if count == 0:
        with pytest.raises(VideoError, match=row["file"]):
            read_frames(path)
        return
    truth = reference_frames(path)
    assert len(truth) == count
    if row["file"].startswith("corrupt"):
        with pytest.raises(VideoError, match="damaged"):
            read_frames(path)
        with pytest.warns(DamageWarning, match="left out"):
            assert read_frames(path, on_damage="skip").shape == (0, *truth.shape[1:])
        with pytest.warns(DamageWarning, match=f"{count} frames kept"):
            frames = read_frames(path, on_damage="keep-readable")
    else:
        frames = read_frames(path)
        assert probe_video(path).num_frames == count
        some = [count - 1, 0, count // 2, 0]
        assert np.array_equal(read_frames(path, some), frames[some])
    assert frames.dtype == np.uint8 and frames.shape == truth.shape and frames.flags.c_contiguous
    assert np.abs(frames.astype(int) - truth).max() <= 2  # MPEG-4: the two decoders round differently
    info = probe_video(path)
    assert (info.height, info.width) == truth.shape[1:3]
    if not info.decord:
        with pytest.raises(VideoError, match="not for decord"):
            read_frames(path, reader="decord")
    elif not row["file"].startswith("corrupt"):
        assert np.array_equal(read_frames(path, reader="both"), frames)
        assert np.abs(read_frames(path, reader="decord").astype(int) - truth).max() <= 2


def test_probe_says_what_and_why():
    edit = probe_video(shared("data", "videos", "trim_edit2.mp4"))
    assert (edit.packets, edit.discarded, edit.num_frames, edit.reader) == (450, 129, 321, "pyav")
    assert edit.suspicious and "edit list" in edit.reasons[0] and not edit.decord
    assert probe_video(shared("data", "videos", "h264.mp4")).decord == (load_decord() is not None)
    assert probe_video(shared("data", "videos", "rot90.mp4")).matrix == (0, -1, 1, 0)
    assert probe_video(shared("data", "videos", "av1.mp4")).codec == "av1"
    deep = probe_video(shared("data", "videos", "h264_10bit.mp4"))
    assert deep.reader == "pyav" and "yuv420p10le" in deep.reasons[0]


def test_strided_reading_of_an_edited_clip_is_right_and_does_not_hang():
    path = shared("data", "videos", "trim_edit2.mp4")
    truth, chosen = reference_frames(path), np.linspace(0, 320, 16).astype(int)
    start = time.monotonic()
    assert np.array_equal(read_frames(path, chosen), truth[chosen])
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("reader", ["pyav", "decord", "both"])
def test_readers_agree(clip, reader):
    if load_decord() is None and reader == "decord":
        pytest.skip("decord is not installed")
    truth = reference_frames(clip)
    assert np.array_equal(read_frames(clip, reader=reader), truth)
    chosen = [3, 3, 39, 0, 17]
    assert np.array_equal(read_frames(clip, chosen, reader=reader), truth[chosen])
    assert read_frames(clip, [], reader=reader).shape == (0, 48, 64, 3)


@pytest.mark.parametrize("reader", ["pyav", "decord", "both"])
def test_chosen_frames_of_a_camera_clip_are_the_right_ones(reader):
    """decord's own random access gives frame 20 for 17 and 29 for 26 of this sound clip, without an error."""
    path, chosen = shared("data", "msl150", "doctor.mp4"), [0, 17, 26, 61]
    if load_decord() is None and reader == "decord":
        pytest.skip("decord is not installed")
    assert np.array_equal(read_frames(path, chosen, reader=reader), reference_frames(path)[chosen])


class Shifted:
    """A reader with decord's interface that is one frame late, as decord was seen to be after an edit list."""

    def __init__(self, path: str, num_threads: int):
        self.frames, self.position = reference_frames(Path(path)), 0

    def __len__(self) -> int:
        return len(self.frames)

    def next(self):
        late = self.frames[max(self.position - 1, 0)]
        self.position += 1
        return SimpleNamespace(asnumpy=lambda: late)


@pytest.mark.parametrize("reader", ["decord", "both"])
def test_readers_that_differ_are_an_error(clip, reader, monkeypatch):
    late = SimpleNamespace(VideoReader=Shifted, DECORDError=RuntimeError)
    monkeypatch.setattr("slakit.data.video.second_reader.load_decord", lambda: late)
    with pytest.raises(VideoError, match="decord and PyAV differ at frame"):
        read_frames(clip, reader=reader)
    assert np.array_equal(read_frames(clip), reference_frames(clip))


def test_without_decord_the_frames_are_the_same(clip):
    code = (
        "import sys; sys.modules['decord'] = None\n"
        "from slakit.data.video.read import probe_video, read_frames\n"
        f"print(probe_video({str(clip)!r}).decord, int(read_frames({str(clip)!r}).sum(dtype='int64')))"
    )
    root = Path(__file__).resolve().parents[1]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.split() == ["False", str(reference_frames(clip).sum(dtype="int64"))]


@pytest.mark.parametrize("bad", [[40], [-1], [0, 99]])
def test_an_index_outside_is_named(clip, bad):
    with pytest.raises(VideoError, match=f"no frame {bad[-1]}.*40 frames"):
        read_frames(clip, bad)


def test_size_is_checked_before_memory_is_taken(clip):
    with pytest.raises(VideoError, match="368,640 bytes, more than max_bytes=1,000"):
        read_frames(clip, max_bytes=1000)
    assert len(read_frames(clip, [1], max_bytes=48 * 64 * 3)) == 1


def test_settings_are_checked(clip):
    with pytest.raises(ConfigError, match="on_damage='drop'"):
        read_frames(clip, on_damage="drop")
    with pytest.raises(ConfigError, match="reader='cv2'"):
        read_frames(clip, reader="cv2")


# mp4: the track's display matrix is patched in the tkhd box; shown = the coded picture turned or mirrored
MATRICES = {
    "mirrored left to right": ((-1, 0, 0, 1), lambda f: f[:, :, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda f: f[:, ::-1]),
    "turned by 180": ((-1, 0, 0, -1), lambda f: f[:, ::-1, ::-1]),
    "turned by 90": ((0, 1, -1, 0), lambda f: np.rot90(f, 3, axes=(1, 2))),
    "transposed": ((0, 1, 1, 0), lambda f: f.swapaxes(1, 2)),
}


@pytest.mark.parametrize("name", MATRICES)
def test_frames_stand_upright(clip, tmp_path, name):
    matrix, shown = MATRICES[name]
    data = bytearray(clip.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (65536 * v for v in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    assert np.array_equal(read_frames(path), shown(reference_frames(clip)))


def test_a_cut_file_is_refused_or_read_as_far_as_it_goes(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", pictures(60), movflags="faststart", g="10")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.raises(VideoError, match="damaged"):
        read_frames(cut)
    with pytest.warns(DamageWarning, match="cut off"):
        left = read_frames(cut, on_damage="keep-readable")
    assert 10 < len(left) < 60
    assert np.array_equal(left[:10], reference_frames(whole)[:10])


def test_random_damage_never_passes_for_a_whole_clip(clip, tmp_path):
    """What is returned without an error is frame for frame what PyAV decodes.

    Not all damage can be seen: four changed bytes may leave a valid stream, and MP4 has no checksum (about one in five
    here; FFmpeg's err_detect options find no more).
    """
    data, truth, outcomes = clip.read_bytes(), reference_frames(clip), []
    for seed in range(25):
        dice, broken = random.Random(seed), bytearray(data)
        at = dice.randrange(60, len(data) * 9 // 10)
        broken[at : at + 4] = dice.randbytes(4)
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(broken)
        try:
            frames = read_frames(path)
        except VideoError as error:
            outcomes.append("refused")
            assert str(path) in str(error)
            continue
        outcomes.append("same" if np.array_equal(frames, truth) else "other")
        assert np.array_equal(frames, reference_frames(path)) and len(frames) == len(truth)
    assert outcomes.count("refused") >= 10, outcomes


def test_a_decoder_that_stalls_is_stopped(clip):
    def read(seconds: float) -> tuple[np.ndarray, dict]:
        counts = {}
        return np.stack([frame for frame in in_process_of_its_own(clip, None, seconds, counts)]), counts

    start = time.monotonic()
    with pytest.raises(VideoError, match="took more than 0 s"):
        read(0.0)
    with pytest.raises(VideoError, match="stalled and was stopped"):
        read(-9.99)  # killed before Python has started
    assert time.monotonic() - start < 10
    frames, counts = read(30.0)
    assert counts["decoded"] == 40 and np.array_equal(frames, reference_frames(clip))


def test_what_is_no_video_is_refused(tmp_path):
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(VideoError, match=r"list\.mp4"):
        read_frames(playlist)
    concat = tmp_path / "list.ffconcat"
    concat.write_text("ffconcat version 1.0\nfile list.mp4\n")
    with pytest.raises(VideoError):
        read_frames(concat)
    with pytest.raises(VideoError, match="no such file"):
        read_frames(tmp_path / "nothing.mp4")
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    with pytest.raises(VideoError, match="neither a file nor a folder"):
        read_frames(pipe)


def test_a_folder_is_read_in_natural_order(tmp_path):
    frames = pictures(12)
    folder = write_frames(tmp_path / "clip", frames, "frame{}.png", start=1)
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._frame1.png").write_bytes(b"x")
    assert np.array_equal(read_frames(folder), frames)
    assert np.array_equal(read_frames(folder, [9, 1]), frames[[9, 1]])
    assert np.array_equal(read_frames([folder / "frame3.png", folder / "frame1.png"]), frames[[2, 0]])
    info = probe_video(folder)
    assert (info.reader, info.num_frames, info.height, info.width) == ("images", 12, 48, 64)


def test_every_kind_of_image_becomes_rgb(tmp_path):
    rgb = pictures(1)[0]
    grey = rgb[..., 0]
    deep = grey.astype(np.uint16) * 257
    half = np.dstack([rgb, np.full(grey.shape, 128, np.uint8)])
    image = Image.fromarray
    cases = {
        "grey": (image(grey), np.repeat(grey[..., None], 3, 2)),
        "deep": (image(deep), np.repeat(grey[..., None], 3, 2)),
        "alpha": (image(half), np.rint(rgb * (128 / 255)).astype(np.uint8)),
        "palette": (image(rgb).quantize(4), np.asarray(image(rgb).quantize(4).convert("RGB"))),
        "bilevel": (image(grey > 99), np.repeat((grey > 99)[..., None], 3, 2).astype(np.uint8) * 255),
    }
    for name, (picture, expected) in cases.items():
        folder = tmp_path / name
        folder.mkdir()
        picture.save(folder / "0.png")
        assert np.abs(read_frames(folder)[0].astype(int) - expected).max() <= (name == "alpha"), name
    folder = tmp_path / "turned"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    image(rgb).save(folder / "0.png", exif=exif)
    assert np.array_equal(read_frames(folder)[0], np.rot90(rgb, 3))
    image(rgb).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    assert np.abs(read_frames([tmp_path / "cmyk.jpg"])[0].astype(int) - rgb).mean() < 6


def test_damaged_and_mixed_folders(tmp_path):
    folder = write_frames(tmp_path / "clip", pictures(5))
    cut = folder / "images0003.png"
    cut.write_bytes(cut.read_bytes()[:60])
    with pytest.raises(VideoError, match="images0003"):
        read_frames(folder)
    with pytest.warns(DamageWarning, match="images0003"):
        assert np.array_equal(read_frames(folder, on_damage="keep-readable"), pictures(5)[[0, 1, 3, 4]])
    with pytest.warns(DamageWarning):
        assert len(read_frames(folder, on_damage="skip")) == 0
    Image.fromarray(pictures(1, 32, 32)[0]).save(cut)
    with pytest.raises(VideoError, match=r"images0003.png: 32x32 pixels, but the clip began with 64x48"):
        read_frames(folder)
    os.mkfifo(folder / "images0006.png")
    with pytest.raises(VideoError, match=r"images0006\.png: not a file"):
        read_frames(folder, [5])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(VideoError, match="it is empty"):
        read_frames(empty)
    (empty / "1").mkdir()
    with pytest.raises(VideoError, match="it holds 1"):
        read_frames(empty)


def test_a_frame_that_is_a_program_is_not_run(tmp_path):
    """Pillow goes by content: it would hand PostScript called .png to Ghostscript, which runs it."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 24\n{ } loop\n"
    for name, content in (("f0.png", program), ("f1.jpg", b"%PDF-1.4\n"), ("f2.png", b"GIF89a" + bytes(20))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=rf"{name}: not a readable image"):
            read_image(tmp_path / name)


def test_an_image_bomb_is_refused_by_its_header(tmp_path):
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side, match in ((100_000, "not a readable image|more than"), (9_000, "more than the 64,000,000 of a frame")):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
        bomb = tmp_path / f"bomb{side}" / "0.png"
        bomb.parent.mkdir()
        bomb.write_bytes(
            b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
        )
        with pytest.raises(VideoError, match=match):
            read_frames(bomb.parent)
