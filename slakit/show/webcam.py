"""A webcam recorder for notebooks in plain HTML and JavaScript; the recording arrives through a FileUpload widget.

Works where the browser lets a page use the camera (https:// and localhost) and runs the script of an output
(JupyterLab, Notebook 7, Colab); elsewhere it says in a sentence what to do instead. The page is webcam.html.
"""

from __future__ import annotations

from importlib.resources import files
from string import Template

LONGEST = 30  # seconds; at a megabit a second less than 4 MB, below the 10 MB that Jupyter's connection carries


def recorder_html(upload_class: str) -> str:
    """The recorder as HTML for IPython.display.HTML; upload_class: CSS class of the FileUpload button that takes it.

    Show it in the cell that shows the button: Colab gives every cell's output a page of its own.
    """
    page = files("slakit.show").joinpath("webcam.html").read_text(encoding="utf-8")
    return Template(page).substitute(upload=upload_class, longest=LONGEST)
