"""What a decoder returns, and the checks that every decoder makes of its input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from slakit.records import ConfigError

LOG_PROB_LIMIT = 1e-3  # a log probability may exceed 0 by rounding only


@dataclass(frozen=True)
class Hypothesis:
    """One decoded sequence.

    tokens: class indices without blanks.
    score: natural log probability under CTC (of the labelling for beam search, of the single best path for greedy).
    timesteps: for each token the time step where it was most probable, counted from 0.
    total: what the beam was ordered by: `score` plus language model, insertion bonus and hot words; without them it is
        `score`.
    """

    tokens: tuple[int, ...]
    score: float
    timesteps: tuple[int, ...]
    total: float


def collapse(tokens: Sequence[int], timesteps: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """One token for each run of equal neighbours, at the time step of the first: the repositories' second collapse.

    VAC, CorrNet, SlowFastSign and AdaptSign apply it after CTC's own, so that "A A" can never come out. The price for a
    perfect model, in percent WER (dev / test): Phoenix-2014 0.09 / 0.15, Phoenix-2014-T 0.03 / 0.12, CSL-Daily
    1.54 / 1.67.
    """
    keep = [i for i, token in enumerate(tokens) if i == 0 or token != tokens[i - 1]]
    return tuple(tokens[i] for i in keep), tuple(timesteps[i] for i in keep)


def check_input(
    log_probs: torch.Tensor | np.ndarray, lengths: Sequence[int] | torch.Tensor | np.ndarray | None, blank: int
) -> tuple[torch.Tensor, np.ndarray]:
    """log_probs [B, T', V] as a floating tensor where it is, lengths int64 [B] on the CPU; ConfigError otherwise."""
    tensor = log_probs
    if isinstance(log_probs, np.ndarray):
        if log_probs.dtype.kind != "f":
            raise ConfigError(f"log_probs has type {log_probs.dtype}; pass natural log probabilities, floating")
        native = {2: np.float16, 4: np.float32}.get(log_probs.dtype.itemsize, np.float64)  # torch holds no other
        tensor = torch.from_numpy(np.require(log_probs, native, ["C", "W"]))  # copies what torch cannot hold
    if not isinstance(tensor, torch.Tensor):
        raise ConfigError(f"log_probs is a {type(log_probs).__name__}; pass a torch tensor or a NumPy array [B, T', V]")
    if tensor.ndim != 3 or tensor.shape[2] < 1:
        raise ConfigError(f"log_probs has shape {list(tensor.shape)}; it must be [batch, time steps, classes]")
    if not tensor.is_floating_point():
        raise ConfigError(f"log_probs has type {tensor.dtype}; pass natural log probabilities (log_softmax), floating")
    tensor = tensor.detach()
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.float()
    batch, steps, classes = tensor.shape
    if isinstance(blank, bool) or not isinstance(blank, int | np.integer) or not 0 <= blank < classes:
        raise ConfigError(f"blank is {blank!r} but log_probs has {classes} classes; choose 0 to {classes - 1}")
    if lengths is None:
        return tensor, np.full(batch, steps, np.int64)
    try:
        raw = lengths.detach().cpu().numpy() if isinstance(lengths, torch.Tensor) else np.asarray(lengths)
    except (ValueError, TypeError) as error:  # lists of different lengths
        raise ConfigError(f"lengths are no numbers ({error}); give one length a clip") from None
    if raw.shape != (batch,):
        raise ConfigError(f"lengths has shape {list(raw.shape)} for a batch of {batch} clips; give one length a clip")
    if batch and raw.dtype.kind not in "iuf":
        raise ConfigError(f"lengths are of type {raw.dtype} ({raw[0]!r}); they are whole numbers of time steps")
    if batch and (odd := raw[~np.isfinite(raw) | (raw != np.floor(raw))]).size:
        raise ConfigError(f"lengths holds {odd[0]}; lengths are whole numbers of time steps")
    whole = raw.astype(np.int64)
    if batch and (whole.min() < 0 or whole.max() > steps):
        bad = int(np.flatnonzero((whole < 0) | (whole > steps))[0])
        raise ConfigError(f"the length of clip {bad} is {whole[bad]}; log_probs has 0 to {steps} time steps")
    return tensor, whole


MOST = 10**9  # of anything that is counted


def check_positive(most: int = MOST, **values: int) -> None:
    """ConfigError for the first value that is no whole number from 1 to `most`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ConfigError(f"{name} is {value!r}; it must be a whole number, 1 or more")
        if value > most:
            raise ConfigError(f"{name} is {value}; the most is {most:,}")


def check_nats(name: str, value: float, least: float = -1e6) -> float:
    """The value as a float; ConfigError where it is no number from `least` to a million."""
    numbers = int | float | np.integer | np.floating
    if isinstance(value, bool) or not isinstance(value, numbers) or not least <= value <= 1e6:
        kind = "a finite number of nats" if least < 0 else "a number, 0 or more"
        raise ConfigError(f"{name} is {value!r}; it must be {kind}, a million at most")
    return float(value)


def bad_value(log_probs: torch.Tensor, clip: int, step: int) -> ConfigError:
    """The error for a frame that holds NaN or a value above 0."""
    row = log_probs[clip, step].float().cpu()
    if bool(torch.isnan(row).any()):
        return ConfigError(
            f"log_probs holds NaN (clip {clip}, time step {step}); the model or its input is broken, look there"
        )
    return ConfigError(
        f"log_probs holds {float(row.max()):.4g} (clip {clip}, time step {step}); log probabilities are at most 0, "
        "pass logits.log_softmax(-1)"
    )
