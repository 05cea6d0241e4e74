"""Recognition while frames arrive: chunks with overlap, each step of the output decided once.

What is exact: the features (a chunk is encoded with as many neighbours on each side as the method looks at; methods
that look at single frames encode every frame once), the temporal convolution, the decoding of what was decided so far.
What is approximate: the BiLSTM, which offline reads the whole clip in both directions, here sees `context_steps` steps
before and `lookahead_steps` after the chunk; and a signer who is looked for, found by the first chunk alone.

Latency: a step of four frames is decided when the last frame of its receptive field (8 frames after its middle two),
of the method's reach, of the lookahead and of its chunk has arrived: `StreamingRecognizer.latency_frames`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from slakit.config import TrainConfig, to_dict
from slakit.data.video.cropping import Box, read_crop
from slakit.decoding import BeamStream, GlossSpan
from slakit.decoding.hypothesis import check_positive, collapse
from slakit.decoding.stream import HORIZON
from slakit.models.modes import evaluating
from slakit.models.packing import FIELD, LEFT, STRIDE, Clips
from slakit.models.recognizer import Recognizer
from slakit.recognition.forward import ClipLogProbs, placed
from slakit.recognition.likeness import likeness
from slakit.recognition.pictures import CROPS, pictures_for, settings_for, with_beam
from slakit.recognition.video import Recognition, spans_of
from slakit.records import ConfigError, Sample


@dataclass(frozen=True)
class StreamState:
    """What is known in the middle of a stream: the glosses of what is decided so far; the first `settled` of them
    cannot change any more."""

    glosses: tuple[str, ...]
    frames_received: int
    frames_decided: int
    settled: int = 0


class StreamingRecognizer:
    """Takes the frames of one video as they come; finish() returns the same kind of Recognition as recognize().

    chunk_frames: new frames that are encoded at a time. context_steps, lookahead_steps: steps (of four frames) before
    and after a chunk that the BiLSTM sees. One chunk that holds the whole clip gives exactly what recognize() gives.
    lookahead_steps may be 0. crop: as recognize() has it; a signer who is looked for is found in the first chunk. fps:
    for times in seconds. beam_width, precision, settings, device: as recognize() has them.
    keep_frames: whether the result holds the frames (21 KB each at 84 pixels, 150 KB at 224).
    remember: steps after which times are settled. Of a longer stream the glosses before are final, with the times that
    the steps until then gave them, and their log probabilities are forgotten: time and memory of a push do not grow.
    """

    def __init__(
        self,
        model: Recognizer,
        *,
        fps: float = 25.0,
        crop: str | Sequence[int] = "auto",
        chunk_frames: int = 16,
        context_steps: int = 24,
        lookahead_steps: int = 8,
        beam_width: int | None = None,
        n_best: int = 5,
        precision: str | None = None,
        keep_frames: bool = False,
        remember: int = HORIZON,
        settings: TrainConfig | None = None,
        device: str | torch.device | None = None,
    ):
        if model.needs_whole_clip:
            raise ConfigError(
                f"{model.config.method} cannot recognise a stream: it has {model.needs_whole_clip}; recognise the "
                "whole video instead"
            )
        check_positive(chunk_frames=chunk_frames, context_steps=context_steps, lookahead_steps=lookahead_steps + 1)
        self.model, self.fps, self.crop = placed(model, device), fps, read_crop(crop, CROPS)
        self.chunk_frames, self.context_steps, self.lookahead_steps = chunk_frames, context_steps, lookahead_steps
        settings = with_beam(settings or settings_for(model), beam_width)
        self.pictures, self.precision = pictures_for(model, settings), precision or settings.precision
        self.n_best, self.keep_frames, self.remember = min(n_best, settings.decode.beam_width), keep_frames, remember
        self.published, self.times = model.config.padding == "published", model.config.auxiliary_lengths
        self.reach = model.encoder.reach  # frames on each side that a feature depends on
        self.beam = BeamStream(len(model.vocabulary), **to_dict(settings.decode), horizon=remember)
        self.frames: list[np.ndarray] = []  # where they are kept: every frame as the model saw it, uint8 [n, S, S, 3]
        self.log_probs: list[torch.Tensor] = []  # decided steps [n, V] from the step `_first` on
        self.by_frame: list[torch.Tensor] = []  # the auxiliary head's rows [n, V] from the frame 4 x `_first` on
        self.spans: list[GlossSpan] = []  # of the glosses that were signed before
        self._first, self._held, self._behind = 0, 0, 0 if self.times == "frames" else LEFT
        self._closed = 0  # tokens that were signed before, equal neighbours counted each
        self._waiting: list[np.ndarray] = []  # frames of their own size
        self._last = torch.empty(0)  # the last frame as the model saw it
        self._window = torch.empty(0)  # uint8 [n, 3, S, S]: not encoded yet, and neighbours before them
        self._encoded, self._window_start = 0, 0  # in frames given to the encoder
        self._features = torch.empty(0)  # [n, F]
        self._features_start, self._decided = 0, 0  # in padded frames, in steps
        self._sum = torch.zeros(model.encoder.feature_dim)  # of all features
        self.received, self.fitted, self.encoder_frames, self.finished = 0, 0, 0, False

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
        size = self.model.image_size
        frames = np.concatenate(self.frames) if self.frames else np.empty((0, size, size, 3), np.uint8)
        hypotheses, vocabulary = self.beam.hypotheses(self.n_best), self.model.vocabulary
        best, *others = [(tuple(vocabulary.decode(h.tokens)), h.score) for h in hypotheses]
        spans = (*self.spans, *self._spans(hypotheses[0].tokens[len(self.spans) :], None))
        posteriors = np.exp(torch.cat(self.log_probs).numpy())
        values = best[0], spans, best[1], tuple(others), self.fps, self.received, frames
        mean = (self._sum / self._encoded).numpy()  # with the copies at its ends where the encoder sees them
        return Recognition("stream", "stream", *values, posteriors, likeness=likeness(self.model, mean))

    def state(self) -> StreamState:
        """Glosses of what was decided so far."""
        tokens = self.beam.hypotheses()[0].tokens
        done = min(self._decided * STRIDE, self.received)
        settled = [token for token, _ in self.beam.settled]
        if self.beam.collapse_repeats:
            settled, _ = collapse(settled, settled)
        return StreamState(tuple(self.model.vocabulary.decode(tokens)), self.received, done, len(settled))

    def _spans(self, tokens: Sequence[int], cut: int | None) -> list[GlossSpan]:
        """Of these glosses, signed in the steps that are held, from `_first` to `cut` (None: the stream's end)."""
        start, end = self._first * STRIDE, self.received if cut is None else cut * STRIDE
        steps = torch.cat(self.log_probs)[: None if cut is None else cut - self._first].numpy()
        rows = torch.cat(self.by_frame)[self._behind :][: end - start].numpy() if self.by_frame else None
        spans = spans_of(self.model, ClipLogProbs("stream", steps, rows), tokens, end - start, self.fps)
        return [replace(span, start=span.start + start, end=span.end + start) for span in spans]

    def _settle(self) -> None:
        """Where more than `remember` steps are held: times of the glosses that cannot change any more, and forget.

        Cut where the blank is most probable between the last of them and what may still change.
        """
        if self._held < 2 * self.remember:
            return
        fixed, open_from = self.beam.shared()
        tokens = fixed[self._closed :]
        latest = np.maximum.accumulate([self._first, *(step + 1 for _, step in tokens)])
        soonest = np.minimum.accumulate([min(open_from, self._decided - self.remember), *(s for _, s in tokens[::-1])])
        most = np.flatnonzero(latest <= soonest[::-1])  # so many glosses are signed before all that follow
        if not len(most):
            return  # nothing is sure yet: later
        number = int(most[-1])
        steps, begin, end = torch.cat(self.log_probs), int(latest[number]), int(soonest[::-1][number])
        cut = begin + int(steps[begin - self._first : end + 1 - self._first, self.beam.blank].argmax())
        signed = [token for token, _ in tokens[:number]]
        if cut < self._first + 2 * len(signed) + 1:
            return  # too few steps for them: later
        if self.beam.collapse_repeats:
            before = fixed[self._closed - 1][0] if self._closed else None
            signed = [token for token, left in zip(signed, [before, *signed], strict=False) if token != left]
        self.spans += self._spans(signed, cut)
        self._closed += number
        self.log_probs = [steps[cut - self._first :].clone()]
        if self.by_frame:
            self.by_frame = [torch.cat(self.by_frame)[(cut - self._first) * STRIDE :].clone()]
        self._first, self._held = cut, self._decided - cut

    def _frames_here(self) -> int:
        """Frames that came and are not encoded yet."""
        waiting = sum(len(part) for part in self._waiting)
        return waiting + self._window_start + len(self._window) - self._encoded

    def _advance(self, count: int | None) -> None:
        """Encode `count` further frames (None: all, the clip ends) and decide the steps that they complete."""
        if count is not None and self.published and not self.fitted:
            count += LEFT  # the copies of the first frame
        with evaluating(self.model, self.precision):
            self._fit(last=count is None)
            self._add_features(self._encode(count), last=count is None)
            self._decide(last=count is None)
        if count is not None:
            self._settle()

    def _fit(self, last: bool) -> None:
        """Waiting frames -> the encoder's size, behind the window."""
        parts = [self._window] if len(self._window) else []
        if self._waiting:
            raw = np.concatenate(self._waiting)
            if not self.fitted:
                self.crop = self.pictures.box(raw, self.crop) or "none"
            fitted = self.pictures.fit(raw, self.crop if isinstance(self.crop, Box) else None)
            new = torch.from_numpy(fitted).permute(0, 3, 1, 2)  # [n, 3, S, S]
            if self.published and not self.fitted:
                parts.append(new[:1].expand(LEFT, -1, -1, -1))
            parts.append(new)
            self.fitted, self._last = self.fitted + len(fitted), new[-1]
            if self.keep_frames:
                self.frames.append(fitted)
            self._waiting = []
        if last and self.published:
            parts.append(self._last.expand(self._copies_at_the_end(), -1, -1, -1))
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
        self._sum = self._sum + features[begin - first : end - first].float().sum(0).cpu()
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
        decided = logits[0, self._decided - first : end - first].float().log_softmax(-1).cpu()
        self.log_probs.append(decided)
        self.beam.push(decided)
        self._held += len(decided)
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
    """Frames uint8 [T, H, W, 3] sent through a StreamingRecognizer(model, **options) chunk by chunk; they are kept."""
    stream = StreamingRecognizer(model, **{"keep_frames": True, **options})
    for start in range(0, len(frames), stream.chunk_frames):
        stream.push(frames[start : start + stream.chunk_frames])
    return stream.finish(), stream
