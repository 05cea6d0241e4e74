"""A misspelt or mistyped parameter of papermill's own command line stops the notebook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from slakit.records import ConfigError
from slakit.sweeps import check_injected

ROOT = Path(__file__).resolve().parents[1]
CELL = 'epochs: int = 1\nrate: float = 1e-3\nname: str = "a"\noptions: dict = {}\nlimit: int = None\n'


def run(injected: str) -> None:
    check_injected(["", "import this", CELL, "# Parameters\n" + injected, "check_injected(In)"])


def test_what_fits_passes_and_a_notebook_opened_by_hand_has_nothing_to_check():
    run('epochs = 3\nrate = 1\nname = "b"\noptions = {"a": [1, {"b": None}]}\nlimit = None\n')
    run('rate = float("inf")\n'.replace('"', "'"))
    check_injected(["", CELL, "epoch = 3"])
    check_injected([])


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("epoch = 3\n", "this notebook has no parameter 'epoch'; did you mean 'epochs'"),
        ('epochs = "many"\n', "epochs='many' must be of type int"),
        ("options = [1]\n", "options=.* must be of type dict"),
        ("name = 3\n", "name=3 must be of type str"),
    ],
)
def test_what_does_not_fit_stops(injected, message):
    with pytest.raises(ConfigError, match=message):
        run(injected)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_looks_at_what_papermill_put_in_before_it_does_anything(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    number = next(n for n, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
    behind = cells[number + 1].source
    assert "check_injected(In)" in behind
    assert "load_corpus(" not in behind.partition("check_injected(In)")[0]


def test_papermills_own_command_line_stops_at_a_misspelt_parameter(tmp_path):
    command = [sys.executable, "-m", "papermill", "notebooks/12_ablation_run.ipynb", str(tmp_path / "out.ipynb")]
    command += ["--cwd", "notebooks", "--no-progress-bar", "-p", "presett", "sla-lora/phoenix2014", "-p", "root", "x"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "no parameter 'presett'; did you mean 'preset'?" in done.stderr
