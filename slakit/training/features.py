"""Cached features of an untouched encoder, as batches for the sequence model: an epoch costs a second, not a minute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from slakit.config import TrainConfig
from slakit.data.augment import sample_generator, temporal_rescale
from slakit.data.clips import ClipStore
from slakit.data.loader import clip_loader, needed_steps, time_steps
from slakit.machine import ALONE, Processes, progress
from slakit.models.recognizer import Recognizer
from slakit.records import Sample


@dataclass
class FeatureBatch:
    """Like data.batches.Batch, with features in the place of frames: `frames` [B, T, D], zero beyond `lengths` [B]."""

    frames: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    ids: tuple[str, ...]

    def to(self, device: torch.device) -> FeatureBatch:
        return replace(self, frames=self.frames.to(device, non_blocking=True))


class FeatureBatches:
    """Every clip encoded `warm_start_views` times (other crop and flip each time); then any number of epochs.

    An epoch takes one view of each clip at random and rescales it in time as the published augmentation does, on the
    features: exact for an encoder that treats every frame alone, close for one that shifts channels in time.
    """

    def __init__(
        self,
        model: Recognizer,
        samples: Sequence[Sample],
        settings: TrainConfig,
        store: ClipStore,
        device: torch.device,
        show_progress: bool | None = None,
        processes: Processes = ALONE,
    ):
        self.processes = processes
        self.settings, self.targets = settings, {s.id: model.vocabulary.encode(s.glosses) for s in samples}
        self.views: list[dict[str, torch.Tensor]] = []
        still = replace(
            settings, augment=replace(settings.augment, temporal_scale=None), seed=settings.seed + 7919,
            batch_size=settings.warm_start_batch_size or settings.batch_size,
        )  # fmt: skip
        training = model.training
        model.eval()
        for view in range(settings.warm_start_views):
            loader = clip_loader(
                samples, model.vocabulary, still, train=True, epoch=view, store=store,
                rank=processes.rank, world_size=processes.size,
            )  # fmt: skip
            features = {}
            bar = progress(loader, f"encoding clips, view {view + 1}/{settings.warm_start_views}", show_progress)
            for batch in bar:
                with torch.inference_mode():
                    encoded = model.encode(batch.to(device).frames, batch.lengths).float().cpu()
                for clip, row, length in zip(batch.ids, encoded, batch.lengths.tolist(), strict=True):
                    features[clip] = row[:length].clone()  # [T, D]
            for share in processes.gather(features) if processes.size > 1 else ():
                features |= share
            self.views.append(features)
        model.train(training)

    def epoch(self, epoch: int, start_batch: int = 0) -> EpochOfFeatures:
        """The batches of one epoch, in an order and with views that depend on (seed, epoch) alone."""
        return EpochOfFeatures(self, epoch, start_batch)


class EpochOfFeatures:
    """Iterable of FeatureBatch with a length, `position` and `left_out` as a ClipLoader has them."""

    def __init__(self, source: FeatureBatches, epoch: int, start_batch: int = 0):
        self.source, self.epoch, self.start_batch, self.position = source, epoch, start_batch, start_batch
        self.left_out: dict[str, str] = {}
        size = source.settings.warm_start_batch_size or source.settings.batch_size
        generator = np.random.default_rng(np.random.SeedSequence(source.settings.seed, spawn_key=(epoch, 2**31)))
        ids = [clip for clip in source.targets if all(clip in view for view in source.views)]
        order = generator.permutation(len(ids)).tolist()
        groups = [[ids[i] for i in order[start : start + size]] for start in range(0, len(order), size)]
        groups += groups[: -len(groups) % source.processes.size]
        self.groups = groups[source.processes.rank :: source.processes.size]
        self.numbers = {clip: number for number, clip in enumerate(ids)}

    def __len__(self) -> int:
        return len(self.groups) - self.start_batch

    def __iter__(self) -> Iterator[FeatureBatch]:
        augment = self.source.settings.augment
        for group in self.groups[self.start_batch :]:
            self.position += 1
            rows, targets, used = [], [], []
            for clip in group:
                generator = sample_generator(self.source.settings.seed, self.epoch, self.numbers[clip])
                row = self.source.views[generator.integers(len(self.source.views))][clip]
                if augment.temporal_scale:
                    chosen = temporal_rescale(
                        len(row), augment.temporal_scale, augment.min_frames, augment.max_frames, generator
                    )
                    row = row[torch.from_numpy(chosen)]
                if time_steps(len(row)) >= needed_steps(self.source.targets[clip]):
                    rows.append(row)
                    targets.append(self.source.targets[clip])
                    used.append(clip)
                else:
                    self.left_out[clip] = f"{len(row)} frames after rescaling are too few for its glosses"
            if rows or self.source.processes.size > 1:
                yield FeatureBatch(
                    pad_sequence(rows, batch_first=True) if rows else torch.empty(0),  # [B, T, D]
                    torch.tensor([len(row) for row in rows]),
                    torch.tensor([index for target in targets for index in target]),
                    torch.tensor([len(target) for target in targets]),
                    tuple(used),
                )
