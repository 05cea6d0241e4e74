"""A spec: which notebook to run, with which parameters, how often, on what, and what the paper reports for it.

    notebook: notebooks/12_ablation_run.ipynb
    base: {preset: sla-lora/phoenix2014}          # parameters of every run
    cases: {shift: {}, no shift: {model.options.temporal_shift: false}}
    grid: {model.options.rank: [4, 16], train.epochs: 20}  # every combination; a list: one grid after the other
    seeds: [0, 1, 2]
    resources: {gpus: 1, cpus: 8, memory_gb: 48, hours: 40}
    expect: [{rank: 16, case: shift, dev_wer: 19.7, test_wer: 19.3}]
    variants: {minisign: {base: …}}               # the same experiment elsewhere: its keys replace those above

Names are those of a RunConfig (config.py). The notebook takes them as its parameters `model_options` and
`train_options`, dicts, and so the names of these do as well: model_options.rank, train_options.epochs. A text may hold
{sweep_dir}: the folder of all runs of the spec, for what they share.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import StringConstraints

from slakit.config import IGNORED_BY_IDENTITY, NotNegative, Positive, checked_dataclass, digest, from_dict, nearest
from slakit.records import ConfigError, read_text
from slakit.sweeps.names import assign, by_parameter, flatten, parameter
from slakit.sweeps.reading import read_yaml

# Figures of a paper that an expectation can hold; every other key of it is a condition on the runs it speaks of.
FIGURES = ("dev_wer", "test_wer", "step_seconds", "trainable_millions", "training_hours", "epochs", "wer_increase")
# Where things are, how fast they are read, what is shown: with another value it is the same run.
IGNORED_PARAMETERS = frozenset({"out_dir", "root", "show_progress", "timed_steps"})
IGNORED_OPTIONS = {"corpus_options": {"prepared", "progress", "workers"}, "train_options": IGNORED_BY_IDENTITY}


def identity(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run without those that change nothing about its result; what is empty says nothing."""
    kept = {key: value for key, value in parameters.items() if key not in IGNORED_PARAMETERS}
    for key, ignored in IGNORED_OPTIONS.items():
        options = {name: value for name, value in (kept.pop(key, None) or {}).items() if name not in ignored}
        kept |= {key: options} if options else {}
    return kept


MOST_RUNS = 10_000  # of a spec


@checked_dataclass
class Resources:
    """What one run needs: whole GPUs, CPU cores, memory, and the hours after which a cluster may stop it."""

    gpus: NotNegative = 0
    cpus: Positive = 1
    memory_gb: Positive = 8
    hours: float = 24.0


@dataclass(frozen=True)
class Point:
    """One run: all parameters for the notebook but out_dir, and what sets it apart from the others.

    changes: dotted name -> value of everything that varies in the spec, without the seed. case: the case's name.
    """

    notebook: str
    parameters: dict[str, Any]
    changes: dict[str, Any]
    case: str = ""
    seed: int | None = None

    @property
    def name(self) -> str:
        """Readable and unique: what varies, then six hex digits of the notebook's name and all parameters."""
        words = [self.case] if self.case else []
        words += [f"{key.rsplit('.', 1)[-1]}={_short(value)}" for key, value in self.changes.items()]
        words += [] if self.seed is None else [f"seed={self.seed}"]
        text = re.sub(r"[^A-Za-z0-9.+=_-]+", "-", "_".join(words)).strip("-") or "run"
        return f"{text[:90]}_{self.digest}"

    @property
    def digest(self) -> str:
        """Six hex digits that change with the notebook's name and with every parameter that changes the result."""
        return digest([Path(self.notebook).name, identity(self.parameters)], ensure_ascii=False)[:6]

    def value(self, key: str) -> Any:
        """The value of `key` for this run: "case", "seed", or a parameter by its whole name or the last part of it.

        KeyError where there is none or where the last part fits two.
        """
        key = parameter(key)
        if key == "case":
            return self.case
        if key == "seed":
            return self.seed
        flat = flatten(self.parameters) | self.changes
        if key in flat:
            return flat[key]
        fitting = {name for name in flat if name.rsplit(".", 1)[-1] == key}
        if len(fitting) != 1:
            raise KeyError(key)
        return flat[fitting.pop()]

    def matches(self, conditions: Mapping[str, Any]) -> bool:
        """Whether all conditions hold; a list means any of its values. A key that this run does not have: no."""
        for key, condition in conditions.items():
            try:
                value = self.value(key)
            except KeyError:
                return False
            if value not in (condition if isinstance(condition, list) else [condition]) and value != condition:
                return False
        return True


