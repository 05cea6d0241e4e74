"""One video in, glosses with times and scores out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from slakit.data.augment import evaluation_crop
from slakit.data.video.cropping import Box, signer_crop
from slakit.data.video.read import probe_video, read_frames
from slakit.data.video.resize import resize
from slakit.decoding import GlossSpan, beam_search, frame_spans, hypothesis_spans
from slakit.models.packing import STRIDE
from slakit.models.recognizer import Recognizer
from slakit.recognition import exports
from slakit.recognition.forward import ClipLogProbs, forward
from slakit.records import ConfigError, visible, write_files


@dataclass(frozen=True)
class Recognition:
    """What was recognised in one video.

    glosses: the best sequence. spans: a GlossSpan for each (frames, `.start_seconds`, `.end_seconds`, confidence), from
    the auxiliary head on frame features where the model has it, else from the coarser steps of the sequence head.
    score: natural log probability of the sequence under CTC. alternatives: further (glosses, score), best first.
    frames: uint8 [T, h, w, 3] as the model saw them; posteriors: float32 [T', V], one row for four frames.
    """

    source: str
    glosses: tuple[str, ...]
    spans: tuple[GlossSpan, ...]
    score: float
    alternatives: tuple[tuple[tuple[str, ...], float], ...]
    fps: float
    frames: np.ndarray
    posteriors: np.ndarray

    def __str__(self) -> str:
        times = "  ".join(f"{s.gloss} {s.start_seconds:.2f}-{s.end_seconds:.2f}s" for s in self.spans)
        text = f"{' '.join(self.glosses) or '(nothing)'}\n  {times}\n  log probability {self.score:.2f}"
        return visible(text, keep="\n")

    def json(self) -> str:
        """Everything but frames and posteriors as JSON text; see `slakit.recognition.exports.as_json`."""
        alternatives = [{"glosses": glosses, "score": value} for glosses, value in self.alternatives]
        return exports.as_json(
            self.spans, source=self.source, score=self.score, fps=self.fps, alternatives=alternatives
        )

    def save(self, path: str | Path) -> Path:
        """Write the glosses with their times; the ending chooses the format.

        .eaf: ELAN, the video linked; .vtt: WebVTT subtitles; .json: as `json()`; .ctm: NIST's format, the name of the
        video without its ending as id. ConfigError for another ending.
        """
        path, video = Path(path), Path(self.source)
        if path.suffix == ".eaf":
            exports.write_elan(path, {"recognised": self.spans}, video if video.is_file() else None)
        elif path.suffix == ".vtt":
            exports.write_webvtt(path, self.spans)
        elif path.suffix == ".json":
            write_files({path: self.json() + "\n"})
        elif path.suffix == ".ctm":
            exports.write_ctm_spans(path, {video.stem: self.spans})
        else:
            raise ConfigError(f"{path.name}: a recognition is saved as .eaf (ELAN), .vtt, .json or .ctm; choose one")
        return path


def fit_frames(frames: np.ndarray, image_size: int, crop: str | Box = "auto") -> np.ndarray:
    """Frames of any size as the evaluation shows them to the model: uint8 [T, image_size, image_size, 3].

    As published: the whole picture is resized to 8/7 of image_size (256 for 224), its middle is kept. crop "auto" cuts
    a square around the signer first unless the picture is square already, "none" does not; or give a Box.
    """
    if isinstance(crop, Box) or (crop == "auto" and frames.shape[1] != frames.shape[2]):
        frames = signer_crop(frames, box=crop if isinstance(crop, Box) else None)
    side, margin = evaluation_crop(image_size)
    frames = resize(frames, side)
    return np.ascontiguousarray(frames[:, margin : margin + image_size, margin : margin + image_size])


def recognize(
    model: Recognizer,
    source: str | Path,
    *,
    crop: str | Box = "auto",
    beam_width: int = 10,
    n_best: int = 5,
    precision: str = "auto",
    on_damage: str = "error",
) -> Recognition:
    """Recognise the glosses signed in a video file or a folder of frames.

    Raises VideoError, with the file and the reason, for what cannot be read. A model only knows its own glosses
    (`model.vocabulary`) and the kind of pictures that it was trained on. precision: "auto" as in training and
    evaluation (bfloat16 where a GPU has it, float32 on a CPU), "float32", "float16" or "bfloat16".
    """
    fps = probe_video(source).fps or 25.0
    frames = read_frames(source, on_damage=on_damage)
    options = {"crop": crop, "beam_width": beam_width, "n_best": n_best, "precision": precision}
    return recognize_frames(model, frames, fps=fps, source=str(source), **options)


def recognize_frames(
    model: Recognizer,
    frames: np.ndarray,
    *,
    fps: float = 25.0,
    source: str = "frames",
    crop: str | Box = "auto",
    beam_width: int = 10,
    n_best: int = 5,
    precision: str = "auto",
) -> Recognition:
    """As recognize(), of frames in memory: uint8 [T, H, W, 3], RGB, upright; source: a name for messages and files."""
    fitted = fit_frames(frames, model.image_size, crop)
    packed = torch.from_numpy(fitted).permute(0, 3, 1, 2)  # [T, 3, h, w]
    clip = forward(model, [source], packed, torch.tensor([len(fitted)]), precision)[0]
    return recognition_of(model, clip, fitted, fps, beam_width, n_best)


def recognition_of(
    model: Recognizer, clip: ClipLogProbs, frames: np.ndarray, fps: float, beam_width: int, n_best: int
) -> Recognition:
    """The Recognition of one clip from its log probabilities; frames as the model saw them.

    The auxiliary head knows the times of the glosses better; without it they are those of the steps that emit the
    glosses, the gaps between shared.
    """
    hypotheses = beam_search(clip.steps[None], beam_width=beam_width, n_best=n_best)[0]
    tokens, vocabulary = hypotheses[0].tokens, model.vocabulary
    best, *others = [(tuple(vocabulary.decode(hypothesis.tokens)), hypothesis.score) for hypothesis in hypotheses]
    spans = hypothesis_spans(clip.steps, None, tokens, vocabulary, len(frames), fps, fill=1.0, frames_per_step=STRIDE)
    if clip.frames is not None:  # the confidence stays that of the head that recognised the gloss
        times = frame_spans(clip.frames, tokens, vocabulary, fps)
        spans = [replace(time, confidence=span.confidence) for time, span in zip(times, spans, strict=True)]
    return Recognition(clip.id, best[0], tuple(spans), best[1], tuple(others), fps, frames, np.exp(clip.steps))
