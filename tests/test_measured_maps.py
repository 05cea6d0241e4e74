"""The benchmark of maps as tables: intervals decide what is said, and by which model it was measured is told."""

from __future__ import annotations

import json

from slakit.explain.measured import another_model, gains_table, in_words, read_measured, sanity_table, spread


def figure(mean: float, low: float, high: float) -> dict:
    return {"mean": mean, "low": low, "high": high, "clips": 12}


MEASURED = {
    "machine": {"cpu": "x"},
    "about": "text",
    "sla-lora": {
        "demo_model": {"seed": 0, "metrics": {"wer": {"dev": 9.9, "test": 7.2}}},
        "pointing": {},
        "curves": {
            "grad-cam": {
                "deletion of patches": figure(0.02, -0.03, 0.08),
                "insertion of patches": figure(0.2, 0.1, 0.3),
            },
            "relevance": {"deletion of patches": figure(-0.2, -0.3, -0.1)},
        },
        "sanity": {
            "grad-cam": {"weights shuffled: all": figure(0.1, 0.0, 0.2)},
            "rollout": {"weights shuffled: all": figure(0.8, 0.7, 0.9), "another gloss": figure(0.5, 0.4, 0.6)},
        },
    },
}


def test_intervals_decide_what_is_said(tmp_path):
    path = tmp_path / "maps.json"
    path.write_text(json.dumps(MEASURED))
    measured = read_measured(path)
    assert list(measured) == ["sla-lora"]
    gains = gains_table(measured)
    found = {(row.map, row.curve): row.verdict for row in gains.itertuples()}
    assert found == {
        ("grad-cam", "deletion of patches"): "no better than random",
        ("grad-cam", "insertion of patches"): "better than random",
        ("relevance", "deletion of patches"): "worse than random",
    }
    text = in_words(gains, "curve")
    assert "deletion of patches, no better than random: sla-lora: grad-cam" in text.splitlines()
    shown = spread(gains, "curve")
    assert shown.loc[("sla-lora", "grad-cam"), "deletion of patches"] == "0.02 [-0.03, 0.08]"
    assert shown.loc[("sla-lora", "relevance"), "insertion of patches"] == ""
    verdicts = sanity_table(measured).set_index(["map", "change"])["verdict"].to_dict()
    assert verdicts == {
        ("grad-cam", "weights shuffled: all"): "another map",
        ("rollout", "weights shuffled: all"): "nearly the same map",
        ("rollout", "another gloss"): "undecided",
    }


def test_nothing_measured_is_said_too(tmp_path):
    measured = read_measured(tmp_path / "none.json")
    assert measured == {} and gains_table(measured).empty and sanity_table(measured).empty
    assert "nothing is measured yet" in in_words(gains_table(measured), "curve")


def test_a_part_of_another_model_is_named():
    part = MEASURED["sla-lora"]
    assert another_model(part, dict(part["demo_model"], corpus="minisign")) == ""
    told = another_model(part, {"seed": 0, "metrics": {"wer": {"dev": 8.0, "test": 7.2}}})
    assert "9.9" in told and "8.0" in told and "seed" not in told and "again" in told
    assert another_model({}, {"seed": 1})
