"""The course: one form for every lesson, the drawing, the glossary, exercises that help, solutions that are right."""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import ImageFont

import slakit
from slakit.lessons import TINY, VIT_B16, check, hint, pipeline, verdict, word, words
from slakit.lessons.drawing import FROZEN, PALE, PARTS, TRAINED
from slakit.lessons.exercises import exercises

ROOT = Path(__file__).resolve().parents[1]
BOOKS = ROOT / "notebooks"
LESSONS = sorted(BOOKS.glob("[0-9]*.ipynb"))
SVG = "{http://www.w3.org/2000/svg}"


def cells_of(path: Path, kind: str) -> list:
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == kind]


def folded(cell) -> bool:
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden")) and cell.metadata.get("cellView") == "form"


def prose(source: str) -> str:
    """Markdown without code, links' targets and tags."""
    text = re.sub(r"```.*?```|`[^`]*`|<[^>]+>|!\[[^\]]*\]\([^)]*\)", " ", source, flags=re.S)
    return re.sub(r"\]\([^)]*\)", "]", text)


# --- the form of a lesson ---


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_form(path):
    book = nbformat.read(path, 4)
    texts, codes = cells_of(path, "markdown"), cells_of(path, "code")
    assert len(book.cells) <= 35, f"{len(book.cells)} cells"
    count = sum(len(re.findall(r"\w+", prose(cell.source))) for cell in texts)
    assert count <= 1200, f"{count} words"
    for line in ("**You will learn**", "**You need**", "**Minutes**", "**Next to it**"):
        assert line in texts[0].source, f"the box under the title lacks {line}"
    drawn = codes[3] if path.name[:2] == "00" else codes[2]  # 00 begins with a film
    assert "pipeline(" in drawn.source, "the drawing comes first, below the imports"
    shown = [out for out in drawn.outputs if "image/svg+xml" in out.get("data", {})]
    assert shown and shown[0].data["text/plain"].startswith("From a video to glosses")
    end = texts[-1].source
    assert "## What you know now" in end and end.count("<details><summary>") == end.count("</details>") == 5
    if path != LESSONS[-1]:
        assert re.search(r"\*\*Next:\*\* \[[^\]]+\]\(\d\d_\w+\.ipynb\)", end), "the next lesson"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_what_teaches_nothing_is_folded(path):
    for cell in cells_of(path, "code"):
        lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith("#")]
        imports = sum(line.startswith(("import ", "from ")) for line in lines)
        if (
            imports > len(lines) / 2
            or "metrics.json" in cell.source
            or all(line.startswith("assert") for line in lines)
        ):
            assert folded(cell), f"fold this cell of {path.name}: {cell.source[:80]!r}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_exercises_with_hints_and_one_that_predicts(path):
    code = "\n".join(cell.source for cell in cells_of(path, "code"))
    asked = re.findall(r'check\("([^"]+)"', code)
    assert asked and set(asked) <= set(exercises())
    assert set(asked) <= set(re.findall(r'hint\("([^"]+)"', code)), "every exercise offers its hints"
    text = "\n".join(cell.source for cell in cells_of(path, "markdown"))
    assert re.search(r"\*\*[^*\n]*Predict", text), "an exercise changes a number and predicts what happens"


def first_use(name: str, texts: list) -> int | None:
    """The first text with a word of the glossary, but for headings, other links and longer words ("class token")."""
    form = rf"\b{re.escape(name)}(s|es)?\b" if name != name.lower() else rf"(?i:\b{name}(s|es)?\b)"
    longer = "|".join(re.escape(other) for other in words() if name in other and name != other)
    for k, cell in enumerate(texts):
        source = re.sub(r"^#.*$|\[[^\[\]]*\]\((?!glossary)[^)]*\)", "", cell.source, flags=re.M)
        text = prose(source)
        if re.search(form, re.sub(f"(?i:{longer})", "", text) if longer else text):
            return k
    return None


# Words that every lesson would have to link, for they are its language; the rest is linked where it comes first.
TOO_COMMON = {"clip", "corpus", "step", "feature", "frozen", "parameter", "loss", "head", "encoder", "alignment"}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_words_of_the_glossary_are_linked_where_they_come_first(path):
    texts = cells_of(path, "markdown")
    for name in set(words()) - TOO_COMMON:
        anchor = f"](glossary.ipynb#{name.replace(' ', '-')})"
        used = first_use(name, texts)
        links = [k for k, cell in enumerate(texts) if anchor in cell.source]
        assert used is None or links[:1] == [used], f"{path.name}: {name} comes in text {used}, is linked in {links}"


@pytest.mark.parametrize("path", [*LESSONS, BOOKS / "solutions.ipynb"], ids=lambda path: path.stem)
def test_links_to_the_glossary_name_a_word(path):
    known = {name.replace(" ", "-") for name in words()}
    for cell in cells_of(path, "markdown"):
        assert set(re.findall(r"\]\(glossary\.ipynb#([^)]+)\)", cell.source)) <= known


# --- the drawing ---


