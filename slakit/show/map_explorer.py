"""A widget to look through maps: choose clip, gloss, method, map and layer, then scrub (ipywidgets 7 and 8)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cached_property
from html import escape

import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw

from slakit.decoding import GlossSpan, hypothesis_spans
from slakit.explain.attention import LAYERED, UNSCORED, kinds_of, maps_of
from slakit.explain.curves import Curve, masking_curve
from slakit.explain.gradients import KINDS, frame_energy
from slakit.explain.targets import Target, targets_of
from slakit.explain.watched import watch
from slakit.models.recognizer import Recognizer
from slakit.records import Sample, SlakitError
from slakit.show.film import overlay, scale_of
from slakit.show.map_figures import curve_figure, energy_figure

FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
ZOOM = 4
NOW, OTHER = "font-weight:bold; text-decoration:underline", ""  # in the page's own colour, which every theme has


def png(picture: np.ndarray | Image.Image) -> bytes:
    """A picture uint8 [H, W, 3] as PNG bytes, quickly rather than small."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


class Look:
    """One clip seen by one method; everything that is asked of it is computed once."""

    def __init__(self, model: Recognizer, sample: Sample):
        self.sample, self.seen = sample, watch(model, sample.source)
        self._maps: dict[tuple[str, int], np.ndarray] = {}
        self._curves: dict[tuple[str, int, int], list[Curve]] = {}

    @cached_property
    def tokens(self) -> list[int]:
        """The recognised glosses; where nothing was recognised, the true ones that the model knows."""
        known = [g for g in self.sample.glosses if g in self.seen.model.vocabulary]
        return self.seen.tokens or self.seen.model.vocabulary.encode(known)

    @cached_property
    def targets(self) -> list[Target]:
        return targets_of(self.seen, self.tokens)

    @cached_property
    def spans(self) -> list[GlossSpan]:
        seen = self.seen
        count, fps = len(seen.frames), self.sample.fps
        return hypothesis_spans(seen.log_probs, None, self.tokens, seen.model.vocabulary, count, fps, fill=1.0)

    def maps(self, kind: str, block: int) -> np.ndarray:
        """[glosses, T, h, w]."""
        key = (kind, block if kind in LAYERED else -1)
        if key not in self._maps:
            self._maps[key] = maps_of(self.seen, self.targets, *key)
        return self._maps[key]

    def curves(self, kind: str, block: int, gloss: int) -> list[Curve]:
        """Deletion of patches and of frames in the map's order."""
        key = (kind, block if kind in LAYERED else -1, gloss)
        if key not in self._curves:
            values = self.maps(kind, block)[gloss]
            self._curves[key] = [
                masking_curve(self.seen, self.targets[gloss], order, fractions=FRACTIONS, repeats=1)
                for order in (values, frame_energy(values))
            ]
        return self._curves[key]


