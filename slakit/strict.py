"""Strict conversion between plain dictionaries (JSON, YAML, keyword arguments) and typed dataclasses.

A key that does not exist or a value of the wrong type is a ConfigError that names the key, the value, what was
expected and, for a misspelt name, the nearest one. Nothing is converted silently but int -> float and list -> tuple.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from slakit.errors import ConfigError

T = TypeVar("T")


def nearest(name: object, known: Iterable[str]) -> str:
    """The way out for an unknown name: "; did you mean 'x'?", or, where none is near, the names that are known."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name).lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    if close:
        return f"; did you mean {next(k for k in known if k.lower() == close[0])!r}?"
    listed = ", ".join(known[:40]) + (f", … ({len(known)} in all)" if len(known) > 40 else "")
    return f"; known: {listed}"


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `kind` with `values`; fields that are not named keep their defaults."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or kind.__name__} is {values!r}; expected a mapping of settings")
    hints = typing.get_type_hints(kind)
    names = {field.name for field in dataclasses.fields(kind)}
    converted = {}
    for key, value in values.items():
        if key not in names:
            raise ConfigError(f"{_path(where, key)!r} is no setting of {kind.__name__}{nearest(key, names)}")
        converted[key] = convert(value, hints[key], _path(where, key))
    return kind(**converted)


def override(settings: T, changes: Mapping[str, Any], where: str = "") -> T:
    """A copy of the dataclass with some fields replaced; "decode.beam_width" reaches into a nested one.

    A dictionary is merged: its other keys stay.
    """
    for key, value in changes.items():
        head, _, rest = key.partition(".")
        inner = getattr(settings, head, None)
        if rest and dataclasses.is_dataclass(inner):
            value = override(inner, {rest: value}, _path(where, head))
        elif dataclasses.is_dataclass(inner) and isinstance(value, Mapping):
            value = override(inner, value, _path(where, head))
        elif rest and isinstance(inner, Mapping):
            value = {**inner, rest: value}
        elif isinstance(inner, Mapping) and isinstance(value, Mapping):
            value = {**inner, **value}
        elif rest:
            raise ConfigError(
                f"{_path(where, key)!r} is no setting of {type(settings).__name__}; {head!r} has no parts"
            )
        current = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        settings = from_dict(type(settings), {**current, head: value}, where)
    return settings


def at_least(least: int, **values: float | None) -> None:
    """ConfigError for a value below `least`; None stands for "not given" and passes."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{name}={value}; it is {least} or more")


def to_dict(settings: Any) -> dict[str, Any]:
    """The dataclass as plain dictionaries and lists that JSON can hold; from_dict() of it gives an equal one."""
    return _plain(dataclasses.asdict(settings))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _path(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def convert(value: Any, hint: Any, name: str) -> Any:
    """`value` as the type `hint` says, or a ConfigError that names `name`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for choice in arguments:
            try:
                return convert(value, choice, name)
            except ConfigError:
                words = typing.get_args(choice) if typing.get_origin(choice) is typing.Literal else ()
                if any(type(value) is type(word) for word in words):  # one of several words was meant
                    switch = ["true", "false"] if bool in arguments else []
                    raise _none_of(value, [*words, *switch], name) from None
        raise _wrong(value, hint, name)
    if origin is typing.Literal:
        if value in arguments and type(value) in {type(a) for a in arguments}:
            return value
        raise _none_of(value, arguments, name)
    if hint is types.NoneType:
        if value is None:
            return None
    elif dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, name)
    elif origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        if isinstance(value, list | tuple):
            return tuple(convert(item, arguments[0], f"{name}[{i}]") for i, item in enumerate(value))
    elif origin is dict or hint is dict:
        if isinstance(value, Mapping):
            return dict(value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise _wrong(value, hint, name)


def _none_of(value: Any, known: Iterable[Any], name: str) -> ConfigError:
    if value in ("true", "false") and value in known:
        return ConfigError(f"{name} is the word {value!r}; write {value} without quotation marks")
    return ConfigError(f"{name}={value!r} is not possible{nearest(value, [str(word) for word in known])}")


def _wrong(value: Any, hint: Any, name: str) -> ConfigError:
    expected = "None" if hint is types.NoneType else getattr(hint, "__name__", None)
    expected = str(hint).replace("typing.", "") if expected is None or typing.get_args(hint) else expected
    return ConfigError(f"{name}={value!r} is of type {type(value).__name__}; expected {expected}")
