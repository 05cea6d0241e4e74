"""The sequence model and the losses: golden numbers of the released VAC code, CTC by brute force, lengths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from tiny_models import golden
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from slakit.config import LossWeights
from slakit.models.packing import padded_index, padded_lengths, replicate_padding
from slakit.models.recognizer import Logits
from slakit.models.sequence import LiftGate, NormLinear, SequenceModel, TemporalConv, padded_lstm
from slakit.records import SlakitError
from slakit.training.losses import ctc, ctc_feasible, distillation, recognition_loss


def test_logits_and_losses_equal_the_released_code():
    numbers = golden("vac_sequence_tiny")
    model = SequenceModel(48, 21, 32).eval()
    names = {"conv1d.temporal_conv": "conv", "temporal_model.rnn": "lstm", "weights.": ""}
    state = {}
    for key, value in numbers.items():
        if key.startswith("weights."):
            for old, new in names.items():
                key = key.replace(old, new)
            state[key] = value
    model.load_state_dict(state)
    conv, sequence, lengths = model(numbers["input.features"], numbers["input.lengths"])
    assert torch.equal(lengths, numbers["output.lengths"])
    assert (conv - numbers["output.conv_logits"]).abs().max() < 1e-5
    assert (sequence - numbers["output.sequence_logits"]).abs().max() < 1e-5
    total, terms = recognition_loss(
        Logits(sequence, conv, None, lengths, lengths), numbers["input.labels"], numbers["input.label_lengths"]
    )
    for name, key in (("sequence", "sequence_ctc"), ("conv", "conv_ctc"), ("distillation", "distillation")):
        expected = float(numbers[f"output.loss_{key}"])
        assert abs(float(terms[name].detach()) - expected) < 1e-5 * expected
    assert math.isclose(
        float(total.detach()),
        float(terms["sequence"] + terms["conv"] + 25 * terms["distillation"].detach()),
        rel_tol=1e-6,
    )


def test_every_length_gives_a_quarter_rounded_up():
    lengths = torch.arange(1, 300)
    assert torch.equal(TemporalConv.output_lengths(padded_lengths(lengths)), (lengths + 3) // 4)


def test_padding_replicates_first_and_last_frame():
    features = torch.arange(2 * 7, dtype=torch.float32).reshape(2, 7, 1)
    padded = replicate_padding(features, [7, 3])[..., 0].tolist()
    assert padded[0] == [0] * 6 + [0, 1, 2, 3, 4, 5, 6] + [6] * 7
    assert padded[1] == [7] * 6 + [7, 8, 9] + [9] * 11
    assert padded_index([7, 3]).shape == (2, 20)


def test_shorter_clips_do_not_see_the_batch():
    torch.manual_seed(0)
    model = SequenceModel(8, 5, 16).eval()
    short, long = torch.randn(1, 9, 8), torch.randn(1, 23, 8)
    alone = model(replicate_padding(short, [9]), padded_lengths(torch.tensor([9])))
    batch = torch.cat([long, torch.nn.functional.pad(short, (0, 0, 0, 14), value=99.0)])
    together = model(replicate_padding(batch, [23, 9]), padded_lengths(torch.tensor([23, 9])))
    for a, b in zip(alone[:2], together[:2], strict=True):
        assert (a[0, :3] - b[1, :3]).abs().max() < 1e-5


def brute_force_ctc(log_probs: torch.Tensor, target: list[int]) -> float:
    """-log of the sum over all label paths that collapse to the target."""
    steps, classes = log_probs.shape
    total = 0.0
    for path in itertools.product(range(classes), repeat=steps):
        collapsed = [label for label, _ in itertools.groupby(path) if label]
        if collapsed == target:
            total += math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    return -math.log(total)


def test_ctc_is_the_mean_of_the_sums_over_all_paths():
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    targets, lengths = [[1, 1], [3]], torch.tensor([5, 4])
    expected = [brute_force_ctc(logits[i, :n].log_softmax(-1), targets[i]) for i, n in enumerate(lengths.tolist())]
    found = ctc(logits, torch.tensor([1, 1, 3]), lengths, torch.tensor([2, 1]))
    assert math.isclose(float(found), sum(expected) / 2, rel_tol=1e-5)


def test_distillation_in_plain_arithmetic():
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(1, 2, 4, generator=generator, requires_grad=True) for _ in range(2))
    total = 0.0
    for row in range(2):
        s, t = student[0, row, 1:].tolist(), teacher[0, row, 1:].tolist()
        p, q = ([math.exp(v / 8) for v in values] for values in (t, s))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        total += 64 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    found = distillation(student, teacher)
    assert math.isclose(float(found), total, rel_tol=1e-4)
    found.backward()
    assert teacher.grad is None
    assert student.grad[..., 0].abs().max() == 0
    assert student.grad[..., 1:].abs().max() > 0


def test_feasible_is_where_ctc_is_finite():
    targets, lengths = [[1, 2, 3], [1, 1], [2, 2, 2], []], torch.tensor([3, 2, 5, 1])
    flat, counts = (
        torch.tensor([label for target in targets for label in target]),
        torch.tensor([len(t) for t in targets]),
    )
    found = ctc_feasible(flat, counts, lengths)
    log_probs = torch.zeros(5, 4, 4).log_softmax(-1)
    losses = torch.nn.functional.ctc_loss(log_probs, flat, lengths, counts, reduction="none")
    assert found.tolist() == torch.isfinite(losses).tolist() == [True, False, True, True]
    with pytest.raises(SlakitError, match="8 labels for target lengths"):
        ctc_feasible(flat, counts + 1, lengths)


def test_weights_choose_the_terms():
    logits = torch.randn(1, 4, 3, requires_grad=True)
    given = Logits(logits, logits.clone(), logits.clone(), torch.tensor([4]), torch.tensor([4]))
    target, count = torch.tensor([1]), torch.tensor([1])
    total, terms = recognition_loss(given, target, count, LossWeights(1, 0, 0, 2))
    assert set(terms) == {"sequence", "clip"}
    assert math.isclose(float(total.detach()), float(terms["sequence"] + 2 * terms["clip"]), rel_tol=1e-6)
    with pytest.raises(SlakitError, match="zero"):
        recognition_loss(given, target, count, LossWeights(0, 0, 0, 0))


def test_the_classifier_normalises_its_columns():
    head = NormLinear(6, 3)
    x = torch.randn(2, 6)
    expected = [[float(x[i] @ head.weight[:, c] / head.weight[:, c].norm()) for c in range(3)] for i in range(2)]
    assert torch.allclose(head(x), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("steps", [(9, 17, 16, 1), (17, 17, 17, 17), (5,)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_padded_lstm_equals_the_packed_one(steps, layers):
    """torch's own packed BiLSTM in float64: outputs, and the gradients of input and of every weight."""
    lstm = torch.nn.LSTM(6, 4, layers, batch_first=True, bidirectional=True).double()
    x = torch.randn(len(steps), 17, 6, dtype=torch.float64, requires_grad=True)
    weights, found = torch.randn(len(steps), 17, 8, dtype=torch.float64), []
    packed = pack_padded_sequence(x, torch.tensor(steps), batch_first=True, enforce_sorted=False)
    stock = pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=17)[0]
    for y in (stock, padded_lstm(lstm, x, torch.tensor(steps))):
        found.append([y.detach(), *torch.autograd.grad((y * weights).sum(), [x, *lstm.parameters()])])
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def test_padded_lstm_drops_out_between_layers_in_training_only():
    lstm = torch.nn.LSTM(6, 4, 2, batch_first=True, bidirectional=True, dropout=0.5)
    x, steps = torch.randn(2, 17, 6), torch.tensor([17, 9])
    assert not torch.equal(padded_lstm(lstm, x, steps), padded_lstm(lstm, x, steps))
    lstm.eval()
    assert torch.equal(padded_lstm(lstm, x, steps), padded_lstm(lstm, x, steps))


@pytest.mark.parametrize("frames", [1, 6])
def test_lift_gates_norm_any_number_of_steps(frames):
    """Against the equation; one step, as a clip of four frames has behind the second pooling, is normed to the bias."""
    gate = LiftGate(3).double()
    for parameter in gate.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    z = torch.randn(2, 3, frames, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    y = gate.conv(z)
    y = (y - y.mean(2, keepdim=True)) / (y.var(2, correction=0, keepdim=True) + gate.norm.eps).sqrt()
    expected = z * (0.5 + (y * gate.norm.weight[:, None] + gate.norm.bias[:, None]).sigmoid())
    torch.testing.assert_close(gate(z), expected, rtol=1e-10, atol=1e-12)
