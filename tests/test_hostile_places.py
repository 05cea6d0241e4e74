"""Folders that cannot be written, and disks that are full, while clips are drawn or prepared: a sentence, then on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from media import pictures, write_video

from slakit.data.prepare import prepare
from slakit.minisign.corpus import build
from slakit.records import Corpus, Sample, SlakitError, Vocabulary
from slakit.training.folder import held

PLACES = ["a file/x", "a file", "zero\0byte", "\ud800", "x" * 300, "/proc/none"]
SMALL = {"train": 1, "dev": 1, "test": 1, "size": 32, "progress": False, "workers": 1}


@pytest.fixture
def corpus(tmp_path):
    film = write_video(tmp_path / "a.mp4", pictures(5, 32, 32))
    clip = Sample("a", film, ("A",))
    return Corpus("folder", tmp_path, (clip,), (), (), Vocabulary(["A"]))


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_cannot_be_written_is_a_sentence(corpus, tmp_path, place):
    (tmp_path / "a file").write_text("x")
    folder = tmp_path / place
    for write in (
        lambda: build(folder, **SMALL),
        lambda: prepare(corpus, folder, size=32, show_progress=False),
        lambda: held(folder).__enter__(),
    ):
        with pytest.raises(SlakitError) as caught:
            write()
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process' files are POSIX's")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_is_full_while_drawing_is_a_sentence_and_it_goes_on(tmp_path, workers):
    """A limit on the size of files stands for the disk: the first clip that is larger cannot be written."""
    options = SMALL | {"workers": workers, "train": 8}
    code = f"""
import resource, signal
from slakit.minisign import corpus
from slakit.records import SlakitError
corpus.PARALLEL_FROM = 2
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
try:
    corpus.build({str(tmp_path)!r}, **{options!r})
except SlakitError as error:
    print("SENTENCE", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1]
    )
    assert "SENTENCE" in done.stdout and "Traceback" not in done.stderr, done
    assert build(tmp_path, **options).is_dir()
