"""Packed batches: what is in them, in which order, reproducibly, and what is left out by name."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from loaders import make_loader
from media import pictures, write_frames, write_video

from slakit.config import AugmentConfig, TrainConfig
from slakit.data.augment import ClipTransform, apply_plan
from slakit.data.clips import BufferPool, Clip, ClipDataset, ClipStore, LeftOut, needed_steps, time_steps
from slakit.data.loader import LeftOutWarning, clip_loader, split_trainable
from slakit.records import ConfigError, CorpusError, Sample, SlakitError, Vocabulary

VOCABULARY = Vocabulary(["A", "B", "C"])
SMALL = {"image_size": 32, "crop_size": 28, "min_frames": 8}


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[Sample]:
    root = tmp_path_factory.mktemp("clips")
    made = []
    for number in range(7):
        frames = pictures(12 + 4 * number, 32, 32, seed=number)
        if number % 2:
            source = write_video(root / f"{number}.mp4", frames)
        else:
            source = write_frames(root / str(number), frames)
        glosses = ("A", "B", "C", "A")[: 1 + number % 3]
        made.append(Sample(f"clip{number}", source, glosses, num_frames=len(frames)))
    return made


def test_an_evaluation_batch_holds_the_clips_in_order(samples):
    loader = make_loader(samples, VOCABULARY, 3, train=False, **SMALL)
    batches = list(loader)
    assert [b.ids for b in batches] == [("clip0", "clip1", "clip2"), ("clip3", "clip4", "clip5"), ("clip6",)]
    assert len(loader) == 3
    batch = batches[0]
    assert batch.frames.dtype == torch.uint8 and batch.frames.shape == (12 + 16 + 20, 3, 28, 28)
    assert batch.lengths.tolist() == [12, 16, 20] and batch.target_lengths.tolist() == [1, 2, 3]
    assert batch.targets.tolist() == [1, 1, 2, 1, 2, 3] and batch.targets.dtype == torch.int64
    first = torch.from_numpy(pictures(12, 32, 32, seed=0)[:, 2:30, 2:30]).permute(0, 3, 1, 2)
    assert torch.equal(batch.frames[:12], first)
    third = torch.from_numpy(pictures(20, 32, 32, seed=2)[:, 2:30, 2:30]).permute(0, 3, 1, 2)
    assert torch.equal(batch.frames[28:], third)


def test_frames_are_mirrored_once_and_wherever_the_batch_lies(samples):
    loader = make_loader(samples, VOCABULARY, 3, seed=2, **SMALL)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    flips = []
    for device in devices:
        for batch, keys in zip(loader, loader.batches(), strict=True):
            looked, batch, end = batch.frames, batch.to(device), 0
            assert batch.to(device) is batch
            for key in keys:
                clip = loader.dataset[key]
                expected = np.empty((len(clip.plan.frames), 28, 28, 3), np.uint8)
                apply_plan(clip.pictures, clip.plan, expected, clip.positions)
                flips.append(clip.plan.flip)
                for frames in (looked, batch.frames, batch.frames):
                    part = frames[end : end + len(expected)].cpu()
                    assert torch.equal(part, torch.from_numpy(expected).permute(0, 3, 1, 2))
                end += len(expected)
            assert end == len(batch.frames)
    assert set(flips) == {True, False}


def test_memory_of_a_batch_is_used_again_only_when_nobody_holds_it():
    pool = BufferPool()
    first = pool.take((4, 5))
    first[:] = 7
    held = torch.from_numpy(first)[1:].numpy()[0]
    address = first.ctypes.data
    del first
    second = pool.take((4, 5))
    second[:] = 9
    assert held.tolist() == [7] * 5 and second.ctypes.data != address
    del held
    assert pool.take((2, 9)).ctypes.data == address  # fits
    assert pool.take((100, 100)).shape == (100, 100)


def equal(one, other) -> bool:
    return one.ids == other.ids and torch.equal(one.frames, other.frames) and torch.equal(one.targets, other.targets)


@pytest.mark.parametrize("keep", [False, True])
def test_workers_and_memory_change_nothing(samples, keep):
    plain = list(make_loader(samples, VOCABULARY, 2, seed=5, epoch=3, **SMALL))
    loader = make_loader(samples, VOCABULARY, 2, seed=5, epoch=3, num_workers=2, keep_in_memory=keep, **SMALL)
    for _ in range(2):
        assert all(equal(a, b) for a, b in zip(plain, loader, strict=True))


def test_resuming_at_a_batch(samples):
    whole = list(make_loader(samples, VOCABULARY, 2, seed=1, epoch=4, **SMALL))
    rest = make_loader(samples, VOCABULARY, 2, seed=1, epoch=4, start_batch=2, **SMALL)
    assert len(rest) == len(whole) - 2
    assert all(equal(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_epochs_and_seeds_differ(samples):
    loader = make_loader(samples, VOCABULARY, 2, seed=0, **SMALL)
    orders, pixels = set(), set()
    for epoch in range(6):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert sorted(i for b in batches for i in b.ids) == [s.id for s in samples]
        orders.add(tuple(i for b in batches for i in b.ids))
        pixels.add(next(b.frames[:1].sum().item() for b in batches))
    assert len(orders) == 6
    assert loader.batches() != make_loader(samples, VOCABULARY, 2, seed=9, epoch=5, **SMALL).batches()


def test_unusable_clips_are_named_and_left_out(samples, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    short = replace(samples[0], id="short", glosses=("A", "A", "B", "C", "A", "B"), num_frames=None)
    mixed = [samples[1], Sample("broken", broken, ("A",)), short, samples[2]]
    loader = make_loader(mixed, VOCABULARY, 4, temporal_scale=None, **SMALL)
    with pytest.warns(LeftOutWarning) as caught:
        (batch,) = list(loader)
    assert set(batch.ids) == {"clip1", "clip2"}
    assert set(loader.left_out) == {"broken", "short"} == set(batch.left_out)
    assert "broken.mp4" in loader.left_out["broken"] and "6 glosses need 28" in loader.left_out["short"]
    assert len(caught) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(loader)) == 1  # named once
    for batch in make_loader([samples[1], short], VOCABULARY, 2, train=False, **SMALL):
        assert batch.ids == ("clip1", "short")  # evaluated all the same
    with pytest.raises(SlakitError, match=r"none of the 1 clips can be used; broken: .*broken\.mp4"):
        list(make_loader([mixed[1]], VOCABULARY, 2, train=False, **SMALL))


def test_damage_can_stop_or_be_read_in_part(samples, tmp_path):
    folder = write_frames(tmp_path / "clip", pictures(20, 32, 32))
    (folder / "images0004.png").write_bytes(b"broken")
    damaged = Sample("damaged", folder, ("A",), num_frames=20)
    with pytest.raises(SlakitError, match=r"damaged: .*images0004"):
        list(make_loader([damaged, samples[1]], VOCABULARY, 2, train=False, on_damage="error", **SMALL))
    with pytest.warns(UserWarning, match="images0004"):
        (batch,) = make_loader([damaged], VOCABULARY, 2, train=False, on_damage="keep-readable", **SMALL)
    assert batch.lengths.tolist() == [19]


def test_glosses_outside_the_vocabulary(samples):
    few = Vocabulary(["A"])
    with pytest.raises(CorpusError, match="'B'"):
        make_loader(samples, few, 2, **SMALL)
    dataset = make_loader(samples, few, 2, train=False, **SMALL).dataset
    assert dataset.unknown == {"B": 4, "C": 2}
    assert dataset.targets[2] == [1]


def test_feasible_lengths():
    assert needed_steps("ABBBA") == 7 and needed_steps([]) == 0
    assert [time_steps(n) for n in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]
    # CTC itself: the loss is finite exactly where needed_steps says that the target fits
    for target in ([1, 2, 1], [1, 1, 2], [2, 2, 2], [1]):
        for steps in range(1, 8):
            logits = torch.zeros(steps, 1, 3).log_softmax(-1)
            loss = torch.nn.functional.ctc_loss(logits, torch.tensor([target]), [steps], [len(target)], reduction="sum")
            assert torch.isfinite(loss) == (steps >= needed_steps(target))
    clips = [
        Sample("fits", "x", ("A",) * 3, num_frames=20),
        Sample("never", "x", ("A",) * 6, num_frames=33),
        Sample("none", "x", (), num_frames=99),
        Sample("unknown", "x", ("A",) * 99),
    ]
    kept, left_out = split_trainable(clips, TrainConfig(augment=AugmentConfig(min_frames=8)))
    assert [s.id for s in kept] == ["fits", "unknown"] and set(left_out) == {"never", "none"}


def test_a_loader_from_settings(samples):
    settings = TrainConfig(batch_size=2, seed=5, augment=AugmentConfig(image_size=32, crop_size=28, min_frames=8))
    plain = make_loader(samples, VOCABULARY, 2, seed=5, epoch=1, **SMALL)
    same = clip_loader(samples, VOCABULARY, settings, train=True, epoch=1)
    assert all(equal(a, b) for a, b in zip(plain, same, strict=True))
    plain = make_loader(samples, VOCABULARY, 2, train=False, **SMALL)
    same = clip_loader(samples, VOCABULARY, settings, train=False)
    assert all(equal(a, b) for a, b in zip(plain, same, strict=True))


def test_a_frame_budget(samples):
    loader = make_loader(samples, VOCABULARY, 4, train=False, max_frames_per_batch=50, **SMALL)
    lengths = {s.id: s.num_frames for s in samples}
    sums = [sum(lengths[i] for i in b.ids) for b in loader]
    assert sum(sums) == sum(lengths.values()) and max(sums) <= 50 and len(sums) == 5
    with pytest.raises(ConfigError, match="clip0 has none"):
        len(make_loader([replace(samples[0], num_frames=None)], VOCABULARY, max_frames_per_batch=50, **SMALL))


def test_ranks_share_the_batches(samples):
    loaders = [make_loader(samples, VOCABULARY, 1, rank=r, world_size=3, seed=2, **SMALL) for r in range(3)]
    shares = [[i for batch in loader.batches() for i in batch] for loader in loaders]
    assert {len(share) for share in shares} == {3}  # as many steps on each
    assert set().union(*map(set, shares)) == set(range(7))
    evaluation = [make_loader(samples, VOCABULARY, 1, False, rank=r, world_size=3, **SMALL) for r in range(3)]
    seen = sorted(i for loader in evaluation for batch in loader.batches() for i in batch)
    assert seen == list(range(7))  # each once
    with pytest.raises(ConfigError, match="rank=3"):
        make_loader(samples, VOCABULARY, rank=3, world_size=3)


def test_memory_is_limited(samples):
    store = ClipStore(keep_in_memory=True, max_memory=100_000)
    with pytest.raises(ConfigError, match="max_memory=100,000"):
        list(make_loader(samples, VOCABULARY, 2, train=False, store=store, **SMALL))
    store = ClipStore(keep_in_memory=True)
    first = list(make_loader(samples, VOCABULARY, 2, train=False, store=store, **SMALL))
    assert store.bytes == sum(s.num_frames for s in samples) * 32 * 32 * 3
    again = list(make_loader(samples, VOCABULARY, 2, train=False, store=store, **SMALL))
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))


def test_only_the_wanted_frames_are_decoded(tmp_path):
    """A damaged frame that the plan leaves out does not matter; one that it takes does."""
    folder = write_frames(tmp_path / "clip", pictures(60, 32, 32))
    dataset = ClipDataset([Sample("c", folder, ("A",))], VOCABULARY, ClipTransform(AugmentConfig(32, 28, min_frames=8)))
    epoch = next(e for e in range(50) if len(np.unique(dataset[(e, 0)].plan.frames)) < 55)
    used = dataset[(epoch, 0)].plan.frames.tolist()
    left = min(set(range(60)) - set(used))
    (folder / f"images{left + 1:04d}.png").write_bytes(b"broken")
    assert isinstance(dataset[(epoch, 0)], Clip)
    (folder / f"images{used[0] + 1:04d}.png").write_bytes(b"broken")
    assert isinstance(dataset[(epoch, 0)], LeftOut)


def test_settings_are_checked(samples):
    for settings, match in (({"batch_size": 0}, "batch_size=0"), ({"num_workers": -1}, "num_workers=-1")):
        with pytest.raises(ConfigError, match=match):
            make_loader(samples, VOCABULARY, **settings)
    with pytest.raises(ConfigError, match="on_damage='maybe'"):
        make_loader(samples, VOCABULARY, on_damage="maybe")
