"""Progress bars: one helper, so that notebooks, batches and the command line can switch them off in one place."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tqdm.auto import tqdm


def progress(items: Iterable, description: str, show: bool | None = None, **options) -> tqdm:
    """A tqdm bar over `items`; show=None shows it unless SLAKIT_PROGRESS=0 (batch runs) is set.

    tqdm's own TQDM_DISABLE is not read by its notebook bar, hence a variable of our own.
    """
    if show is None:
        show = os.environ.get("SLAKIT_PROGRESS", "1") != "0"
    return tqdm(items, desc=description, disable=not show, leave=False, **options)
