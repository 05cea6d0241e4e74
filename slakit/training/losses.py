"""The training loss of both papers: CTC on every head and the Visual Alignment Constraint's distillation.

L = 1 x CTC(sequence) + 1 x CTC(conv) + 25 x distillation + 1 x CTC(frame head) (CLIP-SLA Eq. for L_total; VAC,
Min et al. 2021, for the first three; weights of the released AdaptSign and CorrNet code). Of weight 0 unless asked for:
lift pooling's two terms (TLP, CorrNet+), and the first three once more on each pathway of SlowFastSign.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from slakit.config import LossWeights
from slakit.models.recognizer import Logits
from slakit.records import SlakitError

BLANK = 0


def ctc_feasible(targets: torch.Tensor, target_lengths: torch.Tensor, input_lengths: torch.Tensor) -> torch.Tensor:
    """bool [B]: whether CTC can align each target with its input.

    targets: int64 [sum of target_lengths], one after the other. CTC needs one step for each label and one more for a
    blank between two equal neighbours.
    """
    if int(target_lengths.sum()) != len(targets):
        raise SlakitError(f"{len(targets)} labels for target lengths {target_lengths.tolist()}")
    repeats = torch.stack([(t[1:] == t[:-1]).sum() for t in targets.split(target_lengths.tolist())])
    return target_lengths.to(repeats.device) + repeats <= input_lengths.to(repeats.device)


def wide(logits: torch.Tensor) -> torch.Tensor:
    """In float32, or float64 where they are in that."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def ctc(
    logits: torch.Tensor, targets: torch.Tensor, lengths: torch.Tensor, target_lengths: torch.Tensor
) -> torch.Tensor:
    """CTC of logits [B, T, V], wide(): the mean over the batch of each clip's loss, not divided by its length."""
    log_probs = wide(logits).log_softmax(-1).transpose(0, 1)  # [T, B, V]
    return F.ctc_loss(log_probs, targets, lengths.cpu(), target_lengths.cpu(), blank=BLANK, reduction="none").mean()


def distillation(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 8.0) -> torch.Tensor:
    """VAC's alignment: KL(teacher || student) x T^2 at temperature T, without the blank class, teacher detached.

    student, teacher [B, T', V]. The mean is over all B x T' rows, padded ones included, as published.
    """
    student = (wide(student)[..., BLANK + 1 :] / temperature).log_softmax(-1).flatten(0, 1)
    teacher = (wide(teacher.detach())[..., BLANK + 1 :] / temperature).softmax(-1).flatten(0, 1)
    return F.kl_div(student, teacher, reduction="batchmean") * temperature**2


def recognition_loss(
    logits: Logits,
    targets: torch.Tensor,
    target_lengths: torch.Tensor,
    weights: LossWeights = LossWeights(),  # noqa: B008  (frozen)
    temperature: float = 8.0,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(total, the terms before weighting): "sequence", "conv", "distillation", "clip" where there is such a head, and
    what else the model gives: "lift_update", "lift_predict", "slow", "fast".

    targets: int64 [sum of target_lengths], 1 and above; target_lengths: int64 [B]. A target that cannot be aligned
    makes the loss infinite: sort such clips out before with ctc_feasible(). A term of weight 0 is not computed.
    """
    lengths = logits.lengths
    compute = {
        "sequence": lambda: ctc(logits.sequence, targets, lengths, target_lengths),
        "conv": lambda: ctc(logits.conv, targets, lengths, target_lengths),
        "distillation": lambda: distillation(logits.conv, logits.sequence, temperature),
    }
    if (frame := logits.frame) is not None:
        compute["clip"] = lambda: ctc(frame, targets, logits.frame_lengths, target_lengths)
    compute |= {name: lambda term=term: term for name, term in logits.lift.items()}
    for name, (conv, sequence) in logits.pathways.items():
        alone = replace(logits, sequence=sequence, conv=conv, frame=None, lift={}, pathways={})
        compute[name] = lambda alone=alone: recognition_loss(alone, targets, target_lengths, weights, temperature)[0]
    terms = {name: term() for name, term in compute.items() if getattr(weights, name) != 0}
    if not terms:
        raise SlakitError(f"all weights of the loss are zero: {weights}")
    weighted = (getattr(weights, name) * value for name, value in terms.items())
    return sum(weighted, start=logits.sequence.new_zeros(())), terms
