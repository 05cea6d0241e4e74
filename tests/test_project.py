"""README, environment.yml, pyproject.toml, the Makefile and what lies in .github agree; CONTRIBUTING's examples run."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from slakit.records import ConfigError, CorpusError

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
    commands = {"demo", "train", "evaluate", "recognize", "convert", "score", "doctor", "prepare", "info"}
    commands |= {"annotate", "draw", "notebooks", "sweep"}
    assert {line.split()[0] for line in written_commands()} == commands


def test_names_that_users_rely_on_can_be_imported():
    import slakit

    for name in slakit.__all__:
        assert getattr(slakit, name) is not None
    with pytest.raises(AttributeError):
        slakit.nonsense  # noqa: B018


CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")


def read(path: Path) -> dict:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def example(heading: str, folder: Path, monkeypatch):
    """The Python block under a heading of CONTRIBUTING.md, written to a file of its own and imported as a module."""
    block = re.search(rf"^## {heading}$.*?^```python\n(.*?)^```$", CONTRIBUTING, flags=re.M | re.S).group(1)
    name = re.sub(r"\W", "_", heading).lower()
    (folder / f"{name}.py").write_text(block, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    return importlib.import_module(name)


def test_the_method_of_contributing_is_a_whole_method(tmp_path, monkeypatch):
    from slakit.models import create_model, methods

    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    example("Add a method in one file", tmp_path, monkeypatch)
    model = create_model("bitfit", ["HELLO", "YOU"], "tiny-clip", hidden_size=16, blocks="2-3")
    trained = {name for name, parameter in model.encoder.named_parameters() if parameter.requires_grad}
    assert trained and all(re.search(r"blocks\.[12]\..*bias$", name) for name in trained)
    size = model.config.image_size or model.encoder.backbone.image_size
    frames = torch.randint(0, 256, (20, 3, size, size), dtype=torch.uint8)
    logits = model(frames, torch.tensor([12, 8]))
    assert logits.sequence.shape == (2, logits.lengths.max(), 3) and logits.frame is not None
    logits.sequence.sum().backward()
    assert all(p.grad is not None for name, p in model.encoder.named_parameters() if name in trained)
    with pytest.raises(ConfigError, match="width"):
        create_model("bitfit", ["HELLO"], "tiny-clip", width=3)


def test_the_corpus_of_contributing_is_a_whole_corpus(tmp_path, monkeypatch):
    from slakit.data.corpora import CORPORA, load_corpus

    module = example("Add a corpus in one file", tmp_path, monkeypatch)
    monkeypatch.setitem(CORPORA, "our-corpus", module.__name__)
    rows = ["id|split|signer|glosses", "a1|train|ann|HELLO YOU", "b1|test|ben|YOU"]
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    corpus = load_corpus("our-corpus", tmp_path)
    assert [sample.glosses for sample in corpus.train] == [("HELLO", "YOU")] and corpus.test[0].signer == "ben"
    assert corpus.train[0].source == tmp_path / "videos" / "a1.mp4"
    (tmp_path / "clips.csv").write_text("\n".join([rows[0], "a1|tran|ann|HELLO"]), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"clips\.csv, line 2: split 'tran'"):
        load_corpus("our-corpus", tmp_path)


def test_contributing_has_the_import_table_and_names_what_exists():
    from tests.test_house import MAY_IMPORT

    rows = [line for line in CONTRIBUTING.splitlines() if line.startswith("| ")]
    rooms = {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert set(MAY_IMPORT) <= rooms
    for path in re.findall(r"`((?:slakit|tests|data|notebooks)/[\w/.]+)`", CONTRIBUTING):
        assert (ROOT / path).exists() or path.endswith("bitfit.py"), f"CONTRIBUTING.md names {path}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    for text in (CONTRIBUTING, *(path.read_text(encoding="utf-8") for path in WORKFLOWS)):
        assert set(re.findall(r"\bmake ([a-z-]+)\b(?=[` \n])", text)) <= targets
    assert len(CONTRIBUTING.splitlines()) <= 125


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_what_github_reads(path):
    workflow = read(path)
    triggers = workflow.get("on", workflow.get(True))  # YAML 1.1 reads a bare `on` as true
    assert triggers and workflow["name"] and workflow["permissions"] == {"contents": "read"}
    assert {"group", "cancel-in-progress"} <= set(workflow["concurrency"])
    for job in workflow["jobs"].values():
        assert job["runs-on"].endswith("-latest") and 0 < job["timeout-minutes"] <= 90
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step), step
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step.get("uses", "actions/by-major-tag@v1"))
            for file in re.findall(r"tests/\w+\.py", step.get("run", "")):
                assert (ROOT / file).exists()
            for extras in re.findall(r"\.\[([\w,]+)\]", step.get("run", "")):
                assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_workflows_try_the_oldest_and_the_newest_that_pyproject_takes():
    jobs = read(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    oldest = requirements()["torch"].removeprefix("torch>=")
    assert jobs["linux"]["strategy"]["matrix"]["torch"] == [f"torch=={oldest}.*", f"torch>={oldest}"]
    assert jobs["linux"]["strategy"]["matrix"]["python"][0] == PROJECT["requires-python"].removeprefix(">=")
    assert any("--resolution lowest-direct" in step.get("run", "") for step in jobs["lowest"]["steps"])
    newest = jobs["linux"]["strategy"]["matrix"]["python"][-1]
    assert f"Programming Language :: Python :: {newest}" in PROJECT["classifiers"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_are_what_github_reads(path):
    form = read(path)
    assert form["name"] and form["description"] and form["body"]
    ids = [element["id"] for element in form["body"] if element["type"] != "markdown"]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[\w-]+", name) for name in ids)
    for element in form["body"]:
        attributes = element["attributes"]
        assert element["type"] in ("markdown", "input", "textarea", "dropdown", "checkboxes")
        assert attributes["value" if element["type"] == "markdown" else "label"]
        if element["type"] == "dropdown":
            assert attributes["options"] and all(isinstance(option, str) for option in attributes["options"])
        if element["type"] == "checkboxes":
            assert all(option["label"] for option in attributes["options"])


def test_the_bug_form_asks_for_commands_that_exist():
    text = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text(encoding="utf-8")
    assert "python -m slakit doctor CORPUS" in text and "python -m slakit info CHECKPOINT" in text
    assert isinstance(read(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml")["blank_issues_enabled"], bool)


def test_citation_and_changelog():
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["type"] == "software"
    assert citation["license"] == PROJECT["license"] and citation["authors"] == PROJECT["authors"]
    for reference in citation["references"]:
        assert {"type", "title", "authors", "year"} <= set(reference)
    titles = " ".join(reference["title"] for reference in citation["references"])
    for work in ("CLIP-SLA", "Adapted Image Models", "Visual Alignment Constraint", "Transferable Visual Models"):
        assert work in titles
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert headings[0] == "Numbers that moved"


def test_environment_yml_takes_the_pythons_of_the_classifiers():
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    first, beyond = re.search(r"python >=3\.(\d+),<3\.(\d+)", text).groups()
    minors = [int(m) for m in re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))]
    assert minors == list(range(int(first), int(beyond)))


def test_pre_commit_runs_what_make_check_runs():
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert {"ruff", "ruff-format", "pyright", "notebooks", "end-of-file-fixer"} <= {hook["id"] for hook in hooks}
    for hook in hooks:
        assert hook["name"] and hook["entry"] and hook["language"] in ("system", "python")
        for file in re.findall(r"tests/\w+\.py", hook["entry"]):
            assert (ROOT / file).exists()
