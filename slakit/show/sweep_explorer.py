"""An ipywidgets view to slice the runs of a sweep (JupyterLab and Colab)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from slakit.records import visible
from slakit.scoring.escapes import as_label
from slakit.show.pictures import png


def run_explorer(runs: pd.DataFrame, varied: Sequence[str]) -> ipywidgets.VBox:
    """Choose what stands on the axes, what gives the colour, and which values to keep; every dot is one run.

    runs: a row a run, as `slakit.sweeps.collect(…).runs` has them; varied: the columns of the settings that differ.
    """
    varied = [*varied, "seed"]
    numbers = [c for c in ("test_wer", "dev_wer", "trainable", "step_seconds", "kept_mb_per_frame", "training_seconds")
               if c in runs and bool(runs[c].notna().any())]  # fmt: skip
    y = ipywidgets.Dropdown(options=numbers, description="up")
    x = ipywidgets.Dropdown(options=[*varied, *numbers], description="across")
    hue = ipywidgets.Dropdown(options=varied, value=varied[min(1, len(varied) - 1)], description="colour")
    keep = {
        name: ipywidgets.SelectMultiple(
            options=[(visible(value), value) for value in sorted(runs[name].unique(), key=str)],
            value=tuple(runs[name].unique()),
            description=name,
            rows=4,
        )
        for name in varied
    }
    picture, count = ipywidgets.Image(format="png"), ipywidgets.HTML()

    def show(_=None) -> None:
        chosen = slice_runs(runs, {name: box.value for name, box in keep.items()})
        count.value = f"{len(chosen)} of {len(runs)} runs"
        picture.value = png(_scatter(chosen, str(x.value), str(y.value), str(hue.value)))

    for widget in (x, y, hue, *keep.values()):
        widget.observe(show, names="value")
    show()
    return ipywidgets.VBox([ipywidgets.HBox([y, x, hue]), ipywidgets.HBox(list(keep.values())), picture, count])


def slice_runs(runs: pd.DataFrame, kept_values: Mapping[str, Sequence]) -> pd.DataFrame:
    """The runs whose values are among those kept."""
    for name, values in kept_values.items():
        runs = runs.loc[runs[name].isin(values)]
    return runs


def _scatter(runs: pd.DataFrame, x: str, y: str, hue: str) -> Figure:
    figure, axis = plt.subplots(figsize=(9, 4))
    if len(runs):
        texts = [name for name in {x, hue} if not is_numeric_dtype(runs[name]) or name == hue != x]
        table = runs.assign(**{name: runs[name].map(as_label) for name in texts})
        if runs[x].dtype == object:
            sns.stripplot(table, x=x, y=y, hue=hue, ax=axis, size=9, jitter=0.08)
        else:
            sns.scatterplot(table, x=x, y=y, hue=hue, ax=axis, s=90)
    figure.tight_layout()
    return figure
