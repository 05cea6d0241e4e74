"""The sequence model of both papers: temporal convolution K5-P2-K5-P2, two-layer BiLSTM, one normalised classifier.

As in VAC, CorrNet, AdaptSign and CLIP-SLA with share_classifier: both heads are the same parameter.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from slakit.errors import SlakitError
from slakit.models.clips import LEFT_PADDING


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
        if features.shape[1] < 16:
            raise SlakitError(f"{features.shape[1]} padded frames are too few for the temporal convolution (16)")
        steps = self.conv.output_lengths(lengths)
        x = self.conv(features.transpose(1, 2)).transpose(1, 2)  # [B, T', hidden]
        return self.classifier(x), self.classifier(self.recurrent(x, steps)), steps

    def recurrent(self, x: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """BiLSTM over the real steps of each clip; [B, T', hidden], zeros after a clip's end."""
        if x.shape[0] == 1 and int(steps[0]) == x.shape[1]:  # nothing to pack: all steps are real
            return self.lstm(x)[0]
        packed = pack_padded_sequence(x, steps.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def pool_by_four(features: torch.Tensor) -> torch.Tensor:
    """[B, T_padded, F] with the published padding -> [B, ceil(T/4), F]: means of four real frames each."""
    real = features[:, LEFT_PADDING : features.shape[1] - LEFT_PADDING]
    return F.avg_pool1d(real.transpose(1, 2), 4).transpose(1, 2)
