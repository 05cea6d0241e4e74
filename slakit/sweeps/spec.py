"""A spec: which notebook to run, with which parameters, how often, on what, and what the paper reports for it.

    notebook: notebooks/10_ablation_run.ipynb
    base: {preset: sla-lora/phoenix2014}          # parameters of every run
    cases: {shift: {}, no shift: {model_options.temporal_shift: false}}
    grid: {model_options.rank: [4, 16]}           # every combination; a list of mappings: one grid after the other
    seeds: [0, 1, 2]
    resources: {gpus: 1, cpus: 8, memory_gb: 48, hours: 40}
    expect: [{rank: 16, case: shift, dev_wer: 19.7, test_wer: 19.3}]
    variants: {minisign: {base: …}}               # the same experiment elsewhere: its keys replace those above

"model_options.rank" reaches into the notebook's parameter `model_options`, a dict. A text may hold {sweep_dir}: the
folder of all runs of the spec, for what they share.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from slakit.config import digest, from_dict, nearest
from slakit.records import ConfigError

# Figures of a paper that an expectation can hold; every other key of it is a condition on the runs it speaks of.
FIGURES = ("dev_wer", "test_wer", "step_seconds", "trainable_millions", "training_hours", "epochs", "wer_increase")
# Where things are and what is shown, not what is computed: another value is the same run.
NOT_IDENTITY = ("out_dir", "root", "show_progress")
_KEYS = {
    "title", "source", "note", "notebook", "base", "grid", "cases", "seeds", "resources", "expect", "variants",
}  # fmt: skip


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number: YAML 1.1, which PyYAML follows, wants 1.0e-4 and takes the other for text."""


_NUMBER = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _NUMBER, list("-+.0123456789"))


def read_yaml(text: str) -> Any:
    """A YAML document, 1e-4 a float. yaml.YAMLError where it is none."""
    return yaml.load(text, _Loader)


@dataclass(frozen=True)
class Resources:
    """What one run needs: whole GPUs, CPU cores, memory, and the hours after which a cluster may stop it."""

    gpus: int = 0
    cpus: int = 1
    memory_gb: int = 8
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
        identity = {key: value for key, value in self.parameters.items() if key not in NOT_IDENTITY}
        return digest([Path(self.notebook).name, identity], ensure_ascii=False)[:6]

    def value(self, key: str) -> Any:
        """The value of `key` for this run: "case", "seed", or a parameter by its whole name or the last part of it.

        KeyError where there is none or where the last part fits two.
        """
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
        for key, wanted in conditions.items():
            try:
                found = self.value(key)
            except KeyError:
                return False
            if found not in (wanted if isinstance(wanted, list) else [wanted]) and found != wanted:
                return False
        return True


@dataclass(frozen=True)
class Expectation:
    """What a paper reports for the runs that `where` fits. figures: names as in FIGURES; note: words beside them."""

    where: dict[str, Any]
    figures: dict[str, float]
    note: str = ""


@dataclass(frozen=True)
class Spec:
    """A checked spec; points() lists its runs. name: the file's stem, with "-variant" where there is one."""

    name: str
    notebook: str
    title: str = ""
    source: str = ""
    note: str = ""
    base: dict[str, Any] = field(default_factory=dict)
    grid: tuple[dict[str, Any], ...] = ({},)
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    resources: Resources = Resources()
    expect: tuple[Expectation, ...] = ()
    roots: dict[str, str] = field(default_factory=dict)

    def points(self) -> list[Point]:
        """Cases x grid x seeds, seeds outermost: after a third of the runs there is one whole table. Doubles go."""
        found: dict[str, Point] = {}
        for seed in self.seeds or (None,):
            for case, changes in (self.cases or {"": {}}).items():
                for grid in self.grid:
                    lists = [value if isinstance(value, list) else [value] for value in grid.values()]
                    for values in itertools.product(*lists):
                        changed = {**changes, **dict(zip(grid, values, strict=True))}
                        parameters = assign(self.base, changed)
                        if seed is not None:
                            parameters["seed"] = seed
                        if self.roots.get(_corpus(parameters)):
                            parameters["root"] = self.roots[_corpus(parameters)]
                        point = Point(self.notebook, parameters, changed, case, seed)
                        found.setdefault(f"{case}/{point.digest}", point)
        return list(found.values())

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

    def with_roots(self, roots: Mapping[str, str]) -> Spec:
        """A copy that knows in which folder each corpus lies on this machine: corpus name -> folder."""
        known = {_corpus(point.parameters) for point in self.points()}
        for corpus in roots:
            if corpus not in known:
                raise ConfigError(f"no run of {self.name} uses the corpus {corpus!r}{nearest(corpus, known)}")
        return replace(self, roots=dict(roots))


