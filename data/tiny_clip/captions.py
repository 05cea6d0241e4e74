"""Pictures with captions and labels for the tiny CLIP: drawing, prompts, a tokenizer over the captions' few words."""

from __future__ import annotations

import re

import numpy as np
import torch

from slakit.minisign.looks import sample_scene, sample_signer
from slakit.minisign.phonology import (
    HANDSHAPE_WORDS,
    LOCATION_WORDS,
    MOUTH_WORDS,
    ORIENTATION_WORDS,
    PALM_WORDS,
    SIDES,
    describe,
    sample_pose,
)
from slakit.minisign.render import render

WORDS = {
    "handshape": HANDSHAPE_WORDS,
    "location": LOCATION_WORDS,
    "orientation": ORIENTATION_WORDS,
    "palm": PALM_WORDS,
    "mouth": MOUTH_WORDS,
}
# "right handshape" -> its values; the order fixes the label numbers
PARAMETERS = {f"{side} {what}": tuple(WORDS[what]) for side in SIDES for what in WORDS if what != "mouth"}
PARAMETERS["mouth"] = tuple(MOUTH_WORDS)


def prompt(parameter: str, value: str) -> str:
    """The caption that speaks of one parameter alone: "a signer, right hand: a fist"."""
    what = parameter.split()[-1]
    side = "" if what == "mouth" else f"{parameter.split()[0]} hand: "
    return f"a signer, {side}{WORDS[what][value]}"


class Tokenizer:
    """Words -> numbers; 0 pads, 1 starts, the last number ends (open_clip's text tower reads at the largest number)."""

    def __init__(self, context_length: int, vocab_size: int = 192):
        texts = [word for words in WORDS.values() for word in words.values()]
        texts += ["a signer, : ;", *(f"{side} hand at rest" for side in SIDES)]
        words = sorted({word for text in texts for word in self.split(text)})
        self.numbers = {word: i + 2 for i, word in enumerate(words)}
        self.context_length, self.end = context_length, vocab_size - 1
        if len(words) + 3 > vocab_size:
            raise ValueError(f"{len(words)} words do not fit a vocabulary of {vocab_size}")

    @staticmethod
    def split(text: str) -> list[str]:
        return re.findall(r"[a-z]+|[,:;]", text.lower())

    def __call__(self, texts: list[str]) -> torch.Tensor:
        """[N] texts -> numbers [N, context_length]."""
        out = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            numbers = [1, *(self.numbers[word] for word in self.split(text)), self.end]
            if len(numbers) > self.context_length:
                raise ValueError(f"{text!r} has {len(numbers)} tokens, the text tower reads {self.context_length}")
            out[row, : len(numbers)] = torch.tensor(numbers)
        return out


def draw(job: tuple[int, int, int, int]) -> dict[str, np.ndarray]:
    """(seed, part, count, size) -> pictures with labels; every picture has a signer and a scene of its own.

    images uint8 [N, size, size, 3]; points float32 [N, 3, 2], x and y of right hand, left hand, mouth (nan: not seen);
    captions [N]; and one int8 array [N] per parameter (-1: hand at rest).
    """
    seed, part, count, size = job
    rng = np.random.Generator(np.random.PCG64([seed, part]))
    images = np.empty((count, size, size, 3), np.uint8)
    points = np.full((count, 3, 2), np.nan, np.float32)
    labels = {name: np.full(count, -1, np.int8) for name in PARAMETERS}
    captions = []
    for i in range(count):
        pose = sample_pose(rng)
        frame = render(pose, sample_signer(rng, "pictures"), sample_scene(rng, "pictures"), size=size)
        images[i] = frame.image
        for row, point in enumerate((frame.right_hand, frame.left_hand, frame.mouth)):
            if point is not None:
                points[i, row] = point[:2]
        for name, value in pose.names().items():
            key = name.replace(".", " ")
            labels[key][i] = PARAMETERS[key].index(value)
        captions.append(describe(pose))
    return {"images": images, "points": points, "captions": np.array(captions), **labels}
