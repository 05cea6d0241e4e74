"""What a run survives: kill -9 at any moment, full disks, read-only folders, broken clips, dead workers."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import survival
import torch
from survival import SETTINGS, losses, model, rows, same, weights

import slakit
from slakit.data import loader as loading
from slakit.models.checkpoints import read_description
from slakit.records import ConfigError, SlakitError
from slakit.training.folder import RunFolder, checksum, held
from slakit.training.state import TrainingRun

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="module")
def straight(place, tmp_path_factory):
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("straight")
    return survival.train(place, out)


def helper(*arguments: str) -> dict:
    command = [sys.executable, str(HERE / "survival.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["..", *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_killed_at_any_moment_the_weights_are_the_same_to_the_bit(tmp_path):
    """Real processes, SIGKILL: between any two writes, in half-written checkpoints, anywhere in a step."""
    found = helper("kills", str(tmp_path), "0")
    assert sum(found["died"].values()) >= 21 and min(found["died"].values()) >= 3
    assert found["finished"] >= 1, "weights, history and best are compared in the helper"
    assert found["most steps lost"] <= 1, "more than one checkpoint interval was lost"


@pytest.mark.thorough
def test_killed_with_reading_processes_the_weights_are_those_of_a_run_without(tmp_path):
    """The processes that read clips are orphans then: they must neither hold the folder nor change the run."""
    found = helper("kills", str(tmp_path), "1", "3", "2")
    assert sum(found["died"].values()) == 3 and found["finished"] >= 1 and found["most steps lost"] <= 1


@pytest.mark.thorough
def test_one_of_two_processes_killed_ends_both_and_they_go_on_to_the_same_bits(tmp_path):
    found = helper("widows", str(tmp_path), "0")
    for killed, left in found["ends"]:
        assert killed == -signal.SIGKILL and left not in (None, 0, -signal.SIGKILL), "the other one ends by itself"
    assert found["same weights"] and found["same history"] and found["same checkpoints"]
    assert found["straight steps"] < found["steps"] <= found["straight steps"] + 3, "one interval a death at most"


@pytest.mark.thorough
def test_two_processes_leave_a_broken_clip_out_together_and_keep_their_checkpoints(tmp_path):
    """One has a batch without a clip, and a checkpoint is due: both must save it, or both wait for ever."""
    found = helper("broken", str(tmp_path))
    assert found["ends"] == [0, 0]
    for left_out in found["left out"]:
        assert "clip3" in left_out and len(left_out) == 2, "and its partner's clip of the same step"


@pytest.mark.parametrize("what", ["ranks", pytest.param("network_ranks", marks=pytest.mark.thorough)])
def test_two_processes_equal_one_with_twice_the_batch(what, tmp_path):
    """Over gloo, clips of different lengths, warm start and adaptation; also the score on dev."""
    found = helper(what, str(tmp_path))
    one, two = found["rows"]
    assert len(one) == len(two) == (3 if what == "ranks" else 2)
    for left, right in zip(one, two, strict=True):
        assert left.keys() == right.keys() and left["clips"] == right["clips"]
        numbers = [key for key, value in left.items() if isinstance(value, float)]
        assert "loss_total" in numbers
        assert [right[key] for key in numbers] == pytest.approx([left[key] for key in numbers], rel=1e-4)
    assert found["moved"] > 0.01 and found["apart"] < 1e-3 * found["moved"]


def test_two_processes_score_as_one_does(tmp_path):
    """Five clips with one to four glosses, one a batch: a count over all of them, no mean of the processes' means."""
    from slakit.scoring import score

    one, *two = helper("scores", str(tmp_path)).values()
    assert two == [one, one]
    references, hypotheses = one["references"], one["hypotheses"]
    assert len(set(hypotheses.values())) >= 3 and one["wer"] == score(references, hypotheses).wer
    shares = [list(references)[rank::2] for rank in range(2)]
    means = [score({k: references[k] for k in share}, {k: hypotheses[k] for k in share}).wer for share in shares]
    single = [score({k: references[k]}, {k: hypotheses[k]}).wer for k in references]
    for wrong in (sum(means) / 2, sum(single) / 5):
        assert abs(wrong - one["wer"]) > 0.5, "these clips could not tell a count from a mean"


def test_state_is_refused_with_its_reason_where_one_bit_is_wrong(straight, place, tmp_path, capsys):
    survival.train(place, tmp_path)
    path = tmp_path / "state.pt"
    data = bytearray(path.read_bytes())
    place_of_tensor = data.find(weights(tmp_path)["sequence.lstm.weight_ih_l0"].numpy().tobytes()[:64])
    assert place_of_tensor > 0
    data[place_of_tensor + 7] ^= 1
    path.write_bytes(data)
    capsys.readouterr()
    run = survival.train(place, tmp_path)
    assert "its checksum is wrong" in capsys.readouterr().out
    assert same(weights(tmp_path), weights(straight.out_dir)) and losses(run.history) == losses(straight.history)


