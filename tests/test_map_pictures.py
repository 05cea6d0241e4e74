"""Overlays, films, figures and the explorer; hostile files are refused by the same checks as everywhere."""

from __future__ import annotations

import warnings

import av
import matplotlib
import matplotlib.font_manager
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from media import shared, write_frames
from PIL import Image

import slakit
from slakit import explain
from slakit.records import SlakitError, VideoError
from slakit.show import figures, map_figures
from slakit.show.films import film, font, save_film
from slakit.show.map_explorer import MapExplorer
from slakit.show.pictures import HEAT, overlay, scale_of

matplotlib.use("agg")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return slakit.load_corpus("minisign", root=tmp_path_factory.mktemp("c"), train=1, dev=1, test=2, progress=False)


@pytest.fixture(scope="module")
def models(corpus):
    options = {"glosses": corpus.glosses, "backbone": "tiny-clip", "hidden_size": 32}
    return {m: slakit.create_model(m, **options) for m in ("sla-lora", "adaptsign")}


@pytest.fixture(scope="module")
def seen(models, corpus):
    return explain.watch(models["sla-lora"], corpus.test[0].source)


def test_colours_rise_in_brightness():
    """Readable without colour vision: the luminance of the colour map never falls."""
    colours = matplotlib.colormaps[HEAT](np.linspace(0, 1, 64))[:, :3]
    assert (np.diff(colours @ [0.2126, 0.7152, 0.0722]) > 0).all()


