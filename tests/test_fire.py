"""Short forms of what tests/survival_night.py does for hours (make fire); places and clocks that are not as usual."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import survival

import slakit
from slakit.data.prepare import prepare
from slakit.machine import is_locked, locked
from slakit.records import CheckpointError, ConfigError, SlakitError, write_files, written_whole
from slakit.training.state import TrainingRun

HERE = Path(__file__).parent


def night(*arguments: str) -> dict:
    command = [sys.executable, str(HERE / "survival_night.py"), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["..", *sys.path])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.thorough
def test_training_prepare_and_drawing_go_on_to_the_same_bits(tmp_path):
    found = night("kills", str(tmp_path), "1", "9")
    assert found["wrong"] == [] and found["left over"] == [] and sum(found["died"].values()) >= 9
    assert set(found["finished"]) == {"training", "prepare", "drawing"}


@pytest.mark.thorough
def test_a_full_disk_at_every_write_is_a_sentence_and_later_nothing_is_missing(tmp_path):
    for name, counts in night("disks", str(tmp_path), "7").items():
        assert counts["wrong"] == [] and counts["sentences"] >= 1, name


@pytest.mark.thorough
def test_recognising_again_and_again_takes_no_more_memory():
    found = night("memory", "400")
    assert found["MiB at the end"] - found["MiB at a twentieth"] < 5


def test_files_that_belong_together_are_written_all_or_none(tmp_path):
    write_files({tmp_path / "a": "old", tmp_path / "b": "old"})
    (tmp_path / "c").mkdir()
    for contents in ({"a": "new", "c": "new"}, {"a": "new", "b": "\ud800"}, {"a": "new", "b\0": "new"}):
        with pytest.raises(ConfigError, match="cannot be written"):
            write_files({tmp_path / name: text for name, text in contents.items()})
        assert (tmp_path / "a").read_text() == "old"
    with pytest.raises(RuntimeError), written_whole(tmp_path / "a") as [new]:
        new.write_text("half")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK])
def test_a_disk_without_locks_is_said_and_worked_on(tmp_path, monkeypatch, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=f"{tmp_path}: this disk has no locks .*one process at a time"):
        with locked(tmp_path) as mine:
            assert mine and not is_locked(tmp_path)
    with pytest.warns(UserWarning, match="no locks"):
        prepare(survival.corpus(tmp_path), tmp_path / "out", size=16, show_progress=False)


def test_two_processes_do_not_prepare_into_one_folder(tmp_path):
    with locked(tmp_path / "out"), pytest.raises(SlakitError, match="another process is preparing here"):
        prepare(survival.corpus(tmp_path), tmp_path / "out", size=16, show_progress=False)


def test_a_clock_that_goes_back_changes_nothing(tmp_path, monkeypatch):
    """An hour at each look, as after a wrong clock was set right, again and again."""
    straight = survival.train(tmp_path, tmp_path / "straight")
    now, looks = time.time(), iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: now - 3600 * next(looks))
    survival.train(tmp_path, tmp_path / "run")
    assert survival.same(survival.weights(tmp_path / "run"), survival.weights(straight.out_dir))
    assert survival.rows(tmp_path / "run") == survival.rows(straight.out_dir)


def test_a_folder_that_is_deleted_while_a_run_is_in_it(tmp_path, monkeypatch):
    """It trains on and ends with a sentence, its best weights were in that folder; started again it has the rest."""
    original = TrainingRun.start_epoch

    def without_folder(self, epoch):
        if epoch == 1:
            shutil.rmtree(self.folder.path)
        return original(self, epoch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "start_epoch", without_folder)
        with pytest.raises(CheckpointError, match=r"best\.safetensors is missing$"):
            survival.train(tmp_path, tmp_path / "run")
    run = survival.train(tmp_path, tmp_path / "run")
    straight = survival.train(tmp_path, tmp_path / "straight")
    assert survival.same(survival.weights(tmp_path / "run"), survival.weights(straight.out_dir))
    assert [row["epoch"] for row in run.history] == [row["epoch"] for row in straight.history]
    assert slakit.load_checkpoint(tmp_path / "run" / "last") is not None
