"""Parameters of a notebook are checked by name and type before anything runs."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from slakit.records import ConfigError
from slakit.sweeps import check_parameters, run_notebook

CELL = """
epochs: int = 1
learning_rate: float = 1e-3
name: str = "a"
fast: bool = True
variants: list = ["a", "b"]
untyped = 3
"""


@pytest.fixture
def notebook(tmp_path):
    book = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell(CELL)
    parameters.metadata["tags"] = ["parameters"]
    book.cells = [parameters, nbformat.v4.new_code_cell("open('out.txt', 'w').write(f'{epochs} {learning_rate}')")]
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "book.ipynb"
    nbformat.write(book, path)
    return path


def test_values_get_the_notebooks_types(notebook):
    from_yaml = yaml.safe_load("{epochs: 3, learning_rate: 1e-4, fast: false, variants: [c], untyped: 4}")
    assert from_yaml["learning_rate"] == "1e-4", "YAML 1.1 reads this as text"
    found = check_parameters(notebook, from_yaml)
    assert found == {"epochs": 3, "learning_rate": 1e-4, "fast": False, "variants": ["c"], "untyped": 4}
    assert isinstance(found["learning_rate"], float)
    assert check_parameters(notebook, {"learning_rate": 1})["learning_rate"] == 1.0


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"epochs": "16x"}, "epochs='16x' must be of type int"),
        ({"epochs": 1.5}, "must be of type int"),
        ({"epochs": True}, "must be of type int"),
        ({"learning_rate": "fast"}, "must be of type float"),
        ({"fast": "yes"}, "must be of type bool"),
        ({"name": 3}, "must be of type str"),
        ({"untyped": "three"}, "must be of type int"),
    ],
)
def test_wrong_parameters_stop(notebook, parameters, message):
    with pytest.raises(ConfigError, match=message):
        check_parameters(notebook, parameters)


def test_missing_notebook_and_missing_parameters_cell(tmp_path):
    with pytest.raises(ConfigError, match="there is no notebook"):
        check_parameters(tmp_path / "nowhere.ipynb", {})
    (tmp_path / "text.ipynb").write_text("{}")
    with pytest.raises(ConfigError, match="cannot be read as a notebook"):
        check_parameters(tmp_path / "text.ipynb", {})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 1")])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, tmp_path / "bare.ipynb")
    with pytest.raises(ConfigError, match="tag one cell 'parameters'"):
        check_parameters(tmp_path / "bare.ipynb", {"x": 2})


def test_run_notebook_runs_in_the_notebooks_folder_with_the_values(notebook, tmp_path):
    run_notebook(notebook, tmp_path / "out" / "done.ipynb", {"epochs": 7, "learning_rate": "1e-4"}, log=False)
    assert (tmp_path / "out.txt").read_text() == "7 0.0001"
    assert (tmp_path / "out" / "done.ipynb").is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="ZeroMQ has no socket files on Windows")
def test_a_kernel_takes_no_port_that_another_could_take(tmp_path):
    """Each talks through files of a folder of its own, gone when the kernel has ended."""
    code = (
        "from pathlib import Path\nfrom ipykernel.kernelapp import IPKernelApp\n"
        "app = IPKernelApp.instance()\nPath('where.txt').write_text(f'{app.transport} {app.ip}')"
    )
    cells = [
        nbformat.v4.new_code_cell("x: int = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    places = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        nbformat.write(book, tmp_path / name / "run.ipynb")
        run_notebook(tmp_path / name / "run.ipynb", tmp_path / name / "done.ipynb", {}, log=False)
        transport, place = (tmp_path / name / "where.txt").read_text().split(maxsplit=1)
        places.add(place)
        assert transport == "ipc" and not Path(place).parent.exists()
    assert len(places) == 2
