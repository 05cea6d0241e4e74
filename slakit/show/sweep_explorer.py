"""An ipywidgets view to slice the runs of a sweep (JupyterLab and Colab)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real

import ipywidgets
import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype

from slakit.records import visible
from slakit.scoring.escapes import as_label
from slakit.show.palette import WIDTH, shortened, text_widths
from slakit.show.pictures import png
from slakit.show.player import Widget, picture, put

NAMES = {  # of the columns, for people
    "test_wer": "test WER (%)", "dev_wer": "dev WER (%)", "trainable": "trained parameters",
    "step_seconds": "a step (s)", "kept_mb_per_frame": "memory (MiB a frame)", "training_seconds": "training (s)",
}  # fmt: skip


def run_explorer(runs: pd.DataFrame, varied: Sequence[str]) -> ipywidgets.VBox:
    """Choose what stands on the axes, what gives the colour, and which values to keep; every dot is one run.

    runs: a row a run, as `slakit.sweeps.collect(…).runs` has them; varied: the columns of the settings that differ.
    """
    varied = [*varied, "seed"]
    numbers = [c for c in ("test_wer", "dev_wer", "trainable", "step_seconds", "kept_mb_per_frame", "training_seconds")
               if c in runs and bool(runs[c].notna().any())]  # fmt: skip
    axes = [(NAMES.get(name, name), name) for name in (*varied, *numbers)]
    layout = ipywidgets.Layout(width="270px")
    y = ipywidgets.Dropdown(options=axes[len(varied) :], description="up", layout=layout)
    x = ipywidgets.Dropdown(options=axes, description="across", layout=layout)
    hue = ipywidgets.Dropdown(
        options=axes[: len(varied)], value=varied[min(1, len(varied) - 1)], description="colour", layout=layout
    )
    keep = {
        name: ipywidgets.SelectMultiple(
            options=[(visible(value), value) for value in sorted(runs[name].unique(), key=_order)],
            value=tuple(runs[name].unique()),
            description=name,
            rows=3,
            layout=ipywidgets.Layout(width="270px"),
        )
        for name in varied
    }
    shown = picture(720)
    count = ipywidgets.HTML()

    def show(_=None) -> None:
        chosen = slice_runs(runs, {name: box.value for name, box in keep.items()})
        count.value = f"{len(chosen)} of {len(runs)} runs"
        put(shown, png(_scatter(chosen, str(x.value), str(y.value), str(hue.value))))

    for widget in (x, y, hue, *keep.values()):
        widget.observe(show, names="value")
    show()
    wrap = ipywidgets.Layout(flex_flow="row wrap")
    controls = ipywidgets.HBox([y, x, hue], layout=wrap), ipywidgets.HBox(list(keep.values()), layout=wrap)
    return _RunExplorer([*controls, shown, count])


class _RunExplorer(Widget):
    """Children: what stands where, which runs are kept, the picture, how many."""

    def stand_in(self) -> bytes:
        return self.children[2].value


def _order(value: object) -> tuple:
    """Sorts 4 before 16, and texts as texts."""
    return (0, value, "") if isinstance(value, Real) else (1, 0, str(value))


def _label(value: object) -> str:
    return as_label(shortened(str(value)))


def slice_runs(runs: pd.DataFrame, kept_values: Mapping[str, Sequence]) -> pd.DataFrame:
    """The runs whose values are among those kept."""
    for name, values in kept_values.items():
        runs = runs.loc[runs[name].isin(values)]
    return runs


def _scatter(runs: pd.DataFrame, x: str, y: str, hue: str) -> Figure:
    figure, axis = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
    if len(runs):
        runs = runs.sort_values([x, hue], key=lambda column: column.map(_order))
        texts = [name for name in {x, hue} if not is_numeric_dtype(runs[name]) or name == hue != x]
        table = runs.assign(**{name: runs[name].map(_label) for name in texts})
        order = [_label(value) for value in sorted(runs[hue].unique(), key=_order)] if hue in texts else None
        if not is_numeric_dtype(runs[x]):
            sns.stripplot(table, x=x, y=y, hue=hue, hue_order=order, ax=axis, size=9, jitter=0.08)
        else:
            sns.scatterplot(table, x=x, y=y, hue=hue, hue_order=order, ax=axis, s=90)
        wide = [] if is_numeric_dtype(runs[x]) else text_widths([*table[x].unique()])
        if sum(wide) > WIDTH - 3:
            axis.tick_params(axis="x", rotation=90)
            figure.set_figheight(3.2 + max(wide))
        axis.set(xlabel=as_label(NAMES.get(x, x)), ylabel=as_label(NAMES.get(y, y)))
        if axis.get_legend():
            sns.move_legend(
                axis, "upper left", bbox_to_anchor=(1, 1), title=as_label(hue), ncols=1 + table[hue].nunique() // 16
            )
    return figure
