"""Samples -> packed batches: the clips of a batch one after the other, no padded frame anywhere."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from slakit.data.augment import ClipPlan, ClipTransform, apply_plan, sample_generator
from slakit.data.samples import Sample, Vocabulary
from slakit.data.store import ClipStore
from slakit.errors import ConfigError, SlakitError, VideoError

log = logging.getLogger(__name__)


class LeftOutWarning(UserWarning):
    """Clips that were not trained on, or not evaluated, each named with its reason."""


@dataclass
class Batch:
    """B clips, packed.

    frames: uint8 [sum of lengths, 3, H, W] RGB (in memory pixel by pixel, channels_last). lengths: int64 [B].
    targets: int64 [sum of target_lengths], gloss indices of the vocabulary, 1 and above. target_lengths: int64 [B].
    ids: the clips' ids. alignable: bool [B], whether CTC can align the target (always so in training).
    left_out: id -> reason of the clips that belong here and are not in it.
    """

    frames: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    ids: tuple[str, ...]
    alignable: torch.Tensor
    left_out: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def pin_memory(self) -> Batch:
        for name in ("frames", "lengths", "targets", "target_lengths", "alignable"):
            setattr(self, name, getattr(self, name).pin_memory())
        return self


@dataclass
class Clip:
    """One clip on its way into a batch: pictures uint8 [T, H, W, 3], and positions in them for the planned frames."""

    id: str
    pictures: np.ndarray
    positions: np.ndarray
    plan: ClipPlan
    target: list[int]


@dataclass
class LeftOut:
    """A clip that cannot be used, and why."""

    id: str
    reason: str


def needed_steps(target: Sequence[int] | Sequence[str]) -> int:
    """Time steps that CTC needs for a target: its length, and one blank between two equal neighbours."""
    return len(target) + sum(a == b for a, b in pairwise(target))


def time_steps(num_frames: int) -> int:
    """Time steps of the sequence model for a clip: ceil(T / 4), from its two poolings by 2."""
    return math.ceil(num_frames / 4)


def split_trainable(samples: Sequence[Sample], transform: ClipTransform) -> tuple[list[Sample], dict[str, str]]:
    """The samples that CTC can train on, and id -> reason for the others, as far as the annotation tells.

    A clip is left out where even its longest rescaled version is too short for its glosses, or where it has none.
    A clip that is too short only when rescaled shortly is left out of that epoch, and named there.
    """
    kept, left_out = [], {}
    for sample in samples:
        steps = needed_steps(sample.glosses)
        if not sample.glosses:
            left_out[sample.id] = "has no glosses"
        elif sample.num_frames is not None and time_steps(transform.lengths(sample.num_frames)[1]) < steps:
            left_out[sample.id] = (
                f"{sample.num_frames} frames are too few for {len(sample.glosses)} glosses, which need {4 * steps}"
            )
        else:
            kept.append(sample)
    return kept, left_out


class ClipDataset(Dataset):
    """Samples as planned clips. Item i, or (epoch, i), is a Clip, or a LeftOut with the reason.

    Random decisions depend on (seed, epoch, i) alone: no stream repeats, and workers change nothing. `unknown` counts
    the glosses of evaluation targets that the vocabulary lacks; in training such a gloss is a CorpusError at once.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        vocabulary: Vocabulary,
        transform: ClipTransform,
        seed: int = 0,
        epoch: int = 0,
        store: ClipStore | None = None,
    ):
        self.samples, self.vocabulary, self.transform = tuple(samples), vocabulary, transform
        self.seed, self.epoch = seed, epoch
        self.store = store or ClipStore()
        self.unknown: dict[str, int] = {}
        self.targets: list[list[int]] = []
        for sample in self.samples:
            known = [gloss for gloss in sample.glosses if gloss in vocabulary]
            if transform.train:
                known = list(sample.glosses)
            for gloss in set(sample.glosses).difference(known):
                self.unknown[gloss] = self.unknown.get(gloss, 0) + sample.glosses.count(gloss)
            self.targets.append(vocabulary.encode(known))

    def __len__(self) -> int:
        return len(self.samples)

    def set_epoch(self, epoch: int) -> None:
        """The epoch of items asked for by a plain number."""
        self.epoch = epoch

    def __getitem__(self, key: int | tuple[int, int]) -> Clip | LeftOut:
        epoch, index = key if isinstance(key, tuple) else (self.epoch, key)
        sample, target, transform = self.samples[index], self.targets[index], self.transform
        generator = sample_generator(self.seed, epoch, index) if transform.train else None

        def plan(num_frames: int) -> ClipPlan:
            return transform.plan(num_frames, transform.image_size, transform.image_size, generator)

        try:
            pictures, positions, made = self.store.read(sample, transform.image_size, plan)
        except VideoError as error:
            return LeftOut(sample.id, str(error))
        steps = needed_steps(target)
        if transform.train and (not target or time_steps(len(made.frames)) < steps):
            return LeftOut(
                sample.id, f"{len(made.frames)} frames after rescaling, {len(target)} glosses need {4 * steps}"
            )
        return Clip(sample.id, pictures, positions, made, target)


