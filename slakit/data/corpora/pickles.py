"""Pickled annotation (CSL-Daily's .pkl) read without executing code.

A pickle is a program. Here it may build lists, dictionaries, tuples, sets, strings and numbers, and nothing else: any
other name that it asks for ends the reading.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

from slakit.records import CorpusError, read_bytes
from slakit.strict import check_pickle

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


def load_plain_pickle(path: str | Path) -> Any:
    """The content of a pickle of plain data. CorpusError where it is damaged or holds anything else."""
    data = read_bytes(Path(path))
    try:
        return _PlainUnpickler(io.BytesIO(check_pickle(data)), encoding="latin1").load()
    except RecursionError:
        raise CorpusError(f"{path}: nested too deeply for annotation; get the file from its official source") from None
    except Exception as error:  # a damaged pickle can raise nearly anything; nothing of it has been executed
        raise CorpusError(
            f"{path}: not plain annotation ({type(error).__name__}: {error}); nothing in it was executed, get the file "
            "from its official source"
        ) from None
