"""The rehearsal: its corpora are the releases' layouts; the small walk of every command, from outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import slakit
from slakit.data.corpora.phoenix import BROKEN
from slakit.models.towers.backbones import load_backbone
from tests.rehearsal.corpora import draw, write_archive
from tests.rehearsal.steps import STEPS
from tests.rehearsal.walk import ROOT


def test_a_sentence_of_25_glosses_lasts_300_frames_and_more(tmp_path):
    corpus = draw(tmp_path, {"train": 1}, 32, long="train")
    (clip,) = corpus.train
    assert len(clip.glosses) == 25 and clip.num_frames >= 300 and BROKEN not in clip.id
    assert len(slakit.read_frames(clip.source)) == clip.num_frames


def test_the_stand_in_is_an_archive_as_openai_has_it(tmp_path):
    """Its tensors arrive in the tower, with the activation that archives have."""
    backbone, archive = write_archive(tmp_path, full=False)
    tower = load_backbone(backbone, archive, seed=1)
    assert (tower.depth, tower.image_size, tower.width) == (12, 224, 64)
    assert tower.base_checksum == load_backbone(backbone, archive, seed=2).base_checksum, "nothing is left random"
    assert tower.base_checksum != load_backbone(backbone, None, seed=1).base_checksum


def test_every_step_needs_steps_before_it():
    before: set[str] = set()
    for name, step in STEPS.items():
        assert set(step.needs) <= before, name
        before.add(name)


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_the_whole_path_in_small(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.rehearsal", "--size", "small", "--work", str(tmp_path / "work")]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
