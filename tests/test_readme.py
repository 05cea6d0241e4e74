"""The first page and its neighbours: links, pictures, commands; the notebooks' links, buttons and first cell."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

import slakit
from slakit.__main__ import command
from tests import colab_cell

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md", ROOT / "data" / "README.md", ROOT / "benchmarks" / "README.md", *ROOT.glob(".github/*.md"),
    ROOT / "papermill_runs" / "results" / "README.md", *ROOT.glob("data/*/README.md"), ROOT / "slakit/models/README.md",
]  # fmt: skip
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
PICTURES = ROOT / ".github" / "pictures"


def anchors(text: str) -> set[str]:
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_anchors_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name} links to {link}, which does not exist"
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), f"{path.name}: no heading #{anchor}"


def test_the_first_page_is_in_the_order_in_which_a_stranger_asks():
    wanted = ["slakit", "What it is, what it is not", "Try it", "How it works", "Three doors", "I want to learn"]
    wanted += ["I have videos", "I do research", "Results", "Six lines of Python", "Papers, citing, licence"]
    assert re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", README, flags=re.S), flags=re.M) == wanted
    first = README.split("\n## ")[0]
    assert "*gloss*" in first and "recognition.gif" in first and "colab-badge.svg" in first
    assert "Nobody has trained on Phoenix-2014" in README.split("\n## ")[1]
    assert len(README.split()) < 1600, "the lab book lies beside the results"
    for notebook in NOTEBOOKS:
        assert f"notebooks/{notebook.name}" in README, f"README does not name {notebook.name}"


def test_every_picture_is_there_small_and_described():
    shown = re.findall(r"!\[([^\]]*)\]\((\.github/pictures/[^)]+)\)", README)
    assert {Path(path).name for _, path in shown} == {path.name for path in PICTURES.glob("*.[gps][inv][fg]")}
    for alt, path in shown:
        assert len(alt.split()) >= 3 and (ROOT / path).stat().st_size < 3_500_000, path
    with Image.open(PICTURES / "recognition.gif") as film:
        seconds = film.n_frames * film.info["duration"] / 1000
    assert 5 <= seconds <= 7 and film.width <= 900
    svg = (PICTURES / "pipeline.svg").read_text(encoding="utf-8")
    for word in ("frozen", "trained", "[T, 768]", "[T/4, 1024]", "beam search", "<title>", "<desc>", "CTC"):
        assert word in svg
    assert "file:" not in svg and "http" not in svg.replace("http://www.w3.org/2000/svg", ""), "needs nothing else"


def commands() -> list[str]:
    """The lines of README's code blocks that begin with slakit; comments and what follows && left out."""
    blocks = re.findall(r"^```\n(.*?)^```", README, flags=re.M | re.S)
    lines = [part.strip() for block in blocks for line in block.splitlines() for part in line.split("#")[0].split("&&")]
    return [line.removeprefix("slakit ") for line in lines if line.startswith("slakit ")]


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_installed_script_can_be_parsed(line):
    assert callable(command(shlex.split(line)))


def test_the_six_lines_of_python_are_six_and_call_what_is_there():
    block = re.search(r"```python\n(.*?)```", README, flags=re.S)[1]
    assert len([line for line in block.splitlines() if line]) == 6
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "slakit":
            assert callable(getattr(slakit, node.attr))
    preset = slakit.preset("sla-lora/minisign")
    assert slakit.create_model(glosses=["A"], **preset.model_options()).config.method == "sla-lora"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_work_wherever_jupyter_was_started(path):
    """Only other notebooks in the same folder can be reached from the root, from notebooks/ and on the web alike."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "markdown":
            for link in re.findall(r"\]\(([^)\s]+)\)", "".join(cell["source"])):
                if not link.startswith(("https://", "#", "attachment:")):
                    assert (path.parent / link.partition("#")[0]).is_file() and "/" not in link, f"{path.name}: {link}"
        elif colab_cell.TAG not in cell["metadata"].get("tags", []):
            assert 'Path("..")' not in "".join(cell["source"]), "slakit.shipped() and slakit.output_folder() know where"


def test_every_notebook_and_the_readme_have_the_button_and_the_first_cell():
    different = ", ".join(str(path.relative_to(ROOT)) for path in colab_cell.differing())
    assert not different, f"run python tests/colab_cell.py: {different} differ"
    cells = [nbformat.read(path, 4).cells[1].source for path in NOTEBOOKS]
    assert set(cells) == {colab_cell.CELL}
    for path in NOTEBOOKS:
        title = nbformat.read(path, 4).cells[0].source
        assert title.count("Open in Colab") == 1 and colab_cell.colab(path.name) in title
        assert ("choose a GPU" in title and "/content/drive" in title) == (path.name[:2] in colab_cell.ON_A_GPU)


def test_the_first_cell_does_nothing_where_slakit_is_and_says_what_to_fill_in_where_it_is_not(tmp_path):
    """And with a wheel's path in it, pip is called with the versions that stay."""
    for code, options, said in (
        (colab_cell.CELL, [], ""),
        (colab_cell.CELL, ["-S"], "no public address yet"),  # -S: without anything that is installed
        (re.sub(r'"git\+.*?"', '"/x/slakit.whl"', colab_cell.CELL), ["-S"], "returned non-zero exit status"),
    ):
        environment = {"PYTHONPATH": "" if options else str(ROOT), "PATH": "/usr/bin", "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, *options, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        if said == "no public address yet" and colab_cell.PUBLIC:
            continue
        assert (done.returncode == 0) == (not said) and said in done.stderr and done.stdout == ""
    assert {path.name for path in tmp_path.iterdir()} - {".cache"} == {"slakit-keeps.txt"}


def test_the_first_cell_keeps_what_colab_brings(tmp_path):
    """pip, asked for a slakit that wants another numpy, refuses and leaves the one that is there."""
    names = ("torch", "torchvision", "numpy", "ipywidgets")
    code = colab_cell.CELL.replace('importlib.util.find_spec("slakit") is None', "True").replace(
        re.search(r'"git\+.*?"', colab_cell.CELL)[0], '"slakit.whl"'
    )
    code = code.replace("subprocess.run([*pip", "print([*pip").replace(", check=True)", ")")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept = (tmp_path / "slakit-keeps.txt").read_text().splitlines()
    assert [line.split("==")[0] for line in kept] == list(names) and "'-c', 'slakit-keeps.txt'" in done.stdout


def test_applying_it_twice_changes_nothing(tmp_path):
    path = tmp_path / "04_lesson.ipynb"
    book = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# Title\n\nText, with a [link](https://example.org)."),
            nbformat.v4.new_code_cell("1 + 1", execution_count=1),
        ]
    )
    nbformat.write(book, path)
    for _ in range(2):
        path.write_text(colab_cell.updated(path), encoding="utf-8")
    cells = nbformat.read(path, 4).cells
    assert [cell.cell_type for cell in cells] == ["markdown", "code", "code"] and cells[2].execution_count == 2
    text = cells[0].source
    assert text.startswith("# Title\n\n[![Open in Colab]") and text.endswith(
        "Text, with a [link](https://example.org)."
    )
    assert text.count("Open in Colab") == 1 and text.count("**On Colab** choose") == 1
