"""Specs: what they expand to, what is refused before anything starts, and that all shipped ones fit their notebooks."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from slakit.__main__ import main
from slakit.config import override
from slakit.records import ConfigError
from slakit.sweeps.checks import checked_points, matching
from slakit.sweeps.command import experiments
from slakit.sweeps.experiment import experiment
from slakit.sweeps.spec import load_spec, variants_of, with_places
from slakit.training.presets import preset

ROOT = Path(__file__).resolve().parents[1]
SPECS = sorted((ROOT / "papermill_runs" / "specs").glob("*.yaml"))
EXPERIMENTS = [path for path in SPECS if not path.stem.startswith("demo")]
TEXT = """
notebook: notebooks/12_ablation_run.ipynb
base: {preset: sla-lora/minisign, train_options: {epochs: 2}}
cases: {shift: {}, still: {model_options.temporal_shift: false}}
grid:
  - {model_options.rank: [4, 8], model_options.blocks: 1-4}
  - {model_options.rank: 8, model_options.blocks: [1-4, 2-4]}
seeds: [0, 1]
expect:
  - {rank: 4, dev_wer: 20.5}
  - {rank: 4, case: still, dev_wer: 21.5, test_wer: 22}
variants:
  small: {grid: {model_options.rank: 4}, expect: [], seeds: [3]}
