"""Samples -> packed batches: the clips of a batch one after the other, no padded frame anywhere."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from slakit.config import TrainConfig, at_least
from slakit.data.augment import ClipTransform
from slakit.data.clips import Batch, ClipDataset, ClipStore, collate, needed_steps, time_steps
from slakit.machine import usable_cores
from slakit.records import ConfigError, Sample, SlakitError, Vocabulary


class LeftOutWarning(UserWarning):
    """Clips that were not trained on, or not evaluated, each named with its reason."""


def split_trainable(samples: Sequence[Sample], settings: TrainConfig) -> tuple[list[Sample], dict[str, str]]:
    """The samples that CTC can train on, and id -> reason for the others, as far as the annotation tells.

    A clip is left out where even its longest rescaled version is too short for its glosses, or where it has none.
    A clip that is too short only when rescaled shortly is left out of that epoch, and named there.
    settings: its augmentation decides how long a clip can become.
    """
    transform = ClipTransform(settings.augment)
    trainable, left_out = [], {}
    for sample in samples:
        steps = needed_steps(sample.glosses)
        if not sample.glosses:
            left_out[sample.id] = "has no glosses"
        elif sample.num_frames is not None and time_steps(transform.lengths(sample.num_frames)[1]) < steps:
            left_out[sample.id] = (
                f"{sample.num_frames} frames are too few for {len(sample.glosses)} glosses, which need {4 * steps}"
            )
        else:
            trainable.append(sample)
    return trainable, left_out


class ClipLoader:
    """The batches of one epoch after another; iterate, then `set_epoch`.

    len() counts the batches of this epoch from `start_batch` on; `position` those that are handed out, the ones before
    `start_batch` included. left_out: id -> reason of the clips that could not be used so far; each is named once by a
    LeftOutWarning. A batch that lost all its clips is not handed out, unless keep_empty; where none is left at all, or
    more than max_unreadable cannot be read, SlakitError. pin_memory: for copies to a GPU. The order depends on
    (seed, epoch) alone, not on the number of processes: batch k is that of rank k modulo world_size. Reading processes
    that die are started again three times, then SlakitError.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        settings: TrainConfig,
        epoch: int = 0,
        start_batch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        keep_empty: bool = False,
        pin_memory: bool = False,
        max_unreadable: int | None = None,
    ):
        workers = settings.num_workers
        self.num_workers = fitting_workers(dataset.store, world_size) if workers is None else workers
        at_least(0, start_batch=start_batch)
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank={rank} of world_size={world_size}: ranks are 0 to {world_size - 1}")
        self.dataset, self.shuffle = dataset, dataset.transform.train
        self.batch_size, self.max_frames = settings.batch_size, settings.max_frames_per_batch
        self.length_buckets, self.keep_empty = settings.length_buckets, keep_empty
        self.epoch, self.start_batch, self.position = epoch, start_batch, start_batch
        self.rank, self.world_size = rank, world_size
        self.pin_memory, self.max_unreadable = pin_memory, max_unreadable
        self.left_out: dict[str, str] = {}
        self.unreadable: set[str] = set()
        if self.num_workers:
            dataset.store.preload(dataset.samples, dataset.transform.augment.image_size)

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Go to an epoch, and in it to the batch that comes next after `start_batch` batches were done."""
        self.epoch, self.start_batch, self.position = epoch, start_batch, start_batch

    def batches(self) -> list[list[int]]:
        """Sample numbers of every batch of this epoch for this rank, in order, from the first one on."""
        order = np.arange(len(self.dataset))
        generator = np.random.default_rng(np.random.SeedSequence(self.dataset.seed, spawn_key=(self.epoch,)))
        if self.shuffle:
            order = generator.permutation(order)
        pool = self.length_buckets * self.batch_size
        if not self.shuffle or not pool:
            batches = self._fill(order.tolist())
        else:  # sorted by length inside each pool of shuffled clips, then the batches are shuffled
            batches = []
            for start in range(0, len(order), pool):
                batches += self._fill(sorted(order[start : start + pool].tolist(), key=self._frames))
            batches = [batches[number] for number in generator.permutation(len(batches))]
        if self.shuffle and self.world_size > 1:
            batches += batches[: -len(batches) % self.world_size]  # as many steps on every rank
        return batches[self.rank :: self.world_size]

    def _fill(self, order: list[int]) -> list[list[int]]:
        """Clips in their order as batches, each of batch_size clips and max_frames frames at most."""
        batches: list[list[int]] = []
        frames = 0
        for index in order:
            more = self._frames(index) if self.max_frames else 0
            too_many = self.max_frames and frames + more > self.max_frames
            if not batches or len(batches[-1]) == self.batch_size or too_many:
                batches.append([])
                frames = 0
            batches[-1].append(index)
            frames += more
        return batches

    def _frames(self, index: int) -> int:
        sample = self.dataset.samples[index]
        if sample.num_frames is None:
            raise ConfigError(
                f"max_frames_per_batch and length_buckets need the length of every clip, and {sample.id} has none; "
                "set max_frames_per_batch=None, length_buckets=0"
            )
        return self.dataset.transform.lengths(sample.num_frames)[1]

    def __len__(self) -> int:
        return max(len(self.batches()) - self.start_batch, 0)

    def __iter__(self) -> Iterator[Batch]:
        self.position = self.start_batch
        keys = [[(self.epoch, index) for index in batch] for batch in self.batches()]
        usable = False
        for batch in self._read(keys):
            self._report(batch)
            usable = usable or len(batch) > 0 or self.world_size > 1
            if len(batch) or self.keep_empty:
                yield batch
        if keys[self.start_batch :] and not usable:
            name, reason = next(iter(self.left_out.items()))
            raise SlakitError(f"none of the {sum(map(len, keys))} clips can be used; {name}: {reason}")

    def _read(self, keys: list[list[tuple[int, int]]]) -> Iterator[Batch]:
        """The batches from `position` on, which counts them; a reading process that dies costs nothing but time."""
        deaths = 0
        while self.position < len(keys):
            state = torch.get_rng_state()  # a DataLoader draws from it when it starts: a second start must not
            options = {"num_workers": self.num_workers, "pin_memory": self.pin_memory}
            reader = iter(DataLoader(self.dataset, batch_sampler=keys[self.position :], collate_fn=collate, **options))
            _without_death_by_signal()
            if deaths:
                torch.set_rng_state(state)
            while self.position < len(keys):
                try:
                    batch = next(reader)
                except RuntimeError as error:
                    if "DataLoader worker" not in str(error):
                        raise
                    deaths += 1
                    if deaths > 3:
                        raise SlakitError(
                            f"the processes that read clips died {deaths} times ({error}); take fewer (num_workers=0 "
                            "reads in the main process), there may be too little memory for them"
                        ) from error
                    warnings.warn(f"a process that reads clips died ({error}); started again", stacklevel=3)
                    break
                self.position += 1
                yield batch

    def _report(self, batch: Batch) -> None:
        for name, reason in batch.left_out.items():
            if name not in self.left_out:
                warnings.warn(f"{name} left out: {reason}", LeftOutWarning, stacklevel=3)
            self.left_out[name] = reason
        self.unreadable.update(batch.unreadable)
        if self.max_unreadable is not None and len(self.unreadable) > self.max_unreadable:
            reasons = {name: self.left_out[name] for name in sorted(self.unreadable)}
            raise SlakitError(too_many_unreadable(reasons, self.max_unreadable))


def too_many_unreadable(reasons: Mapping[str, str], most: int) -> str:
    """The sentence for more clips than `most` that cannot be read; reasons: clip id -> why."""
    name, reason = next(iter(reasons.items()))
    return (
        f"{len(reasons)} clips cannot be read, and max_bad_clips={most} ({name}: {reason}); is the disk still "
        "there? `slakit doctor` names what is broken, a higher max_bad_clips goes on without these clips"
    )


def _without_death_by_signal() -> None:
    """Undo torch's SIGCHLD handler: it raises wherever the main process is, in the middle of a step too, when a reading
    process dies. Without it the next batch that is asked for says so."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):  # Windows has none
        handler = signal.getsignal(signal.SIGCHLD)
        if getattr(handler, "__module__", "").startswith("torch.utils.data"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def fitting_workers(store: ClipStore, world_size: int = 1) -> int:
    """Reading processes that fit the machine: a core for each but one a training process, 8 at most, 2 on two cores.

    None where clips are kept in memory (nothing is read after the first epoch).
    """
    share = usable_cores() // world_size
    return 0 if store.keep_in_memory or share < 2 else min(max(share - 1, 2), 8)


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
    **options: Any,
) -> ClipLoader:
    """The batches of a split as the settings say: shuffled and augmented where `train`, else in order, centre-cropped.

    max_frames_per_batch: the most frames a batch may hold (the longest rescaled lengths count). store: shares decoded
    clips between loaders. start_batch: batches of this epoch that are done already. rank, world_size: this process's
    share of the batches. options: keep_empty, pin_memory, max_unreadable, see ClipLoader.
    """
    store = store or ClipStore(keep_in_memory=settings.keep_in_memory)
    dataset = ClipDataset(samples, vocabulary, ClipTransform(settings.augment, train), settings.seed, epoch, store)
    return ClipLoader(dataset, settings, epoch, start_batch, rank, world_size, **options)
