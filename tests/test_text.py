"""Text is text: awkward glosses and names in everything that is written or shown, read back by other programs."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import math
import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from tiny_models import tiny

from slakit import show
from slakit.__main__ import main
from slakit.decoding import GlossSpan
from slakit.recognition import Recognition, clip_name, exports
from slakit.records import CorpusError, SlakitError, Span, Vocabulary, visible
from slakit.scoring import aligned_sentences, confusion_matrix, escapes, read_ctm, read_stm, score, write_ctm, write_stm
from slakit.show.player import gloss_line
from slakit.show.report import write_report
from slakit.sweeps.kernels import SocketKernelManager
from slakit.sweeps.spec import Spec
from slakit.sweeps.tables import Results

ROOT = Path(__file__).resolve().parents[1]

NAMES = (
    "$x$", r"$\foo$", r"\$", "$", "a_b", "_x_", "<b>", "<script>alert(1)</script>", "&amp;", "a&b", '"q"', "'q'",
    "=1+1", "+1", "-2", "@SUM(A1)", "'=x", r"\input{/etc/passwd}", "{x}", "50%", "#1", "~^", "a|b", "[x](http://e.org)",
    "`code`", "*b*", "-->", "[x]", "*", "NOTE", "U\u0308BER", "مرحبا", "我们", "👩‍🚀", "a\u202eb", "a\u2066b",
    "\ufeffx", "a\u200bb", "x;y", ";;x", "]]>", "..", "NaN", "1.", "a,b", 'a"b', "\\", "--", "!", "~~x~~",
)  # fmt: skip
CONTROL = ("\x1b]0;P\x07", "a\x00", "\ud800", "a\nb", "\x9b31m", "a\x7f")


def spans(names) -> tuple[GlossSpan, ...]:
    return tuple(GlossSpan(name, 10 * k, 10 * k + 10, 0.5, 25.0) for k, name in enumerate(names))


def recognition(names, source="clip.mp4") -> Recognition:
    frames = np.zeros((10 * len(names), 32, 32, 3), np.uint8)
    posteriors = np.full((math.ceil(len(frames) / 4), len(names) + 1), 0.5, np.float32)
    answer = tuple(names), spans(names), -1.0, ((tuple(names), -2.0),), 25.0, len(frames)
    return Recognition(clip_name(source), str(source), *answer, frames, posteriors)


def results(names) -> Results:
    """Of a sweep whose cases have these names. (A spec holds no lone surrogates: pydantic refuses them.)"""
    rows = [{"case": name, "seed": 0, "dev_wer": 10.0 + k, "test_wer": 20.0} for k, name in enumerate(names)]
    spec = Spec(notebook="n.ipynb", title=" ".join(names), note=names[0], cases={name: {} for name in names}, name="s")
    return Results(spec, pd.DataFrame(rows), pd.DataFrame([row | {"epoch": 1} for row in rows]), {})


def test_what_is_hidden_becomes_visible():
    assert len(NAMES) >= 40 and len(set(NAMES)) == len(NAMES)
    assert visible("a\u202eb\x1b\ud800\U000e0041") == "a\\u202eb\\u001b\\ud800\\udb40\\udc41"
    for letters in ("Ärger", "我们", "مرحبا\u200c", "👩‍🚀", "a\u00a0b", "\u0600"):
        assert visible(letters) == letters
    text = json.dumps({"\x9b\u202e": "\ud800\n"}, ensure_ascii=False)
    assert json.loads(visible(text)) == json.loads(text), "JSON stays the same JSON"
    for name in NAMES:
        assert escapes.from_csv(escapes.as_csv(name)) == name


# ---- files, each read by a program that is not ours --------------------------------------------------------------


def from_elan(path) -> list:
    tree = ElementTree.parse(path)
    assert {e.tag for e in tree.iter()} <= {
        "ANNOTATION_DOCUMENT", "HEADER", "TIME_ORDER", "TIME_SLOT", "TIER", "ANNOTATION", "ALIGNABLE_ANNOTATION",
        "ANNOTATION_VALUE", "LINGUISTIC_TYPE",
    }  # fmt: skip
    return [element.text for element in tree.iter("ANNOTATION_VALUE")]


class Words(html.parser.HTMLParser):
    """The text of a WebVTT cue; an element in it is an error."""

    def __init__(self):
        super().__init__()
        self.text = ""

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        raise AssertionError(f"the element {tag}")


def from_webvtt(path) -> list:
    blocks = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    assert blocks[0] == "WEBVTT"
    found = []
    for number, block in enumerate(blocks[1:], 1):
        name, times, *cue = block.split("\n")
        assert name == str(number) and times.count("-->") == 1 and len(cue) == 1 and "-->" not in cue[0]
        words = Words()
        words.feed(cue[0])
        words.close()
        found.append(words.text)
    return found


def from_words(path, first: int) -> list:
    lines = path.read_bytes().decode().splitlines() if first == 4 else path.read_bytes().decode().split("\n")[:1]
    fields = [line.split(" ") for line in lines]
    return [row[4] for row in fields] if first == 4 else fields[0][first:]


FILES = {
    "elan": (lambda path, names: exports.write_elan(path, {"t": spans(names)}), from_elan),
    "webvtt": (lambda path, names: exports.write_webvtt(path, spans(names)), from_webvtt),
    "json": (lambda path, names: exports.write_json(path, spans(names)),
             lambda path: json.loads(path.read_bytes())["glosses"]),
    "ctm of spans": (lambda path, names: exports.write_ctm_spans(path, {"v": spans(names)}),
                     lambda path: from_words(path, 4)),
    "ctm": (lambda path, names: write_ctm(path, {"v": list(names)}), lambda path: from_words(path, 4)),
    "stm": (lambda path, names: write_stm(path, {"v": ["A", *names]}), lambda path: from_words(path, 6)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_files_hold_the_text_as_it_is(tmp_path, kind):
    write, read = FILES[kind]
    names = [name for name in NAMES if kind != "stm" or "{" not in name]
    write(tmp_path / "x", names)
    assert read(tmp_path / "x") == names
    for name in CONTROL:
        if kind == "json":  # carries anything
            write(tmp_path / "x", [name])
            assert read(tmp_path / "x") == [name]
            continue
        with pytest.raises(SlakitError, match="gloss"):
            write(tmp_path / "y", ["A", name])
        assert not (tmp_path / "y").exists()


def test_ctm_and_stm_are_read_again_and_scored(tmp_path):
    names = [name for name in NAMES if "{" not in name]
    sentences = {"v": " ".join(names), "w": "A"}
    write_stm(tmp_path / "x.stm", sentences)
    write_ctm(tmp_path / "x.ctm", sentences)
    stm = read_stm(tmp_path / "x.stm")
    assert stm.references == sentences and read_ctm(tmp_path / "x.ctm", stm) == sentences
    assert score(stm.references, sentences).wer == 0


def test_tables_of_a_sweep(tmp_path):
    """CSV by csv, Markdown by mistune, LaTeX by TeX's rules: every cell is the name, and nothing is run."""
    import mistune

    names = [*NAMES, *CONTROL]
    names.remove("\ud800")
    table = results(names)
    table.write(tmp_path)
    for file in ("runs.csv", "curves.csv", "summary.csv"):
        rows = list(csv.DictReader(io.StringIO((tmp_path / "s" / file).read_bytes().decode("utf-8"), newline="")))
        assert [escapes.from_csv(row["case"]) for row in rows] == names
        assert not any(row["case"].startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows)
    page = mistune.create_markdown(plugins=["table", "strikethrough", "url"])(
        (tmp_path / "s" / "summary.md").read_text()
    )
    soup = BeautifulSoup(page, "html.parser")
    assert {element.name for element in soup.find_all()} <= {
        "p",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "a",
    }
    cells = [row.find("td").get_text() for row in soup.find("tbody").find_all("tr")]
    assert cells == [visible(name) for name in names]
    assert soup.find("strong").get_text() == " ".join(map(visible, names))
    for name, row in zip(names, latex_rows((tmp_path / "s" / "summary.tex").read_text()), strict=True):
        assert row == visible(name)


