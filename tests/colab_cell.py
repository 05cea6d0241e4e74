"""Puts the Colab button and the first cell into every notebook, and the project's address into README.

    python tests/colab_cell.py            # writes what differs
    python tests/colab_cell.py --check    # names what differs, writes nothing

The address is `repository` of [tool.slakit] in pyproject.toml, and nowhere else; run this when it changes. Stored
outputs stay as they are.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[1]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["slakit"]["repository"]
PUBLIC = not REPOSITORY.startswith("OWNER/")
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
FOLDED = {"jupyter": {"source_hidden": True}, "cellView": "form"}  # in Jupyter; in Colab
OTHERS = [
    "[![MIT licence](https://img.shields.io/badge/licence-MIT-blue)](LICENSE)",
    "[![Python 3.11, 3.12, 3.13](https://img.shields.io/badge/python-3.11%20%7C%203.12%20%7C%203.13-blue)](pyproject.toml)",
]
TAG = "colab"
CELL = """\
# Where slakit is not installed (Colab), this installs it and leaves torch, numpy and ipywidgets as they are.
import importlib.metadata
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("slakit") is None:
    SOURCE = "git+https://github.com/REPOSITORY"  # or the path of a slakit-*.whl that you have uploaded
    if "OWNER/" in SOURCE:
        raise SystemExit("slakit has no public address yet: put it, or a wheel's path, into SOURCE and run this again")
    kept = [name for name in ("torch", "torchvision", "numpy", "ipywidgets") if importlib.util.find_spec(name)]
    with open("slakit-keeps.txt", "w") as file:
        file.writelines(f"{name}=={importlib.metadata.version(name)}\\n" for name in kept)
    pip = [sys.executable, "-m", "pip", "install", "-q", "-c", "slakit-keeps.txt"]
    subprocess.run([*pip, f"slakit @ {SOURCE}" if "://" in SOURCE else SOURCE, "ipywidgets"], check=True)""".replace(
    "REPOSITORY", REPOSITORY
)
GPU = """\
**On Colab** choose a GPU first (*Runtime → Change runtime type → T4 GPU*). To keep checkpoints when the session ends, \
run `from google.colab import drive; drive.mount("/content/drive")` in a cell of its own and set \
`out_dir = "/content/drive/MyDrive/slakit"` below: the same notebook goes on from there next time."""
ON_A_GPU = ("04", "05", "06", "13")
UNTIL = (
    "*(The button works once the project has a public address; until then upload this notebook on "
    "[colab.research.google.com](https://colab.research.google.com).)*"
)


def colab(name: str) -> str:
    """The address that opens a notebook in Colab."""
    return f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}"


def button(name: str) -> str:
    """What stands under the title of a notebook."""
    parts = [f"[![Open in Colab]({BADGE})]({colab(name)})" + ("" if PUBLIC else " " + UNTIL)]
    return "\n\n".join(parts + ([GPU] if name[:2] in ON_A_GPU else []))


def with_button(text: str, name: str) -> str:
    """The title's cell with its button: directly under the title, in place of an older one."""
    title, _, rest = text.partition("\n")
    rest = re.sub(r"^\s*\[!\[Open in Colab\].*(\n\n\*\*On Colab\*\* choose.*)?", "", rest)
    return "\n\n".join(filter(None, (title, button(name), rest.strip())))


def updated(path: Path) -> str:
    """The notebook's text as it should be."""
    book = nbformat.read(path, as_version=4)
    assert book.cells[0].cell_type == "markdown" and book.cells[0].source.startswith("# "), f"{path.name} has no title"
    book.cells[0].source = with_button(book.cells[0].source, path.name)
    book.cells = [cell for cell in book.cells if TAG not in cell.metadata.get("tags", [])]
    first = nbformat.v4.new_code_cell(CELL, metadata={"tags": [TAG], **FOLDED})
    first.id = f"{TAG}-{path.stem[:2]}"
    if nbformat.versions[4].nbformat_minor < 5 or book.nbformat_minor < 5:
        first.pop("id")
    book.cells.insert(1, first)
    count = 0
    for cell in book.cells:
        if cell.cell_type == "code" and cell.source.strip():
            count += 1
            cell.execution_count = count
            for out in cell.outputs:
                if out.output_type == "execute_result":
                    out.execution_count = count
    return nbformat.writes(book) + "\n"


def readme(text: str) -> str:
    """README with its badges, of which some need the address."""
    lines = [f"[![Open in Colab]({BADGE})]({colab('00_quickstart.ipynb')})", *OTHERS]
    if PUBLIC:
        tests = f"https://github.com/{REPOSITORY}/actions/workflows/tests.yml"
        lines.insert(0, f"[![tests]({tests}/badge.svg)]({tests})")
    return re.sub(
        r"(<!-- badges[^>]*-->\n).*?(?=<!-- /badges -->)", lambda m: m[1] + "\n".join(lines) + "\n", text, flags=re.S
    )


def differing() -> dict[Path, str]:
    """{file: its text as it should be} of the files that differ from it."""
    wanted = {path: updated(path) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))}
    wanted[ROOT / "README.md"] = readme((ROOT / "README.md").read_text(encoding="utf-8"))
    return {path: text for path, text in wanted.items() if path.read_text(encoding="utf-8") != text}


if __name__ == "__main__":
    found = differing()
    for path, text in found.items():
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    sys.exit(bool(found) and "--check" in sys.argv)
