"""The command line itself: parsing, help, exit codes, settings changed by name, `info`. Its commands are tested with
what they do (test_doctor, test_recognition, test_report, test_score_reports, test_sweep_runs)."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import typing
from pathlib import Path

import docstring_parser
import pytest

import slakit
from slakit import __main__ as command_line
from slakit.__main__ import COMMANDS, command, main
from slakit.command_line import run_config, settings_help
from slakit.config import RunConfig, override, to_dict
from slakit.models.description import describe
from slakit.records import ConfigError, SlakitError
from slakit.sweeps.command import read_pairs

ROOT = Path(__file__).resolve().parents[1]
DEMO_MODELS = ROOT / "data" / "demo_models"


def parsed(line: str) -> dict:
    """The values that a command is called with."""
    call = command(shlex.split(line))
    bound = inspect.signature(call.func).bind(*call.args, **call.keywords)
    bound.apply_defaults()
    return bound.arguments


def settings(line: str) -> RunConfig:
    """The settings that `train` makes of its arguments."""
    call = parsed(f"train {line}")
    return run_config(call["config"], read_pairs(call["set"]))


@pytest.mark.parametrize("line", [
    "recognize clip.mp4 --checkpoint best --crop 10 4 90 --save a.eaf --save a.vtt --json --on-damage keep-readable",
    "recognize --json --on_damage keep-readable --save a.eaf --save=a.vtt --crop 10 4 90 --checkpoint=best clip.mp4",
])  # fmt: skip
def test_options_may_stand_anywhere_and_be_written_with_dash_underscore_or_equals_sign(line):
    values = parsed(line)
    assert values["videos"] == ("clip.mp4",) and values["checkpoint"] == Path("best") and values["json"] is True
    assert values["crop"] == (10, 4, 90) and values["save"] == (Path("a.eaf"), Path("a.vtt"))
    assert values["on_damage"] == "keep-readable" and values["no_crop"] is False and values["device"] is None


def test_pairs_can_be_repeated_and_hold_negative_numbers():
    pairs = parsed("demo -p method frozen --parameter shift -1 -p rate 1e-4 -p name None -p blocks '[1, 2]'")[
        "parameter"
    ]
    assert read_pairs(pairs) == {"method": "frozen", "shift": -1, "rate": 1e-4, "name": None, "blocks": [1, 2]}
    assert parsed("evaluate --checkpoint x -o train 1 -o dev 300")["option"] == (("train", "1"), ("dev", "300"))
    with pytest.raises(ConfigError, match=r"^rate: '\{' is no YAML value"):
        read_pairs([("rate", "{")])
    values = parsed("sweep collect a b.yaml --only rank=4 --only seed=1 --root csl=/data --cluster slurm --no-wait")
    assert values["specs"] == ("collect", "a", "b.yaml") and values["only"] == ("rank=4", "seed=1")
    assert values["cluster"] == "slurm" and values["no_wait"] and values["root"] == ("csl=/data",)


@pytest.mark.parametrize("line", [
    "", "doctor phoenix2014 --dep",
    "evaluate --checkpoint best --split tset", "prepare phoenix2014 --out x --size big", "sweep x --limit many",
    "recognize clip.mp4 --checkpoint best --crop 1 2", "demo -p seed", "score one.stm", "info one two",
])  # fmt: skip
def test_usage_errors_end_with_2_and_say_where_help_is(line, capsys):
    with pytest.raises(SystemExit) as end:
        main(shlex.split(line))
    captured = capsys.readouterr()
    assert end.value.code == 2 and captured.out == "" and "--help" in captured.err


def test_a_misspelt_command_names_the_right_one(capsys):
    assert main(["recognise", "clip.mp4"]) == 2
    assert "there is no command 'recognise'; did you mean 'recognize'?" in capsys.readouterr().err


def test_a_misspelt_option_names_the_right_one(capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "phoenix2014", "--dep"])
    assert "--deep" in capsys.readouterr().err


@pytest.mark.parametrize("function", COMMANDS, ids=lambda function: function.__name__)
def test_every_option_of_every_command_has_a_help_text(function, capsys):
    with pytest.raises(SystemExit) as end:
        main([function.__name__, "--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert end.value.code == 0 and inspect.getdoc(function).splitlines()[0] in text
    assert "default: None" not in text and "default: False" not in text
    documented = {item.arg_name: item.description for item in docstring_parser.parse(inspect.getdoc(function)).params}
    hints = typing.get_type_hints(function, include_extras=True)
    assert set(documented) <= set(hints), "the docstring speaks of parameters that are not there"
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is not parameter.POSITIONAL_ONLY:
            assert f"--{name.replace('_', '-')}" in text or name == "as_json"
        noted = [item.help for item in getattr(hints[name], "__metadata__", ()) if getattr(item, "help", None)]
        (explained,) = [documented[name]] if name in documented else noted
        assert len(explained.split()) >= 1 and " ".join(explained.split()) in text, f"--{name} has no help text"


def test_help_lists_the_commands_without_waiting_for_torch():
    code = "import sys, slakit.__main__ as m\ntry: m.main(['--help'])\nfinally: print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "False", done.stderr
    for function in COMMANDS:
        assert f"• {function.__name__} " in done.stdout


def test_exit_codes_and_one_sentence(monkeypatch, capsys):
    def failing(error):
        def command(arguments):
            def run():
                raise error

            return run

        return command

    for error, code, text in (
        (SlakitError("no such thing"), 2, "slakit: no such thing\n"),
        (KeyboardInterrupt(), 130, "\nslakit: stopped; the same command goes on from here\n"),
    ):
        monkeypatch.setattr(command_line, "command", failing(error))
        assert main(["x"]) == code and capsys.readouterr().err == text
    monkeypatch.setattr(command_line, "command", failing(ValueError("a defect of ours")))
    with pytest.raises(ValueError, match="a defect of ours"):  # with its traceback, not taken for a usage error
        main(["x"])


def test_an_error_inside_a_command_is_not_taken_for_one_of_its_arguments(monkeypatch):
    def broken(name, root=None, **options):
        raise ValueError("a defect of ours")

    monkeypatch.setattr("slakit.data.doctor.doctor", broken)
    with pytest.raises(ValueError, match="a defect of ours"):
        main(["doctor", "minisign"])


def test_version(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"slakit {slakit.__version__}\n"


def test_any_setting_of_a_preset_can_be_changed():
    line = (
        "sla-lora/phoenix2014 --train.batch-size 4 --model.options.rank 8 --train.augment.flip=0.25 "
        "--corpus-options.prepared /data/p --train.loss_weights.clip 0 --train.learning-rate 1e-5 "
        "--train.milestones '[3, 4]' --train.num-workers None --train.deterministic true --set train.seed 3"
    )
    changes = {
        "train.batch_size": 4, "model.options.rank": 8, "train.augment.flip": 0.25,
        "corpus_options.prepared": "/data/p", "train.loss_weights.clip": 0, "train.learning_rate": 1e-5,
        "train.milestones": [3, 4], "train.num_workers": None, "train.deterministic": True, "train.seed": 3,
    }  # fmt: skip
    expected = override(slakit.preset("sla-lora/phoenix2014"), changes)
    assert settings(line) == expected and expected.train.milestones == (3, 4)
    assert settings(line.replace("batch-size", "batch_size")) == expected
    assert settings("sla-adapter/csl-daily@t4") == slakit.preset("sla-adapter/csl-daily@t4")
    other = settings("sla-lora/phoenix2014 --model.method sla-adapter --model.options.width 64")
    assert other.model.options == {"width": 64}, "options of another method do not stay"


def test_a_json_file_with_changes_behind_it(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"preset": "sla-lora/minisign", "out_dir": "runs/a", "train": {"epochs": 3, "seed": 1}}))
    config = settings(f"{path} --train.epochs 5 --out-dir runs/b")
    assert (config.train.epochs, config.train.seed, config.out_dir) == (5, 1, "runs/b")
    assert config.model == slakit.preset("sla-lora/minisign").model


@pytest.mark.parametrize("change, words", [
    ("--train.batchsize 4", "train.batchsize.*'batch_size'"), ("--train.augment.flpi 1", "train.augment.flpi.*'flip'"),
    ("--model.options.rnak 4", "model.options.rnak.*'rank'"), ("--model.rank 4", "'model.rank'.*'model.options.rank'"),
    ("--batch-size 4", "'batch_size'.*'train.batch_size'"), ("--epoch 4", "'epoch'.*'train.epochs'"),
    ("--tran.seed 4", "'tran.seed'.*'train.seed'"), ("--seed 4", "'model.seed' or 'train.seed'"),
    ("--train.batch-size x", "train.batch_size.*'x'.*int"), ("--train.batch-size 0", "batch_size.*0.*1 or more"),
    ("--train.batch-size 4.5", "train.batch_size.*4.5"), ("--train.batch-size", "--train.batch-size has no value"),
    ("--train.optimizer admaw", "train.optimizer.*'adam"), ("--model.method sla-lroa", "'sla-lora'"),
    ("--model.options.blocks 2-9", "4 blocks"), ("--corpus minsign", "'minisign'"),
    ("--corpus-options.trian 9", "trian'.*'train'"), ("--device gpu", "gpu"),
])  # fmt: skip
def test_a_wrong_setting_is_one_sentence_with_the_right_name(change, words, capsys):
    assert main(["train", "sla-lora/minisign", *change.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("slakit: ") and len(error.splitlines()) == 1 and re.search(words, error), error


def test_a_wrong_preset_or_file_is_one_sentence(tmp_path, capsys):
    for name, words in (("sla-lora/minisgn", "sla-lora/minisign"), (str(tmp_path / "no.json"), "no.json")):
        assert main(["train", name]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and words in error


def test_help_behind_a_preset_lists_every_setting_as_it_can_be_written(capsys):
    assert main(["train", "sla-lora/phoenix2014", "--help"]) == 0
    text = capsys.readouterr().out
    assert "usage: slakit train" in text and "--train.batch-size 2" in text and "--model.options.rank 16" in text
    config = slakit.preset("adaptsign/minisign")
    lines = re.findall(r"^  (--\S+) (.*)$", settings_help(config), flags=re.M)
    again = settings("adaptsign/minisign " + " ".join(f"{flag} {shlex.quote(value)}" for flag, value in lines))
    assert again.train == config.train
    assert {k: v for k, v in to_dict(again.model).items() if k != "options"} == {
        k: v for k, v in to_dict(config.model).items() if k != "options"
    }
    assert set(again.model.options) > set(config.model.options), "the method's defaults are listed, too"


def test_train_on_the_command_line(tmp_path, capsys):
    """From a preset: parsed, trained, resumed, and what came out is what `info` says of it."""
    line = (
        f"train frozen/minisign --root {tmp_path / 'corpus'} --out {tmp_path / 'run'} --device cpu "
        "--corpus-options.train 4 --corpus-options.dev 2 --corpus-options.test 2 --train.epochs 1 "
        "--model.hidden-size 16 --train.track '[]' --train.num-workers 0"
    )
    assert main(shlex.split(line)) == 0
    assert "training on cpu in float32" in (text := capsys.readouterr().out) and "best dev WER" in text
    assert main(["info", str(tmp_path / "run" / "best")]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^method +frozen", text, flags=re.M) and re.search(r"^trained on +minisign", text, flags=re.M)
    assert re.search(r"^scored +WER dev \d+\.\d %, epoch 1$", text, flags=re.M), text


@pytest.mark.parametrize("method", ["frozen", "sla-lora", "sla-adapter", "adaptsign"])
def test_info_of_the_shipped_models(method, capsys):
    assert main(["info", str(DEMO_MODELS / method)]) == 0
    text = capsys.readouterr().out
    for words in (method, "tiny-clip", "31 glosses", "32 classes", "minisign", "WER dev", "test", "epoch", "slakit 0"):
        assert words in text, words
    assert main(["info", str(DEMO_MODELS / method), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["config"]["method"] == method and len(facts["glosses"]) == 31
    assert facts["bytes"] == (DEMO_MODELS / f"{method}.safetensors").stat().st_size


def test_info_says_what_a_checkpoint_does_not_say(tmp_path, capsys):
    config = to_dict(slakit.preset("full/phoenix2014").model)
    description = {"config": config, "glosses": ["A", "B"], "include_base": True}
    text = describe(description, tmp_path)
    assert "unknown" in text and "all weights are in the file" in text and "3 classes" in text
    decode = {"beam_width": 5, "top_tokens": 7, "collapse_repeats": True}
    more = {"metrics": {"wer": 19.26, "epoch": 33}, "corpus": "phoenix2014", "train": {"decode": decode}}
    text = describe(description | more, tmp_path)
    assert "width 5, 7 glosses a step, equal neighbours merged" in text and "dev 19.3 %, epoch 34" in text
    assert main(["info", str(tmp_path / "none")]) == 2
    assert "no checkpoint" in capsys.readouterr().err


def test_info_without_a_checkpoint_is_for_a_bug_report(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    for name in ("slakit", "python", "torch", "open_clip_torch", "numpy", "numba", "av"):
        assert re.match(r"\d+\.\d+", facts[name]), name
    assert "CPU" in facts["devices"] and "minisign" in facts["demo corpus"]
    assert facts["slakit"].endswith("(a checkout)") and str(ROOT / "papermill_runs" / "out") in facts["runs"]
    assert main(["info"]) == 0
    assert all(value in capsys.readouterr().out for value in [facts["torch"]])


def test_notebooks_are_written_and_none_of_ones_own_is_overwritten(tmp_path, capsys):
    mine = tmp_path / "lessons" / "00_quickstart.ipynb"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert main(["notebooks", str(tmp_path / "lessons")]) == 0
    text = capsys.readouterr().out
    assert f"{mine}  is there already, kept" in text and mine.read_text() == "mine"
    course = (ROOT / "notebooks").glob("[0-9]*.ipynb")
    for source in (*course, ROOT / "notebooks" / "glossary.ipynb", ROOT / "notebooks" / "solutions.ipynb"):
        assert str(source.name) in text
        assert source.name == mine.name or (mine.parent / source.name).read_bytes() == source.read_bytes()


def test_the_version_stands_in_one_place():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'dynamic = ["version"]' in text and not re.search(r'^version = "', text, flags=re.M)
    assert 'attr = "slakit.__version__"' in text and re.fullmatch(r"\d+\.\d+\.\d+", slakit.__version__)
