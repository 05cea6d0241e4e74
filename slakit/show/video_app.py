"""The widget of "recognise your own video": choose, crop, recognise, look, export (ipywidgets 7 and 8)."""

from __future__ import annotations

import base64
import html
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import ipywidgets
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from slakit.data.video.cropping import Box, signer_box
from slakit.data.video.read import open_source
from slakit.data.video.resize import resize
from slakit.data.video.source import AT_ONCE
from slakit.explain import gloss_maps
from slakit.models.recognizer import Recognizer
from slakit.recognition.forward import placed
from slakit.recognition.pictures import fit_frames, pictures_for
from slakit.recognition.video import Recognition, recognize, recognize_frames
from slakit.records import SlakitError, visible
from slakit.scoring.escapes import as_html
from slakit.show.pictures import overlay, png, scale_of
from slakit.show.player import Widget, picture, put
from slakit.show.report import model_card, time_figure, write_report

UPLOAD_CLASS = "slakit-upload"
HEIGHT = 240  # of the pictures, in pixels
BOX_COLOUR = "#D55E00"  # text and lines of ours keep a contrast of 3 to white (4.5 for text): tests/test_contrast.py
ERROR_COLOUR = "#B00020"
KIND_NAMES = {"json": "JSON", "eaf": "ELAN", "vtt": "WebVTT", "ctm": "CTM", "png": "picture"}


def uploaded_files(value) -> list[tuple[str, bytes]]:
    """(name, content) of each file in a FileUpload's value.

    ipywidgets 8: a tuple of {"name", "content": memoryview, …}; ipywidgets 7: {name: {"content": bytes, "metadata"}}.
    """
    if isinstance(value, Mapping):
        return [(name, bytes(entry["content"])) for name, entry in value.items()]
    return [(entry["name"], bytes(entry["content"])) for entry in value]


def safe_name(name: str) -> str:
    """A file name from one that somebody else chose: letters, digits, ".", "-" and blanks, at most 100 bytes long."""
    path = Path(re.sub(r"[^\w.\- ]", "_", Path(name.replace("\\", "/")).name).lstrip(".") or "video")
    suffix = path.suffix if len(path.suffix.encode()) <= 12 else ""
    return path.name.removesuffix(suffix).encode()[: 100 - len(suffix.encode())].decode(errors="ignore") + suffix