def test_a_best_checkpoint_later_than_the_state_is_kept(straight, place, tmp_path, capsys):
    """The newest state is damaged: the one before it knows nothing of the last best checkpoint."""
    survival.train(place, tmp_path, replace(SETTINGS, checkpoint_steps=0))
    (tmp_path / "state.pt").write_bytes(b"nothing")
    best = read_description(tmp_path / "best")["metrics"]["epoch"]
    known = torch.load(tmp_path / "state.previous.pt", weights_only=True)["best"]
    run = survival.train(place, tmp_path, replace(SETTINGS, checkpoint_steps=0))
    said = capsys.readouterr().out
    assert ("later than the state" in said) == (known is not None and known["epoch"] != best)
    assert read_description(tmp_path / "best")["metrics"]["epoch"] == run.best["epoch"] == best


def test_checksum_sees_every_part():
    content = {"a": torch.arange(4.0), "b": [1, 2.5, "x"], "c": {"d": torch.ones(2, dtype=torch.bfloat16)}}
    whole = checksum(content)
    assert whole == checksum({"a": torch.arange(4.0), "b": [1, 2.5, "x"], "c": {"d": content["c"]["d"].clone()}})
    for other in ({**content, "b": [1, 2.5, "y"]}, {**content, "a": torch.tensor([0.0, 1, 2, 4])}, {"a": content["a"]}):
        assert checksum(other) != whole


@contextmanager
def full_disk(limit: int):
    """No file may grow beyond `limit` bytes: the kernel refuses the write, as it does on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_stops_at_the_end_of_an_epoch_and_the_run_goes_on_later(straight, place, tmp_path, monkeypatch):
    """Inside the epoch it is said and training goes on; the state before stays; with room again, the same weights."""
    original = TrainingRun.start_epoch

    def without_room(self, epoch):
        if epoch == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return original(self, epoch)

    with monkeypatch.context() as patch, full_disk(resource.getrlimit(resource.RLIMIT_FSIZE)[0]):
        patch.setattr(TrainingRun, "start_epoch", without_room)
        with pytest.raises(SlakitError, match=r"cannot be written \(File too large\); make room .* last checkpoint"):
            survival.train(place, tmp_path)
    assert torch.load(tmp_path / "state.pt", weights_only=True)["positions"][0]["epoch"] == 1
    assert not list(tmp_path.glob(".*.part"))
    run = survival.train(place, tmp_path)
    assert same(weights(tmp_path), weights(straight.out_dir)) and rows(tmp_path) == rows(straight.out_dir)
    assert len(run.history) == 2 and len(run.start) == 1


def test_a_folder_that_turns_read_only_stops_the_run_and_it_goes_on_later(
    straight, place, tmp_path, monkeypatch, capsys
):
    """The kernel itself refuses: the folder's rights are taken away, and root becomes somebody else for the write."""
    save, root = RunFolder.save, os.geteuid() == 0

    def without_rights(self, content):
        if content["positions"][0]["epoch"] == 0:
            return save(self, content)
        self.path.chmod(0o555)
        if root:
            os.seteuid(65534)
        try:
            return save(self, content)
        finally:
            if root:
                os.seteuid(0)
            self.path.chmod(0o755)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", without_rights)
        with pytest.raises(SlakitError, match=r"cannot be written \(Permission denied\); make room .* last checkpoint"):
            survival.train(place, tmp_path)
    survival.train(place, tmp_path)
    assert "going on in epoch 1 of 1" in capsys.readouterr().out
    assert same(weights(tmp_path), weights(straight.out_dir)) and rows(tmp_path) == rows(straight.out_dir)


