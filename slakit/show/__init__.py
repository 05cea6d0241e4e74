r"""Everything with pixels: figures, films and widgets, for notebooks and reports.

In: frames uint8 [T, H, W, 3], maps [T, h, w], spans in frames, probabilities [n, V], the rows of a history, the tables
of a sweep. Out: a matplotlib Figure (nothing is shown or saved by itself), pixels uint8, PNG bytes, or a widget.

>>> from slakit.records import Span
>>> from slakit.show import frame_strip, png, timeline
>>> figure = timeline({"truth": [Span("RAIN", 0, 12), Span("SUN", 12, 30)]}, fps=25.0)
>>> [text.get_text() for text in figure.axes[0].texts]
['RAIN', 'SUN']
>>> png(figure)[:4]
b'\x89PNG'

In reading order:
    pictures.py        maps over frames, and anything as PNG bytes
    palette.py         one gloss, one colour; sizes that suit a page; labels kept apart
    figures.py         strips of frames, the timeline, training curves, confusions, a CTC lattice
    corpus_figures.py  what a corpus shows a model, signer by signer
    map_figures.py     figures of maps: energy, neighbours, masking curves
    sweep_figures.py   figures of a sweep's tables
    films.py           frames beside their maps as MP4 or GIF
    commands.py        what evaluate, recognize and score print and write
    report.py          one recognition as a picture and as files; what a model knows
    tables.py          tables and print() in a notebook as plain text, and its files, written whole
    live.py            curves that grow during a run, and a run in other processes
    player.py          a widget: one clip; what all widgets share
    map_explorer.py    a widget: clips, methods and maps
    sweep_explorer.py  a widget: the runs of a sweep
    video_app.py       a widget: recognise your own video; webcam.py and webcam.html record one

The only room that imports matplotlib, seaborn, ipywidgets and IPython; nobody imports it but notebooks and the command
line. It imports neither `sweeps` nor `minisign`. Names are imported when they are first used, since ipywidgets is an
optional package; no module here has the name of one of them: importing it would put the module in the name's place.
"""

from __future__ import annotations

import importlib

_NAMES = {
    "pictures": "as_image overlay png",
    "palette": "bar_colour colour_of line_colour text_colour",
    "figures": "confusion_map ctc_lattice frame_strip timeline training_curves with_caption",
    "corpus_figures": "signer_strips",
    "map_figures": "curve_figure energies_of energy_figure neighbour_strip",
    "sweep_figures": "cost_bars heat_map heat_maps ours_beside_paper sweep_curves wer_against_parameters",
    "films": "film save_film",
    "report": "model_card recognition_picture time_figure write_report",
    "tables": "plain_output shown save_results",
    "live": "LiveCurves launch",
    "player": "clip_player",
    "map_explorer": "MapExplorer",
    "sweep_explorer": "run_explorer",
    "video_app": "UPLOAD_CLASS VideoApp",
    "webcam": "recorder_html",
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'slakit.show' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"slakit.show.{_HOME[name]}"), name)
    globals()[name] = value
    return value
