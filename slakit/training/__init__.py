"""Training: a model and a corpus go in, the weights with the lowest WER on dev and a history of rows come out.

fit(model: Recognizer, corpus: Corpus, out_dir, settings: TrainConfig) -> Run. It resumes by itself, at the batch where
the last checkpoint was made, and writes `best.safetensors`, `last.safetensors`, `history.jsonl` and `state.pt`.

    >>> import tempfile, slakit
    >>> from slakit.training import fit, preset
    >>> folder, config = tempfile.TemporaryDirectory(), preset("sla-lora/minisign")
    >>> corpus = slakit.load_corpus("minisign", root=folder.name, train=2, dev=1, test=1, progress=False)
    >>> model = slakit.create_model("sla-lora", glosses=corpus.glosses, backbone="tiny-clip", hidden_size=16)
    >>> quick = {"epochs": 1, "start_from": None, "track": ()}
    >>> run = fit(model, corpus, folder.name + "/run", config.train, **quick, show_progress=False)  # doctest: +ELLIPSIS
     all epoch   1  loss ...
    >>> run.best["epoch"], sorted(path.name for path in run.out_dir.glob("*.*t*"))
    (0, ['best.safetensors', 'last.safetensors', 'state.pt'])
    >>> folder.cleanup()

In reading order:
    loop.py          train(): the algorithm on one screen
    losses.py        CTC on each head, distillation between them
    optimizers.py    how long a run is, its optimiser and rate
    run.py           fit(): what is checked before, what comes back
    state.py         the run in progress: batches, checkpoints, resumption; totals.py: an epoch's row
    folder.py        what of it is on disk; looks.py: whose pictures it was trained on
    features.py      cached features of an encoder that keeps still
    processes.py     several processes that train as one
    trackers.py      where an epoch's row goes
    presets.py       the published settings by name
    memory.py        how many frames fit a GPU
It stands on recognition, which scores; it imports neither explain nor show: no picture is made here.
"""

from slakit.training.memory import MemoryPlan, memory_plan
from slakit.training.presets import load_run, preset, preset_names
from slakit.training.run import Run, fit

__all__ = ["MemoryPlan", "Run", "fit", "load_run", "memory_plan", "preset", "preset_names"]
