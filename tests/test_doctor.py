"""doctor finds what was broken on purpose, says what to do, and calls a whole corpus healthy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from media import pictures, write_frames

from slakit.__main__ import main
from slakit.data.corpora import load_corpus
from slakit.data.doctor import doctor
from slakit.data.prepare import prepare
from slakit.data.video.read import read_frames

QUIET = {"show_progress": False}


@pytest.fixture
def root(tmp_path) -> Path:
    """A miniature Phoenix-2014: four training clips, one dev, one test."""
    home = tmp_path / "phoenix-2014-multisigner"
    rows = {
        "train": [("a", "X Y"), ("b", "Y"), ("c", "X X"), ("d", "Y X")],
        "dev": [("e", "X Z")],
        "test": [("f", "Y")],
    }
    for number, (split, clips) in enumerate(rows.items()):
        table = home / f"annotations/manual/{split}.corpus.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{clip}|{clip}/1/*.png|Signer0{number}|{glosses}" for clip, glosses in clips]
        table.write_text("\n".join(["id|folder|signer|annotation", *lines]) + "\n")
        for clip, _ in clips:
            folder = home / "features/fullFrame-210x260px" / split / clip / "1"
            write_frames(folder, pictures(12, 26, 21), clip + "_fn{:06d}-0.png", 0)
    return tmp_path


def findings(report, level: str) -> str:
    return "\n".join(f"{f.check}: {f.message} {f.clips} {f.advice}" for f in report.findings if f.level == level)


@pytest.mark.parametrize("deep", [False, True])
def test_a_whole_corpus_is_healthy(root, deep):
    report = doctor("phoenix2014", root, deep=deep, **QUIET)
    assert report.healthy and report.text().endswith("\nhealthy")
    assert report.splits["train"]["frames"] == 48 and report.splits["train"]["tokens"] == 7
    assert "4 clips, officially 5671" in findings(report, "warning")
    assert "1 glosses never occur in train, 50.00 %" in findings(report, "note")
    assert "1 clips have a gloss twice in a row" in findings(report, "note")
    assert "as JPEG" in findings(report, "note")
    saved = json.loads(report.json())
    assert saved["healthy"] is True and saved["splits"]["dev"]["clips"] == 1


def test_broken_things_are_found(root):
    features = root / "phoenix-2014-multisigner/features/fullFrame-210x260px"
    shutil.rmtree(features / "train/a")
    shutil.rmtree(features / "train/b/1")
    (features / "train/b/1").mkdir()
    (features / "dev/e/1/e_fn000006-0.png").write_bytes(b"broken")
    report = doctor("phoenix2014", root, **QUIET)
    errors = findings(report, "error")
    assert not report.healthy and "NOT healthy" in report.text()
    assert "train: 1 of 4 clips are not there ('a',)" in errors
    assert "train: 1 of 4 clips are empty or cannot be opened ('b',)" in errors
    assert "dev: 1 of 1 clips looked at are damaged ('e',)" in errors and "e_fn000006" in errors
    (features / "test/f/1/f_fn000003-0.png").write_bytes(b"broken")
    assert "test: 1 of" not in findings(doctor("phoenix2014", root, **QUIET), "error")  # frame 3 was not looked at
    assert "test: 1 of 1" in findings(doctor("phoenix2014", root, deep=True, **QUIET), "error")


def test_labels_that_ctc_cannot_align(root):
    table = root / "phoenix-2014-multisigner/annotations/manual/train.corpus.csv"
    table.write_text(
        table.read_text().replace("X Y", "X Y X Y X Y X Y X").replace("Signer00|Y\n", "Signer00|" + "Y " * 5)
    )
    table.write_text(table.read_text().replace("c|c", "\nc|c"))
    report = doctor("phoenix2014", root, **QUIET)
    # 12 frames become 32: 8 time steps; nine glosses do not fit, five equal ones need nine steps
    assert "train: 2 clips are too short for their glosses (more glosses" in findings(report, "warning")
    assert "('a', 'b')" in findings(report, "warning")


def test_lengths_beside_the_annotation(tmp_path):
    write_frames(tmp_path / "clip", pictures(9, 16, 16))
    (tmp_path / "annotations.csv").write_text("path,glosses,split,num_frames\nclip,A,train,12\n")
    report = doctor("folder", tmp_path, **QUIET)
    assert "1 clips have another number of frames than annotated ('clip (9 for 12)',)" in findings(report, "warning")
    assert report.healthy


def test_what_cannot_be_loaded_is_an_error(tmp_path):
    report = doctor("csl-daily", tmp_path, **QUIET)
    assert not report.healthy and "split_1.txt" in report.text() and json.loads(report.json())["healthy"] is False


def test_a_prepared_corpus_is_looked_at_too(root, tmp_path):
    out = tmp_path / "prepared"
    prepare(load_corpus("phoenix2014", root), out, size=32, **QUIET)
    features = root / "phoenix-2014-multisigner/features"
    shutil.rmtree(features)  # the prepared files are enough
    report = doctor("phoenix2014", root, deep=True, prepared=out, **QUIET)
    assert report.healthy and report.splits["train"]["frames"] == 48, report.text()
    assert report.splits["train"]["bytes"] == (out / "train.frames").stat().st_size
    data = bytearray((out / "dev.frames").read_bytes())
    data[len(data) // 2] ^= 1
    (out / "dev.frames").write_bytes(data)
    assert "wrong checksum" in findings(doctor("phoenix2014", root, deep=True, prepared=out, **QUIET), "error")
    assert "not prepared" in doctor("phoenix2014", root, prepared=tmp_path / "none", **QUIET).text()


def test_the_command_line(root, tmp_path, capsys):
    """Exit codes 0 healthy, 1 not, 2 a mistake; options reach the reader and prepare."""
    place = ["phoenix2014", "--root", str(root)]
    assert main(["doctor", *place, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["clips"] == 1
    size = ["--size", "24", "--aspect", "pad", "--resize-filter", "antialias", "--encoding", "raw"]
    assert main(["prepare", *place, "--out", str(tmp_path / "out"), *size, "-o", "vocabulary", "train"]) == 0
    assert "are not in the vocabulary" in capsys.readouterr().out
    assert read_frames(tmp_path / "out/train.frames/a").shape == (12, 24, 24, 3)
    assert main(["doctor", *place, "-o", "prepared", str(tmp_path / "out"), "--deep"]) == 0
    shutil.rmtree(root / "phoenix-2014-multisigner/features/fullFrame-210x260px/dev")
    assert main(["doctor", *place]) == 1 and "NOT healthy" in capsys.readouterr().out
    assert main(["doctor", "phoenix2014"]) == 2 and "needs --root" in capsys.readouterr().err
    assert main(["prepare", *place, "--out", str(tmp_path / "x"), "-o", "vocabulry", "train"]) == 2
    assert "has no option 'vocabulry'" in capsys.readouterr().err
