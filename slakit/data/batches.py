"""Samples -> packed batches: the clips of a batch one after the other, no padded frame anywhere."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader

from slakit.data.augment import ClipTransform
from slakit.data.clips import Batch, Clip, ClipDataset, LeftOut, collate, needed_steps, time_steps
from slakit.data.samples import Sample, Vocabulary
from slakit.data.store import ClipStore
from slakit.errors import ConfigError, SlakitError

if TYPE_CHECKING:
    from slakit.config import TrainConfig

__all__ = [
    "Batch",
    "Clip",
    "ClipDataset",
    "ClipLoader",
    "ClipStore",
    "LeftOut",
    "LeftOutWarning",
    "clip_loader",
    "collate",
    "make_loader",
    "needed_steps",
    "split_trainable",
    "time_steps",
]


class LeftOutWarning(UserWarning):
    """Clips that were not trained on, or not evaluated, each named with its reason."""


def split_trainable(samples: Sequence[Sample], settings: TrainConfig) -> tuple[list[Sample], dict[str, str]]:
    """The samples that CTC can train on, and id -> reason for the others, as far as the annotation tells.

    A clip is left out where even its longest rescaled version is too short for its glosses, or where it has none.
    A clip that is too short only when rescaled shortly is left out of that epoch, and named there.
    settings: its augmentation decides how long a clip can become.
    """
    transform = transform_of(settings, train=True)
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


def transform_of(settings: TrainConfig, train: bool) -> ClipTransform:
    """The transform that a run's augmentation settings describe."""
    augment = settings.augment
    return ClipTransform(
        train=train,
        image_size=augment.image_size,
        crop_size=augment.crop_size,
        flip=augment.flip,
        temporal_scale=augment.temporal_scale,
        min_frames=augment.min_frames,
        max_frames=augment.max_frames,
    )


def clip_loader(
    samples: Sequence[Sample],
    vocabulary: Vocabulary,
    settings: TrainConfig,
    *,
    train: bool,
    epoch: int = 0,
    start_batch: int = 0,
    store: ClipStore | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> ClipLoader:
    """The loader that a run's settings describe; see make_loader."""
    store = store or ClipStore(keep_in_memory=settings.keep_in_memory)
    dataset = ClipDataset(samples, vocabulary, transform_of(settings, train), settings.seed, epoch, store)
    return ClipLoader(
        dataset,
        settings.batch_size,
        epoch,
        start_batch,
        settings.num_workers,
        settings.max_frames_per_batch,
        None,
        rank,
        world_size,
    )
