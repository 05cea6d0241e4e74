"""Sweeps: a spec (YAML) becomes many runs of one notebook, and the runs become a table.

In: a spec, which says a notebook, its parameters, a grid, seeds, resources and what a paper reports. Out: a folder for
each run (run.ipynb, run.json, metrics.json, log.txt) below OUT/SPEC, and data frames: a row a run, means over seeds
beside the paper's figures, learning curves. Nothing runs twice; a run that was killed goes on.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from slakit.sweeps import load_spec
>>> text = '''
... notebook: notebooks/12_ablation_run.ipynb
... base: {preset: sla-lora/minisign, train.epochs: 2}
... grid: {model.options.rank: [4, 8]}
... expect: [{rank: 4, dev_wer: 20.1}]
... '''
>>> with TemporaryDirectory() as folder:
...     _ = (Path(folder) / "ranks.yaml").write_text(text)
...     spec = load_spec(Path(folder) / "ranks.yaml")
>>> for point in spec.points():
...     print(point.name, point.parameters["model_options"], spec.expected(point))
rank=4_76d5da {'rank': 4} {'dev_wer': 20.1}
rank=8_5c50fe {'rank': 8} {}

    report = run_sweep(spec, "papermill_runs/out")              # all runs that are not done, in processes of their own
    table = collect(spec, "papermill_runs/out").summary()

In reading order:
    spec.py, names.py            the file and its points; a setting's name there and in the notebook
    reading.py                   YAML without surprises
    experiment.py                a preset with changes: what notebook 12 trains
    parameters.py, checks.py     a notebook's parameters; all that is wrong is found first
    notebooks.py                 one notebook under papermill
    runs.py, kernels.py          one run and its folder; kernels without ports
    runner.py, cluster.py        many runs, each with its GPUs; the same as jobs of Slurm
    trainer.py                   what the training notebooks share
    costs.py, tables.py          what a model costs; what came out
    paired.py                    which of a paper's orders hold here
    demo.py, command.py          the demo; the command line
It imports all rooms but show and minisign; nothing in slakit imports it, but for one lazy line of __main__. Names are
imported when they are first used: the command line knows `sweep` without waiting for papermill. No module here has the
name of one of them: importing it would put the module in the name's place.
"""

from __future__ import annotations

import importlib

_HOME = {
    "Point": "spec",
    "Results": "tables",
    "Spec": "spec",
    "SweepReport": "runner",
    "check_injected": "parameters",
    "check_parameters": "parameters",
    "collect": "tables",
    "orders": "paired",
    "orders_in_words": "paired",
    "paper_table": "tables",
    "load_spec": "spec",
    "plan": "runner",
    "read_results": "tables",
    "run_notebook": "notebooks",
    "run_sweep": "runner",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'slakit.sweeps' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"slakit.sweeps.{_HOME[name]}"), name)
    globals()[name] = value
    return value