def test_overlay_has_one_scale_and_leaves_low_places_grey():
    frames = np.full((3, 14, 14, 3), (200, 100, 0), np.uint8)
    maps = np.zeros((3, 7, 7))
    maps[0, 3, 3], maps[1, 3, 3] = 1.0, 0.2
    shown = overlay(frames, maps, zoom=2).astype(int)
    assert shown.shape == (3, 28, 28, 3) and (shown[2] == 100).all() and (shown[0, 0, 0] == 100).all()
    assert shown[0, 13, 13].tolist() != shown[1, 13, 13].tolist(), "the weaker frame is not blown up to the stronger"
    assert np.abs(shown[0, 13, 13] - 100).sum() > np.abs(shown[1, 13, 13] - 100).sum()
    assert scale_of(np.zeros((1, 2, 2))) > 0
    with pytest.raises(SlakitError, match="3 frames but 2 maps"):
        overlay(frames, maps[:2])


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_films_can_be_read_back_with_their_glosses(seen, corpus, suffix, tmp_path):
    maps = np.random.default_rng(0).random((len(seen.frames), *seen.grid))
    pictures = film(seen.frames, maps, corpus.test[0].spans, "what is shown", zoom=2)
    path = save_film(tmp_path / f"film.{suffix}", pictures, 25.0)
    with av.open(str(path)) as container:
        again = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert again.shape == pictures.shape
    assert np.abs(again.astype(int) - pictures).mean() < 6
    span = corpus.test[0].spans[0]
    word = slice(168 + 5, 168 + 36)
    assert pictures[(span.start + span.end) // 2, word].max() > 200, "the gloss is burnt in while it is signed"
    assert span.start == 0 or pictures[0, word].max() < 30, "and not before"
    with pytest.raises(SlakitError, match=r"\.mp4 or \.gif"):
        save_film(tmp_path / "film.avi", pictures)


def test_a_film_of_several_methods_side_by_side(seen, corpus):
    rng = np.random.default_rng(0)
    maps = {name: rng.random((len(seen.frames), *seen.grid)) for name in ("sla-lora", "frozen")}
    both = film(seen.frames, maps, corpus.test[0].spans, "two methods", zoom=2)
    alone = film(seen.frames, maps["frozen"], corpus.test[0].spans, "one method", zoom=2)
    side = 2 * seen.frames.shape[2]
    assert both.shape[2] == 3 * side and both.shape[1] == alone.shape[1] + 18
    assert np.array_equal(both[:, :side, :side], alone[:, :side, :side])
    assert np.array_equal(both[:, :side, 2 * side :], alone[:, :side, side:]), "each map keeps its own scale"
    names = both[0, side : side + 18]
    assert all(names[:, k * side : (k + 1) * side].max() > 200 for k in range(3)), "a name under every picture"
    assert not np.array_equal(names[:, side : 2 * side], names[:, 2 * side :])
    with pytest.raises(SlakitError, match="at least one map"):
        film(seen.frames, {}, corpus.test[0].spans)


def test_a_font_is_chosen_by_the_letters_that_it_has(tmp_path):
    """A font file that has the private letter U+10FFFD and A alone, as only a CJK font has Chinese letters."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    letter = "\U0010fffd"
    pen = TTGlyphPen(None)
    for call, at in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 900)), (pen.lineTo, (900, 900)), (pen.lineTo, (900, 0))):
        call(at)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square", ord("A"): "square"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Slakit Square", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=900)
    builder.setupPost()
    builder.save(tmp_path / "square.ttf")
    with pytest.warns(UserWarning, match=rf"no installed font has {letter}: drawn as boxes"):
        font(20, f"A{letter}")
    known = list(matplotlib.font_manager.fontManager.ttflist)
    matplotlib.font_manager.fontManager.addfont(tmp_path / "square.ttf")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert font(20, f"A{letter}").getname()[0] == "Slakit Square"
            assert font(20, "AÄжس").getname()[0] != "Slakit Square"
    finally:
        matplotlib.font_manager.fontManager.ttflist[:] = known


def test_the_font_draws_more_than_boxes():
    drawn = [font(20).getmask(text).getbbox() for text in ("Ä", "ж", "س")]
    assert all(drawn) and len({bytes(font(20).getmask(t)) for t in ("Ä", "ж", "س", "\uffff")}) == 4


def test_figures_draw_every_row_and_a_caption(seen, corpus):
    targets = explain.targets_of(seen, [1, 2])
    maps = explain.gradient_maps(seen, targets)
    chosen = [0, 5, 9]
    strip = figures.frame_strip(seen.frames, chosen, {"first": maps[0], "second": maps[1]}, caption="what is shown")
    assert len(strip.axes) == 9 and "what is shown" in [text.get_text() for text in strip.texts]
    gates = np.random.default_rng(0).uniform(-0.5, 0.5, (len(seen.frames), 5, *seen.grid))
    assert map_figures.neighbour_strip(seen.frames, gates, range(-2, 3), [0, 8], "neighbours").texts
    energies = map_figures.energies_of(maps, ["A", "A"])
    assert list(energies) == ["A", "A (2)"] and sum(energies["A"]) == pytest.approx(1)
    line = map_figures.energy_figure(energies, corpus.test[0].spans, 25.0, "energy").axes[0].lines[0]
    np.testing.assert_allclose(line.get_ydata(), 100 * energies["A"])
    probabilities = seen.log_probs.exp().numpy()
    tracks = {"probability": (probabilities, 4)}
    both = figures.timeline({"signed": corpus.test[0].spans}, tracks, corpus.glosses.glosses, 25.0, caption="timeline")
    assert len(both.axes) == 2 and len(both.axes[0].patches) == len(corpus.test[0].spans)
    curve = explain.masking_curve(seen, targets[0], maps[0], repeats=1, fractions=(0, 0.5, 1))
    assert "gain" in map_figures.curve_figure([curve], "curve").axes[0].get_title()
    plt.close("all")


def test_explorer_follows_every_control(models, corpus):
    explorer = MapExplorer(models, corpus.test)
    shown = bytes(explorer.picture.value)
    assert shown.startswith(b"\x89PNG") and bytes(explorer.curve.value[:4]) == b"\x89PNG"
    assert explorer.slider.max == len(explorer.view.watched.frames) - 1
    explorer.slider.value = 5
    assert bytes(explorer.picture.value) != shown and "0.20 s" in explorer.message.value
    before = bytes(explorer.energy.value)
    for control, value in (("kind", "grad-cam"), ("layer", 0), ("kind", "rollout"), ("method", "adaptsign")):
        getattr(explorer, control).value = value
        assert bytes(explorer.energy.value) != before, control
        before = bytes(explorer.energy.value)
        assert explorer.slider.value == 5 and explorer.layer.disabled == (explorer.kind.value == "rollout")
    assert explorer.kind.value == "rollout" and "aggregation" in explorer.kind.options
    explorer.kind.value = "aggregation"
    explorer.method.value = "sla-lora"
    assert explorer.kind.value == "gradient x token", "sla-lora has no aggregation query"
    explorer.clip.value = 1
    assert explorer.slider.max == len(explorer.view.watched.frames) - 1
    last = len(explorer.view.spans) - 1
    explorer.gloss.value = last
    span = explorer.view.spans[last]
    assert last == 0 or span.start <= explorer.slider.value <= span.end, "it jumps to the gloss"
    with pytest.raises(SlakitError, match="nothing to look at"):
        MapExplorer({}, corpus.test)


def test_explorer_names_a_clip_that_cannot_be_read(models, corpus, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    sample = slakit.Sample("broken", broken, corpus.test[0].glosses)
    explorer = MapExplorer(models, [corpus.test[0], sample])
    explorer.clip.value = 1
    assert "broken.mp4" in explorer.message.value and not bytes(explorer.picture.value)
    explorer.slider.value = 3  # the controls stay without effect, and without an error
    explorer.kind.value = "rollout"
    assert "broken.mp4" in explorer.message.value
    explorer.clip.value = 0
    assert bytes(explorer.picture.value)
    assert "broken.mp4" not in explorer.message.value


def test_explorer_says_where_there_is_no_gloss_to_explain(corpus):
    """A model that recognises nothing, and a clip whose glosses it does not know."""
    mute = slakit.create_model("frozen", ["OTHER"], backbone="tiny-clip", hidden_size=32)
    with torch.no_grad():
        for parameter in mute.sequence.lstm.parameters():
            parameter.fill_(3.0 if parameter.ndim == 1 else 0.0)  # the states are positive, whatever the clip
        mute.sequence.classifier.weight.fill_(-1)
        mute.sequence.classifier.weight[:, 0] = 1
    assert not explain.watch(mute, corpus.test[0].source).tokens, "the test needs a model that recognises nothing"
    explorer = MapExplorer({"mute": mute}, corpus.test)
    assert "nothing was recognised" in explorer.message.value and corpus.test[0].id in explorer.message.value
    assert not bytes(explorer.picture.value)
    explorer.slider.value = 1
    explorer.clip.value = 1
    assert corpus.test[1].id in explorer.message.value


@pytest.mark.parametrize("name", ["trunc_nomoov.mp4", "empty.mp4", "text.mp4", "corrupt_mid.mp4"])
def test_maps_of_hostile_files_are_refused_by_name(models, name):
    with pytest.raises(VideoError, match=name):
        explain.watch(models["sla-lora"], shared("data", "videos", name))


def test_maps_of_odd_sources(models, tmp_path):
    model = models["sla-lora"]
    with pytest.raises(VideoError, match=r"none\.mp4"):
        explain.watch(model, tmp_path / "none.mp4")
    folder = write_frames(tmp_path / "frames", np.random.default_rng(0).integers(0, 256, (9, 120, 60, 3), np.uint8))
    assert explain.watch(model, folder).frames.shape == (9, 84, 84, 3), "not square: a square is cut out"
    Image.new("RGB", (30, 30)).save(folder / "images0003.png")
    with pytest.raises(VideoError):
        explain.watch(model, folder)