def load_spec(path: str | Path, variant: str | None = None) -> Spec:
    """A spec file, or one of its variants. ConfigError for an unknown key, a wrong type or an expectation of no run."""
    path = Path(path)
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the spec {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"the spec {path} must be a mapping with the key 'notebook'")
    _check_keys(content, _KEYS, path)
    variants = _mapping(content.pop("variants", None), path, "variants")
    name = path.stem
    if variant is not None:
        if variant not in variants:
            raise ConfigError(f"{path.name} has no variant {variant!r}{nearest(variant, variants)}")
        changes = _mapping(variants[variant], path, f"variants.{variant}")
        _check_keys(changes, _KEYS - {"variants", "source"}, path)
        content, name = content | changes, f"{name}-{variant}"
    if not isinstance(content.get("notebook"), str):
        raise ConfigError(f"the spec {path} must name a 'notebook', a path from the project's folder")
    return _spec(name, content, path)


def variants_of(path: str | Path) -> tuple[str, ...]:
    """The names of a spec file's variants."""
    content = read_yaml(Path(path).read_text(encoding="utf-8"))
    return tuple(content.get("variants") or {}) if isinstance(content, dict) else ()


def _spec(name: str, content: dict[str, Any], path: Path) -> Spec:
    grid = content.get("grid") or [{}]
    grids = grid if isinstance(grid, list) else [grid]
    cases = _mapping(content.get("cases"), path, "cases")
    spec = Spec(
        name=name,
        notebook=content["notebook"],
        **{key: str(content.get(key) or "").strip() for key in ("title", "source", "note")},
        base=assign({}, _mapping(content.get("base"), path, "base")),
        grid=tuple(_mapping(one, path, "grid") for one in grids),
        cases={str(label): _mapping(changes, path, f"cases.{label}") for label, changes in cases.items()},
        seeds=tuple(_integers(content.get("seeds") or [], path)),
        resources=from_dict(Resources, _mapping(content.get("resources"), path, "resources"), "resources"),
        expect=tuple(_expectation(item, path) for item in content.get("expect") or []),
    )
    points = spec.points()
    for item in spec.expect:
        if not any(point.matches(item.where) for point in points):
            raise ConfigError(f"{path.name} expects figures where {item.where}, but no run of {name} is like that")
    return spec


def _expectation(item: Any, path: Path) -> Expectation:
    item = _mapping(item, path, "expect")
    figures = {key: item[key] for key in item if key in FIGURES}
    for key, value in figures.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{path.name} expects {key}={value!r}, which is no number")
    if not figures:
        raise ConfigError(f"{path.name}: the expectation {item} has no figure; known are {', '.join(FIGURES)}")
    where = {key: value for key, value in item.items() if key not in FIGURES and key != "note"}
    return Expectation(where, {key: float(value) for key, value in figures.items()}, str(item.get("note", "")))


def assign(parameters: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the parameters with changes; {"model_options.rank": 4} sets one entry of the dict `model_options`."""
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in parameters.items()}
    for key, value in changes.items():
        head, _, rest = str(key).partition(".")
        if rest:
            inner = result.get(head, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{key!r} reaches into {head!r}, which is {inner!r} and no mapping")
            result[head] = {**inner, rest: value}
        else:
            result[head] = value
    return result


def flatten(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """{"model_options": {"rank": 4}} as {"model_options.rank": 4}."""
    flat = {}
    for key, value in parameters.items():
        flat |= {f"{key}.{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {key: value}
    return flat


def _corpus(parameters: Mapping[str, Any]) -> str:
    """The corpus of a run: its parameter, or the one in the preset's name (sla-lora/phoenix2014)."""
    return str(parameters.get("corpus") or str(parameters.get("preset", "")).partition("/")[2])


def _short(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _mapping(value: Any, path: Path, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path.name}: {where!r} is {value!r}; expected a mapping")
    return value


def _integers(value: Any, path: Path) -> list[int]:
    if not isinstance(value, list) or any(isinstance(item, bool) or not isinstance(item, int) for item in value):
        raise ConfigError(f"{path.name}: 'seeds' is {value!r}; expected a list of whole numbers")
    return value


def _check_keys(content: Mapping[str, Any], known: set[str], path: Path) -> None:
    for key in content:
        if key not in known:
            raise ConfigError(f"the spec {path.name} has the key {key!r}{nearest(key, known)}")
