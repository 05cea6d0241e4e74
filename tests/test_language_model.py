"""n-gram models: the definition of back-off by hand, and shallow fusion against rescoring every labelling."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from batched_beam import beam_search
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decoding import BACKENDS, brute_force, random_log_probs

from slakit.decoding import NgramLanguageModel
from slakit.records import ConfigError, CorpusError, Vocabulary

GLOSSES = Vocabulary(["A", "B", "C"])
SENTENCES = [["A", "B"], ["A", "B", "C"], ["C"], ["A", "A", "B"]]

ARPA = """\
\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.30
-0.7\t</s>
-0.5\tA\t-0.20
-0.6\tB\t-0.40
-2.0\tFREMD\t-0.10

\\2-grams:
-0.25\t<s> A\t-0.15
-0.35\tA B\t-0.05
-0.45\tB </s>
-0.9\tA FREMD

\\3-grams:
-0.11\t<s> A B

\\end\\
"""


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_text(ARPA, encoding="utf-8")
    return path


def test_arpa_by_hand(arpa):
    model = NgramLanguageModel.from_arpa(arpa, GLOSSES)
    assert (model.order, model.classes) == (3, 4)
    ln10 = math.log(10)
    # <s> A; <s> A B; (A B) </s> backs off to B </s>
    assert model.log_prob([1, 2]) == pytest.approx(ln10 * (-0.25 - 0.11 - 0.05 - 0.45))
    # C is <unk>: <s> C backs off; C </s> backs off with weight 1
    assert model.log_prob([3]) == pytest.approx(ln10 * (-0.30 - 1.0 - 0.7))
    # B A: <s> B backs off, B A backs off
    assert model.log_prob([2, 1]) == pytest.approx(ln10 * (-0.30 - 0.6 - 0.40 - 0.5 - 0.20 - 0.7))


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_counted_model_is_a_distribution(order):
    model = NgramLanguageModel.from_glosses(SENTENCES, GLOSSES, order)
    words = [1, 2, 3, model.end]
    for length in range(3):
        for history in itertools.product([1, 2, 3], repeat=length):
            total = sum(math.exp(model.conditional(word, (model.start, *history))) for word in words)
            assert total == pytest.approx(1.0, abs=1e-12)


def test_counted_bigram_by_hand():
    """Witten-Bell: after A came B 3 times and A once; unigrams: A 4, B 3, C 2, end 4 of 13, 4 kinds, 4 words."""
    model = NgramLanguageModel.from_glosses(SENTENCES, GLOSSES, 2)
    unigram_b = (3 + 4 / 4) / (13 + 4)
    assert math.exp(model.conditional(2, [1])) == pytest.approx((3 + 2 * unigram_b) / (4 + 2))
    unigram_c = (2 + 4 / 4) / (13 + 4)
    assert math.exp(model.conditional(3, [1])) == pytest.approx(2 / (4 + 2) * unigram_c)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("order", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_fusion_equals_rescoring_every_labelling(backend, order, data):
    model = NgramLanguageModel.from_glosses(SENTENCES, GLOSSES, order)
    steps = data.draw(st.integers(1, 4))
    log_probs = random_log_probs(steps, 4, seed=data.draw(st.integers(0, 10**6)), peak=data.draw(st.floats(0, 4)))
    weight, bonus, hot = data.draw(st.floats(0.1, 2)), data.draw(st.floats(-2, 2)), data.draw(st.floats(-1, 3))
    found = beam_search(
        log_probs[None], beam_width=400, top_tokens=4, n_best=400, language_model=model, lm_weight=weight,
        insertion_bonus=bonus, hot_words={2: hot}, backend=backend,
    )[0]  # fmt: skip
    ctc = brute_force(log_probs.numpy())
    expected = {
        tokens: score + weight * model.log_prob(tokens) + bonus * len(tokens) + hot * tokens.count(2)
        for tokens, score in ctc.items()
    }
    assert {h.tokens for h in found} == set(expected)
    for hypothesis in found:
        assert hypothesis.total == pytest.approx(expected[hypothesis.tokens], abs=1e-9)
        assert hypothesis.score == pytest.approx(ctc[hypothesis.tokens], abs=1e-9)
    assert all(a.total >= b.total - 1e-8 for a, b in itertools.pairwise(found))


def test_both_backends_agree_with_a_narrow_beam():
    random = np.random.default_rng(0)
    vocabulary = Vocabulary([f"G{i}" for i in range(40)])
    sentences = [[f"G{int(i)}" for i in random.integers(0, 40, size=8) ** 2 // 40] for _ in range(200)]
    model = NgramLanguageModel.from_glosses(sentences, vocabulary, 3)
    log_probs = random_log_probs(4, 20, 41, seed=4)
    settings_ = {"language_model": model, "lm_weight": 0.8, "insertion_bonus": 1.5, "hot_words": {3: 2.0, 7: -1.0}}
    one, two = (beam_search(log_probs, [20, 3, 0, 11], n_best=10, backend=b, **settings_) for b in BACKENDS)
    for a, b in zip(one, two, strict=True):
        assert [(h.tokens, h.timesteps) for h in a] == [(h.tokens, h.timesteps) for h in b]
        np.testing.assert_allclose([h.total for h in a], [h.total for h in b], atol=1e-9)
        for h in a:
            extra = 1.5 * len(h.tokens) + 2.0 * h.tokens.count(3) - h.tokens.count(7)
            assert h.total == pytest.approx(h.score + 0.8 * model.log_prob(h.tokens) + extra, abs=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_language_model_and_hot_words_change_the_answer(backend):
    log_probs = np.log(np.array([[[0.04, 0.5, 0.01, 0.45]]]))  # A a little more likely than C
    assert beam_search(log_probs, backend=backend)[0][0].tokens == (1,)
    assert beam_search(log_probs, hot_words={3: 1.0}, backend=backend)[0][0].tokens == (3,)
    model = NgramLanguageModel.from_glosses([["C"]] * 9 + [["A", "B"]], GLOSSES, 2)
    assert beam_search(log_probs, language_model=model, lm_weight=1.0, backend=backend)[0][0].tokens == (3,)
    assert beam_search(log_probs, language_model=model, lm_weight=0.0, backend=backend)[0][0].tokens == (1,)


def test_wrong_model_for_the_recognizer():
    model = NgramLanguageModel.from_glosses(SENTENCES, GLOSSES)
    with pytest.raises(ConfigError, match="knows 4 classes but log_probs has 9"):
        beam_search(random_log_probs(1, 2, 9), language_model=model)


def test_errors_of_counting():
    with pytest.raises(CorpusError, match="'X'"):
        NgramLanguageModel.from_glosses([["X"]], GLOSSES)
    with pytest.raises(CorpusError, match="no sentences"):
        NgramLanguageModel.from_glosses([], GLOSSES)
    with pytest.raises(ConfigError, match="order"):
        NgramLanguageModel.from_glosses(SENTENCES, GLOSSES, 0)


@pytest.mark.parametrize(
    "old,new,message",
    [
        ("-1.0\t<unk>\n", "", r"1 glosses .* no <unk> \(C\)"),
        ("-0.7\t</s>\n", "", "no unigram </s>"),
        ("\\end\\\n", "", "no complete ARPA file"),
        ("-0.35\tA B\t-0.05", "-0.35\tA", r"model.arpa:16: .* is no 2-gram"),
        ("-0.35\tA B", "x\tA B", "model.arpa:16"),
        ("-0.35\tA B", "0.35\tA B", "above 0"),
        ("-0.35\tA B", "nan\tA B", "model.arpa:16"),
        ("\\2-grams:", "\\two-grams:", "'two' is no order"),
        ("-0.25\t<s> A\t-0.15\n", "", "model.arpa: an n-gram of 3 words lacks its context of 2"),
    ],
)
def test_arpa_errors_name_the_file(arpa, old, new, message):
    assert old in ARPA
    arpa.write_text(ARPA.replace(old, new), encoding="utf-8")
    with pytest.raises(CorpusError, match=message) as error:
        NgramLanguageModel.from_arpa(arpa, GLOSSES)
    assert str(arpa) in str(error.value)


def test_arpa_that_is_absent_or_not_text(tmp_path):
    with pytest.raises(CorpusError, match="no such file"):
        NgramLanguageModel.from_arpa(tmp_path / "none.arpa", GLOSSES)
    (tmp_path / "bad.arpa").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorpusError, match="UTF-16"):
        NgramLanguageModel.from_arpa(tmp_path / "bad.arpa", GLOSSES)


@given(text=st.text(alphabet="\\123-grams:endtA<s>/ \t\n.0-", max_size=80))
@settings(max_examples=100, deadline=None)
def test_arpa_fuzzing_raises_only_our_error(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "x.arpa"
    path.write_text(ARPA[: len(text) * 5] + text, encoding="utf-8")
    try:
        NgramLanguageModel.from_arpa(path, GLOSSES)
    except CorpusError:
        pass
