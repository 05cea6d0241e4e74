"""Progress bars: one helper, so that notebooks, batches and the command line can switch them off in one place."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tqdm.auto import tqdm


def progress(items: Iterable, description: str, show: bool | None = None, **options) -> tqdm:
    """A tqdm bar over `items`; show=False hides it, and so does SLAKIT_PROGRESS=0 in the environment (batch runs).

    tqdm's own TQDM_DISABLE is not read by its notebook bar, hence a variable of our own. Two updates a second at most:
    each is several messages to the browser, and a kernel drops messages beyond a thousand that nobody has fetched.
    """
    hidden = show is False or os.environ.get("SLAKIT_PROGRESS", "1") == "0"
    return tqdm(items, desc=description, disable=hidden, leave=False, mininterval=0.5, **options)
