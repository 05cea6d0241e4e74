"""YAML as specs and the command line have it: plain values, within bounds, no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError


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
MOST_VALUES = 100_000  # of a document with all its aliases written out
_PLAIN = (str, bool, int, float, type(None))


def read_yaml(text: str) -> Any:
    """A YAML document of plain values, 1e-4 a float. yaml.YAMLError where it is none, or grows beyond all bounds."""
    try:
        content = yaml.load(text, _Loader)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    waiting, count = [content], 0
    while waiting:
        value, count = waiting.pop(), count + 1
        if count > MOST_VALUES:
            raise yaml.YAMLError(f"with its aliases written out it holds more than {MOST_VALUES:,} values")
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif not isinstance(value, _PLAIN):
            raise yaml.YAMLError(f"{value!r} is a {type(value).__name__}; put it in quotation marks")
    return content
