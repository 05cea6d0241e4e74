"""annotations.csv from ELAN files, names and tables; videos cut without encoding them anew; and back to ELAN."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from collections import Counter

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

import slakit
from slakit.__main__ import main
from slakit.data.annotate import Clip, annotate, splits_by
from slakit.data.elan import read_elan
from slakit.data.video.cutting import cut
from slakit.decoding import GlossSpan
from slakit.minisign.phone import draw
from slakit.recognition.exports import as_elan
from slakit.records import ConfigError, CorpusError, SlakitError


def film(path, seconds=6.0, key_frames=25, size=(64, 96)):
    """A video whose brightness is its frame's number, a key frame every so many frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        options = {"crf": "1", "g": str(key_frames), "sc_threshold": "0", "preset": "ultrafast"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(round(25 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def span(gloss, start, end):
    return GlossSpan(gloss, round(25 * start), round(25 * end), 1.0, 25.0)


@pytest.mark.parametrize(("start", "end", "copied"), [(1.0, 2.2, True), (2.04, 3.4, True), (2.4, 3.6, False)])
def test_a_part_is_copied_where_a_key_frame_begins_it(tmp_path, start, end, copied):
    video = film(tmp_path / "long.mp4")
    assert cut(video, start, end, tmp_path / "part.mp4") is copied
    numbers = slakit.read_frames(tmp_path / "part.mp4").mean((1, 2, 3)).round()
    first = round(25 * start) - (25 * start) % 25 * copied
    assert abs(len(numbers) - (25 * end - first)) <= 1
    assert np.abs(numbers - first - np.arange(len(numbers))).max() <= 2, "the grey levels, rounded in encoding"
    with pytest.raises(SlakitError, match="nothing from 9"):
        cut(video, 9.0, 10.0, tmp_path / "none.mp4")
    assert not (tmp_path / "none.mp4").exists()


def test_from_elan_to_clips_to_recognition_and_back(tmp_path, capsys):
    folder = tmp_path / "mine"
    film(folder / "monday.mp4")
    tiers = {
        "sentences": [span("s1", 0, 2), span("s2", 2, 4), span("s3", 4, 5.6)],
        "glosses": [span("HELLO", 0.2, 0.8), span("YOU", 1, 1.6), span("GOOD", 2.2, 3), span("YOU", 4.4, 5)],
    }
    (folder / "monday.eaf").write_bytes(as_elan(tiers, folder / "monday.mp4", beside=folder / "monday.eaf"))
    command = [
        "annotate",
        str(folder),
        "--tier",
        "glosses",
        "--utterances",
        "sentences",
        "--dev",
        "0.34",
        "--test",
        "0",
    ]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert "nobody says who signs" in told and "signed fewer than 5 times" in told
    rows = rows_of(folder / "annotations.csv")
    assert [row["glosses"] for row in rows] == ["HELLO YOU", "GOOD", "YOU"]
    assert [row["path"] for row in rows] == [f"clips/monday_000{n}.mp4" for n in (1, 2, 3)]
    assert [row["split"] for row in rows].count("dev") == 1 and rows[1]["split"] == "train"  # GOOD is there alone
    corpus = slakit.load_corpus("folder", folder)
    lengths = [len(slakit.read_frames(folder / row["path"])) for row in rows]
    assert np.abs(np.array(lengths) - [50, 50, 40]).max() <= 3
    model = slakit.create_model("frozen", corpus.glosses, "tiny-clip", hidden_size=8)
    result = slakit.recognize(model, corpus.train[0].source)
    assert not result.spans or result.save(folder / "back/answer.eaf")
    again = folder / "back/again.eaf"
    (folder / "back").mkdir(exist_ok=True)
    again.write_bytes(as_elan({"recognised": tiers["glosses"]}, folder / "monday.mp4", beside=again))
    media = ElementTree.parse(again).getroot().find(".//MEDIA_DESCRIPTOR")
    assert media.get("RELATIVE_MEDIA_URL") == "../monday.mp4"
    read = read_elan(again).tiers["recognised"]
    assert [(a.text, a.start, a.end) for a in read][:2] == [("HELLO", 200, 800), ("YOU", 1000, 1600)]
    assert main(command) == 2 and "is there already" in capsys.readouterr().err
    assert main([*command[:2], "--overwrite"]) == 2
    assert (
        "which tier holds the glosses? Name it; those with annotations are sentences, glosses"
        in capsys.readouterr().err
    )


def test_from_names_and_tables(tmp_path, capsys):
    for name in ("anna_01_HELLO-YOU", "ben_02_GOOD", "anna_03_HELLO-GOOD", "ben_04_YOU"):
        film(tmp_path / f"in/{name}.mp4", 0.4)
    assert main(["annotate", str(tmp_path), "--names", "{signer}_{number}_{glosses}", "--dev", "0.25"]) == 0
    rows = rows_of(tmp_path / "annotations.csv")
    assert {(row["signer"], row["glosses"]) for row in rows} >= {("anna", "HELLO YOU"), ("ben", "GOOD")}
    (tmp_path / "list.csv").write_text("Datei;Satz;person\nanna_01_HELLO-YOU.mp4;HALLO DU;A\nben_02_GOOD;Hallo;B\n")
    command = ["annotate", str(tmp_path), "--table", str(tmp_path / "list.csv"), "--out", "own.csv"]
    assert main(command) == 2
    assert "which column has the glosses? It has Datei, Satz, person; say it with --column" in capsys.readouterr().err
    assert main([*command, "--column", "glosses", "Satz", "--dev", "0", "--test", "0"]) == 0
    told = capsys.readouterr().out
    assert "there is no dev split" in told and "upper and lower case alone: 'HALLO' and 'Hallo'" in told
    assert [row["path"] for row in rows_of(tmp_path / "own.csv")] == ["in/anna_01_HELLO-YOU.mp4", "in/ben_02_GOOD.mp4"]
    with pytest.raises(CorpusError, match=r"separated by ';', not commas; .* slakit annotate"):
        slakit.load_corpus("folder", tmp_path / "list.csv")
    for options, told in (
        ({"names": "{signer}_{gloss}"}, "no {glosses}|no part of a name"), ({"names": "x{glosses}"}, "its name is not"),
        ({"split": "speaker"}, "none of sentence, signer, random"), ({"dev": 0.6, "test": 0.5}, "shares of the clips"),
        ({"out": "../a.csv"}, "no name of a CSV file"), ({}, "no .eaf files"),
    ):  # fmt: skip
        with pytest.raises(SlakitError, match=told):
            annotate(tmp_path, **{"out": "new.csv", **options})


