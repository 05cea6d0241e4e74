"""Arguments of the decoders that are no numbers, or none that can be meant: a sentence each, quickly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from slakit.config import DecodeConfig
from slakit.decoding import align, beam_search, greedy_search
from slakit.decoding.alignment import scaled_likelihoods
from slakit.records import ConfigError, CorpusError
from slakit.scoring import score
from slakit.scoring.wer import align_words

LOGS = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).log_softmax(-1).numpy()


@pytest.mark.parametrize(
    "arguments",
    [
        {"lengths": ["3", "4"]}, {"lengths": [None, None]}, {"lengths": [10**30, 1]}, {"lengths": [[1], [1, 2]]},
        {"lengths": "ab"}, {"lengths": [np.nan, 1]}, {"lengths": [np.inf, 1]}, {"lengths": [True, False]},
        {"lengths": {}}, {"lengths": ...}, {"blank": 0.5}, {"blank": "0"}, {"blank": None}, {"blank": -1},
        {"blank": 10**30}, {"beam_width": 10**12}, {"beam_width": 10**6}, {"beam_width": "10"}, {"beam_width": True},
        {"n_best": 10**12}, {"top_tokens": 10**30}, {"top_tokens": 1.5}, {"lm_weight": "x"}, {"lm_weight": None},
        {"lm_weight": -1}, {"lm_weight": [1]}, {"insertion_bonus": None}, {"insertion_bonus": 1e300},
        {"insertion_bonus": np.nan}, {"insertion_bonus": "1"}, {"hot_words": [1]}, {"hot_words": {1: "x"}},
        {"hot_words": {"A": 1}}, {"hot_words": {1: np.inf}}, {"language_model": 3}, {"language_model": "lm.arpa"},
    ],
    ids=str,
)  # fmt: skip
def test_beam_search_refuses(arguments):
    with pytest.raises(ConfigError) as caught:
        beam_search(LOGS, **arguments)
    assert "\n" not in str(caught.value)
    if set(arguments) & {"lengths", "blank"}:
        with pytest.raises(ConfigError):
            greedy_search(LOGS, **arguments)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", np.longdouble, np.float16])
def test_any_floating_array_is_read_as_what_it_holds(dtype):
    native = np.float16 if np.dtype(dtype).itemsize == 2 else np.float32 if dtype == ">f4" else np.float64
    expected = beam_search(LOGS.astype(native))
    assert beam_search(LOGS.astype(dtype)) == expected and greedy_search(LOGS.astype(dtype))


@pytest.mark.parametrize(
    "logs", [None, "x", 3, [], LOGS[0], LOGS.astype(int), LOGS.astype(complex), LOGS.astype(object)]
)
def test_what_is_no_table_of_log_probabilities(logs):
    for search in (beam_search, greedy_search):
        with pytest.raises(ConfigError):
            search(logs)


def test_what_no_path_can_be_is_refused_by_both():
    for search in (beam_search, greedy_search):
        with pytest.raises(ConfigError, match="probability 0"):
            search(np.full((1, 3, 4), -np.inf))


def test_a_beam_that_memory_could_not_hold():
    with pytest.raises(ConfigError, match="keeps 100,010,000 prefixes"):
        beam_search(np.zeros((1, 10_001, 2), np.float32), beam_width=10_000)
    with pytest.raises(ConfigError, match="10000 or less"):
        DecodeConfig(beam_width=10_001)


@pytest.mark.parametrize("tokens", [["x"], [None], [1.5], [10**30], [-1], [0], [[1]]])
def test_align_refuses(tokens):
    with pytest.raises(ConfigError):
        align(LOGS[0], None, tokens)
    for weight in ("x", None, -1, np.nan, 10**30):
        with pytest.raises(ConfigError):
            scaled_likelihoods(LOGS[0], weight)


def test_a_video_of_words_without_end_is_refused_before_the_table_is_made():
    with pytest.raises(CorpusError, match="200,000 words cannot be aligned with 200,000"):
        score({"a": "X Y " * 100_000}, {"a": "Y X " * 100_000})


def test_the_alignment_keeps_a_byte_for_each_pair_of_words():
    import tracemalloc

    words = [str(number % 7) for number in range(700)]
    align_words(words[:2], words[:2])  # compiled before it is measured
    tracemalloc.start()
    align_words(words, words[::-1])
    assert tracemalloc.get_traced_memory()[1] < 4 * 700 * 700
    tracemalloc.stop()
