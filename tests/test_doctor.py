"""doctor finds what was broken on purpose, says what to do, and calls a whole corpus healthy."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from media import pictures, write_frames, write_video

from slakit.__main__ import main
from slakit.data.corpora import load_corpus
from slakit.data.corpora.official import OFFICIAL, Size
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
    warnings = sum(finding.level == "warning" for finding in report.findings)
    assert report.healthy and report.text().endswith(f"\nhealthy, with {warnings} warnings: see above")
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


def test_frames_that_are_missing_inside(root):
    features = root / "phoenix-2014-multisigner/features/fullFrame-210x260px"
    for number in (5, 6, 8):
        (features / f"train/b/1/b_fn{number:06d}-0.png").unlink()
    for picture in sorted((features / "train/c/1").iterdir())[1:]:
        picture.unlink()
    for picture in sorted((features / "dev/e/1").iterdir())[1::2]:
        picture.unlink()  # every second frame: a choice, no gap
    text = findings(doctor("phoenix2014", root, **QUIET), "warning")
    assert "train: 1 clips have gaps in the numbers of their frames ('b (3 missing)',)" in text
    assert "train: 1 clips have a single frame ('c',)" in text and "dev: 1 clips have gaps" not in text


def test_half_an_extraction(root, monkeypatch):
    small = Size((4,), (1,), (1,), (), (48, 12, 13))
    monkeypatch.setitem(OFFICIAL, "phoenix2014", small)
    report = doctor("phoenix2014", root, **QUIET)
    assert "test: 12 frames, officially 13 (92.3 %)" in findings(report, "warning")
    assert "train: 4 clips with 48 frames, the official number" in findings(report, "ok")
    assert "train: " not in findings(report, "warning").replace("train: 1 of", "")


def test_links_inside_a_folder_of_frames(root, tmp_path):
    folder = root / "phoenix-2014-multisigner/features/fullFrame-210x260px/train/b/1"
    first, second, *_ = sorted(folder.iterdir())
    second.unlink()
    second.symlink_to(first)  # inside: fine
    assert doctor("phoenix2014", root, **QUIET).healthy
    shutil.move(first, tmp_path.parent / "elsewhere.png")
    first.symlink_to(tmp_path.parent / "elsewhere.png")
    report = doctor("phoenix2014", root, **QUIET)
    assert "train: 1 clips have frames that are links out of the corpus' folder ('b',)" in findings(report, "error")
    assert doctor("phoenix2014", root, allow_outside=True, **QUIET).healthy


def own(root: Path, *rows: str, header: str = "path,glosses,split,signer", clips: str = "abcd") -> Path:
    for number, clip in enumerate(clips):
        write_frames(root / clip, pictures(12, 16, 16, seed=number))
    (root / "annotations.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return root


def test_spellings_of_own_glosses(tmp_path):
    rows = ["a,HAUS* HAUS,train,anna", "b,Ich\u200b ICH,train,anna", "c,ich TAG;NACHT,train,ben", "d,ＩＣＨ,test,anna"]
    report = doctor("folder", own(tmp_path, *rows), **QUIET)
    text = findings(report, "warning")
    assert report.healthy
    assert "1 glosses hold characters that nobody sees: 'Ich\\u200b'" in text
    assert "1 glosses differ in their Unicode form alone: 'ICH' and 'ＩＣＨ'" in text
    assert "1 glosses differ in upper and lower case alone: 'ICH' and 'ich'" in text
    assert "2 glosses hold a ;, end in * or are an @: 'HAUS*', 'TAG;NACHT'" in text
    assert "so that 'HAUS' and 'HAUS*' count as equal" in text
    assert "there is no dev split" in text
    assert "6 of 6 glosses are signed fewer than 5 times in train: HAUS* (1)" in text
    fine = own(tmp_path / "fine", "a,A B A B A,train,", "b,B A B A B,train,", "c,A,dev,", "d,A,test,")
    assert "WARNING" not in doctor("folder", fine, **QUIET).text()


def test_the_same_clip_in_two_splits_and_one_signer(tmp_path):
    rows = ["a,A A A A A,train,anna", "b,A,dev,anna", "c,A,test,anna", "d,A,test,anna"]
    root = own(tmp_path, *rows)
    for clip, original in (("b", "a"), ("d", "c")):
        shutil.rmtree(root / clip)
        shutil.copytree(root / original, root / clip)
    report = doctor("folder", root, **QUIET)
    assert "1 clips are in more than one split, under other names ('a = b',)" in findings(report, "warning")
    assert "1 clips are in their split more than once, under other names ('c = d',)" in findings(report, "note")
    assert "one signer, anna, is in all splits" in findings(report, "note")
    prepare(load_corpus("folder", root), tmp_path / "packed", size=16, **QUIET)
    packed = doctor("folder", root, prepared=tmp_path / "packed", **QUIET)
    assert "('a = b',)" in findings(packed, "warning") and "('c = d',)" in findings(packed, "note")


def test_sizes_rates_and_clips_that_are_too_large(tmp_path, monkeypatch):
    for number, (clip, shape, rate) in enumerate((("a", (32, 32), 25), ("b", (32, 64), 30), ("c", (32, 32), 25))):
        write_video(tmp_path / f"{clip}.mp4", pictures(12, *shape, seed=number), rate=rate)
    rows = "a.mp4,A,train\nb.mp4,A,dev\nc.mp4,A,test\n"
    (tmp_path / "annotations.csv").write_text(f"path,glosses,split\n{rows}")
    text = findings(doctor("folder", tmp_path, **QUIET), "warning")
    assert "pictures differ in size: 32x32 (2), 64x32 (1) () and in shape" in text
    assert "frame rates differ: 25 (2), 30 (1)" in text and "decoded whole" not in text
    monkeypatch.setattr("slakit.data.clip_checks.MAX_BYTES", 12 * 32 * 32 * 3)
    assert "1 clips take more than 36.9 KB when they are decoded whole ('b',)" in findings(
        doctor("folder", tmp_path, **QUIET), "warning"
    )


def test_the_table_keeps_its_columns_apart(root, monkeypatch):
    monkeypatch.setitem(OFFICIAL, "phoenix2014", Size((20000, 19500), (1000, 949), (629,)))
    text = doctor("phoenix2014", root, **QUIET).text()
    assert "\ntrain        4 20000 or 19500        7        2" in text
    assert text.count("never occur in train") == 1  # not in the layout's notes again


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
