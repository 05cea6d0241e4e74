"""One video in, glosses with times and scores out."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slakit.config import DecodeConfig, TrainConfig, to_dict
from slakit.data.video.read import open_source
from slakit.data.video.source import AT_ONCE, Source
from slakit.decoding import GlossSpan, beam_search, frame_spans, hypothesis_spans
from slakit.models.packing import STRIDE
from slakit.models.recognizer import Recognizer
from slakit.recognition import exports
from slakit.recognition.forward import ClipLogProbs, forward, placed
from slakit.recognition.likeness import Likeness, likeness
from slakit.recognition.pauses import between_pauses
from slakit.recognition.pictures import Pictures, crop_of, pictures_for, settings_for, with_beam
from slakit.records import ConfigError, Sample, VideoError, visible, write_files

MAX_FRAMES = 100_000  # more than an hour: the sequence model reads a clip as a whole
FPS = 25.0  # of what does not say: a folder of frames


@dataclass(frozen=True)
class Recognition:
    """What was recognised in one video.

    id: what its files and its CTM are named after. glosses: the best sequence. spans: a GlossSpan for each (frames,
    `.start_seconds`, `.end_seconds`, confidence), from the auxiliary head on frame features where the model has it,
    else from the coarser steps of the sequence head. score: natural log probability of the sequence under CTC.
    alternatives: further (glosses, score), best first. num_frames: of the video. frames: uint8 [T, h, w, 3] as the
    model saw them, on disk where they are many; none of them where a stream was not asked to keep them. posteriors:
    float32 [T', V], one row for four frames. sentences: (start, end) in frames of the parts that were recognised each
    by itself, where the video was cut at pauses. likeness: to the pictures of training, where the checkpoint keeps them
    (of the most unlike part).
    """

    id: str
    source: str
    glosses: tuple[str, ...]
    spans: tuple[GlossSpan, ...]
    score: float
    alternatives: tuple[tuple[tuple[str, ...], float], ...]
    fps: float
    num_frames: int
    frames: np.ndarray
    posteriors: np.ndarray
    sentences: tuple[tuple[int, int], ...] = ()
    likeness: Likeness | None = None

    def __str__(self) -> str:
        times = "  ".join(f"{s.gloss} {s.start_seconds:.2f}-{s.end_seconds:.2f}s" for s in self.spans)
        text = f"{' '.join(self.glosses) or '(nothing)'}\n  {times}\n  log probability {self.score:.2f}"
        return visible(text, keep="\n")

    def table(self) -> str:
        """The glosses below each other with their times and confidence (mean probability while they are signed)."""
        width = max((len(span.gloss) for span in self.spans), default=0)
        rows = [
            f"  {span.gloss:<{width}}  {span.start_seconds:7.2f} to {span.end_seconds:7.2f} s  "
            f"{100 * span.confidence:3.0f} % sure"
            for span in self.spans
        ]
        lines = [" ".join(self.glosses) or "(nothing)", *rows, f"  log probability {self.score:.2f}"]
        lines += [f"  {self.likeness}"] if self.likeness else []
        return visible("\n".join(lines), keep="\n")

    def json(self) -> str:
        """Everything but frames and posteriors as JSON text; see `slakit.recognition.exports.as_json`."""
        alternatives = [{"glosses": glosses, "score": value} for glosses, value in self.alternatives]
        parts: dict[str, Any] = {"sentences": [list(part) for part in self.sentences]} if self.sentences else {}
        if self.likeness:
            parts["likeness"] = {**asdict(self.likeness), "like": self.likeness.like}
        return exports.as_json(
            self.spans, source=self.source, score=self.score, fps=self.fps, alternatives=alternatives, **parts
        )

    def save(self, path: str | Path) -> Path:
        """Write the glosses with their times; the ending chooses the format.

        .eaf: ELAN, the video linked; .vtt: WebVTT subtitles; .json: as `json()`; .ctm: NIST's format, under the clip's
        `id`. ConfigError for another ending.
        """
        path, video = Path(path), Path(self.source)
        if path.suffix == ".eaf":
            exports.write_elan(path, {"recognised": self.spans}, video if os.path.isfile(video) else None)
        elif path.suffix == ".vtt":
            exports.write_webvtt(path, self.spans)
        elif path.suffix == ".json":
            write_files({path: self.json() + "\n"})
        elif path.suffix == ".ctm":
            exports.write_ctm_spans(path, {self.id: self.spans})
        else:
            raise ConfigError(f"{path.name}: a recognition is saved as .eaf (ELAN), .vtt, .json or .ctm; choose one")
        return path


def clip_name(source: str | Path) -> str:
    """What files about a clip are called: the video's name without ending, the folder's of frames; of Phoenix-2014's
    `<id>/1` the id. No blanks, which a CTM file cannot hold."""
    path = Path(source)
    name = path.parent.name if path.name == "1" and path.parent.name else path.name
    name = name if os.path.isdir(path) else Path(name).stem
    letters = (c if visible(c) == c else "_" for c in re.sub(r"[\s\x00-\x1f]+", "_", name))
    return "".join(letters).lstrip(".;") or "video"


def recognize(
    model: Recognizer,
    source: str | Path | Sample,
    *,
    crop: str | Sequence[int] = "auto",
    beam_width: int | None = None,
    n_best: int = 5,
    precision: str | None = None,
    on_damage: str = "error",
    pauses: float | None = None,
    settings: TrainConfig | None = None,
    device: str | torch.device | None = None,
) -> Recognition:
    """Recognise the glosses signed in a video file, a folder of frames, or a clip of a corpus.

    Pictures, decoding and precision are those that the model's checkpoint was trained and chosen with (`settings_for`,
    `pictures_for`), so that a clip's answer is the one that `evaluate` scores; settings, crop, beam_width, precision
    ("float32", "float16", "bfloat16") change them. device: None is a GPU where there is one.

    A model knows its own glosses alone (`model.vocabulary`) and the kind of pictures that it was trained on; one that
    was trained on single sentences expects one sentence. pauses: seconds of stillness at which a longer video is cut,
    each part recognised by itself; None: not cut. Of a video of any size frames are decoded, made small and encoded in
    pieces. Raises VideoError, with the file and the reason, for what cannot be read.
    """
    clip = source if isinstance(source, Sample) else None
    opened = open_source(source if not isinstance(source, Sample) else source.source)
    settings = with_beam(settings or settings_for(model), beam_width)
    fps = opened.info.fps or (clip.fps if clip else FPS)
    crop = crop_of(model, clip) if clip and crop == "auto" else crop
    fitted = fitted_frames(opened, pictures_for(model, settings), crop, on_damage)
    name, path = (clip.id if clip else clip_name(str(source))), opened.name if clip else str(source)
    options = {"n_best": n_best, "precision": precision, "pauses": pauses, "settings": settings, "device": device}
    return replace(recognize_fitted(model, fitted, fps, **options), id=name, source=path)


def recognize_frames(
    model: Recognizer,
    frames: np.ndarray,
    *,
    fps: float = FPS,
    source: str = "frames",
    crop: str | Sequence[int] = "auto",
    beam_width: int | None = None,
    n_best: int = 5,
    precision: str | None = None,
    pauses: float | None = None,
    settings: TrainConfig | None = None,
    device: str | torch.device | None = None,
) -> Recognition:
    """As recognize(), of frames in memory: uint8 [T, H, W, 3], RGB, upright; source: a name for messages and files."""
    settings = with_beam(settings or settings_for(model), beam_width)
    pictures = pictures_for(model, settings)
    fitted = pictures.fit(frames, pictures.box(frames, crop))
    options = {"n_best": n_best, "precision": precision, "pauses": pauses, "settings": settings, "device": device}
    return replace(recognize_fitted(model, fitted, fps, **options), id=clip_name(source), source=source)


def fitted_frames(source: Source, pictures: Pictures, crop: str | Sequence[int], on_damage: str) -> np.ndarray:
    """All frames of a source as the model is shown them: uint8 [T, S, S, 3], read in pieces where they are large.

    VideoError where there are too many of them.
    """
    info, size = source.info, pictures.augment.crop_size
    if info.num_frames > MAX_FRAMES:
        raise VideoError(
            f"{source.name}: {info.num_frames} frames, more than the {MAX_FRAMES:,} that are recognised as a whole; "
            "cut the video, or recognise it with --stream (StreamingRecognizer)"
        )
    if info.num_frames * info.height * info.width * 3 <= AT_ONCE:
        frames = source.read(None, on_damage)
        return pictures.fit(frames, pictures.box(frames, crop))
    box = source.box(pictures.cut(crop, info.height, info.width), on_damage)
    parts = (pictures.fit(piece, box) for piece in source.pieces(None, on_damage))
    if info.num_frames * size * size * 3 <= AT_ONCE:
        return np.concatenate(list(parts))
    with tempfile.TemporaryFile() as file:  # gone with the last who looks at them
        count = 0
        for part in parts:
            file.write(part.data)
            count += len(part)
        file.flush()
        return np.memmap(file, np.uint8, "r+", shape=(count, size, size, 3))


def recognize_fitted(
    model: Recognizer,
    frames: np.ndarray,
    fps: float,
    *,
    n_best: int = 5,
    precision: str | None = None,
    pauses: float | None = None,
    settings: TrainConfig | None = None,
    device: str | torch.device | None = None,
) -> Recognition:
    """As recognize(), of frames as the model is shown them: uint8 [T, S, S, 3]."""
    settings, results = settings or settings_for(model), []
    if not len(frames):
        raise VideoError("there are no frames to recognise; look at the video")
    placed(model, device)
    parts = [(0, len(frames))] if pauses is None else between_pauses(frames, fps, pauses)
    for start, end in parts:
        packed = torch.from_numpy(frames[start:end]).permute(0, 3, 1, 2)  # [T, 3, h, w]
        clip = forward(model, ["frames"], packed, torch.tensor([end - start]), precision or settings.precision)[0]
        results.append(recognition_of(model, clip, frames[start:end], fps, n_best, settings.decode))
    return results[0] if pauses is None else _joined(results, parts, frames)


def _joined(results: Sequence[Recognition], parts: Sequence[tuple[int, int]], frames: np.ndarray) -> Recognition:
    """The parts of one video as one answer; other answers are those with one part changed."""
    spans = [
        replace(span, start=span.start + start, end=span.end + start)
        for result, (start, _) in zip(results, parts, strict=True)
        for span in result.spans
    ]
    total, others = sum(result.score for result in results), []
    for number, result in enumerate(results):
        for glosses, score in result.alternatives:
            said = [r.glosses for r in results[:number]] + [glosses] + [r.glosses for r in results[number + 1 :]]
            others.append((tuple(gloss for part in said for gloss in part), total - result.score + score))
    others.sort(key=lambda other: -other[1])
    return replace(
        results[0], glosses=tuple(span.gloss for span in spans), spans=tuple(spans), score=total,
        alternatives=tuple(others[: len(results[0].alternatives)]), num_frames=len(frames), frames=frames,
        posteriors=np.concatenate([result.posteriors for result in results]), sentences=tuple(parts),
        likeness=max((r.likeness for r in results if r.likeness), key=lambda found: found.distance, default=None),
    )  # fmt: skip


def recognition_of(
    model: Recognizer,
    clip: ClipLogProbs,
    frames: np.ndarray,
    fps: float,
    n_best: int = 5,
    decode: DecodeConfig | None = None,
) -> Recognition:
    """The Recognition of one clip from its log probabilities; frames as the model saw them.

    The auxiliary head knows the times of the glosses better; without it they are those of the steps that emit the
    glosses, the gaps between shared.
    """
    decode, vocabulary = decode or settings_for(model).decode, model.vocabulary
    hypotheses = beam_search(clip.steps[None], n_best=min(n_best, decode.beam_width), **to_dict(decode))[0]
    best, *others = [(tuple(vocabulary.decode(hypothesis.tokens)), hypothesis.score) for hypothesis in hypotheses]
    spans = spans_of(model, clip, hypotheses[0].tokens, len(frames), fps)
    values = clip_name(clip.id), clip.id, best[0], tuple(spans), best[1], tuple(others), fps, len(frames), frames
    return Recognition(*values, np.exp(clip.steps), likeness=likeness(model, clip.features))


def spans_of(
    model: Recognizer, clip: ClipLogProbs, tokens: Sequence[int], num_frames: int, fps: float
) -> list[GlossSpan]:
    """When the glosses of a hypothesis are signed; the confidence is that of the head that recognised them."""
    glosses = model.vocabulary
    spans = hypothesis_spans(clip.steps, None, tokens, glosses, num_frames, fps, fill=1.0, frames_per_step=STRIDE)
    if clip.frames is None:
        return spans
    times = frame_spans(clip.frames, tokens, glosses, fps)
    return [replace(time, confidence=span.confidence) for time, span in zip(times, spans, strict=True)]