class VideoApp(Widget):
    """Children that scripts may drive: example, upload, path, auto, left, top, side, recognise, frame, gloss; message,
    picture, answer, timeline, files show what came of it. Tab moves between controls, arrow keys change them.

    model: any Recognizer. examples: {name: video file} to begin with, may be empty. device: None is a GPU where there
    is one.
    """

    def __init__(self, model: Recognizer, examples: Mapping[str, str | Path], device: str | None = None):
        self.model, self.pictures = placed(model, device), pictures_for(model)
        self.result: Recognition | None = None
        self.maps: np.ndarray | None = None  # [glosses, T, h, w]
        self.frames = np.zeros((1, HEIGHT, HEIGHT, 3), np.uint8)  # of a very large video smaller ones, to look at
        self.smaller = 1.0  # how many pixels of the video are one of `frames`
        self.source, self.fps, self._busy = Path("none"), 25.0, False
        self._folder = tempfile.TemporaryDirectory(prefix="slakit-video-")
        wide = ipywidgets.Layout(width="420px")
        self.example = ipywidgets.Dropdown(
            options=[("choose …", "")] + [(name, str(path)) for name, path in examples.items()],
            description="example", layout=wide,
        )  # fmt: skip
        fitting = ipywidgets.Layout(width="auto")  # as wide as the words
        self.upload = ipywidgets.FileUpload(
            accept="video/*", multiple=False, description="Upload a video", layout=fitting
        )
        self.upload.add_class(UPLOAD_CLASS)
        self.path = ipywidgets.Text(
            description="or a path", placeholder="a file where the kernel runs", continuous_update=False, layout=wide
        )
        self.auto = ipywidgets.Checkbox(value=True, description="find the signer", indent=False, layout=fitting)
        self.left, self.top, self.side = (self._slider(name, "240px", "40px") for name in ("left", "top", "side"))
        self.recognise = ipywidgets.Button(description="Recognise", button_style="primary", disabled=True)
        self.frame = self._slider("frame", "560px")
        self.gloss = ipywidgets.Dropdown(options=[("none", -1)], description="map of", layout=wide)
        self.message, self.answer, self.files = (ipywidgets.HTML() for _ in range(3))
        self.picture, self.timeline = picture(2 * HEIGHT), picture(880)
        text = f"<pre style='white-space: pre-wrap; margin: 0'>{html.escape(model_card(model))}</pre>"
        card = ipywidgets.HTML(f"<details><summary>What this model knows</summary>{text}</details>")
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__([
            card, ipywidgets.HBox([self.example, self.upload], layout=wrap), self.path, self.message,
            self.frame, self.picture, ipywidgets.HBox([self.auto, self.left, self.top, self.side], layout=wrap),
            ipywidgets.HBox([self.recognise, self.gloss], layout=wrap), self.answer, self.timeline, self.files,
        ])  # fmt: skip
        self.layout.max_width = "1000px"
        for control, act in (
            (self.example, self._open_named), (self.path, self._open_named), (self.upload, self._take),
            (self.auto, self._set_crop), (self.frame, self._show), (self.gloss, self._show),
            (self.left, self._forget), (self.top, self._forget), (self.side, self._moved_side),
        ):  # fmt: skip
            control.observe(lambda change, act=act: None if self._busy else act(change["new"]), names="value")
        self.recognise.on_click(lambda _: self.run())
        self._say("Choose an example, upload a video, or give the path of one.")

    @staticmethod
    def _slider(name: str, width: str, label: str = "") -> ipywidgets.IntSlider:
        layout, style = ipywidgets.Layout(width=width), {"description_width": label}
        return ipywidgets.IntSlider(0, 0, 1, description=name, layout=layout, style=style)

    @property
    def box(self) -> Box:
        """The square that is cut out, in pixels of the video."""
        height, width = self.frames.shape[1:3]
        side = min(self.side.value, height, width)  # a slider whose ends are equal is an error in browsers: see _place
        return Box(min(self.left.value, width - side), min(self.top.value, height - side), side)

    @property
    def crop(self) -> str | Box:
        """What the model is shown: the square, or the whole picture where that is what it was trained on."""
        height, width = self.frames.shape[1:3]
        whole = self.auto.value and height != width and self.pictures.cut("auto", height, width) == "none"
        return "none" if whole else self.box

    def open_video(self, path: str | Path) -> None:
        """Read a video and show it; a file that cannot be read leaves what was there and says why."""
        path = Path(str(path).strip()).expanduser()
        self._say(f"Reading {path.name[:80]} …")
        try:
            source = open_source(path)
            info, fps = source.info, source.info.fps or 25.0
            if info.num_frames * info.height * info.width * 3 <= AT_ONCE:
                frames = source.read()
            else:
                size = HEIGHT, max(1, round(info.width * HEIGHT / info.height))
                frames = np.concatenate([resize(piece, size, "antialias") for piece in source.pieces()])
        except (SlakitError, OSError) as error:  # OSError: a path that is too long to be one
            self._say(str(error)[:400], wrong=True)
            return
        self.frames, self.source, self.fps, self.smaller = frames, path, fps, info.height / frames.shape[1]
        self._busy = True
        if self.example.value != str(path):  # what is shown is no example: the list does not say so
            self.example.value = ""
        self.frame.max, self.frame.value = max(len(frames) - 1, 1), 0
        self.side.max = max(min(frames.shape[1:3]), 2)
        self.side.min = min(16, self.side.max - 1)
        self._busy = False
        self.recognise.disabled = False
        length = f"{len(frames)} frames, {len(frames) / fps:.1f} s at {fps:.2f} frames a second"
        self._say(f"{path.name}: {info.width}x{info.height} pixels, {length}.")
        self._set_crop(None)

    def _open_named(self, name: str) -> None:
        if name.strip():
            self.open_video(name)

    def _take(self, value) -> None:
        for name, content in uploaded_files(value):
            target = Path(self._folder.name, safe_name(name))
            try:
                target.write_bytes(content)
            except OSError as error:  # a full disk
                self._say(f"{target.name} cannot be kept: {error.strerror or error}", wrong=True)
                continue
            self.open_video(target)

    def _set_crop(self, _) -> None:
        """The automatic square, or, when it is switched off, the same square to be moved by hand."""
        height, width = self.frames.shape[1:3]
        box = self.box
        if self.auto.value:
            box = Box(0, 0, width) if height == width else self.pictures.box(self.frames) or signer_box(self.frames)
        for slider in (self.left, self.top, self.side):
            slider.disabled = self.auto.value
        self._place(box)

    def _place(self, box: Box) -> None:
        """Sliders to this box, moved inside the picture."""
        height, width = self.frames.shape[1:3]
        self._busy = True
        self.side.value = min(max(box.side, self.side.min), self.side.max)
        self.left.max, self.top.max = max(width - self.side.value, 1), max(height - self.side.value, 1)
        self.left.value, self.top.value = min(box.left, self.left.max), min(box.top, self.top.max)
        self._busy = False
        self._forget(None)

    def _moved_side(self, _) -> None:
        self._place(self.box)

    def _forget(self, _) -> None:
        """Another video or crop: the old answer goes."""
        self.result = self.maps = None
        self._busy = True
        self.gloss.options, self.gloss.value = [("none", -1)], -1
        self._busy = False
        self.answer.value = self.files.value = ""
        put(self.timeline, b"")
        self._show(None)

    def run(self) -> Recognition | None:
        """Recognise what is on the screen, show it, make the files."""
        self._say("Recognising …")
        try:
            result = self._recognised()
            tokens = self.model.vocabulary.encode(result.glosses)
            maps = gloss_maps(self.model, result.frames, tokens) if tokens else None
            paths = write_report(self.model, result, Path(self._folder.name, "report"))
        except SlakitError as error:
            self._say(str(error), wrong=True)
            return None
        self.result, self.maps = result, maps
        self._busy = True
        choices = [(visible(f"{k + 1}. {gloss}"), k) for k, gloss in enumerate(result.glosses)]
        self.gloss.options = [("none", -1), *choices]
        self.gloss.value = 0 if choices else -1
        self._busy = False
        self._say(f"{self.source.name}: {len(result.glosses)} glosses recognised.")
        self.answer.value = answer_html(result)
        put(self.timeline, png(time_figure(self.model, result)))
        self.files.value = "Save: " + " &nbsp; ".join(_link(kind, path) for kind, path in paths.items())
        if choices:
            self.frame.value = result.spans[0].start
        self._show(None)
        return result

    def _recognised(self) -> Recognition:
        if self.smaller == 1:
            return recognize_frames(self.model, self.frames, fps=self.fps, source=str(self.source), crop=self.crop)
        crop = self.crop
        if isinstance(crop, Box):  # in the video's own pixels
            crop = Box(*(int(value * self.smaller) for value in (crop.left, crop.top, crop.side)))
        return recognize(self.model, self.source, crop=crop)

    def _show(self, _) -> None:
        """The frame under the slider with its square; beside it what the model sees, under the chosen gloss' map."""
        t = min(self.frame.value, len(self.frames) - 1)
        whole = Image.fromarray(self.frames[t])
        scale = HEIGHT / whole.height
        whole = whole.resize((max(round(whole.width * scale), 1), HEIGHT), Image.Resampling.BILINEAR)
        crop, box = self.crop, self.box
        corners = box.left, box.top, box.left + box.side - 1, box.top + box.side - 1
        if not isinstance(crop, Box):
            corners = 0, 0, self.frames.shape[2] - 1, self.frames.shape[1] - 1
        edges = [value * scale for value in corners]
        ImageDraw.Draw(whole).rectangle(edges, outline=BOX_COLOUR, width=3)
        if self.result is None:
            cut = fit_frames(self.frames[t : t + 1], self.model, crop)[0]
        else:
            cut = self.result.frames[t]
        number = cast(int, self.gloss.value)
        if self.maps is not None and number >= 0:
            heat = self.maps[number]
            cut = overlay(cut[None], heat[t : t + 1], 3, scale_of(heat))[0]
        both = Image.new("RGB", (whole.width + HEIGHT + 12, HEIGHT), "white")
        both.paste(whole, (0, 0))
        both.paste(Image.fromarray(cut).resize((HEIGHT, HEIGHT), Image.Resampling.BILINEAR), (whole.width + 12, 0))
        self.picture.layout.width = f"{both.width}px"
        put(self.picture, png(both))

    def stand_in(self) -> bytes:
        return self.picture.value

    def _say(self, text: str, wrong: bool = False) -> None:
        style = f" style='color: {ERROR_COLOUR}; background: white'" if wrong else ""
        self.message.value = f"<span role='status'{style}>{as_html(text)}</span>"


