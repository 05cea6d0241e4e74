"""Intervals, paired tests, tables and aligned sentences; the matched-pairs test against NIST's own program."""

from __future__ import annotations

import html
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from slakit.__main__ import main
from slakit.records import ConfigError, CorpusError, Sample
from slakit.scoring import (
    aligned_sentences,
    bootstrap_interval,
    confusion_matrix,
    confusions,
    matched_pairs,
    never_recognised,
    paired_bootstrap,
    per_length,
    per_signer,
    score,
    write_ctm,
    write_stm,
)
from slakit.scoring.statistics import segments

SCTK = shutil.which("sctk")


def corrupted(references: dict[str, list[str]], rate: float, seed: int) -> dict[str, list[str]]:
    """Substitutions, deletions and insertions (never behind the last gloss), each hypothesis with a gloss."""
    random = np.random.default_rng(seed)
    result = {}
    for video, glosses in references.items():
        words = []
        for gloss in glosses:
            draw = random.random()
            if draw < rate:
                words.append(f"X{random.integers(9)}")
            elif draw < 1.5 * rate:
                continue
            else:
                words += ["Y", gloss] if draw < 2 * rate else [gloss]
        result[video] = [*words, "END"]
    return result


def sentences(count: int, seed: int = 0) -> dict[str, list[str]]:
    random = np.random.default_rng(seed)
    return {
        f"v{i:03}": [*(f"G{g}" for g in random.integers(0, 12, size=random.integers(1, 14))), "END"]
        for i in range(count)
    }


