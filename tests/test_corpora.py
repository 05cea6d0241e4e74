"""The corpora's readers: official layouts and sizes, quirks handled on purpose, hostile input refused."""

from __future__ import annotations

import csv
import os
import pickle
import shutil
import subprocess
import sys
import tracemalloc
import unicodedata
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loaders import make_loader
from media import pictures, shared, write_frames, write_video

from slakit.data.corpora import load_corpus
from slakit.data.corpora.pickles import load_plain_pickle
from slakit.data.doctor import doctor
from slakit.data.prepare import prepare
from slakit.data.video.read import read_frames
from slakit.records import ConfigError, Corpus, CorpusError, Sample, SlakitError, Vocabulary
from tests.layouts import LAYOUTS, export


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Corpus:
    """Five clips: three in train (one of them a folder of frames), one in dev, one in test."""
    root, made = tmp_path_factory.mktemp("tiny"), {}
    plan = {"train": (("A", "B"), ("B", "C", "C"), ("A",)), "dev": (("A", "C"),), "test": (("C", "D"),)}
    for split, all_glosses in plan.items():
        samples = []
        for number, glosses in enumerate(all_glosses):
            frames = pictures(5 + number, 24, 24, seed=number)
            name = f"{split}_{number}"
            source = write_frames(root / name, frames) if number == 2 else write_video(root / f"{name}.mp4", frames)
            samples.append(Sample(name, source, glosses, f"s{number}", len(frames)))
        made[split] = tuple(samples)
    return Corpus("tiny", root, **made, glosses=Vocabulary("ABCD"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_written_and_read_back(tiny, tmp_path, layout):
    out = export(tiny, layout, tmp_path / "out", size=(20, 24), show_progress=False)
    corpus = load_corpus(layout, out)
    assert corpus.name == layout and corpus.glosses == tiny.glosses
    splits = {name: tiny.split(name) for name in ("train", "dev", "test")}
    if layout == "csl":
        splits |= {"dev": splits["dev"] + splits["test"], "test": ()}
    for split, samples in splits.items():
        found = corpus.split(split)
        assert [s.glosses for s in found] == [s.glosses for s in samples]
        for read, original in zip(found, samples, strict=True):
            frames = read_frames(read.source)
            assert len(frames) == original.num_frames == (read.num_frames or len(frames))
            assert frames.shape[1:3] == ((24, 24) if layout == "folder" else (20, 24))
    assert any("never occur in train" in note for note in corpus.notes)
    report = doctor(layout, out, deep=True, show_progress=False)
    assert report.healthy, report.text()
    cached = prepare(corpus, tmp_path / "cache", size=24, show_progress=False)
    settings = {"image_size": 24, "crop_size": 20, "min_frames": 16}
    batches = list(make_loader(cached.train, cached.glosses, 2, True, **settings))
    assert sorted(i for b in batches for i in b.ids) == sorted(s.id for s in corpus.train)
    with pytest.raises(ConfigError, match="not empty"):
        export(tiny, layout, out)


def real(tmp_path: Path, layout: str) -> Path:
    """The shared real rows, put where the official release has them; no frames."""
    rows = shared("data", "annotations")
    if layout == "csl-daily":
        labels = tmp_path / "sentence_label"
        labels.mkdir()
        shutil.copy(rows / "csl-daily/split_1.txt", labels)
        dev, test = ((rows / f"csl-daily/video_map.{s}.txt").read_text("utf-8").splitlines() for s in ("dev", "test"))
        (labels / "video_map.txt").write_text("\n".join(dev + test[1:]) + "\n", "utf-8")
    else:
        folder = tmp_path / (
            "phoenix2014-release/phoenix-2014-multisigner" if layout == "phoenix2014" else "PHOENIX-2014-T"
        )
        manual = folder / "annotations/manual"
        manual.mkdir(parents=True)
        for path in (rows / ("phoenix2014" if layout == "phoenix2014" else "phoenix2014-T")).glob("*.corpus.csv"):
            shutil.copy(path, manual)
    return tmp_path


def tokens(samples) -> int:
    return sum(len(sample.glosses) for sample in samples)


def test_real_phoenix2014_rows(tmp_path):
    corpus = load_corpus("phoenix2014", real(tmp_path, "phoenix2014"))
    assert [len(s) for s in (corpus.train, corpus.dev, corpus.test)] == [5671, 540, 629]
    assert [tokens(s) for s in (corpus.train, corpus.dev, corpus.test)] == [65211, 5540, 6504]
    assert len(corpus.glosses) == 1296 and len(load_corpus("phoenix2014", tmp_path, vocabulary="train").glosses) == 1232
    assert corpus.dev[0].glosses[5:8] == ("TEMPERATUR", "SUED", "WARM")  # a double blank in the annotation
    assert "dev: 29 glosses (38 tokens) never occur in train and are classes all the same, as published" in corpus.notes
    assert any(note.startswith("test: 41 glosses (45 tokens)") for note in corpus.notes)
    signers = [sample.signer for sample in corpus.train]
    assert signers.count("Signer01") == 1475 and len(set(signers)) == 9


@pytest.mark.parametrize("official", [False, True])
def test_real_phoenix2014_t_rows(tmp_path, official):
    root = real(tmp_path, "phoenix2014-t")
    if official:  # the official video column says <name>/1/*.png
        for path in root.rglob("*.corpus.csv"):
            path.write_text(path.read_text("utf-8").replace("/*.png", "/1/*.png"), "utf-8")
    corpus = load_corpus("phoenix2014-t", root)
    assert [len(s) for s in (corpus.train, corpus.dev, corpus.test)] == [7096, 519, 642]
    assert [tokens(s) for s in (corpus.train, corpus.dev, corpus.test)] == [55247, 3748, 4264]
    assert len(corpus.glosses) == 1116
    first = corpus.dev[0]
    assert (first.signer, first.glosses) == ("Signer08", ("DRUCK", "TIEF", "KOMMEN"))
    features = root / "PHOENIX-2014-T/features/fullFrame-210x260px/dev"
    for layout in (first.id, f"{first.id}/1"):
        shutil.rmtree(features, ignore_errors=True)
        write_frames(features / layout, pictures(3, 8, 8))
        found = load_corpus("phoenix2014-t", root).dev[0].source
        assert found == features / layout and len(read_frames(found)) == 3


def test_real_csl_daily_rows(tmp_path):
    corpus = load_corpus("csl-daily", real(tmp_path, "csl-daily"))
    assert [len(s) for s in (corpus.dev, corpus.test)] == [1077, 1176]
    assert [tokens(s) for s in (corpus.dev, corpus.test)] == [8173, 9002]
    assert [sum(s.num_frames for s in split) for split in (corpus.dev, corpus.test)] == [131931, 150248]
    assert any("18401 clips of split_1.txt have no annotation" in note for note in corpus.notes)
    assert corpus.dev[0].signer == "0" and corpus.dev[1].signer == "8" and corpus.dev[0].fps == 30
    published = load_corpus("csl-daily", tmp_path, drop_last_sample=True)
    assert len(published.dev) == 1076 and tokens(corpus.dev[-1:]) == tokens(corpus.test[-1:]) == 7
    assert any("as the published loaders do" in note for note in published.notes)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def phoenix(root: Path, train: str = "b|b/1/*.png|Signer01|X Y\n") -> Path:
    for split, rows in (("train", train), ("dev", "d|d/1/*.png|Signer02|X\n"), ("test", "t|t/1/*.png|Signer02|Y\n")):
        write(root / f"annotations/manual/{split}.corpus.csv", "id|folder|signer|annotation\n" + rows)
    return root


def test_the_broken_phoenix_clip(tmp_path):
    broken = "13April_2011_Wednesday_tagesschau_default-14"
    phoenix(tmp_path, f"b|b/1/*.png|Signer01|X Y\n{broken}|{broken}/1/*.png|Signer07|Z\n")
    corpus = load_corpus("phoenix2014", tmp_path)
    assert [s.id for s in corpus.train] == ["b"] and "Z" not in corpus.glosses
    assert any(broken in note and "broken" in note for note in corpus.notes)
    assert len(load_corpus("phoenix2014", tmp_path, keep_broken=True).train) == 2


def csl_daily(root: Path) -> Path:
    write(root / "sentence_label/split_1.txt", "name|split\nS000001_P0002_T00|train\nS000005_P0004_T00|train\n"
          "S000020_P0000_T00|dev\nS000021_P0001_T00|test\n")  # fmt: skip
    entries = {"S000001_P0002_T00": "爱-1 APP", "S000007_P0003_T00": "APP 他", "S000020_P0000_T00": "他 4",
               "S000021_P0001_T00": "4 他"}  # fmt: skip
    rows = [f"{i}|{name}|54|{glosses}|x|x|r" for i, (name, glosses) in enumerate(entries.items())]
    write(root / "sentence_label/video_map.txt", "\n".join(["index|name|length|gloss|char|word|postag", *rows]))
    info = [
        {"name": name, "length": "54", "label_gloss": glosses.split(), "label_char": [], "signer": 2, "time": 0}
        for name, glosses in entries.items()
    ]
    with open(root / "sentence_label/csl2020ct_v2.pkl", "wb") as file:
        pickle.dump({"info": info, "gloss_map": OrderedDict(APP=1)}, file)
    return root


@pytest.mark.parametrize("annotation", ["text", "pickle"])
def test_csl_daily_quirks(tmp_path, annotation):
    corpus = load_corpus("csl-daily", csl_daily(tmp_path), annotation=annotation)
    assert [s.id for s in corpus.train] == ["S000001_P0002_T00", "S000007_P0003_T00"]
    assert corpus.glosses.glosses == ("4", "APP", "他", "爱-1")
    assert corpus.train[0].num_frames == 54 and corpus.train[1].signer == "3"
    assert any("1 clips of split_1.txt have no annotation" in n and "S000005_P0004_T00" in n for n in corpus.notes)
    assert any("1 annotated clips are in no split" in n and "S000007_P0003_T00" in n for n in corpus.notes)
    assert corpus.train[0].source == tmp_path / "sentence/frames_512x512/S000001_P0002_T00"


def test_csl_in_the_packaging_of_the_repositories(tmp_path):
    write(tmp_path / "train.txt", "/disk1/x/video0|我 爱\n/disk1/x/video451|你\n")
    write(tmp_path / "dev.txt", "video200|我 你\nvideo24999|爱\n")
    corpus = load_corpus("csl", tmp_path)
    assert [(s.id, s.signer) for s in corpus.train] == [("video0", "P01"), ("video451", "P41")]
    assert corpus.dev[1].signer == "P50" and corpus.test == () and len(corpus.glosses) == 4
    write(tmp_path / "dev.txt", "video200|我\nimages/200|爱\n")
    with pytest.raises(CorpusError, match=r"dev\.txt, line 2: 'images/200\|爱' is not <path>/video"):
        load_corpus("csl", tmp_path)


def test_csl_in_the_official_packaging(tmp_path):
    write(tmp_path / "corpus.txt", "000000 我 爱\n000001 你\n")
    for sentence in (0, 1):
        for name in (
            "P01_s1_00_0._color.avi",
            "P40_s1_00_0._color.avi",
            "P41_s1_00_0._color.avi",
            "P9_s1_00_0._color.avi",
        ):
            write(tmp_path / f"color/{sentence:03d}/{name}", "x")
    corpus = load_corpus("csl", tmp_path)
    assert [s.signer for s in corpus.train] == ["P01", "P09", "P40"] * 2 and [s.signer for s in corpus.dev] == [
        "P41"
    ] * 2
    assert any("sentence 000 has 4 clips, not 250" in note for note in corpus.notes)


def test_isharah_variants(tmp_path):
    lists = tmp_path / "annotations_v2/SI"
    write(lists / "train.txt", "id|gloss|text\n00_0001|بيت  كبير |x\n01_0001|بيت|x\n00_0700|قلم|x\n")
    write(lists / "dev.txt", "id|gloss\n02_0001|بيت\n")
    write(lists / "test.txt", "id\n08_0001\n")
    write_frames(tmp_path / "isharah1000/00/00_0001", pictures(2, 8, 8), "frame{:04d}.jpg", 0)
    corpus = load_corpus("isharah-1000", tmp_path)
    assert [len(s.glosses) for s in corpus.train] == [2, 1, 1] and corpus.train[0].signer == "00"
    assert len(read_frames(corpus.train[0].source)) == 2
    assert any("test: 1 of 1 clips have no glosses" in note for note in corpus.notes)
    assert any("1 of 2 sentences are annotated in more than one way" in note for note in corpus.notes)
    half = load_corpus("isharah-500", tmp_path)
    assert [s.id for s in half.train] == ["00_0001", "01_0001"] and any("rebuilt" in note for note in half.notes)
    with pytest.raises(CorpusError, match="isharah2000/SI"):
        load_corpus("isharah-2000", tmp_path)
    with pytest.raises(CorpusError, match="isharah1000/US"):
        load_corpus("isharah-1000", tmp_path, setup="US")
    with pytest.raises(ConfigError, match="setup='us'"):
        load_corpus("isharah-1000", tmp_path, setup="us")


def test_own_videos(tmp_path):
    rows = 'v/a b.mp4,HELLO YOU,train,anna,29.97\n"v/x,y.mp4",YOU,dev,ben,\n'
    table = write(tmp_path / "annotations.csv", "path,glosses,split,signer,fps\n" + rows)
    for root in (tmp_path, table):
        corpus = load_corpus("folder", root)
        assert corpus.train[0].id == "v_a_b" and corpus.train[0].fps == 29.97 and corpus.dev[0].signer == "ben"
        assert corpus.dev[0].source == tmp_path / "v/x,y.mp4" and corpus.test == ()
    for row, match in (
        ("a.mp4,,train", "no glosses"),
        ("a.mp4,X,trian", "split 'trian'"),
        ("a.mp4,X", "2 fields instead of 3"),
        ('a.mp4,"X,train', "quotes"),
        ("a.mp4,X,train,a/b", "id 'a/b' is no clip name"),
    ):
        write(table, f"path,glosses,split{',id' if row.count(',') == 3 else ''}\n{row}\n")
        with pytest.raises(CorpusError, match=rf"annotations\.csv, line 2.*{match}"):
            load_corpus("folder", tmp_path)
    for separator in ("\n", "\r\n", "\u2028"):  # spreadsheets write line breaks into cells
        write(table, f'path,glosses,split\na.mp4,"HELLO{separator}YOU",train\nb.mp4,YOU,dev\n')
        assert load_corpus("folder", tmp_path).train[0].glosses == ("HELLO", "YOU")
    write(table, "path,gloss,split\n")
    with pytest.raises(CorpusError, match="line 1: no column 'glosses'"):
        load_corpus("folder", tmp_path)


def ce_csl(root: Path, train: str, dev: str = "dev-00003,A,一本书。,一/书/看1/。,\n") -> Path:
    """Rows as in the official files (UTF-8, CRLF); no videos."""
    for split, rows in (("train", train), ("dev", dev), ("test", "test-00003,L,好。,雨/更2/好/。,\n")):
        text = "Number,Translator,Chinese Sentences,Gloss,Note\n" + rows
        write(root / f"CE-CSL/label/{split}.csv", text.replace("\n", "\r\n"))
    return root


def test_ce_csl_glosses_published_and_raw(tmp_path):
    rows = "train-00001,A,2023年高考到了。,2/0/2/3/高/考/时间/到/。,\n"
    rows += "train-00002,B,你能。,告诉（我）/（你）给（我）/10/更2/?,办\n"
    root = ce_csl(tmp_path, rows)
    corpus = load_corpus("ce-csl", root)
    assert [s.glosses for s in corpus.train] == [
        ("2", "0", "2", "3", "高", "考", "时间", "到", "。"),
        ("告诉", "给", "10", "更", "？"),
    ]
    assert [s.signer for s in corpus.train] == ["A", "B"] and corpus.dev[0].glosses == ("一", "书", "看", "。")
    assert corpus.test[0].source == root / "CE-CSL/video/test/L/test-00003.mp4"
    assert corpus.glosses.glosses == tuple(sorted(corpus.glosses.glosses))
    raw = load_corpus("ce-csl", root / "CE-CSL", glosses="raw")
    assert raw.train[1].glosses == ("告诉（我）", "（你）给（我）", "10", "更2", "?") and "看1" in raw.glosses
    with pytest.raises(ConfigError, match="glosses='Raw'"):
        load_corpus("ce-csl", root, glosses="Raw")
    ce_csl(tmp_path, "train-1,A,x,/,\n")
    with pytest.raises(CorpusError, match=r"train\.csv, line 2: the clip train-1 has no glosses"):
        load_corpus("ce-csl", root)
    ce_csl(tmp_path, "train-1,../A,x,高,\n")
    with pytest.raises(CorpusError, match=r"train\.csv, line 2: Translator '../A'"):
        load_corpus("ce-csl", root)


@pytest.mark.parametrize("place", ["GSL_continuous_files/GSL_SI", "GSL_continuous_files", "GSL_continuous", "."])
def test_gsl_lists(tmp_path, place):
    clip = "police1/police1_signer{}_rep1_sentences/sentences{:04d}|{}\n"
    for split, text in (
        ("train", clip.format(1, 0, "ΓΕΙΑ ΕΓΩ(1) ΜΠΟΡΩ ΒΟΗΘΩ")),
        ("dev", clip.format(3, 2, "ΠΡΟΒΛΗΜΑ ΤΙ")),
        ("test", clip.format(3, 3, "ΓΕΙΑ").rstrip()),  # the last line has no end in the official files
    ):
        write(tmp_path / place / f"gsl_split_SI_{split}.csv", text)
    (tmp_path / "GSL_continuous").mkdir(exist_ok=True)
    corpus = load_corpus("gsl-si", tmp_path)
    sample = corpus.train[0]
    assert (sample.id, sample.signer, sample.fps) == ("police1_signer1_rep1_sentences_sentences0000", "1", 30.0)
    assert sample.glosses == ("ΓΕΙΑ", "ΕΓΩ(1)", "ΜΠΟΡΩ", "ΒΟΗΘΩ") and corpus.test[0].signer == "3"
    assert sample.source == tmp_path / "GSL_continuous/police1/police1_signer1_rep1_sentences/sentences0000"
    assert len(corpus.glosses) == 7 and any("never occur in train" in note for note in corpus.notes)
    with pytest.raises(CorpusError, match=r"GSL_SD_train\.csv"):
        load_corpus("gsl-sd", tmp_path)
    for bad in ("police1_signer1_rep1_sentences/sentences0003|a|B", "../x/x_signer1_rep1_sentences/sentences1|B", "x|"):
        write(tmp_path / place / "gsl_split_SI_dev.csv", bad)
        with pytest.raises(CorpusError, match=r"gsl_split_SI_dev\.csv, line 1"):
            load_corpus("gsl-si", tmp_path)


def test_decomposed_glosses_become_one_class_and_that_is_said(tmp_path):
    apart = unicodedata.normalize("NFD", "ÄRGER")
    write(tmp_path / "annotations.csv", f"path,glosses,split\na.mp4,{apart} ICH,train\nb.mp4,ÄRGER,dev\n")
    corpus = load_corpus("folder", tmp_path)
    assert corpus.glosses.glosses == ("ICH", "ÄRGER") and corpus.train[0].glosses == ("ÄRGER", "ICH")
    assert any("1 glosses are written with combining characters" in note and "ÄRGER" in note for note in corpus.notes)
    write(tmp_path / "annotations.csv", "path,glosses,split\na.mp4,ÄRGER ICH,train\nb.mp4,ÄRGER,dev\n")
    assert not any("combining" in note for note in load_corpus("folder", tmp_path).notes)


def test_control_characters_are_refused_with_their_line(tmp_path):
    for code in (0x07, 0x1B, 0x7F, 0x9B):
        write(tmp_path / "annotations.csv", f"path,glosses,split\na.mp4,A,train\nb.mp4,B{chr(code)}C,dev\n")
        with pytest.raises(CorpusError, match=r"annotations\.csv, line 3: the control character") as caught:
            load_corpus("folder", tmp_path)
        assert repr(chr(code)) in str(caught.value)


@pytest.mark.parametrize("name", ["a" * 300, "手" * 90])
def test_names_that_no_disk_can_hold_are_refused_with_their_line(tmp_path, name):
    root = tmp_path / "annotations/manual"
    (tmp_path / "features/fullFrame-210x260px").mkdir(parents=True)
    write(root / "train.corpus.csv", f"id|folder|signer|annotation\nx|{name}/1/*.png|S1|HELLO\n")
    with pytest.raises(CorpusError, match=r"train\.corpus\.csv, line 2: the path .* is empty or no path"):
        load_corpus("phoenix2014", tmp_path)


def test_a_senseless_file_is_refused_without_reading_it_into_rows(tmp_path):
    """Memory: many short lines once took thirty times the file before line 2 was refused."""
    for layout, name in (("phoenix2014", "annotations/manual/train.corpus.csv"), ("csl", "train.txt"),
                         ("folder", "annotations.csv")):  # fmt: skip
        header = {"phoenix2014": "id|folder|signer|annotation\n", "folder": "path,glosses,split\n"}.get(layout, "")
        write(tmp_path / name, header + "ab\n" * 1_000_000)
        tracemalloc.start()
        with pytest.raises(CorpusError, match=r"line [12]"):
            load_corpus(layout, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 100 * 2**20  # 64 MiB to read any file
        tracemalloc.stop()


HOSTILE = [
    "/etc/passwd",
    "../../x",
    "a/../../../x",
    "C:/x",
    "\\\\host\\x",
    "..\\x",
    "link/x",
    "data.zip",
    "x" * 2000,
    "a\0b",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_paths_stay_in_the_root(tmp_path, path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/link").symlink_to(tmp_path)
    with open(tmp_path / "home/annotations.csv", "w", newline="") as file:
        csv.writer(file).writerows([("path", "glosses", "split"), (path, "A", "train")])
    with pytest.raises(CorpusError, match=r"annotations\.csv, line 2|zero byte"):
        load_corpus("folder", tmp_path / "home")


def test_paths_of_the_official_tables_are_checked_too(tmp_path):
    for field in ("../../../../x/1/*.png", "/x/*.png"):
        with pytest.raises(CorpusError, match=r"train\.corpus\.csv, line 2"):
            load_corpus("phoenix2014", phoenix(tmp_path / "a", f"b|{field}|S|X\n"))
    for name in ("..", "a/b", ".hidden", ""):
        with pytest.raises(CorpusError, match=r"train\.corpus\.csv, line 2: id"):
            load_corpus("phoenix2014", phoenix(tmp_path / "b", f"{name}|x/*.png|S|X\n"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = phoenix(tmp_path / "c")
    (root / "features/fullFrame-210x260px").mkdir(parents=True)
    os.symlink(elsewhere, root / "features/fullFrame-210x260px/train")
    with pytest.raises(CorpusError, match=r"link out of .*allow_outside=True"):
        load_corpus("phoenix2014", root)
    assert len(load_corpus("phoenix2014", root, allow_outside=True).train) == 1


def test_folders_with_a_dot_in_their_name_keep_it(tmp_path):
    for name in ("clip.v1", "clip.v2"):
        write_frames(tmp_path / name, pictures(2, 8, 8))
    write(tmp_path / "annotations.csv", "path,glosses,split\nclip.v1,A,train\nclip.v2,B,train\n")
    assert [sample.id for sample in load_corpus("folder", tmp_path).train] == ["clip.v1", "clip.v2"]


def test_annotation_that_is_no_file_is_not_waited_for(tmp_path):
    root = phoenix(tmp_path)
    table = root / "annotations/manual/dev.corpus.csv"
    table.unlink()
    os.mkfifo(table)
    with pytest.raises(CorpusError, match=r"dev\.corpus\.csv: not a file"):
        load_corpus("phoenix2014", root)
    table.unlink()
    table.symlink_to("/dev/zero")
    with pytest.raises(CorpusError, match=r"dev\.corpus\.csv: not a file"):
        load_corpus("phoenix2014", root)
    for name in ("isharah-500", "phoenix2014-si5"):
        with pytest.raises(ConfigError, match=r"has no option 'vocabulry'.*'vocabulary'"):
            load_corpus(name, root, vocabulry="train")


def test_wrong_roots_and_encodings(tmp_path):
    with pytest.raises(CorpusError, match="needs its folder"):
        load_corpus("phoenix2014")
    with pytest.raises(CorpusError, match="no such folder"):
        load_corpus("csl", tmp_path / "nothing")
    archive = write(tmp_path / "phoenix-2014.v3.tar.gz", "x")
    with pytest.raises(CorpusError, match="is an archive; extract"):
        load_corpus("phoenix2014", archive)
    with pytest.raises(CorpusError, match=r"found: phoenix.*extract phoenix-2014\.v3\.tar\.gz first"):
        load_corpus("phoenix2014", tmp_path)
    root = phoenix(tmp_path / "x")
    table = root / "annotations/manual/train.corpus.csv"
    good = table.read_text()
    for data, match in (
        (good.encode("utf-16"), "UTF-16"),
        (good.replace("X", "Ü").encode("latin-1"), r"line 2: byte 0xdc is not UTF-8"),
        (good.replace("X", "\0").encode(), "line 2: a zero byte"),
        (good.replace("|Signer01", "").encode(), "line 2: 3 fields instead of 4"),
        (b"id|folder|signer|annotation\n", "only a header"),
        (good.encode() + good.split("\n")[1].encode(), "line 3: id 'b' stands in line 2"),
    ):
        table.write_bytes(data)
        with pytest.raises(CorpusError, match=rf"train\.corpus\.csv.*{match}"):
            load_corpus("phoenix2014", root)
    table.write_bytes(b"\xef\xbb\xbf" + good.replace("\n", "\r\n").encode())  # byte order mark, Windows line ends
    assert load_corpus("phoenix2014", root).train[0].glosses == ("X", "Y")
    table.write_text(good + "d|d/1/*.png|S|X\n")
    with pytest.raises(CorpusError, match="the clip d is in train and in dev"):
        load_corpus("phoenix2014", root)


class Evil:
    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_execute_nothing(tmp_path, protocol):
    path, trace = tmp_path / "x.pkl", tmp_path / "trace"
    path.write_bytes(pickle.dumps({"info": [Evil(trace)]}, protocol))
    with pytest.raises(CorpusError, match=r"x\.pkl: not plain annotation.*mkdir"):
        load_plain_pickle(path)
    assert not trace.exists()
    plain = {"a": [1, "ü", (2.5, None)], 3: {"x": True}}
    path.write_bytes(pickle.dumps(plain, protocol))
    assert load_plain_pickle(path) == plain
    path.write_bytes(b"\x80\x04" + b"(" * 100000 + b".")
    with pytest.raises(CorpusError):
        load_plain_pickle(path)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80\x04]r\xff\xff\xff\x3f.",  # to place 1,073,741,823 of the memory of objects: 17 GB in CPython
        b"\x80\x05\x96\x00\x00\x00\x00\x04\x00\x00\x00.",  # a bytearray of 17 GB that is not there
        b"\x80\x04\x8d\x00\x00\x00\x00\x04\x00\x00\x00x.",  # and a string
    ],
)
def test_pickles_take_no_memory_for_what_is_not_there(tmp_path, bomb):
    path = tmp_path / "x.pkl"
    path.write_bytes(bomb)
    code = (
        "import resource, sys\n"
        "from slakit.data.corpora.pickles import load_plain_pickle\n"
        "from slakit.records import CorpusError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"try:\n    load_plain_pickle({str(path)!r})\n"
        "except CorpusError as error:\n    print('refused', 'MemoryError' in str(error))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000)\n"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=120)
    assert done.stdout.split() == ["refused", "False", "True"], done.stderr


FUZZ = settings(  # SLAKIT_FUZZ=20000 searches longer
    max_examples=int(os.environ.get("SLAKIT_FUZZ", "120")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
# what is mutated -> corpus, file
FILES = {
    "phoenix2014": ("phoenix2014", "annotations/manual/train.corpus.csv"),
    "phoenix2014-si5": ("phoenix2014-si5", "annotations/manual/test.SI5.corpus.csv"),
    "phoenix2014-t": ("phoenix2014-t", "annotations/manual/PHOENIX-2014-T.dev.corpus.csv"),
    "csl-daily split": ("csl-daily", "sentence_label/split_1.txt"),
    "csl-daily text": ("csl-daily", "sentence_label/video_map.txt"),
    "csl-daily pickle": ("csl-daily", "sentence_label/csl2020ct_v2.pkl"),
    "csl lists": ("csl", "train.txt"),
    "csl sentences": ("csl", "corpus.txt"),
    "isharah-1000": ("isharah-1000", "annotations_v2/isharah1000/SI/train.csv"),
    "ce-csl": ("ce-csl", "CE-CSL/label/train.csv"),
    "gsl-si": ("gsl-si", "GSL_continuous_files/GSL_SI/gsl_split_SI_train.csv"),
    "gsl-sd": ("gsl-sd", "GSL_continuous_files/GSL_SD_test.csv"),
    "folder": ("folder", "annotations.csv"),
    "minisign clips": ("minisign", "annotations/train.csv"),
    "minisign spans": ("minisign", "annotations/spans.csv"),
    "minisign glosses": ("minisign", "annotations/glosses.txt"),
    "minisign manifest": ("minisign", "manifest.json"),
}
PIECES = st.sampled_from(
    [b"|", b"\n", b"\r\n", b",", b'"', b" ", b"\0", b"..", b"/", b"\xff", b"\xef\xbb\xbf", b"id", b"-1"]
)


@st.composite
def mutated(draw, original: bytes) -> bytes:
    """The file with pieces overwritten, put in, cut out or doubled."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        piece = draw(
            st.one_of(PIECES, st.binary(max_size=6), st.text(max_size=4).map(lambda t: t.encode("utf-8", "replace")))
        )
        data[start:end] = draw(st.sampled_from([piece, bytes(data[start:end]) * 2, b""]))
    return bytes(data)


def small_root(name: str, tiny: Corpus, folder: Path) -> tuple[Path, dict]:
    """A small corpus whose annotation is to be mutated, and the options that read it."""
    layout = FILES[name][0]
    if name == "csl-daily pickle":
        return csl_daily(folder), {"annotation": "pickle"}
    if name == "csl sentences":
        write(folder / "corpus.txt", "000000 我 爱\n000001 你\n")
        write(folder / "color/000/P01_s1_00_0._color.avi", "x")
        write(folder / "color/001/P41_s1_00_0._color.avi", "x")
        return folder, {}
    if layout == "minisign":
        small = {"train": 2, "dev": 1, "test": 1, "progress": False}
        return load_corpus("minisign", folder, **small).root, {}
    return export(tiny, layout, folder / "out", size=(8, 8), show_progress=False), {}


@pytest.mark.parametrize("name", FILES)
def test_parsers_return_samples_or_name_the_file(tiny, tmp_path, name):
    root, options = small_root(name, tiny, tmp_path)
    layout, path = FILES[name][0], root / FILES[name][1]
    original = path.read_bytes()

    @FUZZ
    @given(mutated(original))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            corpus = load_corpus(layout, root, **options)
        except SlakitError as error:
            assert path.name in str(error) or "is in" in str(error), error
            return
        for split in (corpus.train, corpus.dev, corpus.test):
            for sample in split:
                assert sample.id and all(gloss.split() == [gloss] for gloss in sample.glosses)
                assert sample.source.resolve().is_relative_to(root.resolve())
                assert sample.num_frames is None or sample.num_frames > 0

    check()
