"""A clip with a play button for JupyterLab and Colab (ipywidgets 7 and 8)."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
import numpy as np

from slakit.decoding import GlossSpan
from slakit.records import Span
from slakit.scoring.escapes import as_html
from slakit.show.pictures import png


def gloss_line(spans: Sequence[Span | GlossSpan], frame: int, fps: float) -> str:
    """HTML: the time of a frame and all glosses, the one of the moment underlined, in the page's own colour."""
    words = [f"<b><u>{as_html(s.gloss)}</u></b>" if s.start <= frame < s.end else as_html(s.gloss) for s in spans]
    return f"{frame / fps:.2f} s &nbsp; {' '.join(words)}"


def clip_player(frames: np.ndarray, spans: Sequence[Span] = (), fps: float = 25.0, scale: int = 4) -> ipywidgets.VBox:
    """A clip with a play button and a slider (arrow keys work on it); below, the gloss that is being signed.

    frames: uint8 [T, H, W, 3]; spans: the glosses in frames, start included, end excluded; scale: how much larger.
    """
    picture = ipywidgets.Image(format="png")
    slider = ipywidgets.IntSlider(0, 0, len(frames) - 1, description="frame", continuous_update=True)
    play = ipywidgets.Play(value=0, min=0, max=len(frames) - 1, interval=round(1000 / fps))
    ipywidgets.jslink((play, "value"), (slider, "value"))
    caption = ipywidgets.HTML()

    def show(index: int) -> None:
        picture.value = png(frames[index].repeat(scale, 0).repeat(scale, 1))
        caption.value = gloss_line(spans, index, fps)

    slider.observe(lambda change: show(change["new"]), names="value")
    show(0)
    return ipywidgets.VBox([picture, ipywidgets.HBox([play, slider]), caption])