def answer_html(result: Recognition) -> str:
    """Glosses with times and confidence as a table, what else it might have been, and how unlike the training it is."""
    if not result.glosses:
        return "<b>Nothing was recognised.</b>"
    rows = [
        (visible(span.gloss), f"{span.start_seconds:.2f} to {span.end_seconds:.2f}", f"{100 * span.confidence:.0f} %")
        for span in result.spans
    ]
    table = pd.DataFrame(rows, columns=pd.Index(["gloss", "seconds", "confidence"]))
    others = [
        f"<li>{as_html(' '.join(glosses)) or '(nothing)'}, {math.exp(score - result.score):.2f} times as likely</li>"
        for glosses, score in result.alternatives[:3]
    ]
    listed = table.to_html(index=False, border=0, justify="left", col_space="8em")
    if result.likeness:
        style = "" if result.likeness.like else f" style='color: {ERROR_COLOUR}; background: white'"
        listed = f"<p{style}>{as_html(str(result.likeness))}</p>{listed}"
    return f"{listed}It might also have been:<ul style='margin: 0'>{''.join(others)}</ul>"


def _link(kind: str, path: Path) -> str:
    content = base64.b64encode(path.read_bytes()).decode()
    address = f"data:application/octet-stream;base64,{content}"
    return f"<a download='{as_html(path.name)}' href='{address}'>{KIND_NAMES[kind]}</a>"
