"""Exports, read back with the libraries of the field or by hand."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from slakit.decoding import GlossSpan
from slakit.recognition.exports import as_json, write_ctm_spans, write_elan, write_json, write_webvtt
from slakit.records import ConfigError
from slakit.scoring import read_ctm

SPANS = [
    GlossSpan("HAUS", 0, 10, 0.9, 25.0),
    GlossSpan("我们&<x>", 10, 25, 0.5, 25.0),
    GlossSpan("مرحبا", 100, 90_011, 1.0, 25.0),
]


def test_elan_opens_in_pympi(tmp_path):
    elan = pytest.importorskip("pympi", reason="pympi-ling is not installed").Elan
    video = tmp_path / "clip ä.mp4"
    truth = [GlossSpan("HAUS", 1, 9, 1.0, 25.0)]
    write_elan(tmp_path / "x.eaf", {"recognised": SPANS, "truth": truth, "empty": []}, video)
    document = elan.Eaf(str(tmp_path / "x.eaf"))
    assert set(document.get_tier_names()) == {"recognised", "truth", "empty"}
    assert sorted(document.get_annotation_data_for_tier("recognised")) == [
        (0, 400, "HAUS"),
        (400, 1000, "我们&<x>"),
        (4000, 3_600_440, "مرحبا"),
    ]
    assert document.get_annotation_data_for_tier("truth") == [(40, 360, "HAUS")]
    assert document.get_annotation_data_for_tier("empty") == []
    media = document.get_linked_files()
    assert [(m["MEDIA_URL"], m["RELATIVE_MEDIA_URL"]) for m in media] == [(video.as_uri(), "./clip ä.mp4")]
    document.to_file(str(tmp_path / "again.eaf"))  # what ELAN's own writers need is there


def test_elan_is_reproducible_and_without_video(tmp_path):
    day = datetime(2025, 1, 2, tzinfo=UTC)
    for name in ("a", "b"):
        write_elan(tmp_path / name, {"recognised": SPANS}, date=day)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert b'DATE="2025-01-02T00:00:00+00:00"' in (tmp_path / "a").read_bytes()
    assert b"MEDIA_DESCRIPTOR" not in (tmp_path / "a").read_bytes()


def test_webvtt(tmp_path):
    write_webvtt(tmp_path / "x.vtt", SPANS)
    text = (tmp_path / "x.vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n1\n00:00:00.000 --> 00:00:00.400\nHAUS\n\n2\n")
    assert "\n我们&amp;&lt;x&gt;\n" in text
    assert "\n00:00:04.000 --> 01:00:00.440\n" in text
    assert len(re.findall(r"^\d\d:\d\d:\d\d\.\d{3} --> ", text, re.M)) == 3


def test_json(tmp_path):
    write_json(tmp_path / "x.json", SPANS, video="clip.mp4", score=-1.5)
    content = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert content["glosses"] == ["HAUS", "我们&<x>", "مرحبا"]
    assert (content["video"], content["score"]) == ("clip.mp4", -1.5)
    assert content["spans"][1] == {
        "gloss": "我们&<x>", "start": 0.4, "end": 1.0, "start_frame": 10, "end_frame": 25, "confidence": 0.5
    }  # fmt: skip
    assert json.loads(as_json([]))["spans"] == []
    with pytest.raises(ConfigError, match="'spans'"):
        as_json(SPANS, spans=1)


def test_ctm(tmp_path):
    write_ctm_spans(tmp_path / "x.ctm", {"b": SPANS, "a": SPANS[:1], "c": []})
    assert (tmp_path / "x.ctm").read_text(encoding="utf-8").splitlines()[:2] == [
        "a 1 0.000 0.400 HAUS 0.9000",
        "b 1 0.000 0.400 HAUS 0.9000",
    ]
    assert read_ctm(tmp_path / "x.ctm", "abc") == {"a": "HAUS", "b": "HAUS 我们&<x> مرحبا", "c": ""}


@pytest.mark.parametrize(
    "spans,message",
    [
        ([GlossSpan("A", 5, 5, 1.0, 25.0)], "positive duration"),
        ([GlossSpan("A", -5, 5, 1.0, 25.0)], "positive duration"),
        ([GlossSpan("A", 0, 5, 1.0, 25.0), GlossSpan("B", 4, 8, 1.0, 25.0)], "'B' starts at 160 ms"),
        ([GlossSpan("A\x00", 0, 5, 1.0, 25.0)], "control characters"),
        ([GlossSpan("", 0, 5, 1.0, 25.0)], "control characters"),
    ],
)
def test_spans_that_cannot_be_written(tmp_path, spans, message):
    path = tmp_path / "x"
    for write in (write_webvtt, lambda p, s: write_elan(p, {"t": s}), lambda p, s: write_ctm_spans(p, {"v": s})):
        with pytest.raises(ConfigError, match=message):
            write(path, spans)
        assert not path.exists()


def test_errors_of_names(tmp_path):
    with pytest.raises(ConfigError, match="needs a tier"):
        write_elan(tmp_path / "x", {})
    with pytest.raises(ConfigError, match="no name"):
        write_elan(tmp_path / "x", {" ": SPANS})
    with pytest.raises(ConfigError, match="blanks"):
        write_ctm_spans(tmp_path / "x", {"a b": SPANS})