"""


@pytest.fixture
def write(tmp_path):
    def make(text: str, name: str = "study.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return make


def test_cases_times_grids_times_seeds_without_doubles(write):
    points = load_spec(write(TEXT)).points()
    seen = [(p.seed, p.case, p.value("rank"), p.value("blocks")) for p in points]
    one_seed = [
        (case, rank, blocks) for case in ("shift", "still") for rank, blocks in ((4, "1-4"), (8, "1-4"), (8, "2-4"))
    ]
    assert seen == [(seed, *rest) for seed in (0, 1) for rest in one_seed], "a whole table for each seed, in order"
    still = next(p for p in points if p.case == "still")
    assert still.parameters["model_options"] == {"temporal_shift": False, "rank": 4, "blocks": "1-4"}
    assert still.parameters["train_options"] == {"epochs": 2} and still.parameters["seed"] == 0
    assert len({p.name for p in points}) == len(points)


def test_a_runs_own_names_and_the_notebooks_are_the_same_run(write):
    """Points, their names and changes: as settings.json has the names, as the notebook has them, dotted and nested."""
    own = TEXT.replace("model_options.", "model.options.").replace("train_options: {epochs: 2}", "train: {epochs: 2}")
    assert "_options" not in own
    before, after = load_spec(write(TEXT)).points(), load_spec(write(own)).points()
    assert before == after and [p.name for p in before] == [p.name for p in after]
    assert after[0].value("model.options.rank") == after[0].value("model_options.rank") == after[0].value("rank") == 4
    nested = "notebook: a.ipynb\nbase: {model: {hidden_size: 64, options: {rank: 4}}, train.augment.flip: 0.0}\n"
    (point,) = load_spec(write(nested)).points()
    assert point.parameters == {
        "model_options": {"rank": 4, "hidden_size": 64}, "train_options": {"augment.flip": 0.0},
    }  # fmt: skip
    changed = load_spec(write(TEXT)).with_base({"train.epochs": 3, "model.hidden_size": 64}).points()[0].parameters
    assert changed["train_options"] == {"epochs": 3} and changed["model_options"]["hidden_size"] == 64
    assert matching(before, ["model.options.rank=8"]) == [p for p in before if p.value("rank") == 8]


def test_a_variant_replaces_keys_and_has_a_name_of_its_own(write):
    path = write(TEXT)
    spec = load_spec(path, "small")
    assert variants_of(path) == ("small",) and spec.name == "study-small"
    assert [(p.case, p.value("rank"), p.seed) for p in spec.points()] == [("shift", 4, 3), ("still", 4, 3)]
    with pytest.raises(ConfigError, match="did you mean 'small'"):
        load_spec(path, "smal")


def test_the_name_changes_with_every_parameter_but_not_with_places(write):
    spec = load_spec(write(TEXT))
    names = [p.name for p in spec.points()]
    assert [p.name for p in spec.with_base({"root": "/elsewhere", "show_progress": False}).points()] == names
    changed = spec.with_base({"train_options.epochs": 3}).points()
    assert not {p.name for p in changed} & set(names)
    assert spec.points()[0].parameters["train_options"] == {"epochs": 2}, "a copy was changed, not the spec"


def test_the_papers_figures_find_their_runs(write):
    spec = load_spec(write(TEXT))
    found = {(p.case, p.value("rank"), p.value("blocks")): spec.expected(p) for p in spec.points()}
    assert found["shift", 4, "1-4"] == {"dev_wer": 20.5}
    assert found["still", 4, "1-4"] == {"dev_wer": 21.5, "test_wer": 22.0}, "a later expectation is more special"
    assert found["shift", 8, "2-4"] == {}


def test_roots_reach_the_runs_of_their_corpus(write):
    spec = load_spec(write(TEXT)).with_roots({"minisign": "/data/signs"})
    assert {p.parameters["root"] for p in spec.points()} == {"/data/signs"}
    with pytest.raises(ConfigError, match="did you mean 'minisign'"):
        spec.with_roots({"minising": "/data"})


def test_of_several_specs_one_need_not_use_every_corpus(write):
    other = "notebook: notebooks/12_ablation_run.ipynb\nbase: {preset: sla-lora/csl-daily}\n"
    signs, daily = with_places([load_spec(write(TEXT)), load_spec(write(other))], {"csl-daily": "/data"}, {})
    assert daily.points()[0].parameters["root"] == "/data"
    assert not any("root" in point.parameters for point in signs.points())
    with pytest.raises(ConfigError, match=r"no run of .* and of .* uses the corpus 'csl-dail'; did you mean 'csl-d"):
        with_places([signs, daily], {"csl-dail": "/data"}, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notebook: a.ipynb\nbsae: {}\n", "did you mean 'base'"),
        ("- 1\n", "mapping"),
        ("a: [", "cannot be read"),
        ("base: {}\n", "notebook"),
        ("notebook: a.ipynb\nseeds: 3\n", "list of whole numbers"),
        ("notebook: a.ipynb\nbase: [1]\n", "expected a mapping"),
        ("notebook: a.ipynb\nresources: {gpu: 1}\n", "did you mean 'gpus'"),
        ("notebook: a.ipynb\ngrid: {rank: [1]}\nexpect: [{rank: 2, dev_wer: 3}]\n", "no run of study is like that"),
        ("notebook: a.ipynb\ngrid: {rank: [1]}\nexpect: [{rank: 1, wer: 3}]\n", "has no figure"),
        ("notebook: a.ipynb\ngrid: {rank: [1]}\nexpect: [{rank: 1, dev_wer: low}]\n", "no number"),
        ("notebook: a.ipynb\nbase: {rank: 1}\ngrid: {rank.x: [1]}\n", "reaches into 'rank'"),
    ],
)
def test_a_wrong_spec_is_named(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load_spec(write(text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"presett": "x"}, "did you mean 'preset'"),
        ({"preset": "sla-lora/minising"}, "did you mean 'sla-lora/minisign'"),
        ({"timed_steps": "many"}, "must be of type int"),
        ({"model_options.rnak": 4}, "did you mean 'rank'"),
        ({"model_options.n_div": "4"}, "expected int"),
        ({"model_options.shift_blocks": "2-5"}, "does not fit a tower of 4 blocks"),
        ({"model_options.method": "frozen"}, "choose another preset"),
        ({"train_options.epoch": 4}, "did you mean 'epochs'"),
        ({"train_options": {"decode": {"beam_with": 4}}}, "did you mean 'beam_width'"),
        ({"corpus_options": {"trian": 4}}, "did you mean 'train'"),
        ({"corpus": "phoenix"}, "did you mean 'phoenix2014'"),
    ],
)
def test_whatever_is_wrong_with_a_run_is_found_before_it_starts(write, change, message):
    spec = load_spec(write(TEXT)).with_base(change)
    with pytest.raises(ConfigError, match=message) as caught:
        checked_points(spec)
    assert str(caught.value).startswith("study, run ")


def test_numbers_with_an_exponent_are_numbers_also_inside_the_dicts(write):
    path = write(TEXT.replace("{epochs: 2}", "{epochs: 2, learning_rate: 1e-4, weight_decay: 5E-2}"))
    options = checked_points(load_spec(path))[0].parameters["train_options"]
    assert options["learning_rate"] == 1e-4 and isinstance(options["learning_rate"], float)
    assert options["weight_decay"] == 0.05
    with pytest.raises(ConfigError, match=r"learning_rate='1e-x' is of type str; expected float"):
        checked_points(load_spec(write(TEXT.replace("{epochs: 2}", "{learning_rate: 1e-x}"))))


def test_only_chooses_by_any_parameter(write):
    points = load_spec(write(TEXT)).points()
    assert {p.case for p in matching(points, ["case=still"])} == {"still"}
    assert [p.seed for p in matching(points, ["rank=4", "case=shift"])] == [0, 1]
    with pytest.raises(ConfigError, match="did you mean 'rank'"):
        matching(points, ["rnak=4"])
    with pytest.raises(ConfigError, match="name=value"):
        matching(points, ["rank"])


def test_only_compares_values_as_yaml_reads_them_and_names_what_there_is(write):
    points = load_spec(write(TEXT)).with_base({"train_options.learning_rate": 1e-4}).points()
    still = matching(points, ["temporal_shift=false"])
    assert still and {p.case for p in still} == {"still"}
    assert matching(points, ["temporal_shift=False"]) == still
    for text in ("1e-4", "0.0001", "1.0e-4"):
        assert matching(points, [f"learning_rate={text}"]) == points
    assert {p.seed for p in matching(points, ["seed=1"])} == {1}
    for wrong, known in (("rank=5", "rank is one of 4, "), ("seed=true", "0, 1"), ("temporal_shift=0", "one of false")):
        with pytest.raises(ConfigError, match=known):
            matching(points, [wrong])
    with pytest.raises(ConfigError, match="case is one of still"):
        matching(points, ["temporal_shift=false", "case=shift"])


def resolved(point):
    """The setting that notebook 12 makes of a run: its cells up to the one that builds the experiment, executed."""
    cells = [cell for cell in nbformat.read(ROOT / point.notebook, 4).cells if cell.metadata.get("tags") != ["colab"]]
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    assert cells[1].metadata.tags == ["parameters"] and "experiment(" in sources[2]
    names: dict = {"experiment": experiment}
    exec(sources[0], names)
    names |= point.parameters
    exec(sources[2].partition("by_hand = ")[0], names)
    return names["config"], names["corpus_options"]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_run_of_every_spec_trains_its_preset_but_for_what_the_spec_names(path):
    """Against the YAML itself, read and put together without the package's spec reader."""
    content = yaml.safe_load(re.sub(r"\b(\d+)e-", r"\1.0e-", path.read_text(encoding="utf-8")))
    for variant in (None, *content.get("variants", {})):
        text = content if variant is None else content | content["variants"][variant]
        points = load_spec(path, variant).points()
        assert points
        for point in points:
            base, case = text["base"], (text.get("cases") or {}).get(point.case) or {}
            grids = text.get("grid") or [{}]
            chosen = next(
                grid for grid in (grids if isinstance(grids, list) else [grids])
                if all(point.value(key) in (v if isinstance(v, list) else [v]) or point.value(key) == v
                       for key, v in grid.items())
            )  # fmt: skip
            named = {"seed": point.seed or 0}
            for changes in (base, case, {key: point.value(key) for key in chosen}):
                named |= {key: value for key, value in changes.items() if key not in ("model", "train")}
                named |= {f"train.{key}": value for key, value in (changes.get("train") or {}).items()}
                named |= {f"model.{key}": value for key, value in (changes.get("model") or {}).items()}
            wanted = preset(named["preset"])
            model = override(
                wanted.model,
                {"seed": named["seed"]}
                | {key.removeprefix("model."): value for key, value in named.items() if key.startswith("model.")},
            )
            train = override(
                wanted.train,
                {"seed": named["seed"]}
                | {key.removeprefix("train."): value for key, value in named.items() if key.startswith("train.")},
            )
            config, corpus_options = resolved(point)
            assert config.model == model, point.name
            assert config.train == train, point.name
            assert (config.corpus, corpus_options) == (named.get("corpus") or wanted.corpus, base["corpus_options"])


