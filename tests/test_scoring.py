"""The word error rate against sclite's recorded answers, the real sclite where installed, jiwer and brute force."""

from __future__ import annotations

import json
import tracemalloc
from functools import cache
from itertools import groupby
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slakit.config import TrainConfig
from slakit.records import ConfigError, Corpus, CorpusError, Sample, SlakitError, Vocabulary
from slakit.scoring import (
    REPEATS_FLOOR,
    align_words,
    alignment,
    clean_gloss,
    clean_up,
    plain_wer,
    read_ctm,
    read_stm,
    sclite_command,
    sclite_counts,
    score,
    variants,
    write_ctm,
    write_stm,
)
from slakit.scoring.alignment import fold
from slakit.training.presets import preset, preset_names

CASES = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "wer_cases"
NAMES = sorted(p.stem for p in (CASES / "open").glob("*.json")) if CASES.exists() else ["absent"]
needs_sclite = pytest.mark.skipif(
    sclite_command() is None, reason="NIST's sclite (Debian package sctk) is not installed"
)


def counts(s) -> list[int]:
    return [s.correct, s.substitutions, s.deletions, s.insertions]


@pytest.mark.parametrize("name", NAMES)
def test_equals_recorded_sclite_for_every_video(name):
    if name == "absent":
        pytest.skip("sclite's recorded answers (shared/data/wer_cases) are not here")
    case = json.loads((CASES / "open" / f"{name}.json").read_text(encoding="utf-8"))
    expected = case["sclite_per_video_CSDI"]
    everything = json.loads((CASES / f"ref_{case['dataset']}_{case['split']}.json").read_text(encoding="utf-8"))
    references = {video: everything[video] for video in expected}
    hypotheses = references if case["hyps"] == "= references" else case["hyps"]
    result = score(references, hypotheses, case["dataset"])
    assert {video: counts(s) for video, s in result.per_video.items()} == expected
    official = case["sclite"]
    assert counts(result) == [official[k] for k in ("corr", "sub", "del", "ins")]
    assert (result.words, result.errors) == (official["ref_words"], official["err"])
    assert result.official_wer == official["official_percent"]
    assert result.wer == pytest.approx(100 * official["err"] / official["ref_words"])
    plain = plain_wer(references, hypotheses, case["dataset"])
    assert plain <= result.wer + 1e-9
    if case["scenario"] not in ("shuffle", "ties", "markup"):
        assert plain == pytest.approx(result.wer)


ALPHABET = ["A", "a", "B", "C", "Ä", "ä", "好", "مرحبا", "(X)", "D-", "Q*", "*", "Y;Z"]
words_ = st.lists(st.sampled_from([*ALPHABET, "@"]), max_size=9)


@needs_sclite
@given(videos=st.lists(st.tuples(words_, words_), min_size=30, max_size=60))
@settings(max_examples=6, deadline=None)
def test_equals_the_real_sclite_on_generated_cases(videos):
    """Raw scoring; sclite drops videos that a CTM file does not mention, so each hypothesis holds a gloss."""
    references = {f"v{i:03}": r for i, (r, _) in enumerate(videos)}
    hypotheses = {f"v{i:03}": [*h, "B"] for i, (_, h) in enumerate(videos)}
    references["v999"] = hypotheses["v999"] = ["A"]
    result = score(references, hypotheses)
    assert {video: tuple(counts(s)) for video, s in result.per_video.items()} == sclite_counts(references, hypotheses)


@needs_sclite
def test_equals_the_real_sclite_on_long_confusable_sentences():
    random = np.random.default_rng(0)
    draw = lambda: [f"G{g}" for g in random.integers(0, 4, size=random.integers(1, 25))]  # noqa: E731
    references, hypotheses = ({f"v{i:03}": draw() for i in range(150)} for _ in range(2))
    result = score(references, hypotheses)
    assert {video: tuple(counts(s)) for video, s in result.per_video.items()} == sclite_counts(references, hypotheses)
    assert plain_wer(references, hypotheses) < result.wer  # such data tell sclite's costs from the edit distance