@checked_dataclass
class Expectation:
    """What a paper reports for the runs that `where` fits. figures: names as in FIGURES; note: words beside them."""

    where: dict[str, Any]
    figures: dict[str, float]
    note: str = ""


_Text = Annotated[str, StringConstraints(strip_whitespace=True)]
_Mapping = dict[str, Any]


@checked_dataclass
class SpecFile:
    """The keys of a spec file; a variant has them too, but `source` and `variants`."""

    notebook: str = ""
    title: _Text = ""
    source: _Text = ""
    note: _Text = ""
    base: _Mapping = field(default_factory=dict)
    grid: tuple[_Mapping, ...] = ({},)
    cases: dict[str, _Mapping] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    resources: Resources = field(default_factory=Resources)
    expect: tuple[_Mapping, ...] = ()
    variants: dict[str, _Mapping] = field(default_factory=dict)


@checked_dataclass
class Spec(SpecFile):
    """A checked spec; points() lists its runs. name: the file's stem, with "-variant" where there is one. roots,
    prepared: corpus -> its folder on this machine, and the one that `slakit prepare` wrote."""

    expect: tuple[Expectation, ...] = ()
    name: str = ""
    roots: dict[str, str] = field(default_factory=dict)
    prepared: dict[str, str] = field(default_factory=dict)

    def points(self) -> list[Point]:
        """Cases x grid x seeds, seeds outermost: after a third of the runs there is one whole table. Doubles go."""
        sizes = [math.prod(len(v) for v in grid.values() if isinstance(v, list)) for grid in self.grid]
        if (count := sum(sizes) * max(1, len(self.cases)) * max(1, len(self.seeds))) > MOST_RUNS:
            raise ConfigError(f"it has {count:,} runs, more than {MOST_RUNS:,}; vary less in one spec")
        points: dict[str, Point] = {}
        for seed in self.seeds or (None,):
            for case, changes in (self.cases or {"": {}}).items():
                for grid in self.grid:
                    lists = [value if isinstance(value, list) else [value] for value in grid.values()]
                    for values in itertools.product(*lists):
                        changed = {**changes, **dict(zip(grid, values, strict=True))}
                        parameters = assign(self.base, changed)
                        if seed is not None:
                            parameters["seed"] = seed
                        if root := self.roots.get(corpus_of(parameters)):
                            parameters["root"] = root
                        if prepared := self.prepared.get(corpus_of(parameters)):
                            parameters = assign(parameters, {"corpus_options.prepared": prepared})
                        point = Point(self.notebook, parameters, changed, case, seed)
                        points.setdefault(f"{case}/{point.digest}", point)
        return list(points.values())

    def expected(self, point: Point) -> dict[str, float]:
        """The paper's figures for a run; later expectations add to earlier ones."""
        figures: dict[str, float] = {}
        for item in self.expect:
            if point.matches(item.where):
                figures |= item.figures
        return figures

    def with_base(self, changes: Mapping[str, Any]) -> Spec:
        """A copy with some parameters of every run changed; dotted names reach into dicts."""
        return replace(self, base=assign(self.base, changes))

    def with_roots(self, roots: Mapping[str, str], prepared: Mapping[str, str] | None = None) -> Spec:
        """A copy that knows in which folders each corpus lies on this machine: corpus name -> folder."""
        return with_places([self], roots, prepared or {})[0]


