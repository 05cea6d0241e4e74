"""WER of a model on the clips of a split."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from slakit.config import AugmentConfig, TrainConfig
from slakit.data.batches import clip_loader
from slakit.data.samples import Sample
from slakit.data.store import ClipStore
from slakit.decoding import beam_search
from slakit.devices import autocast
from slakit.distributed import ALONE, Processes
from slakit.models.recognizer import Recognizer
from slakit.progress import progress
from slakit.scoring import Score, score


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
