"""The corpora: each one a module with load(root, **options) -> Corpus, found here by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
from pathlib import Path
from typing import Any

from slakit.data import cache
from slakit.data.samples import Corpus
from slakit.errors import ConfigError, CorpusError
from slakit.strict import nearest

# name -> module, or module:function where one module serves several names
CORPORA: dict[str, str] = {
    "minisign": "slakit.data.corpora.minisign",
    "phoenix2014": "slakit.data.corpora.phoenix2014",
    "phoenix2014-si5": "slakit.data.corpora.phoenix2014:load_si5",
    "phoenix2014-t": "slakit.data.corpora.phoenix2014_t",
    "csl-daily": "slakit.data.corpora.csl_daily",
    "csl": "slakit.data.corpora.csl",
    "isharah-500": "slakit.data.corpora.isharah:load_500",
    "isharah-1000": "slakit.data.corpora.isharah",
    "isharah-2000": "slakit.data.corpora.isharah:load_2000",
    "folder": "slakit.data.corpora.folder",
}


def load_corpus(
    name: str, root: str | Path | None = None, prepared: str | Path | None = None, **options: Any
) -> Corpus:
    """The corpus `name`, read from its annotation files below `root`.

    root: the corpus' folder; "minisign" alone may do without one and is built where it is missing.
    prepared: a folder that `slakit prepare` wrote; the frames are then read from it, and those below root not needed.
    options: what the corpus' own load function takes.
    CorpusError for an unknown name (with the nearest known one) or annotation that cannot be read, ConfigError for an
    option that the corpus does not take.
    """
    if name not in CORPORA:
        near = difflib.get_close_matches(str(name), CORPORA, n=1, cutoff=0.3)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise CorpusError(f"there is no corpus {name!r}; {hint}known: {', '.join(CORPORA)}")
    module, _, function = CORPORA[name].partition(":")
    load = getattr(importlib.import_module(module), function or "load")
    known = inspect.signature(load).parameters
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values()):
        for option in options:
            if option not in known:
                names = ["prepared", *(n for n in known if n not in ("root", "name"))]
                raise ConfigError(f"{name} has no option {option!r}{nearest(option, names)}")
    corpus = load(root, **options)
    return corpus if prepared is None else cache.prepared(corpus, prepared)