def with_places(specs: Sequence[Spec], roots: Mapping[str, str], prepared: Mapping[str, str]) -> list[Spec]:
    """The specs, told where the corpora lie; ConfigError for a corpus that none of them uses: one of several may."""
    known = {corpus_of(point.parameters) for spec in specs for point in spec.points()}
    for corpus in {**roots, **prepared}:
        if corpus not in known:
            names = " and of ".join(spec.name for spec in specs)
            raise ConfigError(f"no run of {names} uses the corpus {corpus!r}{nearest(corpus, known)}")
    return [replace(spec, roots=dict(roots), prepared=dict(prepared)) for spec in specs]


def load_spec(path: str | Path, variant: str | None = None) -> Spec:
    """A spec file, or one of its variants. ConfigError for an unknown key, a wrong type or an expectation of no run."""
    path = Path(path)
    content = _content(path)
    try:
        return _spec(path.stem, content, variant)
    except ConfigError as error:
        raise ConfigError(f"the spec {path.name}: {error}") from None


def variants_of(path: str | Path) -> tuple[str, ...]:
    """The names of a spec file's variants."""
    variants = _content(Path(path)).get("variants")
    return tuple(map(str, variants)) if isinstance(variants, dict) else ()


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(read_text(path, ConfigError))
    except yaml.YAMLError as error:
        raise ConfigError(f"the spec {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the spec {path} must be a mapping with the key 'notebook'")
    return content


def _spec(name: str, content: dict[str, Any], variant: str | None) -> Spec:
    content = _whole(content)
    file = from_dict(SpecFile, content)
    if variant is not None:
        if variant not in file.variants:
            raise ConfigError(f"there is no variant {variant!r}{nearest(variant, file.variants)}")
        changes = _whole(file.variants[variant])
        if fixed := {"source", "variants"} & set(changes):
            raise ConfigError(f"the variant {variant!r} cannot have the key {fixed.pop()!r}; it is the whole file's")
        from_dict(SpecFile, changes, f"variants.{variant}")
        file, name = from_dict(SpecFile, content | changes), f"{name}-{variant}"
    if not file.notebook:
        raise ConfigError("it must name a 'notebook', a path from the project's folder")
    spec = Spec(**vars(file) | {
        "name": name,
        "base": assign({}, file.base),
        "grid": tuple(map(by_parameter, file.grid)),
        "cases": {label: by_parameter(changes) for label, changes in file.cases.items()},
        "expect": tuple(_expectation(item, f"expect[{number}]") for number, item in enumerate(file.expect)),
    })  # fmt: skip
    points = spec.points()
    for item in spec.expect:
        if not any(point.matches(item.where) for point in points):
            raise ConfigError(f"it expects figures where {item.where}, but no run of {name} is like that")
    return spec


def _whole(content: Mapping[str, Any]) -> dict[str, Any]:
    """What YAML leaves open, filled in: a key without a value has its default, one grid is a list of one."""
    content = {str(key): value for key, value in content.items() if value is not None}
    if isinstance(grid := content.get("grid"), dict) or grid == []:
        content["grid"] = [grid or {}]
    if isinstance(cases := content.get("cases"), dict):
        content["cases"] = {str(label): {} if changes is None else changes for label, changes in cases.items()}
    return content


def _expectation(item: dict[str, Any], where: str) -> Expectation:
    figures = {key: value for key, value in item.items() if key in FIGURES}
    if not figures:
        raise ConfigError(f"{where} is {item}, which has no figure; known are {', '.join(FIGURES)}")
    conditions = {key: value for key, value in item.items() if key not in FIGURES and key != "note"}
    return from_dict(Expectation, {"where": conditions, "figures": figures, "note": item.get("note", "")}, where)


def corpus_of(parameters: Mapping[str, Any]) -> str:
    """The corpus of a run: its parameter, or the one in the preset's name (sla-lora/phoenix2014)."""
    return str(parameters.get("corpus") or str(parameters.get("preset", "")).partition("/")[2])


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