@given(words_, words_)
@settings(max_examples=150, deadline=None)
def test_alignment_is_cheapest_and_spells_both_sides(reference, hypothesis):
    fold = [w.replace("A", "a").replace("B", "b").replace("C", "c").replace("D", "d") for w in reference + hypothesis]
    left, right = fold[: len(reference)], fold[len(reference) :]

    @cache
    def cost(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return 3 * (i + j)
        change = 0 if left[i - 1].lower() == right[j - 1].lower() and left[i - 1].isascii() else 4
        if left[i - 1] == right[j - 1]:
            change = 0
        return min(cost(i - 1, j) + 3, cost(i, j - 1) + 3, cost(i - 1, j - 1) + change)

    pairs = align_words(reference, hypothesis)
    assert [r for r, _ in pairs if r is not None] == reference
    assert [h for _, h in pairs if h is not None] == hypothesis
    assert (None, None) not in pairs
    s = score({"x": [*reference, "END"]}, {"x": [*hypothesis, "END"]})
    assert s.words == s.correct + s.substitutions + s.deletions
    total = sum(
        3 if r is None or h is None else 0 if r == h or (r.isascii() and r.lower() == h.lower()) else 4
        for r, h in pairs
    )
    assert total == cost(len(left), len(right))


@needs_sclite
def test_equals_the_real_sclite_after_each_corpus_clean_up():
    """Glosses that the rules rewrite or drop, empty hypotheses, repeats: cleaned here, counted there."""
    random = np.random.default_rng(1)
    glosses = ["loc-REGEN", "poss-EUCH", "HABEN2", "ZEIGEN", "NORDRAUM", "__PU__", "__EPENTHESIS__", "SUED-PLUSPLUS"]
    glosses += ["REGEN", "EUCH", "HABEN", "ZEIGEN-BILDSCHIRM", "NORD", "SUED", "好", "好", "cl-KOMMEN"]
    draw = lambda low: [str(g) for g in random.choice(glosses, size=random.integers(low, 8))]  # noqa: E731
    references, hypotheses = {f"V{i:03}": draw(1) for i in range(80)}, {f"V{i:03}": draw(0) for i in range(80)}
    for corpus, collapse in (("phoenix2014-t", False), ("csl-daily", True), ("phoenix2014", True)):
        given = {v: [g for g, _ in groupby(h)] if collapse else h for v, h in hypotheses.items()}
        cleaned = {video: clean_up(words) or ["[EMPTY]"] for video, words in given.items()}
        assert ["[EMPTY]"] in cleaned.values()
        result = score(references, hypotheses, corpus, collapse_repeats=collapse)
        assert {v: tuple(counts(s)) for v, s in result.per_video.items()} == sclite_counts(references, cleaned)


@needs_sclite
def test_what_sclite_would_pass_over_is_an_error():
    with pytest.raises(ConfigError, match=r"nothing recognised \(b\)"):
        sclite_counts({"a": "A", "b": "B"}, {"a": "A", "b": ""})
    with pytest.raises(ConfigError, match="case only"):
        sclite_counts({"a": "A", "A": "B"}, {"a": "A", "A": "B"})
    with pytest.raises(CorpusError, match="no hypothesis"):
        sclite_counts({"a": "A", "b": "B"}, {"a": "A"})


def test_without_sclite_the_way_out_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="apt install sctk"):
        sclite_counts({"a": "A"}, {"a": "A"})