def test_answers_of_a_split_are_a_table_that_no_spreadsheet_runs():
    from slakit.records import Sample
    from slakit.show.commands import per_clip

    samples = [Sample(name, Path(), (name,), name) for name in NAMES]
    text = per_clip(samples, {name: name for name in NAMES}, None)
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [{key: escapes.from_csv(value) for key, value in row.items()} for row in rows] == [
        dict.fromkeys(("id", "signer", "reference", "recognised"), name) for name in NAMES
    ]
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


SPELLED = {
    r"\textbackslash": "\\", r"\textasciitilde": "~", r"\textasciicircum": "^", r"\textless": "<", r"\textgreater": ">",
    r"\textbar": "|", r"\textasciigrave": "`", r"\char": "\0", r"\&": "&", r"\%": "%", r"\$": "$", r"\#": "#",
    r"\_": "_", r"\{": "{", r"\}": "}",
}  # fmt: skip


def latex_rows(text: str) -> list[str]:
    """The first cell of every row as TeX sets it; what is a command and none of text is an error."""
    start, end = text.index(r"\midrule") + len(r"\midrule"), text.index(r"\bottomrule")
    rows, cell, first, before = [], "", True, ""
    for token in re.findall(r"\\[a-zA-Z]+|\\.|[^\\]", text[start:end], re.S):  # control words, control symbols, letters
        if token == r"\\":
            rows.append(cell.strip().replace("\x0034", '"'))
            cell, first = "", True
        elif token == "&":
            first = False
        elif first and token not in "{}":
            assert token[0] == "\\" or token not in "$%#^~_", f"{token} is no text"
            assert token not in "[*" or before == "{", "an argument of the line break before it"
            cell += SPELLED.get(token, token) if token[0] != "\\" else SPELLED[token]
        before = token
    return rows


