"""Names of settings in a spec: those of a RunConfig ("model.options.rank"), and those of the notebook's parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from slakit.records import ConfigError


def parameter(name: str) -> str:
    """A setting's name as the notebook has it: "model.options.rank" is "model_options.rank"; others stay."""
    return re.sub(r"^(model|train)\.(options\.)?", r"\1_options.", name)


def by_parameter(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes with the notebook's names; {"model": {"options": {…}}} and {"train": {…}} are whole dicts of it."""
    result = {}
    for key, value in changes.items():
        if key in ("model", "train") and isinstance(value, Mapping):
            key, value = f"{key}_options", {**value.get("options", {}), **value}
            value.pop("options", None)
        result[parameter(str(key))] = value
    return result


def assign(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the parameters with changes; {"model.options.rank": 4} sets one entry of the dict `model_options`."""
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in parameters.items()}
    for key, value in by_parameter(changes).items():
        head, _, rest = key.partition(".")
        if rest:
            inner = result.get(head, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{key!r} reaches into {head!r}, which is {inner!r} and no mapping")
            result[head] = {**inner, rest: value}
        else:
            result[head] = value
    return result


def flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """{"model_options": {"rank": 4}} as {"model_options.rank": 4}."""
    flat = {}
    for key, value in parameters.items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat
