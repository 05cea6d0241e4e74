"""MiniSign in the layout of every public corpus, all the way: written, examined, prepared, read, trained on, scored."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import tower

import slakit
from slakit.config import AugmentConfig, TrainConfig
from slakit.data.corpora import CORPORA
from slakit.data.doctor import doctor
from slakit.data.loader import clip_loader
from slakit.data.prepare import prepare
from slakit.data.video.resize import resize
from slakit.training.losses import recognition_loss
from tests.layouts import LAYOUTS, export

SETTINGS = TrainConfig(batch_size=2, augment=AugmentConfig(36, 32, min_frames=16, max_frames=100))


@pytest.fixture(scope="module")
def minisign(tmp_path_factory):
    return slakit.load_corpus("minisign", tmp_path_factory.mktemp("minisign"), train=2, dev=1, test=1, progress=False)


def test_every_public_corpus_has_a_layout_here():
    assert set(LAYOUTS) == set(CORPORA) - {"minisign"}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_from_files_to_a_word_error_rate(minisign, tmp_path, layout):
    root = export(minisign, layout, tmp_path / "files", size=(65, 52), show_progress=False)
    report = doctor(layout, root, show_progress=False)
    assert report.healthy, report.text()
    plain = slakit.load_corpus(layout, root)
    prepare(plain, tmp_path / "prepared", size=36, show_progress=False)
    corpus = slakit.load_corpus(layout, root, prepared=tmp_path / "prepared")
    for sample, original in zip(corpus.train, minisign.train, strict=True):
        assert sample.glosses == original.glosses and sample.num_frames == original.num_frames
        frames, film = slakit.read_frames(sample.source), slakit.read_frames(original.source)
        difference = frames.astype(float) - resize(resize(film, (65, 52), "antialias"), 36)
        assert abs(difference).mean() < 6, "the same pictures, but for two encodings"

    torch.manual_seed(0)
    model = slakit.create_model("sla-lora", corpus.glosses, tower("tiny-vit"), None, hidden_size=16, rank=2)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    before = {name: value.clone() for name, value in model.trainable_state().items()}
    batches = list(clip_loader(corpus.train, corpus.glosses, SETTINGS, train=True))
    assert sorted(clip for batch in batches for clip in batch.ids) == sorted(sample.id for sample in corpus.train)
    model.train()
    for batch in batches:
        loss, _ = recognition_loss(model(batch.frames, batch.lengths), batch.targets, batch.target_lengths)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert torch.isfinite(loss)
    assert any(not torch.equal(before[name], value) for name, value in model.trainable_state().items())
    score = slakit.evaluate(model, corpus.dev, layout, settings=SETTINGS, show_progress=False)
    assert score.words == sum(len(sample.glosses) for sample in corpus.dev) > 0 and score.wer > 0
    assert json.loads(report.json())["splits"]["train"]["clips"] == len(corpus.train) == 2
