"""README, environment.yml, pyproject.toml and the Makefile agree."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# What the project is made of, by the names that people install.
PROMISED = "torch open_clip_torch jupyterlab ipywidgets papermill decord jiwer seaborn pytest nbval".split()


def requirements() -> dict[str, str]:
    listed = list(PROJECT["dependencies"])
    for extra in PROJECT["optional-dependencies"].values():
        listed += extra
    return {re.match(r"[A-Za-z0-9_.-]+", item).group(): item for item in listed}


def test_every_promised_package_is_required_and_named_in_the_readme():
    for package in PROMISED:
        assert package in requirements(), f"{package} is missing in pyproject.toml"
        assert package in README, f"{package} is missing in README.md"


def test_only_lower_bounds():
    for item in requirements().values():
        assert not re.search(r"[<~=]=|<|!=", item.split(";")[0].replace(">=", "")), f"{item} is not a lower bound"
        assert ">=" in item, f"{item} has no lower bound"


def test_environment_yml_installs_the_extras_and_a_python_that_pyproject_takes():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    packages = environment["dependencies"]
    extras = next(item["pip"] for item in packages if isinstance(item, dict))[0]
    for extra in re.search(r"\[(.*)\]", extras).group(1).split(","):
        assert extra in PROJECT["optional-dependencies"]
    python = next(item for item in packages if isinstance(item, str) and item.startswith("python"))
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert f">={lowest}" in python and lowest in README


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = set(re.findall(r"make ([a-z]+)", README))
    assert {"demo", "test"} <= named <= targets


def test_files_that_the_readme_names_exist():
    for path in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / path).exists(), f"README.md links to {path}, which does not exist"


def written_commands() -> list[str]:
    """Every `python -m slakit …` of the READMEs, the notebooks and the Makefile; "…" in them stands for a value."""
    files = [
        ROOT / "README.md",
        ROOT / "Makefile",
        *ROOT.glob("data/**/README.md"),
        ROOT / "data/demo_models/export.py",
    ]
    texts = [path.read_text(encoding="utf-8") for path in files]
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        texts += ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    lines = [line for text in texts for line in re.findall(r"-m slakit ([^`\"#\n]+)", text.replace("…", "value"))]
    return sorted({line.strip() for line in lines})


@pytest.mark.parametrize("line", written_commands())
def test_a_command_that_is_written_somewhere_can_be_parsed(line):
    from slakit.__main__ import command

    words = shlex.split(line)
    if words[-1] == "--out":  # named in a sentence, without its value
        words.append("folder")
    assert callable(command(words))


def test_every_command_is_written_somewhere():
    commands = {"demo", "train", "evaluate", "recognize", "score", "doctor", "prepare", "info", "sweep"}
    assert {line.split()[0] for line in written_commands()} == commands


def test_names_that_users_rely_on_can_be_imported():
    import slakit

    for name in slakit.__all__:
        assert getattr(slakit, name) is not None
    with pytest.raises(AttributeError):
        slakit.nonsense  # noqa: B018
