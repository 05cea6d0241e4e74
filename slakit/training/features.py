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
from slakit.models.modes import evaluating
from slakit.models.recognizer import Recognizer
from slakit.records import ConfigError, Sample


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
    """Every clip encoded `feature_views` times (other crop and flip each time); then any number of epochs.

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
        if model.config.padding == "published":  # whose features hold the copies of the end frames, which no view has
            raise ConfigError(
                "training on cached features is not possible with padding='published'; set feature_views=0 and "
                "start_from=null, or padding='features'"
            )
        self.settings, self.processes = settings, processes
        self.batch_size = settings.batch_size
        self.targets = {sample.id: model.vocabulary.encode(sample.glosses) for sample in samples}
        self.views: list[dict[str, torch.Tensor]] = []  # clip -> features [T, D]
        self.left_out: dict[str, str] = {}
        still = replace(
            settings, augment=replace(settings.augment, temporal_scale=None), seed=settings.seed + 7919,
        )  # fmt: skip
        for view in range(settings.feature_views):
            loader = clip_loader(
                samples, model.vocabulary, still, train=True, epoch=view, store=store,
                rank=processes.rank, world_size=processes.size, pin_memory=device.type == "cuda",
                max_unreadable=settings.max_bad_clips,
            )  # fmt: skip
            features = {}
            bar = progress(loader, f"encoding clips, view {view + 1}/{settings.feature_views}", show_progress)
            for batch in bar:
                with evaluating(model, "float32"):
                    encoded = model.encode(batch.to(device).frames, batch.lengths).float().cpu()
                for clip, row, length in zip(batch.ids, encoded, batch.lengths.tolist(), strict=True):
                    features[clip] = row[:length].clone()
            self.left_out |= loader.left_out
            for share in processes.gather(features) if processes.size > 1 else ():
                features |= share
            self.views.append(features)

    def epoch(self, epoch: int, start_batch: int = 0) -> EpochOfFeatures:
        """The batches of one epoch, in an order and with views that depend on (seed, epoch) alone."""
        return EpochOfFeatures(self, epoch, start_batch)


class EpochOfFeatures:
    """Iterable of FeatureBatch with a length, `position` and `left_out` as a ClipLoader has them."""

    def __init__(self, source: FeatureBatches, epoch: int, start_batch: int = 0):
        self.source, self.epoch, self.start_batch, self.position = source, epoch, start_batch, start_batch
        self.left_out = dict(source.left_out)
        size, processes = source.batch_size, source.processes
        generator = np.random.default_rng(np.random.SeedSequence(source.settings.seed, spawn_key=(epoch, 2**31)))
        ids = [clip for clip in source.targets if all(clip in view for view in source.views)]
        order = generator.permutation(len(ids)).tolist()
        groups = [[(i, ids[i]) for i in order[start : start + size]] for start in range(0, len(order), size)]
        groups += groups[: -len(groups) % processes.size]
        self.groups = groups[processes.rank :: processes.size]

    def __len__(self) -> int:
        return len(self.groups) - self.start_batch

    def __iter__(self) -> Iterator[FeatureBatch]:
        for group in self.groups[self.start_batch :]:
            self.position += 1
            rows = {clip: self._row(number, clip) for number, clip in group}
            few = {clip for clip, row in rows.items() if time_steps(len(row)) < needed_steps(self.source.targets[clip])}
            for clip in few:
                self.left_out[clip] = f"{len(rows.pop(clip))} frames after rescaling are too few for its glosses"
            targets = [self.source.targets[clip] for clip in rows]
            if rows or self.source.processes.size > 1:
                yield FeatureBatch(
                    pad_sequence([*rows.values()], batch_first=True) if rows else torch.empty(0),  # [B, T, D]
                    torch.tensor([len(row) for row in rows.values()]),
                    torch.tensor([index for target in targets for index in target]),
                    torch.tensor([len(target) for target in targets]),
                    tuple(rows),
                )

    def _row(self, number: int, clip: str) -> torch.Tensor:
        """A view of the clip, rescaled in time: features [T, D]."""
        settings, views = self.source.settings, self.source.views
        generator = sample_generator(settings.seed, self.epoch, number)
        row, augment = views[generator.integers(len(views))][clip], settings.augment
        if not augment.temporal_scale:
            return row
        chosen = temporal_rescale(
            len(row), augment.temporal_scale, augment.min_frames, augment.max_frames, generator
        )  # fmt: skip
        return row[torch.from_numpy(chosen)]
