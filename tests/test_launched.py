"""What torchrun's processes are told before they begin, and how they end."""

from __future__ import annotations

import json
import os

import pytest
import torch

from slakit import __main__ as command_line
from slakit.machine import ALONE, launched
from slakit.records import ConfigError


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of one of four processes on a machine with two GPUs."""
    for name, value in {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return monkeypatch


def test_more_processes_than_gpus_are_refused_by_all_of_them(torchrun):
    with pytest.raises(ConfigError, match="4 processes on 2 GPUs; start torchrun with --nproc-per-node 2"):
        with launched():
            raise AssertionError("began")


def test_one_gpu_for_all_processes_is_refused(torchrun):
    torchrun.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="device cuda:0 is one GPU for all processes; leave it out"):
        with launched("cuda:0"):
            raise AssertionError("began")


def test_alone_an_item_is_its_own_broadcast():
    item = object()
    assert ALONE.broadcast(item) is item


def test_a_mistake_is_the_last_word_of_torchruns_report(tmp_path, monkeypatch, capsys):
    report = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(report))
    assert command_line.main(["train", "sla-lora/phoenix201"]) == 2
    assert "did you mean 'sla-lora/phoenix2014'" in capsys.readouterr().err
    shown = json.loads(report.read_text())["message"]["extraInfo"]["py_callstack"].strip().splitlines()
    assert "did you mean 'sla-lora/phoenix2014'" in shown[-1] and len(shown) <= 4, shown


@pytest.mark.parametrize(
    ("error", "rank", "code"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:1"), "1", 1),
        (RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:1"), "0", None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "1", None),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "0", 2),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 192 bytes"), "0", 2),
        (BrokenPipeError(), "0", 141),
    ],
)
def test_how_a_command_ends(error, rank, code, monkeypatch, capfd):
    def fails(arguments):
        def run():
            raise error

        return run

    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(command_line, "command", fails)
    out = os.dup(1)
    try:
        if code is None:
            with pytest.raises(RuntimeError):
                command_line.main([])
        else:
            assert command_line.main([]) == code
    finally:
        os.dup2(out, 1)
        os.close(out)
    assert ("the memory ran out" in capfd.readouterr().err) == (code == 2)
