"""A widget to look through maps: choose clip, gloss, method, map and layer, then scrub (ipywidgets 7 and 8)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple, cast

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from slakit.decoding import GlossSpan, hypothesis_spans
from slakit.explain import KINDS, Curve, Target, frame_energy, kinds_of, maps_of, masking_curve, targets_of, watch
from slakit.explain.attention import LAYERED, UNSCORED
from slakit.models.recognizer import Recognizer
from slakit.records import Sample, SlakitError, visible
from slakit.scoring.escapes import as_html
from slakit.show.map_figures import curve_figure, energy_figure
from slakit.show.pictures import overlay, png, scale_of, stack
from slakit.show.player import Widget, gloss_line, picture, put

FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
ZOOM = 4


class ClipView:
    """One clip watched by one method; everything that is asked of it is computed once."""

    def __init__(self, model: Recognizer, sample: Sample):
        self.sample, self.watched = sample, watch(model, sample)
        self._maps: dict[tuple[str, int], np.ndarray] = {}

    @cached_property
    def tokens(self) -> list[int]:
        """The recognised glosses; where nothing was recognised, the true ones that the model knows."""
        known = [g for g in self.sample.glosses if g in self.watched.model.vocabulary]
        return self.watched.tokens or self.watched.model.vocabulary.encode(known)

    @cached_property
    def targets(self) -> list[Target]:
        return targets_of(self.watched, self.tokens)

    @cached_property
    def spans(self) -> list[GlossSpan]:
        glosses, count, fps = self.watched.model.vocabulary, len(self.watched.frames), self.sample.fps
        return hypothesis_spans(self.watched.log_probs, None, self.tokens, glosses, count, fps, fill=1.0)

    def maps(self, kind: str, block: int) -> np.ndarray:
        """[glosses, T, h, w]; block: of no meaning to kinds that look at all."""
        if (kind, block) not in self._maps:
            self._maps[kind, block] = maps_of(self.watched, self.targets, kind, block)
        return self._maps[kind, block]

    def curves(self, values: np.ndarray, gloss: int) -> list[Curve]:
        """Deletion of patches and of frames in the order of a map [T, h, w]."""
        orders, target = (values, frame_energy(values)), self.targets[gloss]
        return [masking_curve(self.watched, target, order, fractions=FRACTIONS, repeats=1) for order in orders]


class Choice(NamedTuple):
    """What the controls say; the drawings are kept by it. layer: -1 where the kind of map looks at all."""

    clip: int
    method: str
    gloss: int
    kind: str
    layer: int


class Drawing(NamedTuple):
    """One map [T, h, w], the value drawn brightest, its energy with the first and last x pixel, its curve as PNG."""

    values: np.ndarray
    top: float
    energy: Image.Image
    ends: tuple[float, float]
    curve: bytes


class MapExplorer(Widget):
    """The widget. Children that scripts may drive: clip, gloss, method, kind, layer (Dropdown), slider, play, picture,
    energy, curve (Image), message (HTML).

    models: {method: model}; samples: clips, each read with the loader's checks. Keyboard: Tab moves between the
    controls, arrow keys change them.
    """

    def __init__(self, models: Mapping[str, Recognizer], samples: Sequence[Sample]):
        if not models or not samples:
            raise SlakitError("there is nothing to look at; give at least one model and one clip")
        self.models, self.samples = dict(models), list(samples)
        self._views: dict[tuple[int, str], ClipView] = {}
        self._drawings: dict[Choice, Drawing] = {}
        self._busy = self._readable = False
        names = [visible(f"{s.id}, signed: {' '.join(s.glosses)}") for s in self.samples]
        self.clip = self._dropdown("clip", list(zip(names, range(len(names)), strict=True)), 0, "430px")
        self.method = self._dropdown("method", list(self.models), next(iter(self.models)))
        self.gloss = self._dropdown("recognised", [("", "")], "")
        self.kind = self._dropdown("map", [*KINDS], "gradient x token")
        self.layer = self._dropdown("layer", [("", "")], "")
        self.slider = ipywidgets.IntSlider(0, 0, 1, description="frame", layout=ipywidgets.Layout(width="560px"))
        self.play = ipywidgets.Play(value=0, min=0, max=1, interval=120)
        ipywidgets.jslink((self.play, "value"), (self.slider, "value"))
        self.picture, self.energy, self.curve = (picture(width) for width in (460, 880, 420))
        self.message = ipywidgets.HTML()
        wrap = ipywidgets.Layout(flex_flow="row wrap")
        super().__init__([
            ipywidgets.HBox([self.clip, self.method], layout=wrap),
            ipywidgets.HBox([self.gloss, self.kind, self.layer], layout=wrap),
            ipywidgets.HBox([self.play, self.slider]), self.message,
            ipywidgets.HBox([self.picture, self.curve], layout=wrap), self.energy,
        ])  # fmt: skip
        for control, changed in (
            (self.clip, self._choose_clip), (self.method, self._choose_view), (self.gloss, self._choose_gloss),
            (self.kind, self._choose_map), (self.layer, self._choose_map), (self.slider, self._show),
        ):  # fmt: skip
            control.observe(lambda change, act=changed: None if self._busy else act(), names="value")
        self._choose_clip()

    @staticmethod
    def _dropdown(name: str, options: list, value: object, width: str = "290px") -> ipywidgets.Dropdown:
        layout = ipywidgets.Layout(width=width)
        return ipywidgets.Dropdown(options=options, value=value, description=name, layout=layout)

    @property
    def chosen(self) -> Choice:
        controls = (self.clip, self.method, self.gloss, self.kind, self.layer)
        chosen = Choice(*cast("tuple[int, str, int, str, int]", tuple(control.value for control in controls)))
        return chosen if chosen.kind in LAYERED else chosen._replace(layer=-1)

    @property
    def view(self) -> ClipView:
        """The chosen clip, watched by the chosen method."""
        clip, method = self.chosen[:2]
        if (clip, method) not in self._views:
            self._views[clip, method] = ClipView(self.models[method], self.samples[clip])
        return self._views[clip, method]

    def _choose_clip(self) -> None:
        self._choose_view()
        self._jump()

    def _choose_gloss(self) -> None:
        self._choose_map()
        self._jump()

    def _jump(self) -> None:
        """The slider to the middle of the chosen gloss."""
        if self._readable:
            span = self.view.spans[self.chosen.gloss]
            self.slider.value = min((span.start + span.end) // 2, self.slider.max)

    def _choose_view(self) -> None:
        """Another clip or method: glosses, maps, layers and length follow; what was chosen stays where it can."""
        self.message.value = "looking at the clip …"
        try:
            view = self.view
            if not view.tokens:
                raise SlakitError(
                    f"nothing was recognised in {view.sample.id}, and the model knows none of its glosses "
                    f"({' '.join(view.sample.glosses) or 'it has none'}); choose another clip or method"
                )
        except SlakitError as error:
            self.message.value = f"<b>{as_html(str(error))}</b>"
            for image in (self.picture, self.energy, self.curve):
                put(image, b"")
            self._readable = False
            return
        self._readable = True
        self._busy = True  # one change from here, not one for each control that follows
        depth = view.watched.model.encoder.backbone.depth
        words = view.watched.model.vocabulary.decode(view.tokens)
        kinds = kinds_of(view.watched.model)
        self._fill(self.kind, kinds, kinds.index("gradient x token"))
        self._fill(self.layer, [(f"block {b + 1} of {depth}", b) for b in range(depth)], depth - 1)
        self.gloss.description = "recognised" if view.watched.tokens else "signed"
        self._fill(self.gloss, [(visible(f"{k + 1}. {word}"), k) for k, word in enumerate(words)], 0)
        last = len(view.watched.frames) - 1
        self.slider.max = self.play.max = last
        self.slider.value = min(self.slider.value, last)
        self._busy = False
        self._choose_map()

    @staticmethod
    def _fill(dropdown: ipywidgets.Dropdown, options: list, default: int) -> None:
        """New options; the old choice stays if it is still among them."""
        before = dropdown.value
        values = [option[1] if isinstance(option, tuple) else option for option in options]
        if tuple(dropdown.options) != tuple(options):
            dropdown.options = options
        dropdown.value = before if before in values and before != "" else values[default]

    def _choose_map(self) -> None:
        """Another gloss, map or layer: compute it once, then show the frame."""
        if not self._readable:
            return
        view, chosen = self.view, self.chosen
        _, _, gloss, kind, layer = chosen
        self.layer.disabled, self.gloss.disabled = kind not in LAYERED, False
        if chosen not in self._drawings:
            self.message.value = "computing the map and its deletion curve …"
            values, word = view.maps(kind, layer)[gloss], view.spans[gloss].gloss
            energy = energy_figure({kind: frame_energy(values)}, view.spans, view.sample.fps, "")
            caption = f"What is left of {word} as patches or frames are blurred."
            curve = png(curve_figure(view.curves(values, gloss), caption, width=5.2))
            self._drawings[chosen] = Drawing(values, scale_of(values), *_with_ends(energy), curve)
        put(self.curve, self._drawings[chosen].curve)
        self._show()

    def _show(self) -> None:
        """The frame under the slider, from what is drawn already."""
        chosen = self.chosen
        if not self._readable or chosen not in self._drawings:
            return
        values, top, energy, (first, last), _ = self._drawings[chosen]
        view, t = self.view, self.slider.value
        frame = view.watched.frames[t : t + 1]
        plain = frame[0].repeat(ZOOM, 0).repeat(ZOOM, 1)
        put(self.picture, png(np.concatenate([plain, overlay(frame, values[t : t + 1], ZOOM, top)[0]], axis=1)))
        marked = energy.copy()
        x = first + (last - first) * t / max(len(values) - 1, 1)
        ImageDraw.Draw(marked).line((x, 0, x, marked.height), fill="#D55E00", width=4)
        put(self.energy, png(marked))
        unscored = chosen.kind in UNSCORED
        target = "the same for every gloss" if unscored else f"for {as_html(view.spans[chosen.gloss].gloss)}"
        self.message.value = f"{gloss_line(view.spans, t, view.sample.fps)} &nbsp; <i>{chosen.kind}, {target}</i>"

    def stand_in(self) -> bytes:
        parts = [image.value for image in (self.picture, self.energy) if image.value]
        return png(stack([_image(part) for part in parts])) if parts else b""


def _image(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _with_ends(figure: Figure) -> tuple[Image.Image, tuple[float, float]]:
    """The figure as a picture, and the x pixels of its first and last frame."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
    (axis,) = figure.axes
    times = np.asarray(axis.lines[0].get_xdata())
    first, last = (float(axis.transData.transform((t, 0))[0]) for t in (times[0], times[-1]))
    plt.close(figure)
    return picture, (first, last)