@given(
    some.lists(
        some.tuples(some.sampled_from("ABC"), some.lists(some.sampled_from("UVWXYZ"), min_size=1, max_size=3)),
        min_size=2,
    ),
    some.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_splits_keep_sentences_and_signers_together_and_words_in_train(found, seed):
    clips = [Clip(f"{n}.mp4", tuple(glosses), signer) for n, (signer, glosses) in enumerate(found)]
    for way, key in (("sentence", "glosses"), ("signer", "signer"), ("random", "path")):
        if way == "signer" and len({clip.signer for clip in clips}) < 2:
            continue
        split = splits_by(way, clips, 0.2, 0.2, seed)
        assert split == splits_by(way, clips, 0.2, 0.2, seed) and any(clip.split == "train" for clip in split)
        groups = Counter((getattr(clip, key), clip.split) for clip in split)
        assert len(groups) == len({group for group, _ in groups})
        if way != "signer":
            known = {gloss for clip in split if clip.split == "train" for gloss in clip.glosses}
            assert known == {gloss for clip in clips for gloss in clip.glosses}
            assert sum(clip.split == "test" for clip in split) <= round(0.2 * len(clips))


BOMB = '<!DOCTYPE a [<!ENTITY b "HELLO"><!ENTITY c "&b;&b;">]><ANNOTATION_DOCUMENT>&c;</ANNOTATION_DOCUMENT>'
TIER = '<TIER TIER_ID="t"><ANNOTATION><{} ANNOTATION_ID="a" {}/></ANNOTATION></TIER>'
TIER = f"<ANNOTATION_DOCUMENT>{TIER}</ANNOTATION_DOCUMENT>"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "document type or entities"), ("<a", "no XML"), ("<html/>", "no ELAN document"),
        (TIER.format("ALIGNABLE_ANNOTATION", 'TIME_SLOT_REF1="x" TIME_SLOT_REF2="y"'), "time 'x' is None"),
        (TIER.format("REF_ANNOTATION", 'ANNOTATION_REF="a"'), "has no time"),
    ],
)  # fmt: skip
def test_what_is_no_elan_document_is_refused(tmp_path, text, told):
    (tmp_path / "x.eaf").write_text(text)
    with pytest.raises(CorpusError, match=told):
        read_elan(tmp_path / "x.eaf")


ELAN = as_elan({"glosses": [span("HELLO", 0, 1), span("YOU", 1, 2)]}, "/somewhere/a.mp4").decode()


@given(some.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_changed_document_is_read_or_refused_in_a_sentence(tmp_path, data):
    start = data.draw(some.integers(0, len(ELAN)))
    end = data.draw(some.integers(start, min(len(ELAN), start + 40)))
    text = (
        ELAN[:start]
        + data.draw(some.text(max_size=12) | some.sampled_from(["<", '"', "&b;", "ts1", "-5", "9" * 30]))
        + ELAN[end:]
    )
    (tmp_path / "x.eaf").write_bytes(text.encode("utf-8", "replace"))
    try:
        document = read_elan(tmp_path / "x.eaf")
    except CorpusError as error:
        assert "x.eaf" in str(error)
    else:
        assert all(0 <= a.start < a.end for tier in document.tiers.values() for a in tier)


def test_a_video_is_looked_for_below_the_folder_alone(tmp_path):
    secret = film(tmp_path / "secret.mp4", 0.4)
    (tmp_path / "mine").mkdir()
    document = as_elan({"g": [span("A", 0, 0.2)]}, secret, beside=tmp_path / "mine/a.eaf").decode()
    assert "../secret.mp4" in document
    (tmp_path / "mine/a.eaf").write_text(document)
    with pytest.raises(CorpusError, match=r"its video is not beside it \(secret.mp4\)"):
        read_elan(tmp_path / "mine/a.eaf").video()


def test_the_phone_clips_can_be_annotated_from_a_spreadsheet(tmp_path, capsys):
    folder = draw(tmp_path / "p", 4, 1, 1, progress=False)
    rows = rows_of(folder / "annotations.csv")
    table = "\n".join(["video\tsentence\tperson", *(f"{r['path']}\t{r['glosses']}\t{r['signer']}" for r in rows)])
    (folder / "list.tsv").write_text(table)
    with pytest.raises(ConfigError, match="is there already"):
        annotate(folder, folder / "list.tsv")
    report = annotate(folder, folder / "list.tsv", split="signer", dev=0.3, test=0.3, out="by_signer.csv")
    assert any("signers are not in train" in finding.message for finding in report.findings)
    corpus = slakit.load_corpus("folder", folder / "by_signer.csv")
    assert len({s.signer for s in corpus.train} | {s.signer for s in corpus.dev}) >= 2