def test_a_word_that_is_none_decides_between_alignments_of_the_same_cost():
    """ "@" counts for nothing, but its thousandth turns the tie; the second count was read off the real program."""
    reference = "好 * (X) Y;Z A * * A A"
    assert counts(score({"x": reference}, {"x": "A A 好 A A A A B"})) == [3, 4, 2, 1]
    assert counts(score({"x": reference}, {"x": "A A 好 @ A A A A B"})) == [4, 1, 4, 3]
    assert counts(score({"x": "@ A @"}, {"x": "@ @ A"})) == [1, 0, 0, 0] and plain_wer({"x": "@ A"}, {"x": "A @"}) == 0
    assert align_words(["@"], ["@"]) == (("@", "@"),), "without null it is a word as any other"


def test_prefers_deletions_and_insertions_to_many_substitutions():
    s = score({"x": "P Q A B C D E"}, {"x": "A B C D E R S"})
    assert counts(s) == [5, 0, 2, 2]
    assert s.wer == pytest.approx(400 / 7) and s.official_wer == 57.1
    assert [v.id for v in s.per_video.values()] == ["x"]
    assert s.per_video["x"].pairs[:3] == (("P", None), ("Q", None), ("A", "A"))
    assert "WER 57.14 %" in str(s)


@pytest.mark.parametrize(
    "gloss,cleaned",
    [
        ("loc-HAUS", "HAUS"), ("A-loc-cl-qu-B", "A-B"), ("poss-EUCH", "EUCH"), ("lh-X", "X"), ("lloc-oc-X", "loc-X"),
        ("S0NNE", "SONNE"), ("HABEN2", "HABEN"), ("XHABEN2Y", "XHABENY"), ("__EMOTION__", ""), ("__PU__", ""),
        ("A__PU__B", "AB"), ("__LEFTHAND__", ""), ("__EPENTHESIS__", ""), ("X__EPENTHESIS__Y", ""),
        ("ZEIGEN", "ZEIGEN-BILDSCHIRM"), ("ANZEIGEN", "ANZEIGEN-BILDSCHIRM"), ("ZEIGEN-BILDSCHIRM",) * 2,
        ("NORDRAUM", "NORD"), ("XRAUM", "XRAUM"), ("RAUM", "RAUM"), ("REGEN-PLUSPLUS", "REGEN"), ("loc-", ""),
        ("__ON__", "__ON__"), ("neg-X", "neg-X"), ("IX", "IX"), ("LOC-X", "LOC-X"), ("好", "好"),
    ],
)  # fmt: skip
def test_clean_up_of_a_gloss(gloss, cleaned):
    assert clean_gloss(gloss) == cleaned
    assert clean_up([gloss, "A"]) == [cleaned, "A"][not cleaned :]


def test_clean_up_is_the_corpus_and_of_the_hypothesis_only():
    references, hypotheses = {"a": "poss-EUCH REGEN"}, {"a": "poss-EUCH REGEN"}
    assert score(references, hypotheses).errors == 0
    assert score(references, hypotheses, "minisign").errors == 0
    for name in ("phoenix2014", "PHOENIX2014-T", "CSL-Daily", "csl", "phoenix2014-si5"):
        result = score(references, hypotheses, name)
        assert counts(result) == [1, 1, 0, 0] and result.cleaned
    assert score(references, hypotheses, "phoenix2014-t", clean_references=True).errors == 0
    with pytest.raises(ConfigError, match="'phoenix'"):
        score(references, hypotheses, "phoenix")


def test_empty_sides():
    assert counts(score({"a": "A B", "b": "C"}, {"a": "", "b": "C"})) == [1, 0, 2, 0]
    assert counts(score({"a": "A B", "b": "C"}, {"a": "", "b": "C"}, "csl")) == [1, 1, 1, 0]  # [EMPTY]
    assert counts(score({"a": "A B", "b": "C"}, {"a": "__PU__", "b": "C"}, "csl")) == [1, 1, 1, 0]
    assert counts(score({"a": "", "b": "C"}, {"a": "A B", "b": "C"})) == [1, 0, 0, 2]
    assert plain_wer({"a": "", "b": "C"}, {"a": "A B", "b": "C"}) == 200.0
    with pytest.raises(CorpusError, match="no reference gloss"):
        score({"a": ""}, {"a": "A"})
    with pytest.raises(CorpusError, match="no reference gloss"):
        plain_wer({"a": ""}, {"a": "A"})
    with pytest.raises(CorpusError, match="no videos"):
        score({}, {})