@pytest.mark.skipif(SCTK is None, reason="NIST's sc_stats (Debian package sctk) is not installed")
@pytest.mark.parametrize("rates,seed", [((0.08, 0.16), 1), ((0.1, 0.1), 2), ((0.02, 0.3), 3)])
def test_matched_pairs_equals_sc_stats(tmp_path, rates, seed):
    references = sentences(80, seed)
    systems = [corrupted(references, rate, 10 * seed + i) for i, rate in enumerate(rates)]
    write_stm(tmp_path / "ref.stm", references)
    piped = b""
    for i, system in enumerate(systems):
        write_ctm(tmp_path / f"h{i}", system)
        command = [SCTK, "sclite", "-h", f"h{i}", "ctm", "-r", "ref.stm", "stm", "-f", "0", "-o", "sgml", "stdout"]
        piped += subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=60).stdout
    command = [SCTK, "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "both"]
    subprocess.run(command, cwd=tmp_path, input=piped, capture_output=True, check=True, timeout=60)
    line = re.search(r"MTCH_PR_RESULTS.*", next(Path(tmp_path).glob("both*mapsswe")).read_text())[0]
    first, second = (score(references, system) for system in systems)
    result = matched_pairs(first, second)
    assert int(re.search(r"# segs: (\d+)", line)[1]) == result.segments
    assert float(re.search(r"Z Stat: +(-?[\d.]+)", line)[1]) == pytest.approx(result.z, abs=6e-4)
    assert result.p_value == pytest.approx(math.erfc(abs(result.z) / math.sqrt(2)))
    assert result.difference == pytest.approx(first.wer - second.wer)
    swapped = matched_pairs(second, first)
    assert (swapped.z, swapped.p_value) == (pytest.approx(-result.z), pytest.approx(result.p_value))


def test_segments_by_hand():
    reference = "A B C D E F G H"
    first = score({"x": reference}, {"x": "X B C D E F G H"}).per_video["x"].pairs
    second = score({"x": reference}, {"x": "A B C D X X Y G H Z"}).per_video["x"].pairs
    # A wrong, B C right: segment; E F wrong, Y inserted, G H right: segment; Z inserted at the end: segment
    assert segments(first, second) == [(1, 0), (0, 3), (0, 1)]
    assert segments(first, second, min_good=3) == [(1, 0), (0, 4)]
    assert segments(first, first, min_good=8) == [(1, 1)]


def test_identical_and_perfect_systems():
    references = sentences(20)
    perfect, noisy = score(references, references), score(references, corrupted(references, 0.2, 0))
    assert matched_pairs(perfect, perfect).p_value == matched_pairs(noisy, noisy).p_value == 1.0
    assert paired_bootstrap(noisy, noisy, samples=200).p_value == 1.0
    assert bootstrap_interval(perfect, samples=200).high == 0.0


def test_tests_tell_a_clear_difference_and_not_none():
    references = sentences(120)
    good, bad = (score(references, corrupted(references, rate, 5)) for rate in (0.05, 0.25))
    same = [score(references, corrupted(references, 0.15, seed)) for seed in (6, 7)]
    for test in (paired_bootstrap, matched_pairs):
        assert test(good, bad).p_value < 0.01
        assert test(good, bad).difference == pytest.approx(good.wer - bad.wer)
        assert test(*same).p_value > 0.05
    result = paired_bootstrap(good, bad, samples=2000)
    assert result.low < good.wer - bad.wer < result.high < 0


def test_bootstrap_interval_covers_the_truth():
    """95 of 100 intervals hold the expected WER, give or take the binomial spread; it narrows with more videos."""
    inside, widths = 0, {}
    for count in (40, 160):
        for seed in range(60):
            random = np.random.default_rng(seed)
            wrong = random.random((count, 10)) < 0.3
            references = {str(i): ["A"] * 10 for i in range(count)}
            hypotheses = {str(i): ["B" if w else "A" for w in row] for i, row in enumerate(wrong)}
            # A A B A against A A A A could align otherwise: count directly
            result = score(references, hypotheses)
            interval = bootstrap_interval(result, samples=500, seed=seed)
            assert interval.low <= result.wer <= interval.high
            widths.setdefault(count, []).append(interval.high - interval.low)
            inside += interval.low <= 30 <= interval.high
    assert 102 <= inside <= 120
    assert np.mean(widths[40]) / np.mean(widths[160]) == pytest.approx(2, abs=0.3)


def test_interval_is_seeded_and_checked():
    result = score(sentences(30), corrupted(sentences(30), 0.2, 0))
    assert bootstrap_interval(result, seed=3) == bootstrap_interval(result, seed=3)
    with pytest.raises(ConfigError, match="level"):
        bootstrap_interval(result, level=95)
    with pytest.raises(ConfigError, match="samples"):
        bootstrap_interval(result, samples=0)
    with pytest.raises(ConfigError, match="min_good"):
        matched_pairs(result, result, 0)
    with pytest.raises(CorpusError, match="different videos"):
        paired_bootstrap(result, score({"a": "A"}, {"a": "A"}))
    with pytest.raises(CorpusError, match="references of a differ"):
        matched_pairs(score({"a": "A"}, {"a": "A"}), score({"a": "B"}, {"a": "B"}))


@pytest.fixture
def result():
    references = {"v1": "A B", "v2": "A C C A B D", "v3": "A a", "v4": "C"}
    hypotheses = {"v1": "A X", "v2": "A X X A D", "v3": "A A E", "v4": ""}
    return score(references, hypotheses)


def test_tables_per_signer_and_length(result):
    table = per_signer(result, {"v1": "s2", "v2": "s1", "v3": "s2", "v4": "s1"})
    assert list(table.index) == ["s1", "s2"] and list(table["videos"]) == [2, 2]
    assert list(table["wer"]) == [pytest.approx(100 * 4 / 7), pytest.approx(100 * 2 / 4)]
    samples = [Sample(v, Path("x"), (), s) for v, s in zip(("v1", "v2", "v3", "v4"), "abca", strict=True)]
    assert list(per_signer(result, samples)["words"]) == [3, 6, 2]
    with pytest.raises(CorpusError, match=r"1 videos have no signer \(v4\)"):
        per_signer(result, samples[:3])
    table = per_length(result, (1, 2))
    assert list(table.index) == ["0-1", "2", "3 or more"] and list(table["videos"]) == [1, 2, 1]
    assert table["words"].sum() == result.words and table["insertions"].sum() == result.insertions
    with pytest.raises(ConfigError, match="edges"):
        per_length(result, (5, 5))


def test_confusions_and_never_recognised(result):
    assert confusions(result).to_numpy().tolist() == [["C", "X", 2], ["B", "X", 1]]
    assert confusions(result, 1)["count"].tolist() == [2]
    table = never_recognised(result)
    assert table.to_dict("index") == {
        "C": {"occurrences": 3, "deletions": 1, "most_often": "X"},
        "B": {"occurrences": 2, "deletions": 1, "most_often": "(deleted)"},
    }
    matrix = confusion_matrix(result)
    assert list(matrix.index) == ["C", "B"] and list(matrix.columns) == ["C", "B", "X", "(other)", "(deleted)"]
    assert matrix.to_numpy().tolist() == [[0, 0, 2, 0, 1], [0, 0, 1, 0, 1]]
    few = confusion_matrix(score({"v": "A A B C"}, {"v": "X Y Z C"}), 1)
    assert list(few.columns) == ["A", "X", "(other)", "(deleted)"] and few.to_numpy().tolist() == [[0, 1, 1, 0]]
    assert confusion_matrix(score({"v": "A"}, {"v": "a"})).empty


def test_score_command(tmp_path, capsys):
    references = sentences(30)
    hypotheses = corrupted(references, 0.2, 0)
    write_stm(tmp_path / "r.stm", references, dict.fromkeys(references, "s1"))
    write_ctm(tmp_path / "h.ctm", hypotheses | {"v000": []})
    assert main(["score", str(tmp_path / "r.stm"), str(tmp_path / "h.ctm"), "--corpus", "csl-daily"]) == 0
    text = capsys.readouterr().out
    assert str(score(references, hypotheses | {"v000": []}, "csl-daily")) in text
    assert "nothing recognised in 1 videos" in text and "symmetric, repeats collapsed" in text and "s1" in text
    (tmp_path / "h.ctm").write_text("other 1 0.0 0.1 A\n", encoding="utf-8")
    assert main(["score", str(tmp_path / "r.stm"), str(tmp_path / "h.ctm")]) == 2
    assert "1 ids are unknown (other)" in capsys.readouterr().err, "an error, not 100 %"


def test_aligned_text_lines_up():
    result = score({"v": "我们 REGEN A", "w": "A"}, {"v": "REGEN B C", "w": "A"})
    shown = aligned_sentences(result, ["v"])
    lines = str(shown).splitlines()
    assert lines[0] == "v  WER 100.0 % (1 S, 1 D, 1 I, 3 glosses)"
    assert lines[1] == "reference  我们 REGEN ∗∗∗ A"
    assert lines[2] == "recognised ∗∗∗  REGEN B   C"
    assert lines[3] == "           D          I   S"
    assert re.sub(r"\033\[\d+m", "", shown.text()).replace(" ", "") == str(shown).replace(" ", "")
    assert "\033[31m" in shown.text() and "\033[36m" in shown.text() and "\033" not in str(shown)
    assert [v.id for v in aligned_sentences(result, n=1).videos] == ["v"]
    with pytest.raises(ConfigError, match="'z' was not scored"):
        aligned_sentences(result, ["z"])


def test_aligned_html_is_safe_and_complete():
    bad = "<script>alert(1)</script>"
    result = score({bad: f"{bad} مرحبا"}, {bad: 'مرحبا "q"'})
    page = aligned_sentences(result)._repr_html_()
    assert "<script" not in page and html.escape(bad) in page and "مرحبا" in page and "&quot;q&quot;" in page
    assert page.count("<td") == 3 * len(result.per_video[bad].pairs) and 'dir="auto"' in page
    assert "\033" not in aligned_sentences(score({"a": "A\033[2JB"}, {"a": "C"})).text(colour=False)
