"""Notebooks as batch jobs: a spec (YAML) becomes many papermill runs, and the runs become a table.

    spec = load_spec("papermill_runs/specs/clip_sla_table3.yaml", variant="minisign")
    report = run_sweep(spec, "papermill_runs/out")
    table = collect(spec, "papermill_runs/out").summary()

Names are imported when they are first used: the command line knows `sweep` without waiting for papermill. No module
here has the name of one of them: importing it would put the module in the name's place.
"""

from __future__ import annotations

import importlib

_HOME = {
    "Point": "spec",
    "Results": "tables",
    "Spec": "spec",
    "SweepReport": "runner",
    "check_parameters": "notebooks",
    "collect": "tables",
    "orders": "tables",
    "orders_in_words": "tables",
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
