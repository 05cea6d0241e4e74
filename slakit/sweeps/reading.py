"""YAML as specs and the command line have it: plain values, within bounds, no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from slakit.config import check_plain
from slakit.records import ConfigError


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number (YAML 1.1, which PyYAML follows, wants 1.0e-4 and takes the other for text), and
    in which a key that stands twice in one mapping is an error."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != _MERGE]
        twice = next((key for key in keys if isinstance(key, Hashable) and keys.count(key) > 1), None)
        if twice is not None:
            raise ConstructorError(None, None, f"the key {twice!r} stands twice in one mapping", node.start_mark)
        return super().construct_mapping(node, deep)


_MERGE = "tag:yaml.org,2002:merge"
_NUMBER = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))
MOST_CHARACTERS = 2**16  # the longest spec has 4,000
MOST_VALUES = 100_000  # of a document with all its aliases written out
_PLAIN = (str, bool, int, float, type(None))


def read_yaml(text: str) -> Any:
    """A YAML document of plain values, 1e-4 a float. yaml.YAMLError where it is none, or grows beyond all bounds."""
    if len(text) > MOST_CHARACTERS:
        raise yaml.YAMLError(f"{len(text):,} characters are more than {MOST_CHARACTERS:,}")
    try:
        loader = _Loader(text)
        if (node := loader.get_single_node()) is None:
            return None
        _count(node, iter(range(MOST_VALUES)))
        content = loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply, or its aliases hold themselves") from None
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        raise yaml.YAMLError(f"it holds a value that cannot be read: {error}") from None  # 0o9, or 1:99:x
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif not isinstance(value, _PLAIN):
            raise yaml.YAMLError(f"{value!r} is a {type(value).__name__}; put it in quotation marks")
    try:
        check_plain(content, "it")
    except ConfigError as error:
        raise yaml.YAMLError(str(error)) from None
    return content


def _count(node: yaml.Node, budget: Iterator[int]) -> None:
    """Before anything is built: aliases written out, and merged mappings, can be exponentially many."""
    if next(budget, None) is None:
        raise yaml.YAMLError(f"with its aliases written out it holds more than {MOST_VALUES:,} values")
    for part in node.value if isinstance(node, yaml.CollectionNode) else ():
        for inner in part if isinstance(part, tuple) else (part,):
            _count(inner, budget)
