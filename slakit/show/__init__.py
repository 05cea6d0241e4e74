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
    figures.py         strips of frames, the timeline, training curves, confusions, a CTC lattice
    map_figures.py     figures of maps: energy, neighbours, masking curves
    sweep_figures.py   figures of a sweep's tables
    films.py           frames beside their maps as MP4 or GIF
    report.py          one recognition as a picture and as files; what a model knows
    live.py            curves that grow during a run, and a run in other processes
    player.py          a widget: one clip
    map_explorer.py    a widget: clips, methods and maps
    sweep_explorer.py  a widget: the runs of a sweep
    video_app.py       a widget: recognise your own video; webcam.py and webcam.html record one

The only room that imports matplotlib, seaborn, ipywidgets and IPython; nobody imports it but notebooks and the command
line. It imports neither `sweeps` nor `minisign`. Names are imported when they are first used, since ipywidgets is an
optional package; no module here has the name of one of them: importing it would put the module in the name's place.
"""

from __future__ import annotations

import importlib

_HOME = {
    "ClipView": "map_explorer",
    "LiveCurves": "live",
    "MapExplorer": "map_explorer",
    "UPLOAD_CLASS": "video_app",
    "VideoApp": "video_app",
    "as_image": "pictures",
    "clip_player": "player",
    "confusion_map": "figures",
    "cost_bars": "sweep_figures",
    "ctc_lattice": "figures",
    "curve_figure": "map_figures",
    "energies_of": "map_figures",
    "energy_figure": "map_figures",
    "film": "films",
    "frame_strip": "figures",
    "heat_map": "sweep_figures",
    "heat_maps": "sweep_figures",
    "launch": "live",
    "model_card": "report",
    "neighbour_strip": "map_figures",
    "ours_beside_paper": "sweep_figures",
    "overlay": "pictures",
    "png": "pictures",
    "recognition_picture": "report",
    "recorder_html": "webcam",
    "run_explorer": "sweep_explorer",
    "save_film": "films",
    "sweep_curves": "sweep_figures",
    "time_figure": "report",
    "timeline": "figures",
    "training_curves": "figures",
    "wer_against_parameters": "sweep_figures",
    "with_caption": "figures",
    "write_report": "report",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'slakit.show' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"slakit.show.{_HOME[name]}"), name)
    globals()[name] = value
    return value
