"""Single clips on their way into a packed batch: planned, read, and put together without padding."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import torch
from torch.utils.data import Dataset

from slakit.data.augment import ClipPlan, ClipTransform, apply_plan, sample_generator
from slakit.data.video.cropping import Box, Squaring
from slakit.data.video.packed import PackedClip, check_size
from slakit.data.video.read import open_source
from slakit.data.video.source import ON_DAMAGE, Source
from slakit.records import ConfigError, Sample, SlakitError, VideoError, Vocabulary


class BufferPool:
    """uint8 arrays for batches; the memory of one that nobody holds any more is handed out again.

    An array (and every tensor or view made of it) may be kept as long as one likes: its memory returns when the last
    reference is gone, not before.
    """

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """A contiguous uint8 array of this shape; its content is whatever was there."""
        count = math.prod(shape)
        memory = None
        while self._free:
            memory = self._free.pop()
            if len(memory) >= count:
                break
            memory = None  # too small: let it go
        if memory is None:
            memory = np.empty(count + count // 4, np.uint8)  # room for a longer batch
        # An array over a memoryview, not a slice of `memory`: views of a slice would refer to `memory` itself and
        # outlive the slice. All that is made of `handle` refers to `handle`.
        handle = np.frombuffer(memory.data[:count], np.uint8)
        weakref.finalize(handle, self._back, memory).atexit = False
        return handle.reshape(shape)

    def _back(self, memory: np.ndarray) -> None:
        if len(self._free) < KEEP:
            self._free.append(memory)


_POOL = BufferPool()
KEEP = 3  # buffers that wait for their next use: one being filled, one in the network, one on its way
TENSORS = ("cropped", "lengths", "targets", "target_lengths")
MIRRORED_AT_ONCE = 32  # frames: a copy of so many is made in passing


@dataclass
class Batch:
    """B clips, packed.

    frames: uint8 [sum of lengths, 3, H, W] RGB (in memory pixel by pixel, channels_last). lengths: int64 [B].
    targets: int64 [sum of target_lengths], gloss indices of the vocabulary, 1 and above. target_lengths: int64 [B].
    ids: the clips' ids. left_out: id -> reason of the clips that belong here and are not in it; unreadable: those of
    them whose files are at fault.
    cropped: the frames before mirroring; mirror: the parts of it that are to be mirrored. That takes a processor longer
    than the crop and a GPU no time, so `to(device)` does it in place, once, where the batch then lies; `frames` of a
    batch that was not moved mirrors a copy at every look.
    """

    cropped: torch.Tensor
    lengths: torch.Tensor
    targets: torch.Tensor
    target_lengths: torch.Tensor
    ids: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    mirror: tuple[slice, ...] = ()
    unreadable: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def frames(self) -> torch.Tensor:
        return _mirrored(self.cropped.clone(), self.mirror) if self.mirror else self.cropped

    def to(self, device: torch.device | str) -> Batch:
        """This batch on a device, mirrored; itself where it is there already."""
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in TENSORS}
        batch = self if moved["cropped"] is self.cropped else replace(self, **moved)
        _mirrored(batch.cropped, batch.mirror)
        batch.mirror = ()
        return batch

    def pin_memory(self) -> Batch:
        return replace(self, **{name: getattr(self, name).pin_memory() for name in TENSORS})


def _mirrored(frames: torch.Tensor, parts: Sequence[slice]) -> torch.Tensor:
    """frames [N, 3, H, W] with these parts of N mirrored in place, left to right."""
    for part in parts:
        for pictures in frames[part].split(MIRRORED_AT_ONCE):
            pictures.copy_(pictures.flip(3))
    return frames


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
    """A clip that cannot be used, and why. unreadable: its file is at fault, not its length."""

    id: str
    reason: str
    unreadable: bool = False


def needed_steps(target: Sequence[int] | Sequence[str]) -> int:
    """Time steps that CTC needs for a target: its length, and one blank between two equal neighbours."""
    return len(target) + sum(a == b for a, b in pairwise(target))


def time_steps(num_frames: int) -> int:
    """Time steps of the sequence model for a clip: ceil(T / 4), from its two poolings by 2."""
    return math.ceil(num_frames / 4)


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
        check_size(self.samples, transform.augment.image_size)
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
        size = transform.augment.image_size
        generator = sample_generator(self.seed, epoch, index) if transform.train else None

        def plan(num_frames: int) -> ClipPlan:
            return transform.plan(num_frames, size, size, generator)

        try:
            pictures, positions, decided = self.store.read(sample, size, plan)
        except VideoError as error:
            return LeftOut(sample.id, str(error), unreadable=True)
        steps = needed_steps(target)
        count = len(decided.frames)
        if transform.train and (not target or time_steps(count) < steps):
            return LeftOut(sample.id, f"{count} frames after rescaling, {len(target)} glosses need {4 * steps}")
        return Clip(sample.id, pictures, positions, decided, target)


def collate(clips: Sequence[Clip | LeftOut]) -> Batch:
    """Crop and pack into one buffer: each pixel is copied once. Clips that were left out are named, not used."""
    used = [clip for clip in clips if isinstance(clip, Clip)]
    lengths = [len(clip.plan.frames) for clip in used]
    size = used[0].plan.size if used else 0
    buffer = _POOL.take((sum(lengths), size, size, 3))  # [sum T, H, W, 3]
    end, mirror = 0, []
    for clip, length in zip(used, lengths, strict=True):
        apply_plan(clip.pictures, replace(clip.plan, flip=False), buffer[end : end + length], clip.positions)
        if clip.plan.flip:
            mirror.append(slice(end, end + length))
        end += length
    return Batch(
        cropped=torch.from_numpy(buffer).permute(0, 3, 1, 2),  # [sum T, 3, H, W], channels_last
        lengths=torch.tensor(lengths, dtype=torch.int64),
        targets=torch.tensor([index for clip in used for index in clip.target], dtype=torch.int64),
        target_lengths=torch.tensor([len(clip.target) for clip in used], dtype=torch.int64),
        ids=tuple(clip.id for clip in used),
        left_out={clip.id: clip.reason for clip in clips if isinstance(clip, LeftOut)},
        mirror=tuple(mirror),
        unreadable=tuple(clip.id for clip in clips if isinstance(clip, LeftOut) and clip.unreadable),
    )


MAX_MEMORY = 4 * 2**30


class ClipStore:
    """Reads clips for the loaders, and may keep them: resized, uint8, once for all epochs, train and dev alike.

    keep_in_memory: keep every clip that was read (small corpora). max_memory: bytes that may be kept; more is a
    ConfigError. on_damage: "skip" and "error" leave a damaged clip to the caller as a VideoError ("error" as a
    SlakitError that stops), "keep-readable" uses the frames that can be decoded. squaring: of clips not prepared.
    """

    def __init__(
        self, keep_in_memory: bool = False, max_memory: int = MAX_MEMORY, on_damage: str = "skip",
        squaring: Squaring | None = None,
    ):  # fmt: skip
        if on_damage not in ON_DAMAGE:
            raise ConfigError(f"on_damage={on_damage!r} is none of {', '.join(ON_DAMAGE)}")
        self.keep_in_memory, self.max_memory, self.on_damage = keep_in_memory, max_memory, on_damage
        self.squaring, self.bytes = squaring or Squaring(), 0
        self._kept: dict[tuple[object, object, int], np.ndarray] = {}
        self._boxes: dict[tuple[object, object], Box | None] = {}

    def read(
        self, sample: Sample, image_size: int, plan: Callable[[int], ClipPlan]
    ) -> tuple[np.ndarray, np.ndarray, ClipPlan]:
        """(pictures uint8 [T, image_size, image_size, 3], positions of the planned frames in them, the plan).

        plan is asked once, with the clip's number of frames; where possible only the frames that it names are decoded.
        """
        if self.keep_in_memory or self.on_damage == "keep-readable":
            pictures = self._whole(sample, image_size)
            decided = plan(len(pictures))
            return pictures, decided.frames, decided
        source = open_source(sample.source)
        decided = plan(source.num_frames)
        numbers, positions = np.unique(decided.frames, return_inverse=True)
        return self._resized(sample, source, image_size, numbers.tolist()), positions, decided

    def preload(self, samples: Sequence[Sample], image_size: int) -> None:
        """Read what is to be kept before worker processes start, so that they share it. Damaged clips are left."""
        if not self.keep_in_memory:
            return
        for sample in samples:
            try:
                self._whole(sample, image_size)
            except VideoError:
                continue  # named by the loader when its turn comes

    def _whole(self, sample: Sample, image_size: int) -> np.ndarray:
        """All frames of a clip, kept from now on where that is wanted."""
        key = (sample.source, sample.crop, image_size)
        if key in self._kept:
            return self._kept[key]
        pictures = self._resized(sample, open_source(sample.source), image_size, None)
        if self.keep_in_memory:
            self.bytes += pictures.nbytes
            if self.bytes > self.max_memory:
                raise ConfigError(
                    f"keep_in_memory: {len(self._kept)} clips fill max_memory={self.max_memory:,} bytes at {sample.id};"
                    " raise it, make frames smaller, or prepare a cache on disk"
                )
            self._kept[key] = pictures
        return pictures

    def _resized(self, sample: Sample, source: Source, image_size: int, numbers: list[int] | None) -> np.ndarray:
        damage = "keep-readable" if self.on_damage == "keep-readable" else "error"
        try:
            box = self._box(sample, source, damage)
            squaring = Squaring() if isinstance(source, PackedClip) else self.squaring
            return source.resized(lambda frames: squaring.fit(frames, image_size, box), numbers, damage)
        except VideoError as error:
            if self.on_damage == "error":
                raise SlakitError(f"{sample.id}: {error}") from error
            raise

    def _box(self, sample: Sample, source: Source, damage: str) -> Box | None:
        if (key := (sample.source, sample.crop)) not in self._boxes:
            crop = sample.crop or self.squaring.cut(source.info.height, source.info.width)
            self._boxes[key] = source.box(crop, damage)
        return self._boxes[key]