def test_the_drawing_is_one_svg_with_a_text_and_shows_where_the_lesson_is():
    whole, part = pipeline(), pipeline("ctc")
    for drawing in (whole, part, pipeline(["patches", "feature"])):
        root = xml.fromstring(drawing.svg)
        assert root.find(f"{SVG}title") is not None and root.find(f"{SVG}desc").text == drawing.text == repr(drawing)
        assert drawing._repr_svg_() == drawing.svg and drawing.svg.count("http") == 1, "needs nothing else"
    assert FROZEN[0] in whole.svg and TRAINED[0] in whole.svg and "Now:" not in whole.text
    assert part.svg.count(f'fill="{PALE[0]}" stroke="{PALE[1]}"') == len(PARTS) - 1 and "Now: CTC." in part.text
    with pytest.raises(slakit.SlakitError, match=r"no part 'ct'; did you mean 'ctc'\?"):
        pipeline("ct")


@pytest.mark.parametrize("sizes", [TINY, VIT_B16], ids=lambda sizes: sizes.name)
def test_no_text_of_the_drawing_leaves_its_box(sizes):
    from matplotlib import font_manager

    for group in xml.fromstring(pipeline(sizes=sizes).svg).findall(f"{SVG}g"):
        box = group.find(f"{SVG}rect")
        for text in group.findall(f"{SVG}text") if box is not None else ():
            weight = text.get("font-weight")
            file = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
            assert ImageFont.truetype(file, 13).getlength(text.text) < float(box.get("width")) - 8, text.text
            assert float(box.get("y")) < float(text.get("y")) - 11 < float(box.get("y")) + float(box.get("height")) - 13


def test_the_shapes_are_those_of_the_lessons_model():
    model = slakit.load_checkpoint("sla-lora")
    tower = model.encoder.backbone
    found = (tower.image_size, tower.grid[0] * tower.grid[1], tower.width, tower.depth, model.config.hidden_size)
    assert found == (TINY.pixels, TINY.patches, TINY.width, TINY.blocks, TINY.hidden)
    assert str(len(model.vocabulary)) == TINY.classes


def test_readmes_picture_is_this_drawing():
    kept = (ROOT / ".github" / "pictures" / "pipeline.svg").read_text(encoding="utf-8")
    assert kept == pipeline(sizes=VIT_B16).svg, "run python .github/pictures/draw.py"


# --- the glossary ---


def test_the_glossary_explains_its_words_in_order():
    known = words()
    assert 25 <= len(known) <= 40 and list(known) == sorted(known, key=str.lower)
    assert all(6 <= len(text.split()) <= 60 for text in known.values())
    assert word("ctc") == word("CTC") == known["CTC"] and word("CTC")._repr_markdown_() == known["CTC"]
    with pytest.raises(slakit.SlakitError, match=r"no 'LoRa2'.*did you mean 'LoRA'"):
        word("LoRa2")


# --- exercises ---


def test_a_misspelt_exercise_names_those_that_there_are(capsys):
    for ask in (lambda: check("ctc1", 4), lambda: hint("ctc1")):
        with pytest.raises(slakit.SlakitError, match=r"no exercise 'ctc1'; did you mean 'ctc-1'\?; there are "):
            ask()
    with pytest.raises(slakit.SlakitError, match=r"ctc-1 has the hints 1 to \d, not 9"):
        hint("ctc-1", 9)
    check("first-2", 41, 472)  # as the lessons print it
    assert "1234, not 1,234" in capsys.readouterr().out
    assert verdict("ablations-2", np.mean([1, 2]) > 2) == (True, "right"), "a comparison of numpy's"
    hint("ctc-1", 1)
    assert capsys.readouterr().out.startswith("hint 1 of ")


@pytest.mark.parametrize("name", sorted(exercises()))
def test_any_answer_gets_a_sentence_and_none_a_traceback(name):
    assert exercises()[name].hints
    for answer in (..., None, "", [], {}, ()):
        assert verdict(name, answer) == (None, "no answer yet")
    awkward = (
        -1,
        0,
        0.5,
        10**9,
        float("nan"),
        float("inf"),
        True,
        "tree",
        "TREEE",
        "???",
        ["tree"],
        [1, None],
        {"a": 1},
        object(),
        b"x",
        [[1, 2], [3]],
    )
    assert sum(verdict(name, answer)[0] is True for answer in awkward) <= 1, "nearly anything is right"
    for answer in awkward:
        right, sentence = verdict(name, answer)
        assert sentence == "right" if right else re.fullmatch(r"not yet: .{12,}", sentence, flags=re.S), (
            answer,
            sentence,
        )


def test_the_solutions_solve_every_exercise_and_no_lesson_shows_an_answer(tmp_path):
    executed = run_solutions(tmp_path)
    said, solved = [], []
    for cell in cells_of(executed, "code"):
        solved += re.findall(r'check\("([^"]+)"', cell.source)
        said += "".join(out.get("text", "") for out in cell.outputs).splitlines()
    assert said == ["right"] * len(solved)
    assert sorted(solved) == sorted(exercises()), "each once"
    stored = [out.get("text", "") for cell in cells_of(BOOKS / "solutions.ipynb", "code") for out in cell.outputs]
    assert "".join(stored) == "right\n" * len(solved), "stored executed"


def run_solutions(folder: Path) -> Path:
    from nbclient import NotebookClient

    book = nbformat.read(BOOKS / "solutions.ipynb", 4)
    NotebookClient(book, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    nbformat.write(book, folder / "executed.ipynb")
    return folder / "executed.ipynb"
