"""The twelve worst mistakes in settings: a sentence each, with the place, the value, what was expected, a way out.

`before` is the sentence as it was when settings were read by hand; `words` is what it told, and has to be told still.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from slakit.config import AugmentConfig, ModelConfig, RunConfig, TrainConfig, from_dict, override
from slakit.data.corpora import check_options
from slakit.minisign.clips import Settings
from slakit.models.methods import find_method
from slakit.models.recognizer import create_model
from slakit.records import ConfigError
from slakit.sweeps.checks import checked_points
from slakit.sweeps.parameters import check_parameters
from slakit.sweeps.spec import load_spec
from slakit.training.presets import load_run

STUDY = """
notebook: notebooks/12_ablation_run.ipynb
base: {preset: sla-lora/minisign, train_options: {epochs: 2}}
grid: {model_options.rank: [4]}
"""
NOTEBOOK = "notebooks/12_ablation_run.ipynb"


def study(folder, text=STUDY, **changes):
    (folder / "study.yaml").write_text(text)
    return load_spec(folder / "study.yaml").with_base(changes)


def options(method, **values):
    return from_dict(find_method(method).options, values)


def run(folder, values):
    (folder / "run.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return load_run(folder / "run.json")


WORST = [
    (
        lambda _: from_dict(RunConfig, {"train": {"augment": {"crop_sise": 3}}}),
        "'train.augment.crop_sise' is no setting of AugmentConfig; did you mean 'crop_size'?",
        ["'train.augment.crop_sise'", "no setting of AugmentConfig", "did you mean 'crop_size'?"],
    ),
    (
        lambda _: from_dict(RunConfig, {"train": {"compile": 1}}),
        "train.compile=1 is of type int; expected Union[Literal['auto'], bool]",
        ["train.compile=1", "auto", "true", "false"],
    ),
    (
        lambda _: from_dict(RunConfig, {"train": {"compile": "true"}}),
        "train.compile is the word 'true'; write true without quotation marks",
        ["train.compile", "the word 'true'", "write true without quotation marks"],
    ),
    (
        lambda _: options("sla-lora", blocks=[5, 6.5]),
        "blocks=[5, 6.5] is of type list; expected str | tuple[int, ...] | None",
        ["blocks", "6.5", "whole number"],
    ),
    (
        lambda _: from_dict(RunConfig, {"train": {"milestones": [20, 30.5]}}),
        "train.milestones[1]=30.5 is of type float; expected int",
        ["train.milestones[1]=30.5", "whole number"],
    ),
    (
        lambda _: from_dict(RunConfig, {"train": {"learning_rate": 0}}),
        "learning_rate=0.0; it is more than 0 (published: 1e-4)",
        ["train.learning_rate=0", "more than 0", "published: 1e-4"],
    ),
    (
        lambda _: override(TrainConfig(), {"augment.flip": "x"}, "train_options"),
        "train_options.augment.flip='x' is of type str; expected float",
        ["train_options.augment.flip='x'", "of type str", "expected float"],
    ),
    (
        lambda folder: checked_points(study(folder, **{"train_options.augment": {"flop": 1}})),
        "study, run rank=4: 'train_options.augment.flop' is no setting of AugmentConfig; did you mean 'flip'?",
        ["study, run rank=4: ", "train_options.augment.flop", "AugmentConfig", "did you mean 'flip'?"],
    ),
    (
        lambda folder: checked_points(study(folder, timed_steps="many")),
        "study, run rank=4: the parameter timed_steps='many' must be of type int (default 2)",
        ["study, run rank=4: ", "timed_steps='many'", "of type int", "default 2"],
    ),
    (
        lambda folder: study(folder, "notebook: a.ipynb\ngrid: {rank: [1]}\nexpect: [{rank: 1, dev_wer: low}]\n"),
        "study.yaml expects dev_wer='low', which is no number",
        ["study.yaml", "dev_wer='low'", "no number"],
    ),
    (
        lambda folder: study(folder, "notebook: a.ipynb\nseeds: [1, x]\n"),
        "study.yaml: 'seeds' is [1, 'x']; expected a list of whole numbers",
        ["study.yaml", "seeds", "'x'", "whole number"],
    ),
    (
        lambda _: Settings(size=65),
        "minisign: size=65 must be even and at least 32 pixels (H.264 needs even sides)",
        ["minisign", "size=65", "even and at least 32 pixels", "H.264"],
    ),
]
# Beside them: what was not as good before, or was not found at all.
ALSO = [
    (lambda _: TrainConfig(batch_size="3"), ["batch_size='3'", "of type str", "expected int"]),
    (lambda _: TrainConfig(epoch=3), ["'epoch'", "no setting of TrainConfig", "did you mean 'epochs'?"]),
    (lambda _: replace(TrainConfig(), epochs=-1), ["epochs=-1; it is 0 or more"]),
    (lambda _: ModelConfig(recompute="blok"), ["recompute='blok'", "did you mean 'block'?"]),
    (lambda _: AugmentConfig(flip=2), ["flip=2", "between 0 and 1"]),
    (lambda _: from_dict(RunConfig, {"train": {"augment": {"min_frames": 9, "max_frames": 3}}}),
     ["train.augment: min_frames=9, max_frames=3", "1 <= min <= max"]),
    (lambda _: from_dict(RunConfig, {"train": {"batch_size": 0}}), ["train.batch_size=0; it is 1 or more"]),
    (lambda _: options("sla-lora", targets="q"), ["targets='q'", "of type str", "a list of words"]),
    (lambda _: override(TrainConfig(), {"decode.beam.x": 2}), ["'decode.beam'", "DecodeConfig", "'beam_width'"]),
    (lambda _: create_model("sla-lora", ["A"], hiden_size=3), ["sla-lora", "'hiden_size'", "'hidden_size'"]),
    (lambda _: create_model("sla-lora", ["A"], options={"rnak": 1}), ["'options.rnak'", "did you mean 'rank'?"]),
    (lambda folder: run(folder, {"train": {"batch_size": "4"}}), ["run.json: train.batch_size='4'", "expected int"]),
    (lambda folder: study(folder, "notebook: a.ipynb\ngrid: [{rank: 1}, 3]\n"), ["study.yaml", "grid[1]=3", "mapping"]),
    (lambda folder: study(folder, "notebook: a.ipynb\nresources: {gpu: 1}\n"),
     ["study.yaml", "'resources.gpu'", "did you mean 'gpus'?"]),
    (lambda folder: study(folder, "notebook: a.ipynb\nresources: {gpus: -1}\n"), ["resources.gpus=-1; it is 0 or"]),
    (lambda _: check_parameters(NOTEBOOK, {"model_options": 3}), ["model_options=3", "dict", 'default {}']),
    (lambda _: override(TrainConfig(), {"learning_rate": "2e-4"}), ["learning_rate='2e-4'", "YAML", "write 0.0002"]),
    (lambda folder: run(folder, '{"train": {"epochs": 2}, "train": {}}'), ["run.json", "'train' stands twice"]),
    (lambda _: check_options("minisign", {"train": "1"}), ["minisign.train='1'", "of type str", "expected int"]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mistake", "words"),
    [*((mistake, words) for mistake, _, words in WORST), *ALSO],
    ids=[words[0] for *_, words in [*WORST, *ALSO]],
)
def test_a_sentence_names_the_place_the_value_and_the_way_out(mistake, words, tmp_path):
    with pytest.raises(ConfigError) as caught:
        mistake(tmp_path)
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence and len(sentence) < 200 + len(str(tmp_path)), sentence


@pytest.mark.parametrize(("before", "words"), [(before, words) for _, before, words in WORST])
def test_the_table_asks_for_what_was_told_before(before, words):
    """Every name that stood in quotation marks, and the last part of every dotted name, is asked for."""
    asked = " ".join(words)
    for token in before.replace("?", "").replace(";", " ").split():
        if token.startswith("'") and token.endswith("'"):
            assert token.strip("'") in asked, (token, before)
        if "=" in token and token[0].isalpha():
            assert token.partition("=")[0].rsplit(".", 1)[-1].partition("[")[0] in asked, (token, before)
