"""The demo models that the checkout ships: there, loadable, small, honest about what they are."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import tiny

import slakit
from slakit.machine import shipped
from slakit.models.checkpoints import read_description, with_suffix
from slakit.models.towers.weights import demo_model, demo_models
from slakit.records import ConfigError

SHIPPED = demo_models()


@pytest.mark.parametrize("method", SHIPPED)
def test_a_shipped_model_loads_and_says_what_it_was_trained_on(method):
    folder = demo_model(method)
    about = read_description(folder)
    assert about["corpus"] == "minisign" and "no sign language" in about["trained_on"]
    assert set(about["metrics"]["wer"]) == {"dev", "test"}
    weights = folder / "model.safetensors" if folder.is_dir() else with_suffix(folder)
    assert weights.stat().st_size < 8_000_000
    model = slakit.load_checkpoint(folder)
    assert model.config.method == method
    assert all(p.dtype == torch.float32 for p in model.parameters())


def measured_models() -> list[tuple[str, str, dict]]:
    """(file, method, which model it was): every part of a benchmark's results that names its demo model."""
    folder, found = shipped("measured"), []
    for name in ("maps.json", "streaming.json"):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        parts = {content.get("model"): content} if "rows" in content else content
        found += [(name, key, part["demo_model"]) for key, part in parts.items() if "demo_model" in part]
    return found


@pytest.mark.parametrize(("name", "method", "model"), measured_models(), ids=lambda value: str(value)[:20])
def test_benchmarks_were_measured_with_the_shipped_models(name, method, model):
    """A part that names no model was measured before models were named, and is not looked at."""
    assert method in SHIPPED, f"{name} has a model of {method} that is no longer shipped: measure again"
    about = read_description(demo_model(method))
    assert model["metrics"] == about["metrics"], f"{name}: another model of {method}; run its benchmark again"


def test_an_unknown_demo_model_is_refused_with_the_names_that_there_are():
    with pytest.raises(ConfigError, match="no demo model of 'sla-lora2'"):
        demo_model("sla-lora2")


def test_half_precision_storage_keeps_the_weights_to_its_rounding(tmp_path):
    model = tiny("sla-lora")
    slakit.save_checkpoint(model, tmp_path / "full")
    slakit.save_checkpoint(model, tmp_path / "half", half=True)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    full, half = (slakit.load_checkpoint(tmp_path / name).state_dict() for name in ("full", "half"))
    for name, value in full.items():
        assert half[name].dtype == value.dtype
        torch.testing.assert_close(half[name], value, atol=1e-6, rtol=1e-3)
