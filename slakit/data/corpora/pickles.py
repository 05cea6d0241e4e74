"""Pickled annotation (CSL-Daily's .pkl) read without executing code.

A pickle is a program. Here it may build lists, dictionaries, tuples, sets, strings and numbers, and nothing else: any
other name that it asks for ends the reading.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

from slakit.records import CorpusError, read_bytes

ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
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
        if "PUT" in operation.name and int(argument or 0) > len(data):
            raise ValueError(f"{operation.name} {argument}")


def load_plain_pickle(path: str | Path) -> Any:
    """The content of a pickle of plain data. CorpusError where it is damaged or holds anything else."""
    data = read_bytes(Path(path))
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
