"""The plan of the house: who may import whom, how long a file and a room may be, what must not be loaded.

`python tests/test_house.py` prints the lines of every room.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "slakit"
WORDS = {"records", "strict", "config", "machine"}
FRAMES_TO_GLOSSES = WORDS | {"data", "models", "decoding", "scoring"}
# A room, and the rooms that it may import. __init__ (the facade) and __main__ (the command line) may import all.
MAY_IMPORT = {
    "records": set(),
    "strict": {"records"},
    "config": {"records", "strict"},
    "machine": {"records"},
    "decoding": {"records"},
    "scoring": {"records"},
    "minisign": {"records"},
    "data": WORDS,
    "models": WORDS,
    "recognition": FRAMES_TO_GLOSSES,
    "training": FRAMES_TO_GLOSSES | {"recognition"},
    "explain": FRAMES_TO_GLOSSES | {"recognition"},
    "show": FRAMES_TO_GLOSSES | {"recognition", "training", "explain"},
    "sweeps": FRAMES_TO_GLOSSES | {"recognition", "training", "explain"},
    "lessons": WORDS | {"decoding", "scoring", "minisign"},
}
# One file each: the demo corpus is drawn where it is read.
EXCEPTIONS = {("data/corpora/minisign.py", "minisign")}
# Within models: what makes a method, what a method stands on, what is only faster.
INSIDE_MODELS = {
    "packing": set(),
    "exact": {"packing"},
    "towers": {"exact", "packing"},
    "methods": {"towers", "exact", "packing"},
}
PICTURES = {"matplotlib", "seaborn", "ipywidgets", "IPython"}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__main__.py" and path.parent != PACKAGE) + [
        PACKAGE / f"{name}.py" for name in sorted(WORDS)
    ]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that the file imports, also inside functions; `from slakit import x` gives slakit.x."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "slakit":
            modules |= {f"slakit.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path}: imports are absolute"
    return modules


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_in_one_direction(path):
    room, inside = room_of(path), str(path.relative_to(PACKAGE))
    for module in imports(path):
        first, *rest = module.split(".")
        if first == "slakit":
            other = rest[0] if rest else "the facade"
            assert other == room or other in MAY_IMPORT[room] or (inside, other) in EXCEPTIONS, f"{inside}: {module}"
        assert room == "show" or first not in PICTURES, f"{inside} imports {module}: pictures are show's"


def test_models_inner_rooms_import_in_one_direction():
    for path in sorted((PACKAGE / "models").rglob("*.py")):
        part = path.relative_to(PACKAGE / "models").parts[0].removesuffix(".py")
        for module in imports(path):
            _, *rest = module.split(".")
            if module.startswith("slakit.models.") and part in INSIDE_MODELS:
                inside = str(path.relative_to(PACKAGE / "models"))
                right = rest[1] == part or rest[1] in INSIDE_MODELS[part]
                assert right, f"{inside}: {module}"


# Longer than a file should be; this list only gets shorter.
TOO_LONG: set[str] = set()


def test_no_file_is_longer_than_one_idea():
    for path in PACKAGE.rglob("*.py"):
        name, count = str(path.relative_to(PACKAGE)), len(path.read_text(encoding="utf-8").splitlines())
        assert count <= 300 or name in TOO_LONG, f"{name}: {count} lines; more than one idea?"
        assert "slakit.__main__" not in imports(path), f"{name} imports the command line"


def lines() -> Counter:
    count = Counter()
    for path in PACKAGE.rglob("*.py"):
        count[room_of(path)] += len(path.read_text(encoding="utf-8").splitlines())
    return count


if __name__ == "__main__":
    for name, number in sorted(lines().items()):
        print(f"{name:<12}{number:>7}")
    print(f"{'core':<12}{sum(n for name, n in lines().items() if name not in ('minisign', 'sweeps', 'lessons')):>7}")
