"""The sequence model of both papers: temporal convolution K5-P2-K5-P2, two-layer BiLSTM, one normalised classifier.

As in VAC, CorrNet, AdaptSign and CLIP-SLA with share_classifier: both heads are the same parameter. Other systems have
two classifiers, linear ones with bias, or TLP's lift pooling.
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


class LiftGate(nn.Module):
    """z (1/2 + sigmoid(InstanceNorm(conv5(z)))): a weight from 1/2 to 3/2 for every channel and time."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(channels, channels, 5, padding=2), nn.InstanceNorm1d(channels, affine=True)
        nn.init.zeros_(self.conv.weight)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """[B, C, T] -> [B, C, T]. A single step, of clips of four frames and fewer, is its own mean, so its norm is the
        bias; torch's module refuses that, its function does not."""
        norm, use_cudnn = self.norm, torch.backends.cudnn.enabled
        y = torch.instance_norm(self.conv(z), norm.weight, norm.bias, None, None, True, 0.0, norm.eps, use_cudnn)
        return z * (0.5 + y.sigmoid())


class LiftPool(nn.Module):
    """Temporal lift pooling by 2 (Hu et al., ECCV 2022). With e and o = x at even and odd places,

        d = o - P(e),   s = e + U(d),   y = W1(s) + W2(d)

    P, U: depthwise convolution of width `kernel`, ReLU, 1x1 convolution, tanh. The instance norm of W1 and W2 runs over
    all of a batch's time, padding included, so that a clip's result depends on its batch, as in the released code.
    terms: in training, (update, predict) of the last call: the norms of s - o and d, of the whole batch.
    """

    terms: tuple[torch.Tensor, torch.Tensor] | None = None

    def __init__(self, channels: int, kernel: int = 3):
        super().__init__()

        def filters() -> nn.Sequential:
            depthwise = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)
            mixing = nn.Conv1d(channels, channels, 1)
            nn.init.zeros_(mixing.weight)
            return nn.Sequential(depthwise, nn.ReLU(), mixing, nn.Tanh())

        self.predictor, self.updater = filters(), filters()
        self.weight1, self.weight2 = LiftGate(channels), LiftGate(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, T] -> [B, C, T/2], T even."""
        even, odd = x[..., ::2], x[..., 1::2]
        detail = odd - self.predictor(even)
        smooth = even + self.updater(detail)
        self.terms = ((smooth - odd).float().norm(), detail.float().norm()) if self.training else None
        return self.weight1(smooth) + self.weight2(detail)


class TemporalConv(nn.Sequential):
    """Twice (Conv1d of width 5 without padding, batch norm, ReLU, pooling by 2): 16 frames -> 1, stride 4."""

    def __init__(self, in_features: int, hidden_size: int, pooling: str = "max", lift_kernel: int = 3):
        def pool() -> nn.Module:
            return nn.MaxPool1d(2) if pooling == "max" else LiftPool(hidden_size, lift_kernel)

        layers = []
        for inputs in (in_features, hidden_size):
            layers += [nn.Conv1d(inputs, hidden_size, 5), nn.BatchNorm1d(hidden_size), nn.ReLU(inplace=True), pool()]
        super().__init__(*layers)

    def lift_terms(self) -> dict[str, torch.Tensor]:
        """{"lift_update": …, "lift_predict": …} of the last training pass, summed over both poolings and let go; {} for
        max pooling."""
        terms = [found for pool in self if (found := vars(pool).pop("terms", None))]
        names = ("lift_update", "lift_predict")
        return {name: torch.stack(values).sum() for name, values in zip(names, zip(*terms, strict=True), strict=False)}

    @staticmethod
    def output_lengths(lengths: torch.Tensor) -> torch.Tensor:
        """Steps that a clip of `lengths` (padded) frames gives; ceil(T/4) for the published padding of T frames."""
        return (((lengths - 4).clamp(min=0) / 2 - 4).clamp(min=0) / 2).long()


class SequenceModel(nn.Module):
    """Padded frame features -> logits of both heads.

    classifier: "norm", a NormLinear, or "linear", with bias. share_classifier: one for both heads. pooling: "max" or
    "lift", whose P and U are lift_kernel wide.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        hidden_size: int = 1024,
        lstm_layers: int = 2,
        dropout: float = 0.3,
        classifier: str = "norm",
        share_classifier: bool = True,
        pooling: str = "max",
        lift_kernel: int = 3,
    ):
        super().__init__()
        self.conv = TemporalConv(in_features, hidden_size, pooling, lift_kernel)
        self.lstm = nn.LSTM(
            hidden_size,
            hidden_size // 2,
            lstm_layers,
            batch_first=True,
            bidirectional=True,
            dropout=dropout if lstm_layers > 1 else 0.0,
        )
        kind = NormLinear if classifier == "norm" else nn.Linear
        self.classifier = kind(hidden_size, num_classes)
        self.conv_classifier = None if share_classifier else kind(hidden_size, num_classes)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """features [B, T_padded, F], lengths int64 [B] in padded frames.

        Returns conv logits [B, T', V], sequence logits [B, T', V] and the steps [B] of each clip.
        """
        if features.shape[1] < FIELD:
            raise SlakitError(f"{features.shape[1]} padded frames are too few for the temporal convolution ({FIELD})")
        steps = self.conv.output_lengths(lengths)
        x = self.conv(features.transpose(1, 2)).transpose(1, 2)  # [B, T', hidden]
        of_conv = self.conv_classifier or self.classifier
        return of_conv(x), self.classifier(self.recurrent(x, steps)), steps

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
