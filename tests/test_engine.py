"""Loggers, length buckets, the T4 preset, precision by device, published padding, launching."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import survival
import torch
from loaders import make_loader
from survival import SETTINGS, model
from tiny_models import stir

import slakit
from slakit.config import from_dict, to_dict
from slakit.data.loader import clip_loader
from slakit.machine import autocast, half_precision
from slakit.models.packing import Clips
from slakit.records import ConfigError
from slakit.show.live import LiveCurves, _lines
from slakit.training.run import deterministic
from slakit.training.trackers import JsonLines, make_loggers, numbers


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return survival.corpus(tmp_path_factory.mktemp("clips"))


def quick(clips, out, **options):
    settings = replace(SETTINGS, epochs=2, start_from=None, checkpoint_steps=0)
    return slakit.fit(model(), clips, out, settings, show_progress=False, **options)


class Listening:
    """A logger that keeps what it is told."""

    def __init__(self):
        self.told = []

    def start(self, settings, rows):
        self.told.append(("start", dict(settings), len(rows)))

    def epoch(self, row):
        self.told.append(("epoch", dict(row)))

    def close(self):
        self.told.append(("close",))


def test_a_row_an_epoch_goes_to_every_logger(clips, tmp_path):
    listening = Listening()
    run = quick(clips, tmp_path, loggers=[listening])
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert lines == run.history == [row for kind, row, *_ in listening.told[1:-1]]
    assert [kind for kind, *_ in listening.told] == ["start", "epoch", "epoch", "close"]
    assert listening.told[0][1]["train.learning_rate"] == 3e-3 and listening.told[0][2] == 0
    wanted = {"loss_total", "loss_sequence", "loss_conv", "loss_distillation", "wer", "frames_per_second", "memory_gib",
              "learning_rate", "clips", "skipped", "left_out", "seconds", "epoch", "trained"}  # fmt: skip
    assert all(wanted <= row.keys() for row in lines)
    again = Listening()
    quick(clips, tmp_path, loggers=[again])
    assert [entry[0] for entry in again.told] == ["start", "close"] and again.told[0][2] == 2


def test_history_forgets_what_the_state_does_not_know(tmp_path):
    first = JsonLines(tmp_path)
    first.start({}, [])
    for epoch in range(3):
        first.epoch({"epoch": epoch})
    resumed = JsonLines(tmp_path)
    resumed.start({}, [{"epoch": 0}, {"epoch": 1}])
    assert [json.loads(line)["epoch"] for line in (tmp_path / "history.jsonl").read_text().splitlines()] == [0, 1]


def test_numbers_of_a_row():
    row = {"epoch": 3, "trained": "all", "wer": 12, "skipped": ["a", "b"], "loss_total": 1.5}
    assert numbers(row) == {"wer": 12.0, "skipped": 2.0, "loss_total": 1.5}


def test_tensorboard_has_the_same_numbers_and_no_row_twice(clips, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = quick(clips, tmp_path, track=("tensorboard",))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    for name in ("loss_total", "wer", "frames_per_second"):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(row["epoch"], pytest.approx(row[name], rel=1e-6)) for row in run.history]


def test_tensorboard_is_the_default_where_it_is_installed(clips, tmp_path, monkeypatch):
    """And only there; a run that began without it goes on with it."""
    from slakit.config import TrainConfig
    from slakit.training.trackers import TensorBoard

    assert TrainConfig().track == ("auto",)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it could not be imported
        assert [type(one) for one in make_loggers(["auto"], tmp_path)] == [JsonLines]
        assert len(quick(clips, tmp_path, track=("auto",)).history) == 2
        assert not (tmp_path / "tensorboard").exists()
    pytest.importorskip("tensorboard")
    for names in (["auto"], ["auto", "tensorboard"]):
        assert [type(one) for one in make_loggers(names, tmp_path)] == [JsonLines, TensorBoard]
    assert len(quick(clips, tmp_path, track=("auto",)).history) == 2
    assert list((tmp_path / "tensorboard").iterdir())


def test_wandb_gets_settings_rows_and_the_same_run_again(clips, tmp_path, monkeypatch):
    """A stand-in for the package, which is no part of the tests' extra, keeps what it is called with."""
    told = []
    run = SimpleNamespace(
        log=lambda values, step: told.append(("log", values, step)), finish=lambda: told.append(("finish",))
    )
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **o: told.append(("init", o)) or run))
    rows = quick(clips, tmp_path, track=("wandb",)).history
    begin = told[0][1]
    assert (begin["project"], begin["resume"], begin["config"]["train.learning_rate"]) == ("slakit", "allow", 3e-3)
    assert told[1:] == [*(("log", numbers(row), row["epoch"]) for row in rows), ("finish",)]
    first, again = begin["id"], len(told)
    quick(clips, tmp_path, track=("wandb",))
    assert [entry[0] for entry in told[again:]] == ["init", "finish"] and told[again][1]["id"] == first