def test_a_spec_that_names_a_preset_alone_trains_the_preset_and_one_without_is_refused(write):
    text = "notebook: notebooks/12_ablation_run.ipynb\nbase: {preset: sla-lora/phoenix2014}\n"
    (point,) = checked_points(load_spec(write(text)))
    config, corpus_options = resolved(point)
    wanted = preset("sla-lora/phoenix2014")
    assert (config.model, config.train, config.train.epochs, corpus_options) == (wanted.model, wanted.train, 35, {})
    with pytest.raises(ConfigError, match="names no preset"):
        checked_points(load_spec(write(text.replace("sla-lora/phoenix2014", "''"))))


def test_places_readers_and_what_is_timed_are_no_part_of_a_run(write):
    """Given in the spec or not, and with the dicts in it or without."""
    bare = "notebook: notebooks/12_ablation_run.ipynb\nbase: {preset: sla-lora/phoenix2014}\n"
    full = bare.replace("}", ", corpus_options: {}, train: {}}")
    names = set()
    for text in (bare, full):
        spec = load_spec(write(text))
        changes = {"timed_steps": 9, "train.num_workers": 4, "train.compile": False, "corpus_options.prepared": "/x"}
        places = spec.with_roots({"phoenix2014": "/data"}, {"phoenix2014": "/scratch/1"})
        assert places.points()[0].parameters["corpus_options"]["prepared"] == "/scratch/1"
        names |= {one.points()[0].name for one in (spec, spec.with_base(changes), places)}
    assert len(names) == 1
    other = load_spec(write(bare)).with_base({"corpus_options.vocabulary": "train"}).points()[0].name
    assert other not in names
    with pytest.raises(ConfigError, match="did you mean 'phoenix2014'"):
        spec.with_roots({}, {"phoenix201": "/data"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("notebook: a.ipynb\nbase: {x: 1}\nbase: {x: 2}\n", "'base' stands twice"),
        ("notebook: a.ipynb\ncases: {no: {x: 1}, off: {x: 2}}\n", "False stands twice"),
        ("a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)), "aliases"),
        ("notebook: a.ipynb\nbase: &a {x: *a}\n", "aliases"),
        ("notebook: a.ipynb\nbase: {day: 2020-01-01}\n", "is a date; put it in quotation marks"),
        ("[" * 20_000, "nested too deeply"),
        ("notebook: a.ipynb\ngrid:\n" + "".join(f"  p{i}: {[*range(10)]}\n" for i in range(9)), "1,000,000,000 runs"),
    ],
)  # fmt: skip
def test_a_spec_that_would_grow_or_lose_something_is_refused_at_once(write, text, message):
    with pytest.raises(ConfigError, match=message):
        load_spec(write(text))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
def test_shipped_specs_fit_their_notebooks_in_every_variant(path):
    specs = [load_spec(path, variant) for variant in (None, *variants_of(path))]
    assert all(checked_points(spec) for spec in specs)
    if path in EXPERIMENTS:
        assert all(spec.title and spec.source for spec in specs)
        small = [spec for spec in specs if all("minisign" in p.parameters["preset"] for p in spec.points())]
        assert small and len(small[0].seeds) >= 3, "every experiment can be tried on a CPU, with three seeds"


def test_all_are_the_published_experiments(capsys):
    names = [path.stem for path in EXPERIMENTS]
    assert experiments() == experiments("minisign") == names and len(names) == 14
    assert experiments("systems-minisign") == [
        "adaptsign_tables7_to_9",
        "clip_sla_table1",
        "clip_sla_table2",
    ]
    assert main(["sweep", "all", "--variant", "systems-minisign", "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "clip_sla_table1-systems-minisign: " in told and "adaptsign_tables7_to_9-systems-minisign: " in told
