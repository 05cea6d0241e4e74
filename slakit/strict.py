"""Dataclasses of settings that are checked: pydantic beneath, one sentence where something is wrong.

    @checked_dataclass
    class Search:
        beam_width: Positive = 10

    Search(beam_width=0)                    # ConfigError: beam_width=0; it is 1 or more
    from_dict(Search, {"beam": 4})          # ConfigError: 'beam' is no setting of Search; did you mean 'beam_width'?

Nothing is converted silently, but for a whole number where a float is wanted, and a list where a tuple is. JSON of any
origin is parsed by parse_json(), which bounds its length and depth.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import pickle
import pickletools
import re
import struct
import tokenize
import types
import typing
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, cast

import pydantic.dataclasses
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails, to_jsonable_python

from slakit.records import ConfigError

T = TypeVar("T")


@typing.dataclass_transform(frozen_default=True, field_specifiers=(field,))
def checked_dataclass(kind: type[T]) -> type[T]:
    """Makes a class a frozen dataclass that is checked: making one with a wrong name or value is a ConfigError."""
    strict = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    checked = cast(type[T], pydantic.dataclasses.dataclass(kind, frozen=True, config=strict))
    checked.__init__ = lambda self, *args, **values: _fill(self, args, values, "")
    return checked


def must(test: Callable[[Any], bool], words: str) -> AfterValidator:
    """For Annotated[…]: a value that fails the test is refused with these words."""

    def check(value: Any) -> Any:
        if not test(value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Seed = Annotated[int, must(lambda x: 0 <= x < 2**63, "it is no seed; that is a whole number from 0 to 2**63 - 1")]
WIDEST = 65_536  # of a sequence model: 32 times the widest published
EVEN = f"it is an even number up to {WIDEST}: half of it each way through time"
Even = Annotated[int, must(lambda x: 2 <= x <= WIDEST and x % 2 == 0, EVEN)]
Probability = Annotated[float, must(lambda x: 0 <= x <= 1, "it is no probability; that lies between 0 and 1")]
TemporalScale = Annotated[float, must(lambda x: 0 <= x < 1, "it is not in [0, 1); None leaves all frames")]
Rate = Annotated[float, must(lambda x: x > 0, "it is more than 0 (published: 1e-4)")]


def from_dict(kind: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `kind` with `values`; fields that are not named keep their defaults.

    where: what the sentence of a ConfigError puts before the names, as in "train.decode".
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or kind.__name__} is {brief(values)}; expected a mapping of settings")
    instance = object.__new__(_checked_kind(kind))
    _fill(instance, (), values, where)
    return instance


@cache
def _checked_kind(kind: type) -> type:
    """`kind` itself, or for a plain dataclass the subclass of it that is checked."""
    return kind if pydantic.dataclasses.is_pydantic_dataclass(kind) else checked_dataclass(kind)


_hints = cache(typing.get_type_hints)


def _fill(instance: Any, args: tuple, values: Mapping[str, Any], where: str) -> None:
    """Give an empty instance its values: lists pass for tuples, and mappings for settings inside."""
    kind, shaped = type(instance), {}
    for key, value in values.items():
        hint = _hints(kind).get(key)
        if is_dataclass(hint) and not isinstance(value, cast(type, hint)):
            value = from_dict(cast(type, hint), value, _path(where, key))
        elif isinstance(value, list) and any(typing.get_origin(choice) is tuple for choice in _choices(hint)):
            value = tuple(value)
        shaped[str(key)] = dict(value) if isinstance(value, Mapping) else value
    try:
        kind.__pydantic_validator__.validate_python(ArgsKwargs(args, shaped), self_instance=instance)
    except ValidationError as error:
        raise ConfigError(_sentence(kind, error.errors(), where)) from None


def override(settings: T, changes: Mapping[str, Any], where: str = "") -> T:
    """A copy of the dataclass with some fields replaced; "decode.beam_width" reaches into a nested one.

    A dictionary is merged: its other keys stay.
    """
    values = {item.name: getattr(settings, item.name) for item in fields(cast(Any, settings))}
    nested: dict[str, dict[str, Any]] = {}  # changes of one part belong together: alone they may contradict what was
    for key, value in changes.items():
        head, _, rest = str(key).partition(".")
        inner = values.get(head)
        if rest and head in values and not (is_dataclass(inner) or isinstance(inner, Mapping)):
            name = _path(where, key)
            raise ConfigError(f"{name!r} is no setting of {type(settings).__name__}; {head!r} has no parts")
        value = {rest: value} if rest else value
        if isinstance(value, Mapping) and (is_dataclass(inner) or isinstance(inner, Mapping)):
            nested.setdefault(head, {}).update(value)
        else:
            values[head] = value
            nested.pop(head, None)
    for head, value in nested.items():
        inner = values[head]
        values[head] = override(inner, value, _path(where, head)) if is_dataclass(inner) else {**inner, **value}
    return from_dict(type(settings), values, where)


def to_dict(settings: Any) -> dict[str, Any]:
    """The dataclass as plain dictionaries and lists that JSON can hold; from_dict() of it gives an equal one."""
    return to_jsonable_python(dataclasses.asdict(settings))


def to_json(settings: Any) -> str:
    """The settings as indented JSON."""
    return json.dumps(to_dict(settings), indent=1, ensure_ascii=False)


def from_json(kind: type[T], text: str) -> T:
    """The inverse of to_json(), strict about names and types; ConfigError where the text is no JSON."""
    return from_dict(kind, parse_json(text, f"the {kind.__name__}"))


# What libraries raise for bytes of any kind: loaders of arrays, archives, pickles and pictures.
UNREADABLE = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, EOFError,
    RuntimeError, MemoryError, SyntaxError, pickle.UnpicklingError, struct.error, tokenize.TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
MAX_CHARACTERS, MAX_DEPTH = 32 * 2**20, 32


def parse_json(text: str, where: object) -> Any:
    """What a JSON text holds. ConfigError, which begins with `where`, for what is none, too long or nested too deep."""
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{where}: {len(text):,} characters of JSON, more than {MAX_CHARACTERS:,}; look what it is")
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ConfigError(f"{where} is nested more than {MAX_DEPTH} deep; settings are not") from None
    except ValueError as error:  # also a number of more digits than Python reads
        raise ConfigError(f"{where} is no JSON: {error}") from None
    check_plain(content, where)
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {brief(twice)} stands twice in one object; keep one of them")
    return values


def check_plain(content: Any, where: object, depth: int = MAX_DEPTH) -> None:
    """ConfigError where plain data is nested too deep, holds text that cannot be written, or numbers nothing counts."""
    if depth < 0:
        raise ConfigError(f"{where} is nested more than {MAX_DEPTH} deep; settings are not")
    if isinstance(content, Mapping):
        for key, value in content.items():
            check_plain(key, where, depth)
            check_plain(value, where, depth - 1)
    elif isinstance(content, list | tuple):
        for value in content:
            check_plain(value, where, depth - 1)
    elif isinstance(content, str) and not content.isascii() and any("\ud800" <= c <= "\udfff" for c in content):
        raise ConfigError(f"{where} holds {brief(content)}, half of a character (a lone surrogate); write it anew")
    elif isinstance(content, int) and abs(content) >= 2**64:
        raise ConfigError(f"{where} holds a whole number of {content.bit_length()} bits; 64 are the most")


def check_pickle(data: bytes) -> bytes:
    """The pickle, unless it asks for sizes beyond its own: a store to place 4,000,000,000 would take its memory before
    anything else. ValueError then; pickletools reads the program without running it, and only as much as is there."""
    for operation, argument, _ in pickletools.genops(data):
        if "PUT" in operation.name and int(argument or 0) > len(data):
            raise ValueError(f"{operation.name} {argument}")
    return data


def brief(value: Any, limit: int = 120) -> str:
    """The value as Python writes it, cut to `limit` characters: for a sentence."""
    text = repr(value[: 2 * limit] if isinstance(value, str | bytes | list | tuple) else value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def at_least(least: int, **values: float | None) -> None:
    """ConfigError for a value below `least`; None stands for "not given" and passes."""
    for name, value in values.items():
        if value is not None and value < least:
            raise ConfigError(f"{name}={value}; it is {least} or more")


def nearest(name: object, known: Iterable[str]) -> str:
    """The way out for an unknown name: "; did you mean 'x'?", or, where none is near, the names that are known."""
    known = sorted(known)
    close = difflib.get_close_matches(str(name).lower(), [k.lower() for k in known], n=1, cutoff=0.5)
    if close:
        return f"; did you mean {next(k for k in known if k.lower() == close[0])!r}?"
    listed = ", ".join(known[:40]) + (f", … ({len(known)} in all)" if len(known) > 40 else "")
    return f"; known: {listed}"


def _path(where: str, key: object) -> str:
    return f"{where}.{key}" if where else str(key)


def _choices(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


# Of an error inside a list or a mapping: what its value is not.
_INNER = {"int": "whole number", "float": "number", "string": "text", "bool": "true or false", "dict": "mapping"}
_LISTS = defaultdict(lambda: "mappings", {int: "whole numbers", float: "numbers", str: "words"})
_BOUNDS = {"ge": "{} or more", "gt": "more than {}", "le": "{} or less", "lt": "less than {}"}


def _sentence(kind: type, errors: list[ErrorDetails], where: str) -> str:
    """What pydantic found, in one sentence that names the setting, its value, what was expected and the way out."""
    names = [item.name for item in fields(kind)]
    first = [error for error in errors if error["loc"][:1] == errors[0]["loc"][:1]]
    problem = max(first, key=lambda error: len(error["loc"]))  # the type of a union that fits furthest
    value, context, sort = problem["input"], problem.get("ctx", {}), problem["type"]
    if not problem["loc"]:
        return f"{where}: {context['error']}" if where else str(context["error"])
    head, *inner = problem["loc"]
    head = names[head] if isinstance(head, int) else head  # by position
    path, hint = _path(where, head), _hints(kind).get(head)
    if hint is None:
        return f"{brief(path)} is no setting of {kind.__name__}{nearest(head, names)}"
    inner = [part for part in inner if isinstance(part, int) or typing.get_origin(hint) is dict]  # no names of types
    path += "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in inner)
    words = [word for choice in _choices(hint) for word in typing.get_args(choice) if isinstance(word, str)]
    if (words and isinstance(value, str)) or sort == "literal_error":
        switch = ["true", "false"] if bool in _choices(hint) else []
        if value in switch:
            return f"{path} is the word {brief(value)}; write {value} without quotation marks"
        return f"{path}={brief(value)} is not possible{nearest(value, [*words, *switch])}"
    if sort == "value_error":
        return f"{path}={brief(value)}; {context['error']}"
    for bound, text in _BOUNDS.items():
        if bound in context:
            return f"{path}={brief(value)}; it is {text.format(context[bound])}"
    if inner:
        return f"{path}={brief(value)} is no {_INNER.get(sort.partition('_')[0], 'such value')}"
    types_of = ("a finite float",) if sort == "finite_number" else map(_words, _choices(hint))
    way_out = ""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", value):  # as YAML reads 2e-4
        way_out = f" (YAML takes this for a text; write {float(value):f}".rstrip("0") + ")"
    return f"{path}={brief(value)} is of type {type(value).__name__}; expected {' | '.join(types_of)}{way_out}"


def _words(hint: Any) -> str:
    if typing.get_origin(hint) in (dict, tuple):
        return "a mapping" if typing.get_origin(hint) is dict else f"a list of {_LISTS[typing.get_args(hint)[0]]}"
    return "None" if hint is types.NoneType else getattr(hint, "__name__", str(hint))
