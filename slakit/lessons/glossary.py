"""Words of the field. They have one home, notebooks/glossary.ipynb: a heading a word, and what follows explains it."""

from __future__ import annotations

import json
import re
from functools import lru_cache

from slakit.config import nearest
from slakit.machine import shipped
from slakit.records import ConfigError, read_text


class Explanation(str):
    """Text that a notebook shows as Markdown."""

    def _repr_markdown_(self) -> str:
        return str(self)


@lru_cache(maxsize=1)
def words() -> dict[str, str]:
    """Every word of the glossary with its explanation, in its order."""
    cells = json.loads(read_text(shipped("notebooks/glossary.ipynb")))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return {name.strip(): body.strip() for name, body in re.findall(r"^## (.+)\n([^#]*)", text, flags=re.M)}


def word(name: str) -> Explanation:
    """What a word means; capitals do not matter. ConfigError with the nearest word for one that is not explained."""
    known = {key.lower(): key for key in words()}
    key = known.get(name.strip().lower())
    if key is None:
        raise ConfigError(f"the glossary has no {name!r}{nearest(name, words())}; it has {', '.join(words())}")
    return Explanation(words()[key])