def test_white_space_and_lists():
    assert score({"a": " A\t\tB  C\n"}, {"a": ["A", "B", "C"]}).errors == 0
    assert score({"a": "A\u3000B"}, {"a": "A B"}).words == 1  # an ideographic space parts no words, as for sclite
    for bad in (["A B"], [""], [1]):
        with pytest.raises(ConfigError, match="no gloss"):
            score({"a": "A"}, {"a": bad})
    for bad in (None, 1, {"A"}):
        with pytest.raises(ConfigError, match="no sentence"):
            score({"a": "A"}, {"a": bad})


def test_case_is_folded_for_ascii_only():
    assert score({"a": "Wetter ÄHNLICH"}, {"a": "WETTER ähnlich"}).errors == 1


def test_ids_must_match():
    with pytest.raises(CorpusError, match=r"1 videos have no hypothesis \(b\) and 1 hypotheses .* \(c\)"):
        score({"a": "A", "b": "B"}, {"a": "A", "c": "B"})
    with pytest.raises(CorpusError, match="give a dict"):
        score([("a", "A")], {"a": "A"})


def test_glosses_outside_the_vocabulary_are_reported_and_count_as_wrong(tmp_path):
    sample = Sample("a", tmp_path, ("A", "B"))
    corpus = Corpus("minisign", tmp_path, (), (sample,), (), Vocabulary(["A", "B"]))
    result = score({"a": "A B"}, {"a": "A X X"}, corpus)
    assert result.unknown == {"X": 2} and counts(result) == [1, 1, 0, 1]


def test_collapse_of_repeats():
    assert score({"a": "A A B"}, {"a": "A A B"}, collapse_repeats=True).deletions == 1
    assert score({"a": "A B"}, {"a": "A loc-A B"}, "phoenix2014", collapse_repeats=True).insertions == 1


@pytest.mark.parametrize(
    "corpus,name", [("phoenix2014",) * 2, ("phoenix2014-t", "phoenix2014-T"), ("csl-daily", "CSL-Daily")]
)
def test_price_of_the_collapse_is_as_documented(corpus, name):
    for split, floor in zip(("dev", "test"), REPEATS_FLOOR[corpus], strict=True):
        path = CASES / f"ref_{name}_{split}.json"
        if not path.exists():
            pytest.skip("the official references (shared/data/wer_cases) are not here")
        references = json.loads(path.read_text(encoding="utf-8"))
        result = score(references, references, collapse_repeats=True)
        assert round(result.wer, 2) == floor and result.errors == result.deletions


def test_collapse_is_on_in_the_presets_of_papers_and_off_elsewhere():
    for name in preset_names():
        of_a_paper = not name.partition("@")[0].endswith(("/minisign", "/folder"))
        assert preset(name).train.decode.collapse_repeats == of_a_paper
    assert not TrainConfig().decode.collapse_repeats


def test_variants_side_by_side():
    references, hypotheses = {"a": "poss-X A A B", "b": "C"}, {"a": "poss-X A A B", "b": "__PU__ C"}
    table = variants(references, hypotheses, "phoenix2014-t")
    assert list(table.index) == [
        n + c for n in ("raw", "cleaned", "symmetric") for c in ("", ", repeats collapsed")
    ]  # fmt: skip
    errors = table[["substitutions", "deletions", "insertions"]].sum(axis=1)
    assert list(errors) == [1, 2, 1, 2, 0, 1]
    assert table.loc["raw", "wer"] == pytest.approx(20.0) and table.loc["raw", "plain_wer"] == pytest.approx(20.0)
    assert list(variants(references, hypotheses).index) == ["raw", "raw, repeats collapsed"]