def test_a_folder_that_cannot_be_written(place, tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o555)
    tmp_path.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may write anywhere
    try:
        with pytest.raises(ConfigError, match=r"read-only.* cannot be written \(Permission denied\); give another"):
            with held(folder / "run"):
                pass
    finally:
        if root:
            os.seteuid(0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        survival.train(place, tmp_path / "file" / "run")


def test_two_runs_in_one_folder_are_refused(place, tmp_path):
    with held(tmp_path), pytest.raises(SlakitError, match="another process is training in"):
        survival.train(place, tmp_path)


def test_a_child_does_not_keep_the_folder_of_its_dead_parent(tmp_path):
    """A reading process outlives a killed run by some seconds; the run can be started again at once."""
    from slakit.machine import is_locked

    with held(tmp_path):
        child = os.fork()
        if child == 0:
            signal.pause()
            os._exit(0)
        time.sleep(0.2)
        assert is_locked(tmp_path), "the child's end of it is closed, the lock is the parent's"
    try:
        assert not is_locked(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.filterwarnings("ignore::slakit.data.loader.LeftOutWarning")
def test_a_clip_that_becomes_unreadable_in_an_epoch_is_left_out_and_named(place, tmp_path, monkeypatch):
    clips = survival.corpus(tmp_path / "copy")
    settings = replace(SETTINGS, keep_in_memory=False, start_from=None, batch_size=1, max_bad_clips=1)
    victim, original = clips.train[3], TrainingRun.all_have_clips

    def breaking(self, batch):
        if self.cursor.epoch == 1 and self.cursor.batch == 0 and victim.id not in batch.ids:
            for picture in victim.source.iterdir():
                picture.write_bytes(b"broken")
        return original(self, batch)

    monkeypatch.setattr(TrainingRun, "all_have_clips", breaking)
    run = slakit.fit(model(), clips, tmp_path / "run", settings, show_progress=False)
    assert [row["left_out"] for row in run.history] == [[], [victim.id]]
    assert [row["clips"] for row in run.history] == [8, 7]
    assert all(torch.isfinite(value).all() for value in weights(tmp_path / "run").values())


class Deadly(loading.ClipDataset):
    """Its reading process dies at one clip, as many times as the file says."""

    deaths: Path

    def __getitem__(self, key):
        left = int(self.deaths.read_text())
        if key[1] == 5 and left and torch.utils.data.get_worker_info() is not None:
            self.deaths.write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(key)


@pytest.mark.filterwarnings("ignore:a process that reads clips died")
def test_reading_processes_that_die_are_started_again(straight, place, tmp_path, monkeypatch):
    """To the same weights; where they die again and again the message says what to do."""
    asking = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(asking, "__defaults__", (0.2,))  # torch asks every five seconds whether they live
    Deadly.deaths = tmp_path / "deaths"
    monkeypatch.setattr(loading, "ClipDataset", Deadly)
    Deadly.deaths.write_text("2")
    survival.train(place, tmp_path / "run", replace(SETTINGS, num_workers=1))
    assert Deadly.deaths.read_text() == "0"
    assert same(weights(tmp_path / "run"), weights(straight.out_dir))
    Deadly.deaths.write_text("100")
    with pytest.raises(SlakitError, match=r"died 4 times .*num_workers=0"):
        survival.train(place, tmp_path / "more", replace(SETTINGS, num_workers=1))


def poisoned(monkeypatch, ids: set[str], value: float = float("nan")):
    """The loss of batches with these clips is not finite."""
    from slakit.training import loop

    original, current = loop.recognition_loss, []
    all_have_clips = TrainingRun.all_have_clips

    def remember(self, batch):
        current[:] = batch.ids
        return all_have_clips(self, batch)

    def loss(*arguments, **options):
        total, terms = original(*arguments, **options)
        return (total * value if ids & set(current) else total), terms

    monkeypatch.setattr(TrainingRun, "all_have_clips", remember)
    monkeypatch.setattr(loop, "recognition_loss", loss)


def test_a_loss_that_is_not_finite_leaves_no_trace_and_is_counted(place, tmp_path, monkeypatch):
    """Without dropout the run equals one without these clips' batch."""
    clips = survival.corpus(place)
    settings = replace(SETTINGS, epochs=1, start_from=None, accumulate=1, batch_size=1, clip_norm=0.0)
    settings = replace(settings, schedule="constant", max_bad_clips=2)
    with monkeypatch.context() as patch:
        poisoned(patch, {"clip2", "clip5"})
        run = slakit.fit(model(0.0), clips, tmp_path / "poisoned", settings, show_progress=False)
    assert run.history[0]["skipped"] == ["clip2", "clip5"] and run.history[0]["clips"] == 8
    original = TrainingRun.all_have_clips
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "all_have_clips", lambda self, batch: (
            not {"clip2", "clip5"} & set(batch.ids) and original(self, batch)
        ))  # fmt: skip
        slakit.fit(model(0.0), clips, tmp_path / "without", settings, show_progress=False)
    assert same(weights(tmp_path / "poisoned"), weights(tmp_path / "without"))
    poisoned(monkeypatch, {"clip2", "clip5", "clip6"}, float("inf"))
    with pytest.raises(SlakitError, match=r"the loss is inf for 3 clips \(.*clip[256].*lower the learning rate"):
        slakit.fit(model(0.0), clips, tmp_path / "stopped", settings, show_progress=False)


def test_a_gradient_that_is_not_finite_is_skipped_too(place, tmp_path, monkeypatch):
    begin = {name: value.clone() for name, value in model(0.0).trainable_state().items()}
    norm = torch.nn.utils.get_total_norm
    monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda grads: norm(grads) * float("inf"))
    settings = replace(SETTINGS, epochs=1, start_from=None, max_bad_clips=100)
    run = slakit.fit(model(0.0), survival.corpus(place), tmp_path, settings, show_progress=False)
    assert len(run.history[0]["skipped"]) == 8
    after = weights(tmp_path)
    assert all(torch.equal(begin[name], after[name]) for name in begin if "running" not in name and "num_b" not in name)