def test_mlflow_gets_settings_once_and_every_row(clips, tmp_path, monkeypatch):
    told = []
    fake = SimpleNamespace(
        start_run=lambda run_id, run_name: told.append(("start", run_id)) or SimpleNamespace(
            info=SimpleNamespace(run_id="r1")
        ),
        log_params=lambda values: told.append(("params", values["train.learning_rate"])),
        log_metrics=lambda values, step: told.append(("metrics", values, step)),
        end_run=lambda: told.append(("end",)),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    rows = quick(clips, tmp_path, track=("mlflow",)).history
    metrics = [("metrics", numbers(row), row["epoch"]) for row in rows]
    assert told == [("start", None), ("params", "0.003"), *metrics, ("end",)]
    del told[:]
    quick(clips, tmp_path, track=("mlflow",))
    assert told == [("start", "r1"), ("end",)], "the same run goes on, its settings are there already"


def test_an_unknown_or_missing_tracker_says_so(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"track='tensorbord' .*did you mean 'tensorboard'"):
        make_loggers(["tensorbord"], tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"track needs the package wandb .*pip install wandb"):
        make_loggers(["wandb"], tmp_path)


def test_length_buckets_and_frame_budget(clips):
    samples = [replace(clips.train[k % 8], id=f"s{k}", num_frames=10 + (k * 37) % 90) for k in range(60)]
    lengths = [sample.num_frames for sample in samples]
    options = {"image_size": 36, "crop_size": 32, "min_frames": 8, "temporal_scale": None, "seed": 3}

    def spread(loader):
        return np.mean([max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in loader.batches()])

    plain = make_loader(samples, clips.glosses, 4, **options)
    bucketed = make_loader(samples, clips.glosses, 4, length_buckets=5, **options)
    assert spread(bucketed) < 0.4 * spread(plain)
    assert sorted(i for batch in bucketed.batches() for i in batch) == list(range(60))
    first = bucketed.batches()
    bucketed.set_epoch(1)
    assert bucketed.batches() != first and sorted(map(len, bucketed.batches())) == [4] * 15
    means = [np.mean([lengths[i] for i in batch]) for batch in bucketed.batches()]
    assert abs(np.corrcoef(means, range(15))[0, 1]) < 0.9, "the batches themselves are shuffled"
    budget = make_loader(samples, clips.glosses, 60, max_frames_per_batch=200, length_buckets=1, **options).batches()
    sums = [sum(lengths[i] for i in batch) for batch in budget]
    assert max(sums) <= 200 and len(budget) < 60 and sorted(i for batch in budget for i in batch) == list(range(60))


def test_the_order_does_not_depend_on_the_number_of_processes(clips):
    def order(size, **options):
        shares = [
            make_loader(clips.train, clips.glosses, 1, seed=4, rank=r, world_size=size, **options).batches()
            for r in range(size)
        ]
        return [batch for step in zip(*shares, strict=True) for batch in step]

    for options in ({}, {"length_buckets": 2}):
        assert order(1, **options) == order(2, **options) == order(4, **options)
        assert order(3, **options)[:8] == order(1, **options)


def test_resuming_needs_no_decoding_of_what_was_done(clips, monkeypatch):
    from slakit.data.clips import ClipStore

    loader = clip_loader(clips.train, clips.glosses, SETTINGS, train=True, epoch=2, start_batch=3)
    read, original = [], ClipStore.read
    monkeypatch.setattr(ClipStore, "read", lambda self, sample, *rest: read.append(sample.id) or original(
        self, sample, *rest))  # fmt: skip
    assert len(list(loader)) == 1 == len(loader) and len(read) == 2 and loader.position == 4


def test_precision_by_device(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert half_precision("auto", cpu) is None and half_precision("float16", cpu) == torch.float16
    for capability, wanted in (((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None, found=capability: found)
        assert half_precision("auto", cuda) == wanted
    with autocast("bfloat16", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast("auto", cpu):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_half_precision_trains_and_ctc_stays_in_float32(clips, tmp_path, monkeypatch):
    from slakit.training import losses

    seen, original = set(), torch.nn.functional.ctc_loss
    monkeypatch.setattr(losses.F, "ctc_loss", lambda log_probs, *rest, **o: seen.add(log_probs.dtype) or original(
        log_probs, *rest, **o))  # fmt: skip
    run = quick(clips, tmp_path, precision="bfloat16")
    assert seen == {torch.float32} and np.isfinite([row["loss_total"] for row in run.history]).all()


@pytest.mark.parametrize(("name", "said"), [("gpu", "no device 'gpu'"), ("cuda:99", "PyTorch sees .* GPUs? here")])
def test_a_device_that_is_not_here_is_refused_in_a_sentence(clips, tmp_path, name, said):
    with pytest.raises(ConfigError, match=said):
        quick(clips, tmp_path, device=name)
    assert not any(tmp_path.iterdir())


def test_the_t4_preset_keeps_the_published_step():
    paper, small = slakit.preset("sla-lora/phoenix2014"), slakit.preset("sla-lora/phoenix2014@t4")
    assert small.train.batch_size * small.train.accumulate == paper.train.batch_size == 2
    assert small.train.precision == "float16" and small.train.num_workers == 2 and small.model == paper.model
    same = {"epochs", "learning_rate", "milestones", "augment", "decode", "loss_weights"}
    assert all(getattr(small.train, name) == getattr(paper.train, name) for name in same)
    assert from_dict(type(small), to_dict(small)) == small
    assert slakit.preset("adaptsign/phoenix2014@t4").model.recompute == "mlp"
    with pytest.raises(ConfigError, match="no preset 'sla-lora/phoenix2014@t5'"):
        slakit.preset("sla-lora/phoenix2014@t5")


def test_published_padding_differs_where_a_frame_sees_its_neighbours_and_nowhere_else():
    """Against the published collate, written out: frames replicated per clip, all of them through the encoder.

    Features of real frames further from a clip's ends than the temporal shift of all blocks can reach are equal; the
    frames near the ends see replicated neighbours in the published form and zeros in the packed one.
    """
    from tiny_models import frames

    lengths = torch.tensor([21, 13])
    video = frames(34)
    packed = survival.tiny("sla-lora", n_div=8, rank=2, blocks="1-3").eval()
    stir(packed)
    published = survival.tiny("sla-lora", n_div=8, rank=2, blocks="1-3", padding="published").eval()
    published.load_state_dict(packed.state_dict())
    reach = 3  # blocks with a shift by one frame
    with torch.inference_mode():
        ours, theirs = packed.encode(video, lengths), published.encode(video, lengths)
        longest = -(-21 // 4) * 4 + 12
        rows = []
        for clip in video.split(lengths.tolist()):
            after = clip[-1:].expand(longest - 6 - len(clip), -1, -1, -1)
            rows.append(torch.cat([clip[:1].expand(6, -1, -1, -1), clip, after]))
        written = packed.encoder(packed.normalise(torch.cat(rows)), Clips([longest, longest])).view(2, longest, -1)
    torch.testing.assert_close(theirs, written)
    for row, length in enumerate(lengths.tolist()):
        real = theirs[row, 6 : 6 + length]
        torch.testing.assert_close(ours[row, reach : length - reach], real[reach : length - reach])
        assert not torch.allclose(ours[row, :reach], real[:reach], atol=1e-4)
        assert not torch.allclose(ours[row, length - reach : length], real[-reach:], atol=1e-4)
    entered = []
    for one in (packed, published):
        hook = one.encoder.register_forward_pre_hook(lambda module, inputs: entered.append(len(inputs[0])))
        with torch.inference_mode():
            one(video, lengths)
        hook.remove()
    assert entered == [21 + 13, 2 * 36], "frames through the encoder: those there are, or all padded to 24 + 12"


def test_lines_and_bars_of_another_process_are_told_apart():
    import io

    text = "first\r 10%\r\x1b[A 20%\rdone: é\nsecond\n".encode()
    assert list(_lines(io.BytesIO(text))) == [("first", False), (" 10%", False), (" 20%", False), ("done: é", True),
                                              ("second", True)]  # fmt: skip


def test_live_curves_update_one_picture(monkeypatch):
    shown = []

    class Handle:
        def update(self, figure):
            shown.append("update")

    monkeypatch.setattr("IPython.display.display", lambda figure, display_id: shown.append("display") or Handle())
    curves = LiveCurves()
    curves.start({}, [])
    for epoch in range(3):
        curves.epoch({"epoch": epoch, "trained": "all", "loss_total": 3.0 - epoch, "seconds": 1.0}
                     | ({"wer": 50.0} if epoch else {}))  # fmt: skip
    curves.close()
    assert shown == ["display", "update", "update", "update"]


def test_a_launched_run_that_fails_says_why_and_one_that_is_interrupted_stops(tmp_path, monkeypatch):
    """A corpus that does not exist; then an interrupted cell, which must leave no process behind."""
    import os
    import subprocess

    from slakit.config import RunConfig
    from slakit.records import SlakitError
    from slakit.show import live

    started, told, popen = [], Listening(), subprocess.Popen
    monkeypatch.setattr(live.subprocess, "Popen", lambda *a, **o: started.append(popen(*a, **o)) or started[-1])
    config = RunConfig(corpus="nowhere", out_dir=str(tmp_path / "run"))
    with pytest.raises(SlakitError, match=r"ended with 1: slakit: .*nowhere"):
        live.launch(config, device="cpu", show_progress=False, loggers=[told])
    assert [entry[0] for entry in told.told] == ["start", "close"]

    def interrupted(stream):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(live, "_lines", interrupted)
    with pytest.raises(KeyboardInterrupt):
        live.launch(config, device="cpu", show_progress=False, loggers=[told])
    assert [entry[0] for entry in told.told] == ["start", "close"] * 2
    assert started[1].poll() is not None, "it is stopped and waited for"
    with pytest.raises(ProcessLookupError):
        os.killpg(started[1].pid, 0)


def test_reading_processes_that_fit_the_machine(monkeypatch):
    from slakit import machine
    from slakit.data import loader as batches
    from slakit.data.clips import ClipStore

    found = {}
    for cores in (1, 2, 4, 64):
        monkeypatch.setattr(machine.os, "sched_getaffinity", lambda pid, count=cores: set(range(count)), raising=False)
        found[cores] = [batches.fitting_workers(ClipStore(), processes) for processes in (1, 2)]
        assert batches.fitting_workers(ClipStore(keep_in_memory=True)) == 0
    assert found == {1: [0, 0], 2: [2, 0], 4: [3, 2], 64: [8, 8]}
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 4)
    assert batches.fitting_workers(ClipStore()) == 3


def test_training_loads_no_plotting_library():
    import subprocess

    code = "import slakit.training, sys; print(*{'matplotlib', 'seaborn', 'ipywidgets', 'IPython'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
