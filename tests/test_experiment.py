"""One point of an ablation: changes reach the model and nothing else; a shared start; costs that are counted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import tiny

import slakit
from slakit.config import TrainConfig
from slakit.models.recognizer import build_model
from slakit.models.transfer import start_from
from slakit.records import CheckpointError, ConfigError
from slakit.sweeps.costs import encoder_flops, measure
from slakit.sweeps.experiment import experiment, shared_start


def test_only_what_is_named_changes():
    preset = slakit.preset("sla-lora/minisign")
    config = experiment("sla-lora/minisign", model_options={"rank": 4, "targets": ["q", "v"]}, seed=3)
    assert config.model == replace(
        preset.model, seed=3, options={**preset.model.options, "rank": 4, "targets": ["q", "v"]}
    )
    assert config.train == replace(preset.train, seed=3) and config.corpus == "minisign"
    assert experiment("sla-lora/minisign").train == preset.train
    model = build_model(config.model, ["A", "B"])
    assert model.sequence.lstm.dropout == preset.model.dropout, "LoRA's own dropout is another one"


def test_every_spelling_of_an_option_is_the_same_option():
    flat = experiment("sla-lora/minisign", model_options={"rank": 4, "hidden_size": 64})
    for option in ({"rank": 4}, {"options": {"rank": 4}}, {"options.rank": 4}):
        assert experiment("sla-lora/minisign", model_options={"hidden_size": 64, **option}) == flat
        model = slakit.create_model("sla-lora", ["A"], backbone="tiny-clip", hidden_size=64, **option)
        assert (model.config.hidden_size, model.config.options["rank"]) == (64, 4)
    with pytest.raises(ConfigError, match=r"sla-lora has no option 'model_options.options.rnak'; did you mean 'rank'"):
        experiment("sla-lora/minisign", model_options={"options": {"rnak": 4}})
    both = experiment("sla-lora/minisign", model_options={"dropout": 0.1, "options.dropout": 0.2})
    assert (both.model.dropout, both.model.options["dropout"]) == (0.1, 0.2), "the model's, and LoRA's own"


def test_nested_training_options():
    config = experiment("sla-adapter/phoenix2014", train_options={"loss_weights.clip": 0.0, "augment": {"flip": 0.0}})
    preset = slakit.preset("sla-adapter/phoenix2014").train
    assert config.train == replace(
        preset, loss_weights=replace(preset.loss_weights, clip=0.0), augment=replace(preset.augment, flip=0.0)
    )


def test_flops_by_hand():
    """Width 64, three blocks, 17 tokens, patches of 8 x 8 x 3: products counted one by one, last block apart."""
    model = tiny("frozen")
    tokens, width, heads = 17, 64, 4
    patches = 16 * width * 8 * 8 * 3
    attention = 2 * tokens * tokens * width
    block = 4 * tokens * width**2 + attention + 8 * tokens * width**2
    last = (4 + 8) * width**2 + 2 * tokens * width * heads  # the class token alone asks: no keys, no values
    expected = 2 * (patches + 2 * block + last)
    assert encoder_flops(model, frames=4) == expected
    adapted = encoder_flops(tiny("sla-adapter", width=8, blocks="1-2"), frames=4)
    taps = 9 + 18 * 3 / 4  # 3 x 3 in space, three times in time, but the first and the last of four frames have two
    assert adapted == expected + 2 * 2 * 2 * 16 * (2 * width * 8 + taps * 8), "two adapters in each of two blocks"
    assert expected < encoder_flops(tiny("sla-lora", rank=2), frames=4) < 1.2 * expected


def test_costs_leave_the_model_alone_and_know_what_is_trained():
    settings = TrainConfig(batch_size=1)
    frozen, lora = tiny("frozen"), tiny("sla-lora", rank=4, blocks="2-3")
    before = {name: value.clone() for name, value in lora.state_dict().items()}
    costs = {name: measure(model, settings, frames=16, steps=1) for name, model in (("f", frozen), ("l", lora))}
    assert all(torch.equal(value, before[name]) for name, value in lora.state_dict().items())
    trained = sum(p.numel() for p in lora.parameters() if p.requires_grad)
    assert costs["l"]["trainable"] == trained > costs["f"]["trainable"]
    assert costs["l"]["kept_mb_per_frame"] > 2 * costs["f"]["kept_mb_per_frame"], "a frozen encoder keeps nothing"
    deeper = measure(tiny("sla-lora", rank=4, blocks="1-3"), settings, frames=16, steps=1)
    assert deeper["kept_mb_per_frame"] > costs["l"]["kept_mb_per_frame"], "the first adapted block decides"
    assert costs["l"]["step_seconds"] > 0 and costs["l"]["peak_memory_mb"] is None
    assert costs["l"]["frames_per_second"] == pytest.approx(16 / costs["l"]["step_seconds"])


def test_runs_that_share_a_start_begin_with_the_same_head(tmp_path):
    corpus = slakit.load_corpus("minisign", root=tmp_path / "signs", train=4, dev=2, test=1, progress=False)
    options = {"start_from.epochs": 2, "epochs": 1}
    heads, starts = [], []
    for rank in (2, 4):
        config = experiment("sla-lora/minisign", model_options={"rank": rank}, train_options=options)
        model = build_model(config.model, corpus.glosses)
        starts.append(shared_start(model, corpus, config, tmp_path / "shared", show_progress=False))
        assert "temporal convolution and BiLSTM are taken over" in start_from(model, starts[-1][0])
        heads.append({name: value for name, value in model.state_dict().items() if not name.startswith("encoder.")})
        assert not any(p.detach().any() for n, p in model.named_parameters() if n.endswith("lora_B")), "untouched"
    assert starts[0] == starts[1] and len(list((tmp_path / "shared").iterdir())) == 1, "trained once"
    assert all(torch.equal(value, heads[1][name]) for name, value in heads[0].items())
    other = experiment("sla-lora/minisign", train_options=options, seed=1)
    fresh = build_model(other.model, corpus.glosses)
    assert not torch.equal(fresh.state_dict()["sequence.classifier.weight"], heads[0]["sequence.classifier.weight"])
    with pytest.raises(ConfigError, match="start_from=None describes no run"):
        shared_start(model, corpus, experiment("frozen/minisign"), tmp_path / "shared")


def test_methods_with_other_features_cannot_share_a_head(tmp_path):
    frozen, model = (
        slakit.create_model(method, ["A", "B"], backbone="tiny-clip", hidden_size=32)
        for method in ("frozen", "adaptsign")
    )
    slakit.save_checkpoint(frozen, tmp_path / "frozen")
    with pytest.raises(CheckpointError, match="adaptsign begins with features unlike its"):
        start_from(model, tmp_path / "frozen")


def test_a_prepared_corpus_is_an_option_of_every_corpus():
    for preset in ("sla-lora/minisign", "sla-lora/phoenix2014", "sla-adapter/csl-daily"):
        experiment(preset, corpus_options={"prepared": "/data/packed"})
    with pytest.raises(ConfigError, match=r"no option 'preparde'; did you mean 'prepared'"):
        experiment("sla-lora/phoenix2014", corpus_options={"preparde": "/data/packed"})
