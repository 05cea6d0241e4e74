"""What a model says of every clip, kept: to be decoded in many ways, and to be aligned with what was signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from slakit.config import AugmentConfig, TrainConfig
from slakit.data.clips import ClipStore
from slakit.data.loader import clip_loader
from slakit.decoding import beam_search
from slakit.machine import ALONE, Processes, autocast, progress
from slakit.models.packing import LEFT
from slakit.models.recognizer import Logits, Recognizer
from slakit.records import CorpusError, Sample, Vocabulary
from slakit.scoring import Score, score


@dataclass(frozen=True)
class Emission:
    """Natural log probabilities of one clip, float32.

    steps [T', V]: the sequence head, one row for four frames: what is decoded. frames [T, V]: the auxiliary head on
    frame features, one row a frame: what knows the time; None where the model has no such head.
    """

    steps: np.ndarray
    frames: np.ndarray | None


def per_frame(model: Recognizer, logits: Logits, lengths: Sequence[int]) -> list[np.ndarray | None]:
    """The auxiliary head's log probabilities [T, V] of each clip, its padding cut off; None where there are none.

    lengths: real frames of the clips. A head that was trained on every fourth frame ("pooled") has no row for a frame.
    """
    choice = model.config.auxiliary_lengths
    if logits.frame is None or choice == "pooled":
        return [None] * len(lengths)
    start = 0 if choice == "frames" else LEFT
    return [
        rows[start : start + length].float().log_softmax(-1).cpu().numpy()
        for rows, length in zip(logits.frame, lengths, strict=True)
    ]


@torch.inference_mode()
def emissions(
    model: Recognizer,
    samples: Sequence[Sample],
    *,
    settings: TrainConfig | None = None,
    store: ClipStore | None = None,
    show_progress: bool | None = None,
) -> dict[str, Emission]:
    """{clip id: Emission} of a split. Unlike `slakit.transcribe`, a clip that cannot be read is a CorpusError here.

    A thousand clips of Phoenix-2014 take 0.3 GB, and five times that with an auxiliary head.
    """
    settings = settings or settings_for(model)
    device, training = next(model.parameters()).device, model.training
    loader = clip_loader(samples, model.vocabulary, settings, train=False, store=store)
    found: dict[str, Emission] = {}
    model.eval()
    for batch in progress(loader, "emissions", show_progress):
        logits = model(batch.frames.to(device), batch.lengths)
        steps = logits.sequence.float().log_softmax(-1).cpu().numpy()  # [B, T', V]
        frames = per_frame(model, logits, batch.lengths.tolist())
        for clip, row, length, by_frame in zip(batch.ids, steps, logits.lengths.tolist(), frames, strict=True):
            found[clip] = Emission(row[:length].copy(), by_frame)
    model.train(training)
    if loader.left_out:
        name, reason = next(iter(loader.left_out.items()))
        raise CorpusError(f"{len(loader.left_out)} clips cannot be read; {name}: {reason}; leave them out of samples")
    return found


def decode(found: Mapping[str, Emission], glosses: Vocabulary, **options) -> dict[str, str]:
    """{clip id: "gloss gloss ..."} by beam search; options: those of `beam_search`, a language model among them."""
    best = {clip: beam_search(emission.steps[None], **options)[0][0] for clip, emission in found.items()}
    return {clip: " ".join(glosses.decode(hypothesis.tokens)) for clip, hypothesis in best.items()}


def settings_for(model: Recognizer) -> TrainConfig:
    """The published settings at the model's picture size: frames of 8/7 of it, the middle kept."""
    return TrainConfig(augment=AugmentConfig(image_size=round(model.image_size * 8 / 7), crop_size=model.image_size))


@torch.inference_mode()
def transcribe(
    model: Recognizer,
    samples: Sequence[Sample],
    *,
    settings: TrainConfig | None = None,
    store: ClipStore | None = None,
    show_progress: bool | None = None,
    processes: Processes = ALONE,
) -> tuple[dict[str, str], dict[str, str]]:
    """(references, hypotheses), each {clip id: "gloss gloss …"}, by beam search over the sequence head.

    A clip that cannot be read is named in a warning and counted as nothing recognised: it stays in the score.
    Precision as settings.precision says, as in training; the logits are decoded in float32. Several processes share
    the clips, and all of them return all clips: a score is of counts over all, never a mean of their means.
    """
    settings = settings or settings_for(model)
    device, training = next(model.parameters()).device, model.training
    references = {sample.id: " ".join(sample.glosses) for sample in samples}
    hypotheses = dict.fromkeys(references, "")
    loader = clip_loader(
        samples, model.vocabulary, settings, train=False, store=store, rank=processes.rank, world_size=processes.size
    )
    decode = settings.decode
    model.eval()
    for batch in progress(loader, "evaluating", show_progress if processes.main else False):
        with autocast(settings.precision, device):
            logits = model(batch.to(device).frames, batch.lengths)
        found = beam_search(
            logits.sequence.float().log_softmax(-1).cpu(), logits.lengths.cpu(), beam_width=decode.beam_width,
            top_tokens=decode.top_tokens, collapse_repeats=decode.collapse_repeats,
        )  # fmt: skip
        for clip, best in zip(batch.ids, found, strict=True):
            hypotheses[clip] = " ".join(model.vocabulary.decode(best[0].tokens))
    model.train(training)
    if processes.size > 1:  # every clip was transcribed by one process
        read = {sample.id for batch in loader.batches() for sample in (loader.dataset.samples[i] for i in batch)}
        for share in processes.gather({clip: hypotheses[clip] for clip in read}):
            hypotheses |= share
    return references, hypotheses


def evaluate(model: Recognizer, samples: Sequence[Sample], corpus: str | None = None, **options) -> Score:
    """WER and its parts of `model` on `samples`; corpus: whose clean-up rules apply; options as in transcribe()."""
    references, hypotheses = transcribe(model, samples, **options)
    return score(references, hypotheses, corpus=corpus)
