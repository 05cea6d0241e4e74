"""The corpora: each one a module with load(root, **options) -> Corpus, found here by name.

    >>> from slakit.data.corpora import check_options
    >>> check_options("isharah-1000", {"setup": "US"})
    >>> check_options("phoenix2014", {"keep_brokn": True})
    Traceback (most recent call last):
    slakit.records.ConfigError: phoenix2014 has no option 'keep_brokn'; did you mean 'keep_broken'?

A new corpus is one file: read its annotation with reading.py (tables, clean ids, paths that cannot leave the root),
return make_corpus(…), and name it in CORPORA. cropped.py cuts its clips as load_corpus(crop=…) says; pickles.py reads
pickled annotation without executing it; official.py holds the published sizes that `doctor` compares.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from slakit.config import nearest
from slakit.data.corpora.cropped import cropped, plain_crop
from slakit.data.prepare import prepared as read_prepared
from slakit.records import ConfigError, Corpus, CorpusError

# name -> module, or module:function; a function with a parameter `name` serves several and is told which is meant
CORPORA: dict[str, str] = {
    "minisign": "slakit.data.corpora.minisign",
    "phoenix2014": "slakit.data.corpora.phoenix",
    "phoenix2014-si5": "slakit.data.corpora.phoenix",
    "phoenix2014-t": "slakit.data.corpora.phoenix:load_t",
    "csl-daily": "slakit.data.corpora.csl_daily",
    "csl": "slakit.data.corpora.csl",
    "isharah-500": "slakit.data.corpora.isharah",
    "isharah-1000": "slakit.data.corpora.isharah",
    "isharah-2000": "slakit.data.corpora.isharah",
    "ce-csl": "slakit.data.corpora.ce_csl",
    "gsl-si": "slakit.data.corpora.gsl",
    "gsl-sd": "slakit.data.corpora.gsl",
    "folder": "slakit.data.corpora.folder",
}


NOT_OF_A_CORPUS = ("progress", "workers")  # options that change how it is read, not what


def load_corpus(
    name: str,
    root: str | Path | None = None,
    prepared: str | Path | None = None,
    crop: str | Sequence[int] | Mapping[str, Any] | None = None,
    **options: Any,
) -> Corpus:
    """The corpus `name`, read from its annotation files below `root`.

    root: the corpus' folder; "minisign" alone may do without one and is built where it is missing.
    prepared: a folder that `slakit prepare` wrote; the frames are then read from it, and those below root not needed.
    crop: the one picture of training, evaluation, recognition and preparation, kept in checkpoints. "signer" cuts the
    square around the signer out of pictures that are no squares, "none" leaves them whole, [left, top, side] is that
    square in pixels; {signer: one of these, …} gives each signer his own. None: whole in training, and otherwise as a
    checkpoint says.
    options: what the corpus' own load function takes.
    CorpusError for an unknown name (with the nearest known one) or annotation that cannot be read, ConfigError for an
    option that the corpus does not take.
    """
    load = find_corpus(name)
    check_options(name, {**options, "crop": crop})
    corpus = load(root, **options)
    kept = {
        option: str(value) if isinstance(value, Path) else value
        for option, value in options.items()
        if option not in NOT_OF_A_CORPUS
    }
    if crop is not None:
        corpus, kept["crop"] = cropped(corpus, crop), plain_crop(crop)
    corpus = replace(corpus, options={**corpus.options, **kept})
    return corpus if prepared is None else read_prepared(corpus, prepared)


def find_corpus(name: str) -> Callable[..., Corpus]:
    """The load function of the corpus `name`; CorpusError, with the nearest name, where there is none."""
    if name not in CORPORA:
        raise CorpusError(f"there is no corpus {name!r}{nearest(name, CORPORA)}")
    module, _, function = CORPORA[name].partition(":")
    load = getattr(importlib.import_module(module), function or "load")
    return partial(load, name=name) if "name" in inspect.signature(load).parameters else load


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Whether load_corpus(name, …) would take these options; ConfigError that names the wrong one. Reads no corpus."""
    load, options = find_corpus(name), dict(options)
    if (crop := options.pop("crop", None)) is not None:
        plain_crop(crop)
    known = inspect.signature(load).parameters
    if "options" in known:  # of a corpus that is drawn: it checks their values, too
        importlib.import_module(load.__module__).check_options(options)
        return
    names = {"prepared", "crop", *known} - {"root", "name"}
    for option in options:
        if option not in names:
            raise ConfigError(f"{name} has no option {option!r}{nearest(option, names)}")
