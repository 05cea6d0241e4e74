"""A recognition for people: what the model knows, one picture of the result, and files for other programs."""

from __future__ import annotations

from collections.abc import Sequence
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
MAP_BYTES = 2**30


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

    None where nothing was recognised, and where the maps of a long video would take more than MAP_BYTES.
    """
    grid = model.encoder.backbone.grid
    if not result.glosses or 4 * len(result.glosses) * result.num_frames * grid[0] * grid[1] > MAP_BYTES:
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
    caption = ""
    if model.auxiliary is not None:
        caption = "Bars: a head that sees single frames says when. Curves: the BiLSTM says what, and may peak later."
    return timeline({"recognised": result.spans}, tracks, model.vocabulary.glosses, result.fps, caption=caption)


def _gloss_at(result: Recognition, frame: int) -> str:
    return next((span.gloss for span in result.spans if span.start <= frame < span.end), "")


def write_report(
    model: Recognizer, result: Recognition, out: str | Path, kinds: Sequence[str] = KINDS
) -> dict[str, Path]:
    """Write one recognition in every format into a folder, named after its clip; returns {kind: path}.

    json (everything, with what the model is), eaf (ELAN, linked to the video), vtt (subtitles), ctm (scoring tools),
    png (recognition_picture, which needs the result's frames). What has the same name is replaced. Raises ConfigError
    and writes nothing where one of them cannot be written.
    """
    video, alternatives = Path(result.source), [{"glosses": g, "score": score} for g, score in result.alternatives]
    paths, contents = {kind: Path(out) / f"{result.id}.{kind}" for kind in kinds}, {}
    for kind, path in paths.items():
        if kind == "json":
            parts = {"sentences": [list(part) for part in result.sentences]} if result.sentences else {}
            contents[path] = as_json(
                result.spans, source=video.name, score=result.score, fps=result.fps, frames=result.num_frames,
                alternatives=alternatives, **parts, model=model_facts(model),
            ) + "\n"  # fmt: skip
        elif kind == "eaf":
            contents[path] = as_elan({"recognised": result.spans}, video if video.is_file() else None, beside=path)
        elif kind == "vtt":
            contents[path] = as_webvtt(result.spans)
        elif kind == "ctm":
            contents[path] = as_ctm({result.id: result.spans})
        else:
            contents[path] = png(recognition_picture(model, result))
    write_files(contents)
    return paths
