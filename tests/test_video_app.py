"""The widget of "recognise your own video", driven through its traits; what it shows in a browser: test_browser.py."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from media import pictures, write_video
from PIL import Image

import slakit
from slakit.data.video.cropping import Box, signer_box
from slakit.recognition.video import recognize_frames
from slakit.show.video_app import HEIGHT, UPLOAD_CLASS, VideoApp, uploaded_files
from slakit.show.webcam import recorder_html


@pytest.fixture(scope="module")
def model():
    return slakit.create_model("sla-lora", ["RAIN", "SUN", "<b>WIND"], "tiny-clip", hidden_size=32, rank=4)


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return write_video(tmp_path_factory.mktemp("v") / "wide.mp4", pictures(24, 96, 160))


def shown(app: VideoApp) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(app.picture.value)))


def version_8(name: str, content: bytes):
    entry = {"name": name, "type": "video/mp4", "size": len(content), "content": memoryview(content)}
    return (entry,)


def version_7(name: str, content: bytes):
    return {name: {"metadata": {"name": name, "type": "video/mp4", "size": len(content)}, "content": content}}


@pytest.mark.parametrize("form", [version_7, version_8])
def test_both_forms_of_an_upload(form):
    assert uploaded_files(form("a.mp4", b"123")) == [("a.mp4", b"123")]
    assert uploaded_files(form("a", b"")[:0] if form is version_8 else {}) == []


def test_from_file_to_files(model, video):
    app = VideoApp(model, {"wide": video})
    assert app.recognise.disabled and "3 glosses" in app.children[0].value and "&lt;b&gt;WIND" in app.children[0].value
    app.example.value = str(video)
    assert not app.recognise.disabled and app.frame.max == 23 and "160x96 pixels, 24 frames" in app.message.value
    assert app.box == signer_box(app.frames) and app.left.disabled
    assert shown(app).shape == (HEIGHT, 400 + 12 + HEIGHT, 3)
    app.recognise.click()
    direct = recognize_frames(model, app.frames, fps=25.0, crop=app.box)
    assert app.result.glosses == direct.glosses and app.result.spans == direct.spans
    for gloss in direct.glosses:
        assert gloss.replace("<b>", "&lt;b&gt;") in app.answer.value
    links = dict(re.findall(r"download='[^']*\.(\w+)' href='data:[^,]*,([^']*)'", app.files.value))
    assert set(links) == {"json", "eaf", "vtt", "ctm", "png"}
    assert json.loads(base64.b64decode(links["json"]))["glosses"] == list(direct.glosses)
    assert Image.open(io.BytesIO(app.timeline.value)).width > 600


def test_slider_gloss_and_crop_change_the_picture_and_a_new_crop_forgets_the_answer(model, video):
    app = VideoApp(model, {})
    app.path.value = str(video)
    first = shown(app)
    app.frame.value = 9
    assert not np.array_equal(shown(app), first)
    app.run()
    app.frame.value = app.result.spans[0].start
    with_map = shown(app)
    app.gloss.value = -1
    assert np.array_equal(shown(app)[:, :400], with_map[:, :400]) and not np.array_equal(shown(app), with_map)
    app.auto.value = False
    assert app.result is None and not app.left.disabled and app.answer.value == "" and app.files.value == ""
    app.side.value, app.left.value, app.top.value = 40, 100, 5
    assert app.box == Box(100, 5, 40)
    app.side.value = 96
    assert app.box == Box(64, 0, 96), "moved back inside the picture"
    assert app.run().frames.shape == (24, 84, 84, 3)
    app.auto.value = True
    assert app.box == signer_box(app.frames)


@pytest.mark.parametrize("name", ["../../evil.mp4", "C:\\x\\evil.mp4", ".evil.mp4", "<img src=x onerror=alert(1)>.mp4"])
def test_an_uploads_name_can_do_no_harm(model, video, name):
    app = VideoApp(model, {})
    app._take(version_8(name, video.read_bytes()))
    assert app.source.parent == Path(app._folder.name) and len(app.frames) == 24
    assert "<img" not in app.message.value
    app.run()
    assert "<img" not in app.files.value


@pytest.mark.parametrize("name", ["a" * 300 + ".mp4", "天" * 120 + ".mp4", "b." + "x" * 300, "..", ""])
def test_an_uploads_name_may_be_long_or_empty(model, video, name):
    app = VideoApp(model, {})
    app._take(version_8(name, video.read_bytes()))
    assert len(app.frames) == 24 and app.source.parent == Path(app._folder.name) and len(app.source.name) <= 100
    assert not name.endswith(".mp4") or app.source.suffix == ".mp4"
    assert app.run() is not None and "Save:" in app.files.value


def test_a_path_that_is_too_long_says_so(model):
    app = VideoApp(model, {})
    app.path.value = "/tmp/" + "a" * 5000
    assert "color" in app.message.value and len(app.message.value) < 1000 and app.recognise.disabled


def test_what_is_no_video_says_so_and_keeps_what_was_there(model, video):
    app = VideoApp(model, {})
    app._take(version_7("notes.mp4", b"no video"))
    assert "notes.mp4" in app.message.value and "color" in app.message.value and app.recognise.disabled
    app.open_video(video)
    app.path.value = "/nowhere/x.mp4"
    assert "no such file" in app.message.value and len(app.frames) == 24 and not app.recognise.disabled


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 16, 16), (2, 8, 200)])
def test_sliders_never_have_equal_ends(model, tmp_path, shape):
    frames = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    app = VideoApp(model, {})
    app.open_video(write_video(tmp_path / "a.mp4", frames))
    for slider in (app.frame, app.left, app.top, app.side):
        assert slider.min < slider.max
    app.frame.value = app.frame.max
    assert app.box.side <= min(shape[1:]) and len(app.run().frames) == shape[0]


def test_the_recorder_hands_over_to_the_upload_button():
    page = recorder_html(UPLOAD_CLASS)
    assert f"button.{UPLOAD_CLASS}" in page and "$" not in page and "30 seconds" in page


def test_a_list_never_names_what_is_not_shown_and_pictures_are_hidden_while_empty(model, video, tmp_path, monkeypatch):
    app = VideoApp(model, {"wide": video})
    assert app.picture.layout.display == app.timeline.layout.display == "none"
    app.example.value = str(video)
    assert app.picture.layout.display == "" and app.picture.layout.width == f"{400 + 12 + HEIGHT}px"
    app._take(version_8("own.mp4", video.read_bytes()))
    assert app.source.name == "own.mp4" and app.example.value == ""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "mine.mp4").write_bytes(video.read_bytes())
    app.path.value = "~/mine.mp4"
    assert app.source == tmp_path / "mine.mp4", app.message.value