# ---- files ----------------------------------------------------------------------------------------------------------


def test_stm_and_ctm_round_trip(tmp_path):
    references = {"b": "好 我们", "a": "A B", "c": ""}
    write_stm(tmp_path / "x.stm", references, {"a": "s1", "b": "s2", "c": "s1"})
    stm = read_stm(tmp_path / "x.stm")
    assert stm.references == references and stm.signers == {"a": "s1", "b": "s2", "c": "s1"}
    assert (tmp_path / "x.stm").read_text(encoding="utf-8").splitlines()[0] == "a 1 s1 0.0 1.79769e+308 A B"
    long = {"a": " ".join(f"G{i}" for i in range(1200)), "b": "مرحبا", "c": ""}
    write_ctm(tmp_path / "x.ctm", long)
    assert read_ctm(tmp_path / "x.ctm", long) == long
    assert read_ctm(tmp_path / "x.ctm") == {k: v for k, v in long.items() if v}


def test_files_of_other_programs(tmp_path):
    (tmp_path / "x.stm").write_bytes(b"\xef\xbb\xbf;; comment\r\na 1 s 0 2.5 <o,f0,male> A  B\r\n\r\nb A s 0.5 1\r\n")
    assert read_stm(tmp_path / "x.stm").references == {"a": "A B", "b": ""}
    (tmp_path / "x.ctm").write_text("a 1 10.0 0.1 C 0.9\na 1 9.0 0.1 B\nb 1 0 0 D\n", encoding="utf-8")
    assert read_ctm(tmp_path / "x.ctm") == {"a": "B C", "b": "D"}


@pytest.mark.parametrize(
    "text,message",
    [
        ("a 1 s 0.0\n", "x.stm:1: 4 fields"),
        ("a 1 s 0 1 A\na 1 s 0 1 B\n", "x.stm:2: the video 'a' comes a second time"),
        ("a 1 s x 1 A\n", "x.stm:1: 'x' is no time"),
        ("a 1 s 2 1 A\n", "ends at 1 before"),
        ("a 1 s nan 1 A\n", "'nan' is no time"),
        ("", "holds no reference"),
    ],
)
def test_stm_errors(tmp_path, text, message):
    (tmp_path / "x.stm").write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        read_stm(tmp_path / "x.stm")


@pytest.mark.parametrize(
    "text,message",
    [
        ("a 1 0.0 A\n", "x.ctm:1: 4 fields"),
        ("a 1 0.0 0.1 A B C\n", "x.ctm:1: 7 fields"),
        ("a 1 0 1 A\na 1 0.0 1 B\n", "x.ctm:2: 'a' has two glosses at 0.0"),
        ("a 1 -1 1 A\n", "'-1' is no time"),
        ("z 1 0 1 A\n", r"1 ids are unknown \(z\)"),
        ("", "holds no gloss of any video"),
        (";; a comment\n", "holds no gloss of any video"),
    ],
)
def test_ctm_errors(tmp_path, text, message):
    (tmp_path / "x.ctm").write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        read_ctm(tmp_path / "x.ctm", ["a", "b"])


def test_file_errors(tmp_path):
    with pytest.raises(CorpusError, match="no such file"):
        read_stm(tmp_path / "none.stm")
    (tmp_path / "latin.ctm").write_bytes("a 1 0 1 ÄRGER\n".encode("latin-1"))
    with pytest.raises(CorpusError, match="not UTF-8"):
        read_ctm(tmp_path / "latin.ctm")
    for references, signers in [
        ({"a b": "A"}, None),
        ({"a": "A"}, {"a": "s 1"}),
        ({"a": "A"}, {}),
        ({"a": "{ A }"}, None),
        ({"a": "\ud800"}, None),
        ({1: "A", "a": "B"}, None),
    ]:
        with pytest.raises(CorpusError):
            write_stm(tmp_path / "x.stm", references, signers)


