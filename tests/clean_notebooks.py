"""Tidies executed notebooks before they are kept: progress bars, widget states and machine-made metadata go.

    python tests/clean_notebooks.py notebooks/*.ipynb

Counts and outputs stay, since `pytest --nbval` compares with them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat

KEPT = ("tags", "jupyter", "cellView")  # the last two: a folded cell, in Jupyter and in Colab
WIDGET = "application/vnd.jupyter.widget-view+json"


def clean(path: Path) -> None:
    """Rewrite one notebook in place."""
    book = nbformat.read(path, as_version=4)
    book.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata = {key: cell.metadata[key] for key in KEPT if cell.metadata.get(key)}
        if cell.cell_type == "code":
            for out in cell.outputs:  # of a widget the picture stays that stands in for it on the web
                if WIDGET in out.get("data", {}) and "image/png" in out.data:
                    del out.data[WIDGET]
            cell.outputs = [
                out
                for out in cell.outputs
                if not (WIDGET in out.get("data", {}) or (out.output_type == "stream" and out.name == "stderr"))
            ]
            for out in cell.outputs:  # Pillow gives every picture twice
                if "image/jpeg" in out.get("data", {}):
                    out.data.pop("image/png", None)
    nbformat.write(book, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        clean(Path(name))
