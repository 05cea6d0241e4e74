"""The sequence model of both papers: temporal convolution K5-P2-K5-P2, two-layer BiLSTM, one normalised classifier.

As in VAC, CorrNet, AdaptSign and CLIP-SLA with share_classifier: both heads are the same parameter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from slakit.models.packing import FIELD, LEFT, STRIDE
from slakit.records import SlakitError


class NormLinear(nn.Module):
    """logits = x W with every class column of W [in, classes] scaled to unit length; no bias, x as it is.

    Starts Xavier-uniform with ReLU's gain.
    """

    def __init__(self, in_features: int, num_classes: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(in_features, num_classes))
        nn.init.xavier_uniform_(self.weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[…, in] -> […, num_classes]."""
        return x @ F.normalize(self.weight, dim=0)


class TemporalConv(nn.Sequential):
    """Twice (Conv1d of width 5 without padding, batch norm, ReLU, max pooling by 2): 16 frames -> 1, stride 4."""

    def __init__(self, in_features: int, hidden_size: int):
        super().__init__(
            nn.Conv1d(in_features, hidden_size, 5),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(inplace=True),
            nn.MaxPool1d(2),
            nn.Conv1d(hidden_size, hidden_size, 5),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(inplace=True),
            nn.MaxPool1d(2),
        )

    @staticmethod
    def output_lengths(lengths: torch.Tensor) -> torch.Tensor:
        """Steps that a clip of `lengths` (padded) frames gives; ceil(T/4) for the published padding of T frames."""
        return (((lengths - 4).clamp(min=0) / 2 - 4).clamp(min=0) / 2).long()


class SequenceModel(nn.Module):
    """Padded frame features -> logits of both heads."""

    def __init__(
        self, in_features: int, num_classes: int, hidden_size: int = 1024, lstm_layers: int = 2, dropout: float = 0.3
    ):
        super().__init__()
        self.conv = TemporalConv(in_features, hidden_size)
        self.lstm = nn.LSTM(
            hidden_size,
            hidden_size // 2,
            lstm_layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if lstm_layers > 1 else 0.0,
        )
        self.classifier = NormLinear(hidden_size, num_classes)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """features [B, T_padded, F], lengths int64 [B] in padded frames.

        Returns conv logits [B, T', V], sequence logits [B, T', V] and the steps [B] of each clip.
        """
        if features.shape[1] < FIELD:
            raise SlakitError(f"{features.shape[1]} padded frames are too few for the temporal convolution ({FIELD})")
        steps = self.conv.output_lengths(lengths)
        x = self.conv(features.transpose(1, 2)).transpose(1, 2)  # [B, T', hidden]
        return self.classifier(x), self.classifier(self.recurrent(x, steps)), steps

    def recurrent(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """BiLSTM over the real steps of each clip; [B, T', hidden], zeros after a clip's end."""
        steps = steps.cpu()
        if (steps == x.shape[1]).all():  # nothing to pack: all steps are real
            return self.lstm(x)[0]
        if x.device.type == "cpu":
            return padded_lstm(self.lstm, x, steps)
        packed = pack_padded_sequence(x, steps, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def padded_lstm(lstm: nn.LSTM, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """What `lstm`, bidirectional, gives for a packed batch, zeros after a clip's end: x [B, T, F] -> [B, T, 2 H].

    On a CPU torch's fast kernel takes padded batches only, and packed ones twice the time. What follows a clip's end
    cannot reach its own steps where each clip is read backwards from its own last step, so padding does no harm.
    """
    x, steps = x.transpose(0, 1), steps.to(x.device)  # [T, B, F]
    time = torch.arange(len(x), device=x.device)[:, None]
    real = time < steps  # [T, B]
    turned = torch.where(real, steps - 1 - time, time)[..., None]  # [T, B, 1]: the step to read at each time
    state = x.new_zeros(2, 1, x.shape[1], lstm.hidden_size).unbind()
    for layer in range(lstm.num_layers):
        if layer:
            x = F.dropout(x, lstm.dropout, lstm.training)
        outputs = []
        for backwards, weights in enumerate(lstm.all_weights[2 * layer : 2 * layer + 2]):
            steps_in = x.gather(0, turned.expand_as(x)) if backwards else x
            y = torch.lstm(steps_in, state, [*weights], True, 1, 0.0, lstm.training, False, False)[0]  # [T, B, H]
            outputs.append(y.gather(0, turned.expand_as(y)) if backwards else y)
        x = torch.cat(outputs, -1)
    return (x * real[..., None]).transpose(0, 1)


def pool_by_four(features: torch.Tensor) -> torch.Tensor:
    """[B, T_padded, F] with the published padding -> [B, ceil(T/4), F]: means of four real frames each."""
    real = features[:, LEFT : features.shape[1] - LEFT]
    return F.avg_pool1d(real.transpose(1, 2), STRIDE).transpose(1, 2)
