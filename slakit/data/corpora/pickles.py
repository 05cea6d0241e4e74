"""Pickled annotation (CSL-Daily's .pkl, the public repositories' .npy dictionaries) read without executing code.

A pickle is a program. Here it may build lists, dictionaries, tuples, sets, strings and numbers, and nothing else: any
other name that it asks for ends the reading.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from slakit.data.corpora.reading import read_bytes
from slakit.records import CorpusError, Vocabulary


class _Holder:
    """Stands for the 0-dimensional object array in which NumPy wraps a dictionary."""

    content: Any = None

    def __setstate__(self, state: Any) -> None:
        data = state[4] if isinstance(state, tuple) and len(state) == 5 else None
        if not isinstance(data, list) or len(data) != 1:
            raise pickle.UnpicklingError("an array that is not one object")
        self.content = data[0]


class _Ignored:
    """Stands for NumPy's type descriptions, which say nothing here."""

    def __init__(self, *arguments: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _holder(*arguments: Any) -> _Holder:
    return _Holder()


ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _holder for core in ("core", "_core")},
    ("numpy", "ndarray"): _Ignored,
    ("numpy", "dtype"): _Ignored,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to objects outside")


def _check_sizes(data: bytes) -> None:
    """ValueError for sizes beyond the data: a store to place 4,000,000,000 would take its memory before anything else.

    pickletools reads the program without running it, and only as much as is there.
    """
    for operation, argument, _ in pickletools.genops(data):
        if "PUT" in operation.name and int(argument) > len(data):
            raise ValueError(f"{operation.name} {argument}")


def _load(path: Path, data: bytes) -> Any:
    try:
        _check_sizes(data)
        return _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    except RecursionError:
        raise CorpusError(f"{path}: nested too deeply for annotation; get the file from its official source") from None
    except Exception as error:  # a damaged pickle can raise nearly anything; nothing of it has been executed
        raise CorpusError(
            f"{path}: not plain annotation ({type(error).__name__}: {error}); nothing in it was executed, get the file "
            "from its official source"
        ) from None


def load_plain_pickle(path: str | Path) -> Any:
    """The content of a pickle of plain data. CorpusError where it is damaged or holds anything else."""
    return _load(Path(path), read_bytes(Path(path)))


def load_npy_dict(path: str | Path) -> dict:
    """The dictionary in an .npy file, as numpy.save writes it (`train_info.npy`, `gloss_dict.npy`)."""
    path = Path(path)
    data = io.BytesIO(read_bytes(path))
    try:
        version = np.lib.format.read_magic(data)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(data)
    except (ValueError, EOFError, TypeError, SyntaxError, RecursionError, MemoryError, TokenError) as error:
        raise CorpusError(f"{path}: not an .npy file ({error}); get it from its official source") from None
    if shape != () or dtype.kind != "O":
        raise CorpusError(f"{path}: holds an array {dtype} {shape}, not a dictionary")
    found = _load(path, data.read())
    if isinstance(found, _Holder):
        found = found.content
    if not isinstance(found, dict):
        raise CorpusError(f"{path}: holds a {type(found).__name__}, not a dictionary")
    return found


def read_gloss_dict(path: str | Path) -> Vocabulary:
    """The vocabulary of a published `gloss_dict.npy`: gloss -> [index, count], indices 1 to V without a gap."""
    entries = load_npy_dict(path)
    try:
        order = sorted((int(np.ravel(value)[0]), str(gloss)) for gloss, value in entries.items())
    except (TypeError, ValueError, IndexError):
        raise CorpusError(f"{path}: not gloss -> [index, count]; it is no dictionary of glosses") from None
    if [index for index, _ in order] != list(range(1, len(order) + 1)):
        raise CorpusError(f"{path}: the indices are not 1 to {len(order)}, each once; it is damaged")
    return Vocabulary(gloss for _, gloss in order)
