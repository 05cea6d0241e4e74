"""Everything that can be wrong with a sweep is found here, before anything starts."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from slakit.config import nearest
from slakit.data.corpora import load_corpus
from slakit.machine import checkout, shipped
from slakit.records import ConfigError, SlakitError
from slakit.sweeps.parameters import check_parameters, parameters_of
from slakit.sweeps.reading import read_yaml
from slakit.sweeps.spec import Point, Spec
from slakit.training.presets import preset
from slakit.training.run import check_splits

# A notebook with these parameters runs slakit.sweeps.experiment.experiment() with them: so can we, beforehand.
_EXPERIMENT = ("preset", "corpus", "root", "model_options", "train_options", "corpus_options", "seed")
_NEEDED = {"preset", "model_options", "train_options"}


def notebook_path(notebook: str) -> Path:
    """A spec's notebook: an absolute path, or one from the checkout's folder or (without one) this folder, or one
    that slakit ships."""
    path = (checkout() or Path.cwd()) / notebook
    return path if os.path.isfile(path) or not notebook.startswith("notebooks/") else shipped(notebook)


def checked_points(spec: Spec) -> list[Point]:
    """The spec's runs, parameters in the notebook's types. ConfigError for the first run that could not work.

    Checked are the notebook, the names and types of its parameters and, for notebooks that build an experiment, every
    option inside the dicts: the configuration is made, not only looked at.
    """
    path = notebook_path(spec.notebook)
    points = []
    for point in spec.points():
        try:
            point = replace(point, parameters=check_parameters(path, point.parameters))
            _check_experiment(point, path)
        except SlakitError as error:
            raise ConfigError(f"{spec.name}, run {_plain_name(point)}: {error}") from error
        points.append(point)
    return points


def received(point: Point, path: Path) -> dict[str, Any]:
    """What the notebook has in its parameters when this run starts: those of the run, the others its defaults."""
    return {name: found.default for name, found in parameters_of(path).items()} | point.parameters


def _check_experiment(point: Point, path: Path) -> None:
    from slakit.sweeps.experiment import experiment

    values = received(point, path)
    if set(values) >= _NEEDED:
        if not values["preset"]:
            raise ConfigError("it names no preset; add one to base, for instance preset: sla-lora/phoenix2014")
        experiment(**{key: values[key] for key in _EXPERIMENT if key in values})


def check_places(spec: Spec, points: Sequence[Point]) -> None:
    """ConfigError where a corpus of these runs cannot be read on this machine, or has nothing to train or score on.

    MiniSign is drawn where it is missing, so it is not looked for. Annotation is read, no video is opened.
    """
    path, seen = notebook_path(spec.notebook), set()
    for point in points:
        values = received(point, path)
        if not set(values) >= _NEEDED:
            continue
        name = values.get("corpus") or preset(values["preset"]).corpus
        options = {key: value for key, value in (values.get("corpus_options") or {}).items() if key != "progress"}
        place = json.dumps([name, values.get("root"), options])
        if name == "minisign" or place in seen:
            continue
        seen.add(place)
        try:
            root = values.get("root") or None
            if root is None:
                raise ConfigError(f"nothing says where {name} lies; add --root {name}=FOLDER")
            with contextlib.chdir(path.parent):  # where the notebook will be
                check_splits(load_corpus(name, root, **options))
        except SlakitError as error:
            raise ConfigError(f"{spec.name}, run {_plain_name(point)}: {error}") from error


def _plain_name(point: Point) -> str:
    return point.name.rsplit("_", 1)[0]


def matching(points: list[Point], only: list[str]) -> list[Point]:
    """The runs for which every "name=value" of `only` holds; values are read as in a spec, so 1e-4 is 0.0001.

    ConfigError where a name is known to none of them, or where none has the value.
    """
    for text in only:
        key, equals, spelling = text.partition("=")
        if not equals:
            raise ConfigError(f"--only {text!r} has no value; write it as name=value, for instance rank=4")
        fitting, values = [], []
        for point in points:
            try:
                value = point.value(key)
            except KeyError:
                continue
            values.append(value)
            if _is_spelled(value, spelling):
                fitting.append(point)
        if points and not values:
            names = {name.rsplit(".", 1)[-1] for point in points for name in point.changes} | {"case", "seed"}
            raise ConfigError(f"--only {text!r}: no run has a parameter {key!r}{nearest(key, names)}")
        if points and not fitting:
            known = ", ".join(dict.fromkeys(map(_plain, values)))
            raise ConfigError(f"--only {text!r}: no run has this value; {key} is one of {known}")
        points = fitting
    return points


def _is_spelled(value: Any, spelling: str) -> bool:
    """Whether a parameter has the value that is written like this in YAML, or as plain text."""
    if str(value) == spelling:
        return True
    try:
        read = read_yaml(spelling)
    except yaml.YAMLError:
        return False
    return read == value and isinstance(read, bool) == isinstance(value, bool)  # True == 1 in Python


def _plain(value: Any) -> str:
    """A value as --only takes it."""
    return json.dumps(value) if isinstance(value, bool | list | None) else str(value)