def collate(clips: Sequence[Clip | LeftOut]) -> Batch:
    """Crop, flip and pack into one buffer: each pixel is copied once. Clips that were left out are named, not used."""
    used = [clip for clip in clips if isinstance(clip, Clip)]
    lengths = [len(clip.plan.frames) for clip in used]
    size = used[0].plan.size if used else 0
    buffer = np.empty((sum(lengths), size, size, 3), np.uint8)  # [sum T, H, W, 3]
    end = 0
    for clip, length in zip(used, lengths, strict=True):
        apply_plan(clip.pictures, clip.plan, buffer[end : end + length], clip.positions)
        end += length
    needed = [needed_steps(clip.target) for clip in used]
    return Batch(
        frames=torch.from_numpy(buffer).permute(0, 3, 1, 2),  # [sum T, 3, H, W], channels_last
        lengths=torch.tensor(lengths, dtype=torch.int64),
        targets=torch.tensor([index for clip in used for index in clip.target], dtype=torch.int64),
        target_lengths=torch.tensor([len(clip.target) for clip in used], dtype=torch.int64),
        ids=tuple(clip.id for clip in used),
        alignable=torch.tensor([time_steps(n) >= k for n, k in zip(lengths, needed, strict=True)], dtype=torch.bool),
        left_out={clip.id: clip.reason for clip in clips if isinstance(clip, LeftOut)},
    )


class ClipLoader:
    """The batches of one epoch after another; iterate, then `set_epoch`.

    len() counts the batches of this epoch from `start_batch` on. left_out: id -> reason of the clips that could not be
    used so far; each is named once by a LeftOutWarning. A batch that lost all its clips is not handed out; where none
    is left at all, SlakitError.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        batch_size: int,
        epoch: int = 0,
        start_batch: int = 0,
        num_workers: int = 0,
        max_frames: int | None = None,
        shuffle: bool | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        if batch_size < 1 or num_workers < 0 or start_batch < 0:
            raise ConfigError(
                f"batch_size={batch_size}, num_workers={num_workers}, start_batch={start_batch}: "
                "batches have one clip or more, the others are 0 or more"
            )
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank={rank} of world_size={world_size}: ranks are 0 to {world_size - 1}")
        self.dataset, self.batch_size, self.max_frames = dataset, batch_size, max_frames
        self.epoch, self.start_batch = epoch, start_batch
        self.num_workers, self.rank, self.world_size = num_workers, rank, world_size
        self.shuffle = dataset.transform.train if shuffle is None else shuffle
        self.left_out: dict[str, str] = {}
        if num_workers:
            dataset.store.preload(dataset.samples, dataset.transform.image_size)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Go to an epoch, and in it to the batch that comes next after `start_batch` batches were done."""
        self.epoch, self.start_batch = epoch, start_batch

    def batches(self) -> list[list[int]]:
        """Sample numbers of every batch of this epoch for this rank, in order, from the first one on."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng(
                np.random.SeedSequence(self.dataset.seed, spawn_key=(self.epoch,))
            ).permutation(order)
        batches: list[list[int]] = []
        frames = 0
        for index in order.tolist():
            more = self._frames(index)
            if (
                not batches
                or len(batches[-1]) == self.batch_size
                or (self.max_frames and frames + more > self.max_frames)
            ):
                batches.append([])
                frames = 0
            batches[-1].append(index)
            frames += more
        if self.shuffle and self.world_size > 1:
            batches += batches[: -len(batches) % self.world_size]  # as many steps on every rank
        return batches[self.rank :: self.world_size]

    def _frames(self, index: int) -> int:
        if self.max_frames is None:
            return 0
        sample = self.dataset.samples[index]
        if sample.num_frames is None:
            raise ConfigError(
                f"max_frames needs the length of every clip, and {sample.id} has none; set max_frames=None"
            )
        return self.dataset.transform.lengths(sample.num_frames)[1]

    def __len__(self) -> int:
        return max(len(self.batches()) - self.start_batch, 0)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.epoch
        keys = [[(epoch, index) for index in batch] for batch in self.batches()[self.start_batch :]]
        loader = DataLoader(
            self.dataset,
            batch_sampler=keys,
            num_workers=self.num_workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )
        given = False
        for batch in loader:
            self._report(batch.left_out)
            if len(batch):
                given = True
                yield batch
        if keys and not given:
            name, reason = next(iter(self.left_out.items()))
            raise SlakitError(f"none of the {sum(map(len, keys))} clips can be used; {name}: {reason}")

    def _report(self, left_out: dict[str, str]) -> None:
        for name, reason in left_out.items():
            if name not in self.left_out:
                warnings.warn(f"{name} left out: {reason}", LeftOutWarning, stacklevel=3)
            self.left_out[name] = reason


def make_loader(
    samples: Sequence[Sample],
    vocabulary: Vocabulary,
    batch_size: int = 2,
    train: bool = True,
    *,
    seed: int = 0,
    epoch: int = 0,
    start_batch: int = 0,
    num_workers: int = 0,
    image_size: int = 256,
    crop_size: int = 224,
    flip: float = 0.5,
    temporal_scale: float | None = 0.2,
    min_clip_frames: int = 32,
    max_clip_frames: int = 230,
    max_frames: int | None = None,
    store: ClipStore | None = None,
    keep_in_memory: bool = False,
    on_damage: str = "skip",
    rank: int = 0,
    world_size: int = 1,
) -> ClipLoader:
    """The batches of a split: shuffled and augmented as published where `train`, in order and centre-cropped otherwise.

    max_frames: the most frames a batch may hold (the longest rescaled lengths count); batches are then smaller than
    batch_size where clips are long. store: shares decoded clips between loaders; else one is made from keep_in_memory
    and on_damage ("skip": damaged clips are left out by name; "keep-readable": what can be decoded is used; "error").
    start_batch: batches of this epoch that are done already. rank, world_size: this process's share of the batches.
    """
    transform = ClipTransform(train, image_size, crop_size, flip, temporal_scale, min_clip_frames, max_clip_frames)
    store = store or ClipStore(keep_in_memory=keep_in_memory, on_damage=on_damage)
    dataset = ClipDataset(samples, vocabulary, transform, seed, epoch, store)
    return ClipLoader(dataset, batch_size, epoch, start_batch, num_workers, max_frames, None, rank, world_size)
