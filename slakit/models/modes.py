"""A model in evaluation mode for a while: every forward pass that is not training's runs inside evaluating()."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from slakit.machine import autocast, half_precision

_inside: dict[tuple[int, str], tuple[int, Callable[[], None]]] = {}  # (model, what) -> count, the way back
_inside_lock = threading.Lock()


@contextmanager
def _while_anyone(key: tuple[int, str], enter: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """enter() for the first who comes, and what it returned for the last who goes: threads share one model's modes."""
    with _inside_lock:
        count, leave = _inside.pop(key, (0, None))
        _inside[key] = count + 1, leave or enter()
    try:
        yield
    finally:
        with _inside_lock:
            count, leave = _inside.pop(key)
            if count > 1:
                _inside[key] = count - 1, leave
            else:
                leave()


def _to_evaluation(model: nn.Module) -> Callable[[], None]:
    training = [module for module in model.modules() if module.training]
    model.eval()

    def back() -> None:
        for module in training:
            module.training = True

    return back


def _without_gradients(model: nn.Module) -> Callable[[], None]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)

    def back() -> None:
        for parameter in trained:
            parameter.requires_grad_(True)

    return back


@contextmanager
def evaluating(model: nn.Module, precision: str = "auto", gradients: bool = False) -> Iterator[torch.device]:
    """Inside: evaluation mode, no gradients, autocast of `precision` (see half_precision); gives the model's device.

    gradients: those of inputs may be asked for, as maps do, and those of no parameter, so that graphs keep only what
    inputs need; "auto" is then float32 in place of float16, in which small gradients vanish. When the last one leaves
    (it may be entered again inside, and from several threads), every module's mode and every parameter's requires_grad
    are what they were, also after an error.
    """
    device = next(model.parameters()).device
    if gradients and precision == "auto" and half_precision(precision, device) == torch.float16:
        precision = "float32"
    with ExitStack() as stack:
        stack.enter_context(_while_anyone((id(model), "mode"), lambda: _to_evaluation(model)))
        if gradients:
            stack.enter_context(_while_anyone((id(model), "gradients"), lambda: _without_gradients(model)))
        else:
            stack.enter_context(torch.inference_mode())
        stack.enter_context(autocast(precision, device))
        yield device
