"""Recognition while frames arrive: chunks with overlap, each step of the output decided once.

What is exact: the features (a chunk is encoded with as many neighbours on each side as the method looks at; methods
that look at single frames encode every frame once), the temporal convolution, the decoding of what was decided so far.
What is approximate: the BiLSTM, which offline reads the whole clip in both directions, here sees `context_steps` steps
before and `lookahead_steps` after the chunk; and crop="auto", which must choose the square by the first chunk alone.

Latency: a step of four frames is decided when the last frame of its receptive field (8 frames after its middle two),
of the method's reach, of the lookahead and of its chunk has arrived: `StreamingRecognizer.latency_frames`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from slakit.data.video.cropping import Box, signer_box
from slakit.decoding import beam_search
from slakit.decoding.hypothesis import check_positive
from slakit.models.modes import evaluating
from slakit.models.packing import FIELD, LEFT, STRIDE, Clips
from slakit.models.recognizer import Recognizer
from slakit.recognition.forward import ClipLogProbs
from slakit.recognition.video import Recognition, fit_frames, recognition_of
from slakit.records import ConfigError, Sample


@dataclass(frozen=True)
class StreamState:
    """What is known in the middle of a stream: the glosses of what is decided so far; the last may still change."""

    glosses: tuple[str, ...]
    frames_received: int
    frames_decided: int


class StreamingRecognizer:
    """Takes the frames of one video as they come; finish() returns the same kind of Recognition as recognize().

    chunk_frames: new frames that are encoded at a time. context_steps, lookahead_steps: steps (of four frames) before
    and after a chunk that the BiLSTM sees. One chunk that holds the whole clip gives exactly what recognize() gives.
    lookahead_steps may be 0. crop: as in fit_frames(); "auto" is decided by the first chunk. fps: for times in seconds.
    precision: as recognize() has it.
    """

    def __init__(
        self,
        model: Recognizer,
        *,
        fps: float = 25.0,
        crop: str | Box = "auto",
        chunk_frames: int = 16,
        context_steps: int = 24,
        lookahead_steps: int = 8,
        beam_width: int = 10,
        n_best: int = 5,
        precision: str = "auto",
    ):
        if model.needs_whole_clip:
            raise ConfigError(
                f"{model.config.method} cannot recognise a stream: it has {model.needs_whole_clip}; recognise the "
                "whole video instead"
            )
        check_positive(chunk_frames=chunk_frames, context_steps=context_steps, lookahead_steps=lookahead_steps + 1)
        self.model, self.fps, self.crop = model, fps, crop
        self.chunk_frames, self.context_steps, self.lookahead_steps = chunk_frames, context_steps, lookahead_steps
        self.beam_width, self.n_best, self.precision = beam_width, n_best, precision
        self.published, self.times = model.config.padding == "published", model.config.auxiliary_lengths
        self.reach = model.encoder.reach  # frames on each side that a feature depends on
        self.frames: list[np.ndarray] = []  # every frame as the model saw it, uint8 [n, S, S, 3]
        self.log_probs: list[torch.Tensor] = []  # decided steps [n, V]
        self.by_frame: list[torch.Tensor] = []  # the auxiliary head, frame by frame [n, V]: when the glosses are signed
        self._waiting: list[np.ndarray] = []  # frames of their own size
        self._window = torch.empty(0)  # uint8 [n, 3, S, S]: not encoded yet, and neighbours before them
        self._encoded, self._window_start = 0, 0  # in frames given to the encoder
        self._features = torch.empty(0)  # [n, F]
        self._features_start, self._decided = 0, 0  # in padded frames, in steps
        self.received, self.encoder_frames, self.finished = 0, 0, False

    @property
    def latency_frames(self) -> tuple[int, int]:
        """(least, most) frames that arrive after the last frame of a step until that step is decided."""
        least = FIELD - LEFT - STRIDE + STRIDE * self.lookahead_steps + self.reach + 1
        return least, least + self.chunk_frames - 1

    def push(self, frames: np.ndarray) -> StreamState:
        """The next frames, uint8 [n, H, W, 3], RGB, upright, of any number and always the same size."""
        if self.finished:
            raise ConfigError("this stream is finished; make a new StreamingRecognizer for the next video")
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise ConfigError(f"frames of shape {list(frames.shape)}, {frames.dtype}; push uint8 [n, height, width, 3]")
        if len(frames):
            self._waiting.append(frames)
            self.received += len(frames)
        while self._frames_here() > self.chunk_frames + self.reach:  # not "as many": this may be the clip's end
            self._advance(self.chunk_frames)
        return self.state()

    def finish(self) -> Recognition:
        """The rest of the clip, decided with its true end in sight."""
        if not self.received:
            raise ConfigError("the stream ended before a frame came; push the frames of a video first")
        if not self.finished:
            self._advance(None)
            self.finished = True
        frames, by_frame = np.concatenate(self.frames), None
        if self.by_frame:
            start = 0 if self.times == "frames" else LEFT
            by_frame = torch.cat(self.by_frame)[start : start + len(frames)].numpy()
        clip = ClipLogProbs("stream", torch.cat(self.log_probs).numpy(), by_frame)
        return recognition_of(self.model, clip, frames, self.fps, self.beam_width, self.n_best)

    def state(self) -> StreamState:
        """Glosses of what was decided so far."""
        tokens = ()
        if self.log_probs:
            steps = torch.cat(self.log_probs)[None]  # [1, T', V]: decoding is so quick that it may begin anew
            tokens = beam_search(steps, beam_width=self.beam_width)[0][0].tokens
        done = min(self._decided * STRIDE, self.received)
        return StreamState(tuple(self.model.vocabulary.decode(tokens)), self.received, done)

    def _frames_here(self) -> int:
        """Frames that came and are not encoded yet."""
        waiting = sum(len(part) for part in self._waiting)
        return waiting + self._window_start + len(self._window) - self._encoded

    def _advance(self, count: int | None) -> None:
        """Encode `count` further frames (None: all, the clip ends) and decide the steps that they complete."""
        if count is not None and self.published and not self.frames:
            count += LEFT  # the copies of the first frame
        with evaluating(self.model, self.precision):
            self._fit(last=count is None)
            self._add_features(self._encode(count), last=count is None)
            self._decide(last=count is None)

    def _fit(self, last: bool) -> None:
        """Waiting frames -> the encoder's size, behind the window."""
        parts = [self._window] if len(self._window) else []
        if self._waiting:
            raw = np.concatenate(self._waiting)
            if self.crop == "auto":
                self.crop = "none" if raw.shape[1] == raw.shape[2] else signer_box(raw)
            fitted = fit_frames(raw, self.model.image_size, self.crop)
            new = torch.from_numpy(fitted).permute(0, 3, 1, 2)  # [n, 3, S, S]
            if self.published and not self.frames:
                parts.append(new[:1].expand(LEFT, -1, -1, -1))
            parts.append(new)
            self.frames.append(fitted)
            self._waiting = []
        if last and self.published:
            end = torch.from_numpy(self.frames[-1][-1]).permute(2, 0, 1)
            parts.append(end.expand(self._copies_at_the_end(), -1, -1, -1))
        self._window = torch.cat(parts)

    def _copies_at_the_end(self) -> int:
        return -self.received % STRIDE + LEFT

    def _encode(self, count: int | None) -> torch.Tensor:
        """Features [n, F] of the next `count` frames, with the neighbours that the method looks at around them."""
        begin = self._encoded - self._window_start
        end = len(self._window) if count is None else begin + count
        if begin == end:
            return self._features[:0]
        first, behind = max(begin - self.reach, 0), min(end + self.reach, len(self._window))
        images = self._window[first:behind].to(next(self.model.parameters()).device)
        features = self.model.encoder(self.model.normalise(images), Clips([len(images)], images.device))
        self.encoder_frames += len(images)
        self._encoded += end - begin
        forgotten = max(end - self.reach, 0)
        self._window, self._window_start = self._window[forgotten:], self._window_start + forgotten
        return features[begin - first : end - first]

    def _add_features(self, new: torch.Tensor, last: bool) -> None:
        """Behind those that are kept; copies of the first and the last one where the encoder did not see copies."""
        first, added = self._features_start == 0 and not len(self._features), [new]
        if not self.published and first:
            added.insert(0, new[:1].expand(LEFT, -1))
        if not self.published and last:
            added.append((new if len(new) else self._features)[-1:].expand(self._copies_at_the_end(), -1))
        more = torch.cat(added)  # [n, F], padding included
        if self.model.auxiliary is not None and self.times != "pooled":
            strip = self.times == "frames"
            begin, end = LEFT * (first and strip), len(more) - self._copies_at_the_end() * (last and strip)
            self.by_frame.append(self.model.auxiliary(more[None, begin:end])[0].float().log_softmax(-1).cpu())
        self._features = more if first else torch.cat([self._features, more])

    def _decide(self, last: bool) -> None:
        """Log probabilities of the steps whose lookahead is complete; all that are left when the clip has ended."""
        ready = (self._features_start + len(self._features) - (FIELD - STRIDE)) // STRIDE  # steps seen as a whole
        end = ready if last else ready - self.lookahead_steps
        if end <= self._decided:
            return
        first = max(self._decided - self.context_steps, 0)
        begin = first * STRIDE - self._features_start
        window = self._features[None, begin : (ready - 1) * STRIDE + FIELD - self._features_start]  # [1, n, F]
        lengths = torch.tensor([window.shape[1]], device=window.device)
        _, logits, _ = self.model.sequence(window, lengths)  # [1, ready - first, V]
        self.log_probs.append(logits[0, self._decided - first : end - first].float().log_softmax(-1).cpu())
        self._decided = end
        keep = max(end - self.context_steps, 0) * STRIDE - self._features_start
        self._features, self._features_start = self._features[keep:], self._features_start + keep


def long_streams(samples: Sequence[Sample], clips: int) -> dict[str, list[Sample]]:
    """Clips of the same signer put one after the other, `clips` at a time: {id of the first: samples}."""
    signers: dict[str, list[Sample]] = {}
    for sample in samples:
        signers.setdefault(sample.signer, []).append(sample)
    parts = [group[i : i + clips] for group in signers.values() for i in range(0, len(group), clips)]
    return {part[0].id: part for part in parts}


def stream_frames(model: Recognizer, frames: np.ndarray, **options) -> tuple[Recognition, StreamingRecognizer]:
    """Frames uint8 [T, H, W, 3] sent through a StreamingRecognizer(model, **options) one chunk after the other."""
    stream = StreamingRecognizer(model, **options)
    for start in range(0, len(frames), stream.chunk_frames):
        stream.push(frames[start : start + stream.chunk_frames])
    return stream.finish(), stream