# ---- what is shown -----------------------------------------------------------------------------------------------


def drawn(figure) -> list[str]:
    """The words of a figure as an XML parser finds them in its SVG; mathematics would not be among them."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg")
    plt.close(figure)
    texts = ElementTree.fromstring(buffer.getvalue()).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()) for element in texts]


def bars(names):
    return show.timeline({name: [Span(name, 0, 9)] for name in names}, fps=25.0)


def led(names):
    tracks = {names[0]: (np.eye(len(names) + 1, dtype=np.float32)[1:], 4)}
    return show.timeline({}, tracks, list(names), 25.0)


def strip(names):
    frames = np.zeros((len(names), 8, 8, 3), np.uint8)
    return show.frame_strip(frames, len(names), titles=list(names), caption="", width=40)


def confused(names):
    found = score({"v": ["A"] * len(names)}, {"v": names})
    return show.confusion_map(confusion_matrix(found, n=len(names)), width=60)  # room for every label


def lattice(names):
    return show.ctc_lattice(np.full((len(names), len(names) + 1), 0.1), range(1, len(names) + 1), ["-", *names])


def energy(names):
    return show.energy_figure({"map": np.ones(8)}, [Span(name, k, k + 1) for k, name in enumerate(names)], 25.0, "")


def summary_of(names):
    columns = {"name": list(names), "other": "x", "test_wer": 20.0, "test_wer_std": 1.0, "trainable": 1e6}
    return pd.DataFrame(columns | {"paper_test_wer": np.arange(len(names)) + 20.0, "dev_wer": 9.0})


FIGURES = {
    "timeline": bars, "tracks": led, "strip": strip, "confusions": confused, "lattice": lattice, "energy": energy,
    "heat map": lambda names: show.heat_maps(summary_of(names), "name", "other"),
    "parameters": lambda names: show.wer_against_parameters(summary_of(names), "name"),
    "costs": lambda names: show.cost_bars(
        summary_of(names).assign(step_seconds=1.0, kept_mb_per_frame=1.0, encoder_gflops=1.0), "name"
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:Tight layout", "ignore:.*missing from font")
@pytest.mark.parametrize("kind", FIGURES)
def test_figures_show_text_and_no_mathematics(kind):
    names = [*NAMES, *CONTROL]
    if kind == "confusions":  # sclite's idea of these is another
        names = [name for name in names if not {";", "*", "\n"} & set(name)]
    words = drawn(FIGURES[kind](names))
    for name in names:
        assert any(word == visible(name) or word.split("  ")[0] == visible(name) for word in words), name
    assert show.with_caption(plt.figure(), r"$\foo$") is not None
    plt.close("all")


@pytest.mark.filterwarnings("ignore:no installed font", "ignore:Glyph")
def test_films_take_any_text():
    names = [*NAMES, *CONTROL]
    frames = np.zeros((2, 32, 32, 3), np.uint8)
    film = show.film(frames, {names[-3]: np.ones((2, 2, 2))}, [Span(name, 0, 2) for name in names], names[-1])
    assert film.shape[0] == 2 and film.max() == 255


def pages() -> dict:
    from slakit.show.video_app import answer_html

    names = [*NAMES, *CONTROL]
    compared = score({"v": ["A"] * len(names)}, {"v": list(NAMES)})
    return {
        "aligned": (
            aligned_sentences(compared).html(),
            [name for name in NAMES if ";" not in name and name[-1] != "*"],
        ),
        "gloss line": (gloss_line(spans(names), 0, 25.0), names),
        "answer": (answer_html(recognition(names)), names),
    }


@pytest.mark.parametrize("kind", ("aligned", "gloss line", "answer"))
def test_pages_show_text_and_run_nothing(kind):
    page, names = pages()[kind]
    soup = BeautifulSoup(page, "html.parser")
    known = "div table caption tr th td b u thead tbody ul li".split()
    assert {element.name for element in soup.find_all()} <= set(known)
    text = soup.get_text(" ")
    for name in names:
        assert visible(name) in text, name
    assert visible(text, keep="\n") == text


def test_terminals_are_not_steered(tmp_path, capsys):
    names = [*NAMES, *CONTROL]
    compared = score({"v": ["A"]}, {"v": list(NAMES)})
    for text in (str(recognition(names)), str(results([*NAMES, *CONTROL[:2]])), str(aligned_sentences(compared))):
        assert visible(text, keep="\n") == text
        assert visible("a\u202eb") in text
    for bad in ("\x1b]0;P\x07\x1b[31m", "\u202e", "\x9b31m"):
        assert main(["info", f"{tmp_path}/{bad}"]) == 2
        said = capsys.readouterr().err
        assert visible(bad) in said and visible(said, keep="\n") == said
    with pytest.raises(CorpusError, match="control characters"):
        Vocabulary(["A", "\x1b[31m"])


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("name", ["...mp4", ";;\u202ea b\udcff$x$.mp4"])
def test_a_report_of_a_video_of_any_name(tmp_path, name):
    for stem in ("..", ";;z", "a b", "\u202eab", "\udcff", ".", ""):
        assert re.fullmatch(r"[\w$]+", clip_name(f"{stem}.mp4")), "no blanks, no dots, no comment of CTM"
    model = tiny("frozen").eval()
    result = recognition(model.vocabulary.glosses, name)
    paths = write_report(model, result, tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == sorted(p.name for p in paths.values())
    assert json.loads(paths["json"].read_bytes())["source"] == name
    assert list(read_ctm(paths["ctm"])) == [clip_name(name)]
    assert from_elan(paths["eaf"]) == list(model.vocabulary.glosses) == from_webvtt(paths["vtt"])
    assert paths["png"].read_bytes()[:4] == b"\x89PNG"


# ---- notebooks ---------------------------------------------------------------------------------------------------


def test_tables_in_notebooks_are_text(tmp_path, monkeypatch):
    """As Jupyter asks for them: no element, no mathematics, nothing hidden; a file holds them as they are."""
    from IPython.core.interactiveshell import InteractiveShell

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    names = [*NAMES, *CONTROL]
    table = pd.DataFrame({"gloss": names, "$n$": range(len(names))}, index=[name + "\u202e" for name in names])
    with pd.option_context("display.max_rows", None, "display.max_colwidth", None):
        InteractiveShell.instance()
        try:
            show.plain_output()
            formatter = InteractiveShell.instance().display_formatter
            page, harmless = (formatter.format(frame)[0] for frame in (table, pd.DataFrame({"a": ["b"]})))
            words = formatter.format(table["gloss"])[0]["text/plain"]
        finally:
            InteractiveShell.clear_instance()
    soup = BeautifulSoup(page["text/html"], "html.parser")
    assert {element.name for element in soup.find_all()} <= set("div style table thead tbody tr th td".split())
    assert "mathjax_ignore" in soup.find("table")["class"]
    assert harmless["text/html"] == pd.DataFrame({"a": ["b"]})._repr_html_(), "what needs nothing stays as it was"
    assert [row.find("td").get_text() for row in soup.find("tbody").find_all("tr")] == [visible(name) for name in names]
    assert [row.find("th").get_text() for row in soup.find("tbody").find_all("tr")] == [
        visible(f"{name}\u202e") for name in names
    ]
    for text in (page["text/plain"], words):
        assert visible(text, keep="\n") == text and visible("a\u202eb") in text
    show.save_results(tmp_path / "new", {"t.csv": table.iloc[:-4], "m.json": {"\ud800": "\u202e"}, "n.txt": "ü"})
    rows = list(csv.DictReader(io.StringIO((tmp_path / "new/t.csv").read_bytes().decode(), newline="")))
    assert [escapes.from_csv(row["gloss"]) for row in rows] == names[:-4]
    assert json.loads((tmp_path / "new/m.json").read_bytes()) == {"\ud800": "\u202e"}
    with pytest.raises(SlakitError, match="cannot be written"):
        show.save_results(tmp_path / "new", {"m.json": {}, "t.csv": table})  # a lone surrogate is no UTF-8
    assert json.loads((tmp_path / "new/m.json").read_bytes()), "all or none"


def test_print_in_notebooks_is_text(tmp_path):
    """What a kernel sends to the browser for print(*glosses), glosses being what a checkpoint may hold."""
    code = "from slakit.show import plain_output; plain_output(); plain_output(); print(*{!r}, sep='\\t', end='\\r\\n')"
    manager = SocketKernelManager()
    manager.start_kernel(cwd=str(tmp_path), env=os.environ | {"PYTHONPATH": str(ROOT)})
    client, outputs = manager.blocking_client(), []
    try:
        client.start_channels()
        client.wait_for_ready(timeout=120)
        client.execute_interactive(code.format(NAMES), output_hook=outputs.append, timeout=120)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    printed = "".join(m["content"]["text"] for m in outputs if m["msg_type"] == "stream")
    assert printed == "\t".join(visible(name, keep="\n\t\r") for name in NAMES) + "\r\n"
    assert not [m for m in outputs if m["msg_type"] == "error"] and visible("\u202e") in printed


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_write_and_show_through_one_door(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    text = "\n".join("".join(cell["source"]) for cell in cells if "colab" not in cell["metadata"].get("tags", []))
    for word in ("write_text", "write_bytes", "to_csv", "savefig", "json.dump(", ".to_html", ".to_latex"):
        assert word not in text, f"{word}: use slakit.show's save_results"
    assert ("print(" not in text and "pandas" not in text) or "\nplain_output()" in text