@given(st.binary(max_size=60) | st.text(alphabet="ab 01.\t\n;<>-e", max_size=60).map(str.encode))
@settings(max_examples=150, deadline=None)
def test_parsers_give_an_answer_or_our_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "x"
    path.write_bytes(content)
    for read in (read_stm, read_ctm):
        try:
            read(path)
        except CorpusError as error:
            assert str(path) in str(error)


gloss = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Z")), min_size=1, max_size=6).filter(
    lambda g: g.split() == [g] and g not in "}/" and "{" not in g and not g.startswith("<")
)


@given(st.dictionaries(st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True), st.lists(gloss, max_size=5), min_size=1))
@settings(max_examples=60, deadline=None)
def test_any_glosses_survive_the_files(tmp_path_factory, sentences):
    folder = tmp_path_factory.mktemp("round")
    expected = {video: " ".join(glosses) for video, glosses in sentences.items()}
    write_stm(folder / "x.stm", sentences)
    assert read_stm(folder / "x.stm").references == expected
    write_ctm(folder / "x.ctm", sentences)
    if any(sentences.values()):
        assert read_ctm(folder / "x.ctm", sentences) == expected
    try:
        result = score(sentences, expected)
    except SlakitError as error:
        assert "no reference gloss" in str(error)
    else:
        assert result.wer == 0.0


# ---- what means something to sclite ---------------------------------------------------------------------------------


@needs_sclite
@pytest.mark.parametrize(
    "reference,hypothesis",
    [
        ("A ;x C", "A C"), ("A C", "A ;y C"), ("A ;x C", "A ;;y C"), ("A ;;B C", "A ;;X C"), (";;B C", "C"),
        ("A ; ; C", "A ; C"), ("A *;q C", "A * C"), ("A @;q C", "A C"), ("A B;x C", "A b C"), ("A ;* C", "A * C"),
        ("A / C", "A / C"), ("A (B) C", "A C"), ("A B* C", "A B C"), ("A <b> C", "A <b> C"),
    ],
)  # fmt: skip
def test_odd_words_are_counted_as_sclite_does(reference, hypothesis):
    try:
        expected = sclite_counts({"v": reference}, {"v": hypothesis})["v"]
    except CorpusError:
        assert "/" in reference.split()  # what write_stm refuses, sclite counts as a word
        expected = (3, 0, 0, 0)
    found = score({"v": reference}, {"v": hypothesis})
    assert (found.correct, found.substitutions, found.deletions, found.insertions) == expected


@pytest.mark.parametrize(
    "text,message",
    [
        ("b 1 s 0 1 A\na 1 s 0 1 A { B / C D } E\n", r"x.stm:2: '\{' begins alternatives"),
        ("a 1 s 0 1 A {B C\n", r"x.stm:1: '\{B' begins alternatives"),
        ("a 1 s 0 1 Ignore_Time_Segment_In_Scoring\n", "x.stm:1: Ignore_.* leaves 'a' out of scoring"),
        ("a 1 s 0 1 A \x1b[31mB\n", r"x.stm, line 1: the control character '\\x1b'"),
    ],
)
def test_markup_of_stm_is_refused_with_the_line(tmp_path, text, message):
    (tmp_path / "x.stm").write_text(text, encoding="utf-8")
    with pytest.raises(CorpusError, match=message):
        read_stm(tmp_path / "x.stm")