class MapExplorer(ipywidgets.VBox):
    """The widget. Children that scripts may drive: clip, gloss, method, kind, layer (Dropdown), slider, play, picture,
    energy, curve (Image), message (HTML).

    models: {method: model}; samples: clips, each read with the loader's checks. Keyboard: Tab moves between the
    controls, arrow keys change them.
    """

    def __init__(self, models: Mapping[str, Recognizer], samples: Sequence[Sample]):
        if not models or not samples:
            raise SlakitError("there is nothing to look at; give at least one model and one clip")
        self.models, self.samples = dict(models), list(samples)
        self._looks: dict[tuple[int, str], Look] = {}
        self._drawn: dict[tuple, tuple] = {}
        self._busy = self._readable = False
        names = [f"{s.id}: {' '.join(s.glosses)}" for s in self.samples]
        self.clip = self._dropdown("clip", list(zip(names, range(len(names)), strict=True)), 0, "44em")
        self.method = self._dropdown("method", list(self.models), next(iter(self.models)))
        self.gloss = self._dropdown("gloss", [("", "")], "")
        self.kind = self._dropdown("map", [*KINDS], "grad-cam")
        self.layer = self._dropdown("layer", [("", "")], "")
        self.slider = ipywidgets.IntSlider(0, 0, 1, description="frame", continuous_update=True)
        self.slider.layout.width = "40em"
        self.play = ipywidgets.Play(value=0, min=0, max=1, interval=120)
        ipywidgets.jslink((self.play, "value"), (self.slider, "value"))
        self.picture, self.energy, self.curve = (ipywidgets.Image(format="png") for _ in range(3))
        self.message = ipywidgets.HTML()
        super().__init__([
            self.clip, ipywidgets.HBox([self.method, self.gloss]), ipywidgets.HBox([self.kind, self.layer]),
            ipywidgets.HBox([self.play, self.slider]), self.message, self.picture, self.energy, self.curve,
        ])  # fmt: skip
        for control, changed in (
            (self.clip, self._choose_look), (self.method, self._choose_look), (self.gloss, self._choose_map),
            (self.kind, self._choose_map), (self.layer, self._choose_map), (self.slider, self._show),
        ):  # fmt: skip
            control.observe(lambda change, act=changed: None if self._busy else act(), names="value")
        self._choose_look()

    @staticmethod
    def _dropdown(name: str, options: list, value: object, width: str = "21em") -> ipywidgets.Dropdown:
        dropdown = ipywidgets.Dropdown(options=options, value=value, description=name)
        dropdown.layout.width = width
        return dropdown

    @property
    def look(self) -> Look:
        """What the chosen method sees in the chosen clip."""
        key = (self.clip.value, self.method.value)
        if key not in self._looks:
            self._looks[key] = Look(self.models[self.method.value], self.samples[self.clip.value])
        return self._looks[key]

    def _choose_look(self) -> None:
        """Another clip or method: glosses, maps, layers and length follow; what was chosen stays where it can."""
        self.message.value = "looking at the clip …"
        try:
            look = self.look
            if not look.tokens:
                raise SlakitError(
                    f"nothing was recognised in {look.sample.id}, and the model knows none of its glosses "
                    f"({' '.join(look.sample.glosses) or 'it has none'}); choose another clip or method"
                )
        except SlakitError as error:
            self.message.value = f"<b>{escape(str(error))}</b>"
            self.picture.value = self.energy.value = self.curve.value = b""
            self._readable = False
            return
        self._readable = True
        self._busy = True  # one change from here, not one for each control that follows
        depth = look.seen.model.encoder.backbone.depth
        words = look.seen.model.vocabulary.decode(look.tokens)
        self._fill(self.kind, kinds_of(look.seen.model), 0)
        self._fill(self.layer, [(f"block {b + 1} of {depth}", b) for b in range(depth)], depth - 1)
        self._fill(self.gloss, [(f"{k + 1}. {word}", k) for k, word in enumerate(words)], 0)
        last = len(look.seen.frames) - 1
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

    @property
    def chosen(self) -> tuple:
        """(clip, method, gloss, kind, layer): what the caches go by."""
        return (self.clip.value, self.method.value, self.gloss.value, self.kind.value, self.layer.value)

    def _choose_map(self) -> None:
        """Another gloss, map or layer: compute it once, then show the frame."""
        if not self._readable:
            return
        look, gloss, kind, layer = self.look, self.gloss.value, self.kind.value, self.layer.value
        self.layer.disabled, self.gloss.disabled = kind not in LAYERED, False
        if self.chosen not in self._drawn:
            self.message.value = "computing the map and its deletion curve …"
            values, word = look.maps(kind, layer)[gloss], look.spans[gloss].gloss
            energy = energy_figure({kind: frame_energy(values)}, look.spans, look.sample.fps, "", width=8.4)
            self._drawn[self.chosen] = (values, scale_of(values), *_with_axis(energy))
            curves = look.curves(kind, layer, gloss)
            figure = curve_figure(curves, f"{word}: what is left of its probability as patches or frames are blurred.")
            self._drawn[self.chosen] += (_figure_png(figure),)
        self.curve.value = self._drawn[self.chosen][-1]
        self._show()

    def _show(self) -> None:
        """The frame under the slider, from what is drawn already."""
        if not self._readable or self.chosen not in self._drawn:
            return
        values, top, energy, (first, last), _ = self._drawn[self.chosen]
        look, t = self.look, self.slider.value
        frame = look.seen.frames[t : t + 1]
        plain = frame[0].repeat(ZOOM, 0).repeat(ZOOM, 1)
        self.picture.value = png(np.concatenate([plain, overlay(frame, values[t : t + 1], ZOOM, top)[0]], axis=1))
        marked = energy.copy()
        x = first + (last - first) * t / max(len(values) - 1, 1)
        ImageDraw.Draw(marked).line((x, 0, x, marked.height), fill="#D55E00", width=2)
        self.energy.value = png(marked)
        words = " ".join(
            f"<span style='{NOW if s.start <= t < s.end else OTHER}'>{escape(s.gloss)}</span>" for s in look.spans
        )
        kind = self.kind.value
        said = "the same for every gloss" if kind in UNSCORED else f"for {escape(look.spans[self.gloss.value].gloss)}"
        self.message.value = f"{t / look.sample.fps:.2f} s &nbsp; {words} &nbsp; <i>{kind}, {said}</i>"


def _figure_png(figure: plt.Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight")
    plt.close(figure)
    return buffer.getvalue()


def _with_axis(figure: plt.Figure) -> tuple[Image.Image, tuple[float, float]]:
    """The figure as a picture, and the x pixels of its first and last frame."""
    figure.canvas.draw()
    picture = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())
    (axis,) = figure.axes
    times = axis.lines[0].get_xdata()
    first, last = (float(axis.transData.transform((t, 0))[0]) for t in (times[0], times[-1]))
    plt.close(figure)
    return picture, (first, last)
