"""A recognition for people: what the model knows, one picture of the result, and files for other programs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from slakit.explain import gloss_maps
from slakit.models.packing import STRIDE
from slakit.models.recognizer import Recognizer
from slakit.recognition.exports import as_ctm, as_elan, as_json, as_webvtt
from slakit.recognition.video import Recognition
from slakit.records import visible, write_files
from slakit.show.figures import frame_strip, timeline
from slakit.show.pictures import as_image, png, stack

KINDS = ("json", "eaf", "vtt", "ctm", "png")


def model_facts(model: Recognizer) -> dict[str, Any]:
    """Where a model comes from, by what its checkpoint says of it: method, backbone, glosses, corpus, scores.

    What a checkpoint does not say is None; a model that was not loaded from one knows only how it was built.
    """
    description = getattr(model, "about", {})
    config = model.config
    return {
        "method": config.method,
        "backbone": config.backbone,
        "pretrained": config.pretrained,
        "glosses": len(model.vocabulary.glosses),
        "corpus": description.get("corpus"),
        "trained_on": description.get("trained_on"),
        "metrics": description.get("metrics"),
        "slakit": description.get("versions", {}).get("slakit"),
    }


def model_card(model: Recognizer) -> str:
    """What the loaded model knows and on what it was trained, in a few lines, before anybody trusts its answers."""
    facts = model_facts(model)
    glosses = model.vocabulary.glosses
    listed = " ".join(glosses[:60]) + (f" … and {len(glosses) - 60} more" if len(glosses) > 60 else "")
    trained = facts["trained_on"] or (f"the corpus {facts['corpus']}" if facts["corpus"] else None)
    weights = facts["pretrained"] or "random start"
    lines = [
        f"method      {facts['method']}, image encoder {facts['backbone']} ({weights}), {model.image_size} pixels",
        f"trained on  {trained or 'unknown: the checkpoint does not say; do not trust its answers'}",
        f"knows       {facts['glosses']} glosses, and answers every video with these alone: {listed}",
    ]
    wer = _error_rates(facts["metrics"])
    if wer:
        lines.append(f"word error  {wer} on that corpus; on other videos nothing was measured")
    return visible("\n".join(lines), keep="\n")


def _error_rates(metrics: Any) -> str:
    """'dev 9.5 %, test 7.5 %' from the metrics of a checkpoint, '' where it holds none."""
    wer = metrics.get("wer") if isinstance(metrics, dict) else None
    if isinstance(wer, dict):
        return ", ".join(f"{split} {value:.1f} %" for split, value in wer.items() if isinstance(value, (int, float)))
    return f"dev {wer:.1f} %" if isinstance(wer, (int, float)) else ""


def clip_maps(model: Recognizer, result: Recognition) -> np.ndarray | None:
    """For every frame the map of the gloss that is signed there: float32 [T, h, w], 0 to 1 within each gloss.

    None where nothing was recognised.
    """
    if not result.glosses:
        return None
    maps = gloss_maps(model, result.frames, model.vocabulary.encode(result.glosses))  # [glosses, T, h, w]
    shown = np.zeros(maps.shape[1:], np.float32)
    for values, span in zip(maps, result.spans, strict=True):
        part = values[span.start : span.end]
        shown[span.start : span.end] = part / max(float(part.max()), 1e-12)
    return shown


def recognition_picture(model: Recognizer, result: Recognition, count: int = 10) -> Image.Image:
    """Timeline, probabilities and overlay strip of one recognition, one under the other (RGB)."""
    chosen = np.linspace(0, len(result.frames) - 1, min(count, len(result.frames))).round().astype(int)
    titles = [f"{i / result.fps:.2f} s  {_gloss_at(result, i)}" for i in chosen]
    strip = frame_strip(result.frames, chosen, clip_maps(model, result), titles=titles)
    return stack([as_image(time_figure(model, result)), as_image(strip)])


def time_figure(model: Recognizer, result: Recognition) -> Figure:
    """The glosses as bars over time, and under them the probabilities that they come from."""
    tracks = {"probability of each gloss in every step of four frames (grey: blank)": (result.posteriors, STRIDE)}
    figure = timeline({"recognised": result.spans}, tracks, model.vocabulary.glosses, result.fps)
    figure.axes[0].set_xlim(0, len(result.frames) / result.fps)
    return figure


def _gloss_at(result: Recognition, frame: int) -> str:
    return next((span.gloss for span in result.spans if span.start <= frame < span.end), "")


def write_report(model: Recognizer, result: Recognition, out: str | Path) -> dict[str, Path]:
    """Write one recognition in every format into a folder, named after its video; returns {kind: path}.

    json (everything, with what the model is), eaf (ELAN, linked to the video), vtt (subtitles), ctm (scoring tools),
    png (recognition_picture). All of them or, with a ConfigError that says why, none.
    """
    name = file_name(Path(result.source).stem)
    paths = {kind: Path(out) / f"{name}.{kind}" for kind in KINDS}
    video = Path(result.source) if Path(result.source).is_file() else None
    facts = {"source": Path(result.source).name, "score": result.score, "fps": result.fps, "frames": len(result.frames)}
    alternatives = [{"glosses": glosses, "score": score} for glosses, score in result.alternatives]
    contents = {
        "json": as_json(result.spans, **facts, alternatives=alternatives, model=model_facts(model)) + "\n",
        "eaf": as_elan({"recognised": result.spans}, video, beside=paths["eaf"]),
        "vtt": as_webvtt(result.spans),
        "ctm": as_ctm({name: result.spans}),
        "png": png(recognition_picture(model, result)),
    }
    write_files({paths[kind]: content for kind, content in contents.items()})
    return paths


def file_name(text: str) -> str:
    """The name of a video as one of files and as an id in CTM: no blanks, nothing that cannot be seen, no dot first."""
    letters = (c if visible(c) == c else "_" for c in re.sub(r"[\s\x00-\x1f]+", "_", text))
    return "".join(letters).lstrip(".;") or "video"
