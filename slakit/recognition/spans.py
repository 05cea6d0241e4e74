"""How well the times of glosses are found, on a corpus that knows them (MiniSign)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from slakit.decoding import GlossSpan, beam_search, frame_spans, hypothesis_spans, span_agreement
from slakit.models.packing import STRIDE
from slakit.recognition.forward import ClipLogProbs
from slakit.records import ConfigError, Sample, Span, Vocabulary
from slakit.scoring import align_words
from slakit.scoring.wer import fold

WAYS = ("even parts", "steps", "steps, gaps shared", "frames, no prior", "frames")


def spans_by(
    way: str,
    sample: Sample,
    clip: ClipLogProbs,
    tokens: Sequence[int],
    glosses: Vocabulary,
    prior_weight: float = 1.0,
) -> list[GlossSpan]:
    """The spans of `tokens` in one clip, found in one of `WAYS`.

    "even parts": the clip cut into equal parts, a guess without looking. "steps": the steps in which the sequence head
    emits the gloss; "steps, gaps shared": and the blanks between, half to each side. "frames": `frame_spans` on the
    auxiliary head with prior_weight; "frames, no prior": with 0.
    """
    known = STRIDE * len(clip.steps) if clip.frames is None else len(clip.frames)
    frames = sample.num_frames or known  # few corpora say how many frames a clip has
    if way == "even parts":
        edges = np.linspace(0, frames, len(tokens) + 1).round().astype(int).tolist()
        names = glosses.decode(tokens)
        return [GlossSpan(g, a, b, 0.0, sample.fps) for g, a, b in zip(names, edges, edges[1:], strict=False)]
    if way.startswith("steps"):
        fill = 1.0 if way.endswith("shared") else 0.0
        return hypothesis_spans(clip.steps, None, tokens, glosses, frames, sample.fps, 0, fill, STRIDE)
    if clip.frames is None:
        raise ConfigError(f"spans by {way!r} need the auxiliary head, which this model lacks; use 'steps, gaps shared'")
    return frame_spans(clip.frames, tokens, glosses, sample.fps, 0.0 if way.endswith("no prior") else prior_weight)


def recognised_pairs(recognised: Sequence[GlossSpan], truth: Sequence[Span]) -> tuple[list[GlossSpan], list[Span]]:
    """The glosses that were recognised rightly (in sclite's alignment): their spans, and the true ones."""
    guesses, trues = iter(recognised), iter(truth)
    pairs: list[tuple[GlossSpan, Span]] = []
    for true_gloss, gloss in align_words([span.gloss for span in truth], [span.gloss for span in recognised]):
        true = next(trues) if true_gloss is not None else None
        guess = next(guesses) if gloss is not None else None
        if true is not None and guess is not None and fold(true.gloss) == fold(guess.gloss):
            pairs.append((guess, true))
    return [guess for guess, _ in pairs], [true for _, true in pairs]


def span_table(
    clips: Iterable[ClipLogProbs],
    samples: Sequence[Sample],
    glosses: Vocabulary,
    prior_weight: float = 1.0,
    **options,
) -> pd.DataFrame:
    """Spans against the true ones, one row for what is aligned and each of `WAYS` that the model allows.

    "true glosses": forced alignment of what was signed; "recognised": of the beam search's best (options as in
    `decode`), judged on the glosses that are right. Columns: glosses (how many), boundary_error_frames
    and boundary_error_seconds (mean over starts and ends), overlap_half (share of glosses of whose true span half or
    more is covered), iou_half (share with an intersection over union of a half or more; 0 to 1).
    ConfigError where samples have no spans.
    """
    missing = [sample.id for sample in samples if not sample.spans or sample.num_frames is None]
    if missing or not samples:
        raise ConfigError(f"{len(missing)} clips have no true spans ({', '.join(missing[:3])}); MiniSign's have them")
    tables = {clip.id: clip for clip in clips}
    by_frame = all(clip.frames is not None for clip in tables.values())
    ways = [way for way in WAYS if by_frame or not way.startswith("frames")]
    rows = []
    for what in ("true glosses", "recognised"):
        for way in ways:
            pairs, seconds = [], []
            for sample in samples:
                clip = tables[sample.id]
                if what == "true glosses":
                    tokens = glosses.encode(sample.glosses)
                else:
                    tokens = beam_search(clip.steps[None], **options)[0][0].tokens
                spans = spans_by(way, sample, clip, tokens, glosses, prior_weight)
                pair = (spans, sample.spans) if what == "true glosses" else recognised_pairs(spans, sample.spans)
                pairs.append(pair)
                seconds += [
                    (abs(p.start - t.start) + abs(p.end - t.end)) / 2 / sample.fps for p, t in zip(*pair, strict=True)
                ]
            if not seconds:  # nothing was recognised rightly
                continue
            result = span_agreement(*([span for pair in pairs for span in pair[side]] for side in (0, 1)))
            rows.append({
                "aligned": what, "by": way, "glosses": result.glosses, "boundary_error_frames": result.boundary_error,
                "boundary_error_seconds": float(np.mean(seconds)), "overlap_half": result.overlap_half,
                "iou_half": result.iou_half,
            })  # fmt: skip
    return pd.DataFrame(rows)
