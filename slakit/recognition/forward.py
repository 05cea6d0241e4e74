"""The forward pass of recognition: clips in, log probabilities out; decoded they are a transcript, scored a WER."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np
import torch

from slakit.config import TrainConfig, to_dict
from slakit.data.clips import ClipStore
from slakit.data.loader import clip_loader
from slakit.decoding import beam_search
from slakit.machine import ALONE, Processes, find_device, progress
from slakit.models.modes import evaluating
from slakit.models.packing import LEFT, Clips, padded_index
from slakit.models.recognizer import Logits, Recognizer
from slakit.recognition.pictures import settings_for, squaring_for
from slakit.records import CorpusError, Sample, Vocabulary
from slakit.scoring import Score, score


@dataclass(frozen=True)
class ClipLogProbs:
    """Natural log probabilities of one clip, float32.

    steps [T', V]: the sequence head, one row for four frames: what is decoded. frames [T, V]: the auxiliary head on
    frame features, one row a frame: what knows the time; None where the model has no such head. features [F]: the mean
    of the frame features, for likeness.py.
    """

    id: str
    steps: np.ndarray
    frames: np.ndarray | None = None
    features: np.ndarray | None = None


# Bytes that the image encoder may take at once. Counted on ViT-B/16 it takes 17 times what its tokens take in float32,
# which is 17 times the picture; convolutions take about as much.
ROOM = {"cpu": 2**30, "cuda": 8 * 2**30}
TIMES = 17


_moving = Lock()


def placed(model: Recognizer, device: str | torch.device | None = None) -> Recognizer:
    """The model on that device, moved there itself; None: where it is if that is a GPU, else a GPU where there is one.

    ConfigError for a device that is not here. A model that lies there already is not touched: `to()` takes an LSTM's
    weights apart for a moment, also where nothing moves, and other threads may be using them.
    """
    with _moving:
        here = next(model.parameters()).device
        if device is None and here.type != "cpu":
            return model
        there = find_device(device)
        if there.type == here.type and there.index in (None, here.index):
            return model
        return model.to(there)


def piece_of(model: Recognizer) -> int:
    """How many frames go through the image encoder at once, so that its memory does not grow with the clip."""
    tower, device = model.encoder.backbone, next(model.parameters()).device.type
    tokens = tower.prefix_tokens + tower.grid[0] * tower.grid[1]
    bytes_of_one = 4 * TIMES * max(tokens * tower.width, 3 * tower.image_size**2)
    return max(2 * model.encoder.reach, ROOM.get(device, ROOM["cpu"]) // bytes_of_one, 16)


def encode(model: Recognizer, frames: torch.Tensor, lengths: torch.Tensor, piece: int | None = None) -> torch.Tensor:
    """Recognizer.encode() in bounded memory: frames uint8 [sum of lengths, 3, S, S] on any device -> [B, T, F].

    More than `piece` frames are encoded clip by clip and piece by piece, with as many neighbours on each side as a
    feature depends on: the same features, up to rounding.
    """
    device, reach = next(model.parameters()).device, model.encoder.reach
    piece = piece or piece_of(model)
    if len(frames) <= piece:
        return model.encode(frames.to(device, non_blocking=True), lengths)
    counts, clips = lengths.tolist(), []
    Clips(counts).check(frames)
    places = [torch.arange(count) for count in counts]
    if model.config.padding == "published":
        places = [padded_index([count])[0] for count in counts] if model.encoder.pads_each else padded_index(counts)
    for number, place in enumerate(places):
        clip, order = frames[sum(counts[:number]) : sum(counts[: number + 1])], place.to(frames.device)
        parts = []
        for start in range(0, len(order), piece):
            low, end = max(0, start - reach), min(start + piece, len(order))
            images = clip[order[low : end + reach]].to(device)
            features = model.encoder(model.normalise(images), Clips([len(images)], device))
            parts.append(features[start - low : end - low])
        clips.append(torch.cat(parts))
    return torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)


def forward(
    model: Recognizer,
    ids: Sequence[str],
    frames: torch.Tensor,
    lengths: torch.Tensor,
    precision: str = "auto",
    by_frame: bool = True,
) -> list[ClipLogProbs]:
    """The log probabilities of a packed batch: frames uint8 [sum of lengths, 3, S, S], lengths int64 [B].

    The mode of evaluation, the precision of training ("auto": bfloat16 where a GPU has it, float32 on a CPU); logits
    become log probabilities in float32. by_frame=False: without the auxiliary head's.
    """
    with evaluating(model, precision):
        features = encode(model, frames, lengths)
        logits = model.recognize_features(features, lengths)
        steps = logits.sequence.float().log_softmax(-1).cpu().numpy()  # [B, T', V]
        rows = per_frame(model, logits, lengths.tolist()) if by_frame else [None] * len(ids)
        start = LEFT if model.config.padding == "published" else 0  # behind the copies of the first frame
        places = zip(features, lengths.tolist(), strict=True)
        means = [clip[start : start + length].float().mean(0).cpu().numpy() for clip, length in places]
    clips = zip(ids, steps, logits.lengths.tolist(), rows, means, strict=True)
    return [ClipLogProbs(clip, table[:count].copy(), *rest) for clip, table, count, *rest in clips]  # keep no batch


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


def log_probs(
    model: Recognizer,
    clips: Sequence[Sample],
    *,
    settings: TrainConfig | None = None,
    store: ClipStore | None = None,
    precision: str | None = None,
    by_frame: bool = True,
    unreadable: dict[str, str] | None = None,
    show_progress: bool | None = None,
    processes: Processes = ALONE,
    device: str | torch.device | None = None,
) -> Iterator[ClipLogProbs]:
    """The log probabilities of every clip, in order: to be decoded in many ways, and aligned with what was signed.

    settings: of pictures, batches and precision (default: `settings_for`); precision: another one. by_frame: as
    in `forward`. device: as in `placed`. A clip that cannot be read is a CorpusError at the end, or where `unreadable`
    is given a warning, and noted there with its reason. Several processes share the clips. A thousand of Phoenix-2014,
    kept, take 0.3 GB, and five times that with an auxiliary head.
    """
    model, settings = placed(model, device), settings or settings_for(model)
    store = store or ClipStore(settings.keep_in_memory, squaring=squaring_for(model))
    loader = clip_loader(
        clips, model.vocabulary, settings, train=False, store=store, rank=processes.rank, world_size=processes.size,
        pin_memory=next(model.parameters()).is_cuda,
    )  # fmt: skip
    for batch in progress(loader, "recognising", show_progress if processes.main else False):
        yield from forward(model, batch.ids, batch.frames, batch.lengths, precision or settings.precision, by_frame)
    if unreadable is not None:
        unreadable |= loader.left_out
    elif loader.left_out:
        name, reason = next(iter(loader.left_out.items()))
        raise CorpusError(f"{len(loader.left_out)} clips cannot be read; {name}: {reason}; leave them out of samples")


def decode(clips: Iterable[ClipLogProbs], glosses: Vocabulary, **options) -> dict[str, str]:
    """{clip id: "gloss gloss ..."} by beam search; options: those of `beam_search`, a language model among them."""
    best = {clip.id: beam_search(clip.steps[None], **options)[0][0] for clip in clips}
    return {clip: " ".join(glosses.decode(hypothesis.tokens)) for clip, hypothesis in best.items()}


def transcribe(
    model: Recognizer,
    samples: Sequence[Sample],
    *,
    settings: TrainConfig | None = None,
    processes: Processes = ALONE,
    **options,
) -> tuple[dict[str, str], dict[str, str]]:
    """(references, hypotheses), each {clip id: "gloss gloss …"}, by beam search over the sequence head.

    A clip that cannot be read is named in a warning and counted as nothing recognised: it stays in the score.
    options: store, precision, unreadable, device, show_progress, as in log_probs(). Several processes share the clips,
    and all return all clips: a score is of counts over all, never a mean of their means.
    """
    settings = settings or settings_for(model)
    references = {sample.id: " ".join(sample.glosses) for sample in samples}
    hypotheses = dict.fromkeys(references, "")
    unreadable = options.setdefault("unreadable", {})
    options |= {"settings": settings, "processes": processes, "by_frame": False}
    recognised = decode(log_probs(model, samples, **options), model.vocabulary, **to_dict(settings.decode))
    for share, unread in processes.gather((recognised, unreadable)):  # every clip was recognised by one process
        hypotheses |= share
        unreadable |= unread
    return references, hypotheses


def evaluate(model: Recognizer, samples: Sequence[Sample], corpus: str | None = None, **options) -> Score:
    """WER and its parts of `model` on `samples`; corpus: whose clean-up rules apply; options as in transcribe()."""
    unreadable = options.setdefault("unreadable", {})
    references, hypotheses = transcribe(model, samples, **options)
    return replace(score(references, hypotheses, corpus=corpus), unreadable=unreadable)