def test_alternatives_and_channels_of_ctm_are_refused_with_the_line(tmp_path):
    (tmp_path / "x.stm").write_text("a A s 0 1 A B\nb 1 s 0 1 C\n", encoding="utf-8")
    stm = read_stm(tmp_path / "x.stm")
    for text, message in (
        ("a a 0 1 A\na a 1 1 <alt>\n", "x.ctm:2: <alt> belongs to alternatives"),
        ("a a 0 1 A\nb 2 0 1 C\n", "x.ctm:2: channel '2' of 'b', elsewhere '1'"),
        ("b 1 0 1 C\na 1 0 1 A\n", "x.ctm:2: channel '1' of 'a', elsewhere 'a'"),
        ("a a 0 1 A\na a * * <ALT_BEGIN>\n", "x.ctm:2: <ALT_BEGIN> belongs"),
    ):
        (tmp_path / "x.ctm").write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError, match=message):
            read_ctm(tmp_path / "x.ctm", stm)
    (tmp_path / "x.ctm").write_text("a a 0 1 A\nb 1 0 1 C\n", encoding="utf-8")
    assert read_ctm(tmp_path / "x.ctm", stm) == {"a": "A", "b": "C"}
    with pytest.raises(CorpusError, match="'<ALT>' of a is no word in a CTM file"):
        write_ctm(tmp_path / "y.ctm", {"a": "A <ALT> B"})
    assert not (tmp_path / "y.ctm").exists()


# ---- long videos ----------------------------------------------------------------------------------------------------


def whole_table(reference, hypothesis, null=None):
    """The alignment with the whole table in plain Python, cell by cell as net_dp.c has it."""
    left, top = [fold(word) for word in reference], [fold(word) for word in hypothesis]
    number = np.float32 if null in left or null in top else int
    down = [number(0.001 if word == null else 3) for word in left]
    across = [number(0.001 if word == null else 3) for word in top]
    cost, move = [[number(0)]], [["I"] * (len(top) + 1)]
    for step in across:
        cost[0].append(cost[0][-1] + step)
    for i in range(1, len(left) + 1):
        above, row, moves = cost[-1], [cost[-1][0] + down[i - 1]], ["D"]
        for j in range(1, len(top) + 1):
            price = number(4 if left[i - 1] != top[j - 1] else 1 if top[j - 1] == null else 0)
            diagonal, deletion, insertion = above[j - 1] + price, above[j] + down[i - 1], row[j - 1] + across[j - 1]
            best = "S" if diagonal <= deletion and diagonal <= insertion else "D" if deletion < insertion else "I"
            row.append({"S": diagonal, "D": deletion, "I": insertion}[best])
            moves.append(best)
        cost.append(row)
        move.append(moves)
    pairs, i, j = [], len(left), len(top)
    while i or j:
        step = move[i][j]
        i, j = i - (step != "I"), j - (step != "D")
        pairs.append((reference[i] if step != "I" else None, hypothesis[j] if step != "D" else None))
    return tuple(pair for pair in reversed(pairs) if null is None or null not in pair)


@given(
    st.lists(st.sampled_from(["a", "A", "b", "c", "@", "ä"]), max_size=40),
    st.lists(st.sampled_from(["a", "A", "b", "c", "@", "ä"]), max_size=40),
    st.sampled_from([None, "@"]),
    st.sampled_from([0, 1, 30, 2**22]),
)
@settings(max_examples=400, deadline=None)
def test_the_alignment_in_blocks_is_that_of_the_whole_table(reference, hypothesis, null, whole):
    """To the pair, whether the moves of all rows are kept or those of one block."""
    with mock.patch.object(alignment, "WHOLE", whole):
        assert align_words(reference, hypothesis, null) == whole_table(reference, hypothesis, null)


@pytest.mark.thorough
def test_a_video_of_twenty_thousand_words_takes_little_memory():
    """The whole table has 360 million cells."""
    random = np.random.default_rng(0)
    words = [f"G{k}" for k in random.integers(0, 1000, 20_000)]
    heard = [word for word in words if random.random() > 0.1]
    align_words(words[:50], heard[:50], "@")  # compiled before it is measured
    tracemalloc.start()
    found = score({"v": words}, {"v": heard})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 2**20 and found.deletions >= len(words) - len(heard) and found.insertions < 200
    assert found.substitutions + found.correct + found.deletions == 20_000
