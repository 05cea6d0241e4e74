"""What is explained: a number that the model gives to a gloss or to a whole sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from slakit.decoding import align
from slakit.explain.watched import WatchedClip, frozen_eval, head
from slakit.models.packing import frames_of
from slakit.records import SlakitError

OVER = ("step", "span", "sentence")


@dataclass(frozen=True)
class Target:
    """A score: target(log_probs [T', V]) -> a natural log probability, differentiable.

    tokens: one gloss, whose mean log probability over the time steps `steps` counts; or, with steps=None, the glosses
    of a sentence, whose log probability under CTC (the sum over all alignments) counts.
    """

    tokens: tuple[int, ...]
    steps: tuple[int, ...] | None = None

    def __call__(self, log_probs: torch.Tensor) -> torch.Tensor:
        if self.steps is not None:
            return log_probs[list(self.steps), self.tokens[0]].mean()
        labels = torch.tensor(self.tokens, device=log_probs.device)
        steps = torch.tensor(len(log_probs))
        return -F.ctc_loss(log_probs[:, None], labels[None], steps[None], torch.tensor([len(labels)]), reduction="sum")

    def frames(self, num_frames: int) -> tuple[int, int]:
        """First frame and end (excluded) that the steps stand for; a sentence: the whole clip."""
        if self.steps is None:
            return 0, num_frames
        return frames_of(self.steps[0], num_frames)[0], frames_of(self.steps[-1], num_frames)[1]


def targets_of(clip: WatchedClip, tokens: Sequence[int] | None = None, over: str = "span") -> list[Target]:
    """One Target for each gloss of a sequence, or a single one for the whole sentence.

    tokens: class indices; None: what the model recognised. over: "span", the steps where the best alignment emits the
    gloss; "step", the one of them where it is most probable; "sentence". SlakitError where there is nothing to explain.
    """
    if over not in OVER:
        raise SlakitError(f"over={over!r} is no score; use one of {', '.join(OVER)}")
    tokens = clip.tokens if tokens is None else list(tokens)
    if not tokens:
        raise SlakitError("nothing was recognised, so there is nothing to explain; give the indices of true glosses")
    spans = align(clip.log_probs, None, tokens)  # also checks that the steps can hold the tokens
    if over == "sentence":
        return [Target(tuple(tokens))]
    targets = []
    for span in spans:
        steps = range(span.start, span.end)
        if over == "step":
            steps = [max(steps, key=lambda step, token=span.token: float(clip.log_probs[step, token]))]
        targets.append(Target((span.token,), tuple(steps)))
    return targets


def feature_gradients(clip: WatchedClip, targets: Sequence[Target]) -> torch.Tensor:
    """d target / d feature for each target: [targets, N, F]. Only the sequence model is differentiated."""
    features = clip.features.detach().requires_grad_(True)
    with torch.enable_grad(), frozen_eval(clip.model):
        log_probs = head(clip.model, features, len(clip.frames))[0]
        with torch.backends.cudnn.flags(enabled=False):
            grads = [torch.autograd.grad(target(log_probs), features, retain_graph=True)[0][0] for target in targets]
    return torch.stack(grads)
