"""A clip with a play button for JupyterLab and Colab (ipywidgets 7 and 8), and what all widgets share.

A widget fits a laptop's screen (1366 x 768): pictures have a width of their own instead of the cell's, controls stand
above them. Where no widget can live (a stored notebook on the web), a picture stands in for it.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import ipywidgets
import numpy as np

from slakit.decoding import GlossSpan
from slakit.records import Span
from slakit.scoring.escapes import as_html
from slakit.show.pictures import png

TALLEST = 384  # pixels of a clip's picture on the screen


def picture(width: int) -> ipywidgets.Image:
    """An empty picture that will be `width` pixels wide, less where the page is narrower; see `put`."""
    layout = ipywidgets.Layout(width=f"{width}px", max_width="100%", align_self="flex-start", display="none")
    return ipywidgets.Image(format="png", layout=layout)


def put(image: ipywidgets.Image, content: bytes) -> None:
    """Show PNG bytes; without any the picture is hidden, for browsers draw an empty one as broken."""
    image.value = content
    image.layout.display = "" if content else "none"


class Widget(ipywidgets.VBox):
    """A column of widgets with a picture of itself for where widgets do not live: `stand_in()` gives its PNG bytes."""

    def stand_in(self) -> bytes:
        return b""

    def _repr_mimebundle_(self, **kwargs) -> dict[str, Any]:
        """ipywidgets 8 asks for this; the web takes the picture, Jupyter and Colab the widget."""
        data = dict(super()._repr_mimebundle_(**kwargs) or {})
        if shown := self.stand_in():
            data["image/png"] = base64.b64encode(shown).decode()
        return data


class ClipPlayer(Widget):
    """See `clip_player`. Children: play and slider, caption, image."""

    def __init__(self, frames: np.ndarray, spans: Sequence[Span | GlossSpan], fps: float, scale: int):
        self.frames, self.spans, self.fps, self.scale = frames, spans, fps, scale
        height, width = frames.shape[1] * scale, frames.shape[2] * scale
        self.image = picture(round(width * min(1.0, TALLEST / height)))
        last = max(len(frames) - 1, 1)  # a slider whose ends are equal is an error in browsers
        wide = ipywidgets.Layout(width="420px")
        self.slider = ipywidgets.IntSlider(0, 0, last, description="frame", continuous_update=True, layout=wide)
        self.play = ipywidgets.Play(value=0, min=0, max=last, interval=round(1000 / fps))
        ipywidgets.jslink((self.play, "value"), (self.slider, "value"))
        self.caption = ipywidgets.HTML()
        super().__init__([ipywidgets.HBox([self.play, self.slider]), self.caption, self.image])
        self.slider.observe(lambda change: self.show(change["new"]), names="value")
        self.show(0)

    def show(self, index: int) -> None:
        index = min(index, len(self.frames) - 1)
        put(self.image, png(self.frames[index].repeat(self.scale, 0).repeat(self.scale, 1)))
        self.caption.value = gloss_line(self.spans, index, self.fps)

    def stand_in(self) -> bytes:
        from slakit.show.figures import frame_strip

        return png(frame_strip(self.frames, 8))


def gloss_line(spans: Sequence[Span | GlossSpan], frame: int, fps: float) -> str:
    """HTML: the time of a frame and all glosses, the one of the moment underlined, in the page's own colour."""
    words = [f"<b><u>{as_html(s.gloss)}</u></b>" if s.start <= frame < s.end else as_html(s.gloss) for s in spans]
    return f"{frame / fps:.2f} s &nbsp; {' '.join(words)}"


def clip_player(frames: np.ndarray, spans: Sequence[Span] = (), fps: float = 25.0, scale: int = 4) -> ClipPlayer:
    """A clip with a play button and a slider (arrow keys work on it), and the gloss that is being signed.

    frames: uint8 [T, H, W, 3]; spans: the glosses in frames, start included, end excluded; scale: how much larger, as
    far as it fits the screen.
    """
    return ClipPlayer(frames, spans, fps, scale)
