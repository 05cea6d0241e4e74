"""Exercises of the lessons 04 to 09 and 15: SLA-LoRA, SLA-Adapter, AdaptSign, maps, videos of one's own, true maps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from slakit.lessons.exercises import Exercise, number, one_of, whole_number

MAPS = ("grad-cam", "gradient x token", "relevance", "attention", "rollout")


def names_of(answer: Any, known: Iterable[str]) -> set[str]:
    """The names that are meant, of a collection or of one text with commas; ValueError for one that is none."""
    if not isinstance(answer, str | list | tuple | set):
        raise ValueError(f"names are wanted, for instance {next(iter(known))!r}, not {answer!r}")
    return {one_of(name, known) for name in (answer.split(",") if isinstance(answer, str) else answer)}


def _squeezed(answer: Any) -> str:
    factor = number(answer)
    if abs(factor - 16 / 9) < 0.02:
        return "that is how much wider the picture was; the question is how wide the ball still is"
    return "" if abs(factor - 9 / 16) < 0.02 else "compare the sides of the picture: 320 become as wide as 180"


def _strangers(answer: Any) -> str:
    said = one_of(answer, ("higher", "lower", "equal"))
    return "" if said == "higher" else "the model has never seen these bodies; try it: set split above and run again"


def _lora_numbers(answer: Any) -> str:
    count, inside, outside, rank = whole_number(answer), 96, 384, 16
    if count == inside * outside:
        return "that is the frozen matrix itself; A and B are much smaller"
    if count in (rank * inside, rank * outside):
        return "that is one of the two matrices; LoRA trains both"
    return "" if count == rank * (inside + outside) else "A has 16 x 96 numbers; how many has B?"


def _channels_that_stay(answer: Any) -> str:
    count, width, n_div = whole_number(answer), 96, 32
    if count == width - width // n_div:
        return "channels move in both directions: some look back, as many look ahead"
    return "" if count == width - 2 * (width // n_div) else "96 / 32 channels look one frame back; and ahead?"


def _numbers_of_rank_4(answer: Any) -> str:
    count, now = whole_number(answer), 82_944
    if count == now // 16:
        return "the numbers of A and B grow with the rank, not with its square"
    return "" if count == now * 4 // 16 else "each of A and B has a side as long as the rank, which was 16"


def _adapter_numbers(width: int, taps: int, channels: int) -> int:
    return channels * width + width + taps * width + width + width * channels + channels


def _adapter_3x1x1(answer: Any) -> str:
    count = whole_number(answer)
    if count == _adapter_numbers(256, 27, 768):
        return "that is the kernel 3x3x3; of 3x1x1 every channel has 3 numbers"
    if count == _adapter_numbers(256, 3, 768) - (256 + 256 + 768):
        return "each of the three layers has biases, too"
    return "" if count == _adapter_numbers(256, 3, 768) else "add up three layers: down, convolution, up"


def _frames_of_adapters(answer: Any) -> str:
    count, adapters = whole_number(answer), 4 * 2 - 1
    if count == 2 * (adapters + 1) + 1:
        return "the last adapter comes after the class token has looked for the last time"
    if count == adapters + 1:
        return "a kernel of three looks back and ahead"
    return "" if count == 2 * adapters + 1 else "every adapter adds one frame on either side"


def _width_16(answer: Any) -> str:
    count = whole_number(answer)
    if count == 57_344 // 2:
        return "nearly: the biases of the last layer, one a channel of the encoder, do not shrink with the width"
    if count == _adapter_numbers(16, 27, 96):
        return "that is one adapter; there are two in each of four blocks"
    return "" if count == 8 * _adapter_numbers(16, 27, 96) else "count one adapter of width 16 on 96 channels first"


def _prefixes(answer: Any) -> str:
    count, one = whole_number(answer), 12 * 8 * 768
    if count == one:
        return "there are two sets in each block"
    return "" if count == 2 * one else "blocks times sets times rows times channels"


def _pairs_of_tau_3(answer: Any) -> str:
    count = whole_number(answer)
    if count == 9 * 7:
        return "the first and last frames have fewer neighbours than the others"
    return "" if count == sum(abs(s - t) <= 3 for s in range(9) for t in range(9)) else "count along the diagonal"


def _map_of_each_patch(answer: Any) -> str:
    if not callable(answer):
        return "a function is wanted, for instance lambda A, G: A.sum(-1)"
    rng = np.random.default_rng(0)
    A, G = rng.normal(size=(2, 3, 5, 4))
    try:
        found = np.asarray(answer(A, G))
    except Exception as error:  # whatever a learner's function does wrong
        return f"the function stopped with {type(error).__name__}: {error}"
    if found.shape != (3, 5):
        return f"the map has the shape {found.shape}; [frames, patches] is wanted"
    if np.allclose(found, np.maximum((A * G.mean(1, keepdims=True)).sum(-1), 0)):
        return "that is Grad-CAM still: its weights are averaged over the patches"
    if np.allclose(found, (A * G).sum(-1)):
        return "a map has no negative values"
    return "" if np.allclose(found, np.maximum((A * G).sum(-1), 0)) else "multiply each patch with its own gradient"


def _maps_of_no_gloss(answer: Any) -> str:
    names = names_of(answer, MAPS)
    wrong = sorted(names - {"attention", "rollout"})
    if wrong:
        return f"{wrong[0]} follows gradients of the gloss' score"
    return "" if len(names) == 2 else "there is one more"


def _lookahead(answer: Any) -> str:
    count = whole_number(answer)
    if count < 0:
        return "a lookahead is 0 or more steps"
    return "" if count == 2 else "compare the larger number of latency_frames with 25"


def _grey(answer: Any) -> str:
    said = one_of(answer, ("yes", "no"))
    return "" if said == "no" else "run the cell: it has learnt from clips full of signs alone"


def _maps_of_the_head(answer: Any) -> str:
    names = names_of(answer, MAPS)
    if wrong := sorted(names & {"attention", "rollout"}):
        return f"{wrong[0]} is computed inside the image encoder, which stays as it was"
    return "" if len(names) == 3 else "gradients of the score come through the sequence model: which maps use them?"


def _points_of_the_gloss(answer: Any) -> str:
    points, hits, shuffled, chance = whole_number(answer), 70, 46, 14
    if points == hits - chance:
        return "at shuffled times the map still hits 46 %: those points it owes to its favourite places"
    return "" if points == hits - shuffled else "what is left if a map always prefers the same places?"


EXERCISES = {
    "lora-1": Exercise(
        ("LoRA puts B A beside the matrix W: A makes 96 channels 16, B makes 16 channels 384.",
         "A has 16 x 96 numbers, B 384 x 16; there are no biases."),
        _lora_numbers,
    ),
    "lora-2": Exercise(
        ("d / n_div channels come from the frame before.", "As many come from the frame after; the others stay."),
        _channels_that_stay,
    ),
    "lora-3": Exercise(
        ("The numbers of A and of B are proportional to the rank.", "Rank 16 has 82,944; 4 is a quarter of 16."),
        _numbers_of_rank_4,
    ),
    "adapter-1": Exercise(
        ("Three layers: 768 to 256, the convolution, 256 to 768; each has one bias for every channel that it gives.",
         "The convolution is depth-wise: 3 numbers and a bias for each of 256 channels."),
        _adapter_3x1x1,
    ),
    "adapter-2": Exercise(
        ("One 3x3x3 convolution sees one frame back and one ahead: 3 frames. Two of them see 5.",
         "Of the eight adapters the last one comes too late: seven count."),
        _frames_of_adapters,
    ),
    "adapter-3": Exercise(
        ("One adapter of width 16: 96 x 16 + 16, then 27 x 16 + 16, then 16 x 96 + 96.",
         "The demo's encoder has two of them in each of four blocks."),
        _width_16,
    ),
    "adaptsign-1": Exercise(
        ("One set: 8 rows of 768 channels.", "Two sets in each of 12 blocks: 24 sets."),
        _prefixes,
    ),
    "adaptsign-2": Exercise(
        ("Frame 5 of 9 touches frames 2 to 8: 7 features. Frame 1 touches only 1 to 4.",
         "From the first frame to the last: 4, 5, 6, 7, 7, 7, 6, 5, 4."),
        _pairs_of_tau_3,
    ),
    "maps-1": Exercise(
        ("Grad-CAM: np.maximum((A * G.mean(1, keepdims=True)).sum(-1), 0). Which part of it averages?",
         "Leave the mean out: each patch keeps its own gradient."),
        _map_of_each_patch,
    ),
    "maps-2": Exercise(
        ("Which of the maps are computed without the score of a gloss?", "Two: the names begin with a and with r."),
        _maps_of_no_gloss,
    ),
    "true-1": Exercise(
        ("The sequence model stands behind the encoder. Which maps are computed from the score at its end?",
         "Attention and rollout need no score; the other three do."),
        _maps_of_the_head,
    ),
    "true-2": Exercise(
        ("Three numbers: 70 % at the right times, 46 % at shuffled ones, 14 % for a random patch.",
         "Shuffled times keep the places and lose the gloss: compare with them."),
        _points_of_the_gloss,
    ),
    "video-1": Exercise(
        ("StreamingRecognizer(model, chunk_frames=4, lookahead_steps=n).latency_frames is (least, most).",
         "Try n = 0, 1, 2, … until the larger number exceeds 25 frames."),
        _lookahead,
    ),
    "own-1": Exercise(
        ("A square of 320 x 180 pixels is 180 wide and 180 high. What was 320 wide must fit into that width, too.",
         "The width shrinks by 180 / 320, the height stays."),
        _squeezed,
    ),
    "own-2": Exercise(
        ("Who signs in dev then: somebody whom the model knows, or a stranger?",
         "A stranger's places, speed and clothes are all new: \"higher\", \"lower\" or \"equal\"."),
        _strangers,
    ),
    "video-2": Exercise(
        ("CTC's blank says \"nothing new\", but every training clip held signs.",
         "recognize_frames(model, np.full((40, 96, 96, 3), 120, np.uint8)).glosses"),
        _grey,
    ),
}  # fmt: skip
