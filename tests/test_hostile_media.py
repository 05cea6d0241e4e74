"""Films and pictures open the file that is named and nothing else: a listening socket and a canary file watch."""

from __future__ import annotations

import os
import resource
import socket
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest
from media import pictures, write_video
from PIL import Image

from slakit.data.video.read import probe_video, read_frames
from slakit.records import VideoError


@pytest.fixture
def server():
    """(address, connections that came): a socket that answers nobody."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.2)
    came: list[object] = []
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            try:
                connection, address = listening.accept()
            except TimeoutError:
                continue
            came.append(address)
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}", came
    ended.set()
    thread.join()
    listening.close()


def watched_file(folder):
    """A real film whose reading would be seen: its time of access is set back, and the film has pixels of its own."""
    canary = write_video(folder / "canary.mp4", np.full((5, 32, 32, 3), 255, np.uint8))
    os.utime(canary, (1, 1))
    return canary


def tricks(address: str, canary) -> dict[str, str]:
    file = f"file:{canary}"
    return {
        "HLS of the net": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://{address}/x.ts\n#EXT-X-ENDLIST\n",
        "HLS of a file": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{file}\n#EXT-X-ENDLIST\n",
        "HLS with a key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://{address}/k"\n#EXTINF:9,\n{file}\n',
        "HLS of a map": f'#EXTM3U\n#EXT-X-MAP:URI="http://{address}/m"\n#EXTINF:9,\n{file}\n#EXT-X-ENDLIST\n',
        "master playlist": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\nhttp://{address}/x.m3u8\n",
        "concat": f"ffconcat version 1.0\nfile '{canary}'\n",
        "concat of the net": f"ffconcat version 1.0\nfile http://{address}/x.mp4\n",
        "concat protocol": f"ffconcat version 1.0\nfile 'concat:{canary}|{canary}'\n",
        "SDP": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video {address.split(':')[1]} RTP/AVP 96\n",
        "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f"<Representation id='1' bandwidth='1'><BaseURL>http://{address}/</BaseURL></Representation>"
        "</AdaptationSet></Period></MPD>",
        "RTSP reference": f"[Reference]\nRef1=http://{address}/x\n",
        "ASX": f'<asx version="3.0"><entry><ref href="http://{address}/x"/></entry></asx>',
        "SVG": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="http://{address}/x.png"/></svg>',
        "name of a protocol": f"http://{address}/x.mp4\n",
        "data": "data:video/mp4;base64,AAAA\n",
        "subfile": f"subfile,,start,0,end,0,,:{canary}\n",
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ffconcat", ".m3u8"])
def test_a_file_that_names_others_opens_none(server, tmp_path, suffix):
    address, came = server
    canary = watched_file(tmp_path)
    for number, content in enumerate(tricks(address, canary).values()):
        path = tmp_path / f"trick{number}{suffix}"
        path.write_text(content)
        with pytest.raises(VideoError):
            read_frames(path, on_damage="keep-readable")
        (folder := tmp_path / f"{number}{suffix}").mkdir()
        (folder / "f0.png").write_text(content)
        with pytest.raises(VideoError):
            read_frames(folder)
    assert not came, "a connection was opened"
    assert canary.stat().st_atime == 1, "another file was read"


def test_a_film_that_refers_to_another_one_is_read_alone(server, tmp_path):
    """QuickTime's references to data elsewhere (dref with a path) are not followed."""
    address, came = server
    canary = watched_file(tmp_path)
    film = write_video(tmp_path / "film.mp4", pictures(5, 32, 32)).read_bytes()
    for reference in (str(canary), f"http://{address}/x"):
        entry = b"url " + bytes(4) + reference.encode() + b"\0"  # flags 0: not in this file
        changed = film.replace(struct.pack(">I", 12) + b"url \0\0\0\1", struct.pack(">I", len(entry) + 4) + entry)
        assert changed != film
        (tmp_path / "changed.mp4").write_bytes(changed)
        try:
            assert not (read_frames(tmp_path / "changed.mp4", on_damage="keep-readable") == 255).all()
        except VideoError:
            pass
    assert not came and canary.stat().st_atime == 1


@pytest.mark.parametrize(
    "name", ["http:127.0.0.1", "10:30.mp4", "file:x.mp4", "concat:a.mp4|b.mp4", "data:x", "pipe:0"]
)
def test_a_name_is_a_name(tmp_path, monkeypatch, name):
    """Also where FFmpeg would take what stands before the colon for a protocol."""
    frames = pictures(5, 32, 32)
    write_video(tmp_path / "sound.mp4", frames).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert probe_video(name).num_frames == 5 and len(read_frames(name)) == 5


def gif(width: int, height: int, frames: int) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return screen + (b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02D\x01\x00") * frames + b";"


@pytest.mark.parametrize("frames", [1, 5])
def test_a_film_of_absurd_pixels_takes_no_memory(tmp_path, frames):
    (tmp_path / "big.gif").write_bytes(gif(16_000, 16_000, frames))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for read in (probe_video, read_frames):
        with pytest.raises(VideoError, match="64,000,000"):
            read(tmp_path / "big.gif")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


LOOK = """
import sys
from pathlib import Path
from slakit.data.video.images import image_size, read_image
from slakit.records import VideoError

for file in sorted(Path(sys.argv[1]).iterdir()):
    for read in (image_size, read_image):
        try:
            read(file)
        except VideoError as error:
            assert "\\n" not in str(error)
            print(error)
"""


def test_a_damaged_orientation_is_a_sentence(tmp_path):
    """And nothing of Pillow's beside it, in a process as users start it (pytest has filters of its own)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder := tmp_path / "damaged").mkdir()
    for suffix in ("webp", "jpg", "tif"):
        file = tmp_path / f"f.{suffix}"
        Image.fromarray(pictures(1, 24, 20)[0]).save(file, **({} if suffix == "tif" else {"exif": exif}))
        sound = file.read_bytes()
        for place in range(0, len(sound), max(1, len(sound) // 150)):
            changed = sound[:place] + b"\xff\0\xff" + sound[place + 3 :]
            (folder / f"{place:06d}.{suffix}").write_bytes(changed)
    done = subprocess.run([sys.executable, "-c", LOOK, str(folder)], capture_output=True, text=True, check=True)
    assert "damaged" in done.stdout and not done.stderr
