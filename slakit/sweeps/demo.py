"""python -m slakit demo: a notebook under papermill with a spec's parameters, and its numbers as a table."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pandas as pd

PRESET = "sla-lora/minisign"  # what the demo trains, and demo_spread.yaml many times


def run_demo(spec_file: Path | None, out: Path | None, parameters: dict) -> int:
    """Run the demo's notebook, print its table; 0, or 1 where a cell failed."""
    from papermill.exceptions import PapermillExecutionError

    from slakit.machine import output_folder, shipped
    from slakit.sweeps import load_spec, run_notebook
    from slakit.sweeps.checks import notebook_path
    from slakit.training.presets import preset

    spec = load_spec(spec_file or shipped("specs/demo.yaml"))
    out = (out or output_folder("demo")).resolve()
    parameters = spec.base | {"out_dir": str(out)} | parameters
    notebook = notebook_path(spec.notebook)
    preset(f"{parameters.get('method', 'sla-lora')}/minisign")  # a misspelt method stops here, not in the notebook
    print(f"Running {notebook.name} (corpus, training, evaluation); the same command resumes a run that was stopped.")
    started = time.monotonic()
    try:
        executed = run_notebook(notebook, out / notebook.name, parameters)
    except PapermillExecutionError as error:
        print(f"slakit: cell {error.exec_count} failed: {error.ename}: {error.evalue}", file=sys.stderr)
        print(f"slakit: see {out / notebook.name}; run the same command again to go on", file=sys.stderr)
        return 1
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    print(_table(metrics, time.monotonic() - started, executed, out))
    if spec_file is None and parameters == spec.base | {"out_dir": str(out)}:
        print(verdict({split: metrics[split]["wer"] for split in ("dev", "test")}))
    return 0


def measured_runs(results: Path | None = None) -> pd.DataFrame:
    """The runs of demo_spread.yaml that the demo is compared with, a row each, all processors together.

    results: the folder whose demo_spread*/runs.csv hold them, one a kind of processor; default: those that are shipped.
    """
    from slakit.machine import shipped

    tables = [pd.read_csv(file) for file in sorted((results or shipped("results")).glob("demo_spread*/runs.csv"))]
    runs = pd.concat([table.assign(processor=number) for number, table in enumerate(tables)], ignore_index=True)
    return runs.loc[runs["preset"] == PRESET]


def verdict(wer: dict[str, float], results: Path | None = None) -> str:
    """Whether a demo's word error rates (in percent, by split) lie where those of measured_runs() do."""
    runs = measured_runs(results)
    measured = {split: [float(value) for value in runs[f"{split}_wer"]] for split in wer}
    ends = {split: (min(values), max(values)) for split, values in measured.items()}
    told = " and ".join(f"{split} {low:.1f} to {high:.1f} %" for split, (low, high) in ends.items())
    kinds = runs["processor"].nunique()
    whence = f"{len(runs)} runs measured ({runs['seed'].nunique()} seeds, {kinds} kind{'s' * (kinds > 1)} of processor)"
    outside = [
        split for split, (low, high) in ends.items()
        if not round(low, 1) <= round(wer[split], 1) <= round(high, 1)
    ]  # fmt: skip
    if not outside:
        return f"as it should be: within {told} of {whence}"
    return (
        f"{' and '.join(outside)} outside {told} of {whence}: a point beyond is rounding on another machine, more is "
        "a fault; please tell us, with what `python -m slakit info` prints"
    )


def _table(metrics: dict, seconds: float, notebook: Path, out: Path) -> str:
    line = "-" * 72
    rows = [line, f"{'split':<28}{'WER %':>8}{'clips':>8}{'glosses':>9}   (signers never seen in training)"]
    for split in ("dev", "test"):
        result = metrics[split]
        rows.append(f"{split:<28}{result['wer']:>8.1f}{result['clips']:>8}{result['words']:>9}")
    rows += [
        line,
        f"corpus {metrics['seconds']['corpus']:.0f} s, training {metrics['seconds']['training']:.0f} s, "
        f"evaluation {metrics['seconds']['evaluation']:.0f} s; notebook in all {seconds:.0f} s",
        f"executed notebook  {notebook}",
        f"checkpoint         {out / 'run' / 'best.safetensors'}",
        line,
    ]
    return "\n".join(rows)
