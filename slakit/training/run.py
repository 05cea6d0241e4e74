"""Training: fit() for notebooks, the command line, batch runs and torchrun; the loop itself is in loop.py.

fit() trains everything that is trainable, or, on cached features, the sequence model alone (`feature_views`). Where
`start_from` says so (not in the papers' presets) such a run comes first, in out_dir/start. It resumes by itself from
what it finds, at the batch where the last checkpoint was made: on the CPU to the same weights, bit for bit, as a run
that was never stopped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from slakit.config import IGNORED_BY_IDENTITY, TrainConfig, digest, override, to_dict
from slakit.data.clips import ClipStore
from slakit.data.loader import split_trainable
from slakit.machine import ALONE, Processes, find_device, half_precision
from slakit.models.checkpoints import add_to_description, load_tensors, read_description, restore, with_suffix
from slakit.models.compiled import compiled
from slakit.models.recognizer import Recognizer
from slakit.models.transfer import start_from, weights_checksum
from slakit.recognition import training_features
from slakit.recognition.likeness import KEY
from slakit.records import ConfigError, Corpus, SlakitError
from slakit.training.folder import START, RunFolder, held, history_of
from slakit.training.loop import train
from slakit.training.memory import naming_what_fits
from slakit.training.processes import shared_statistics
from slakit.training.state import BEST, Cursor, TrainingRun
from slakit.training.totals import warning_of
from slakit.training.trackers import Logger, make_loggers


@dataclass
class Run:
    """What fit() returns.

    model: the weights with the lowest dev WER, in evaluation mode; history: one row an epoch; best: the row of those
    weights; seconds: computing time, earlier pieces of a resumed run and the one that it started from included;
    left_out: clip id -> why it was not trained on; start: the history of the run that came first, if one did.
    """

    model: Recognizer
    out_dir: Path
    history: list[dict]
    best: dict
    seconds: float
    left_out: dict[str, str]
    start: list[dict] = field(default_factory=list)


def fit(
    model: Recognizer,
    corpus: Corpus,
    out_dir: str | Path,
    settings: TrainConfig | None = None,
    *,
    device: str | None = None,
    show_progress: bool | None = None,
    loggers: Sequence[Logger] = (),
    processes: Processes = ALONE,
    **changes,
) -> Run:
    """Train `model` on corpus.train, keep the weights with the lowest WER on corpus.dev, all files in `out_dir`.

    settings: a TrainConfig (default: the published one); **changes replace single fields of it by name. loggers:
    further ones than history.jsonl and those that settings.track names; they hear of a run that comes first, too.
    processes: those of machine.launched().
    Files: state.pt (to resume) and the one before it, history.jsonl (a row an epoch), best.safetensors (the
    checkpoint with the lowest dev WER, as load_checkpoint() and `recognize` take it), and at the end last.safetensors
    (the one of the last epoch); start/, the same of the run that settings.start_from describes.
    A second call with the same arguments goes on where the first one stopped, or returns at once if it had ended.
    A finished run goes on where `epochs` (or `steps`) is higher; evaluate_every, decode, max_bad_clips may change, too.
    Raises ConfigError for an unknown setting, another vocabulary, no dev clips with glosses, or a folder that holds
    another run (also one on other pictures) or cannot be written; SlakitError where no clip can be trained on, more
    than max_bad_clips cannot be read, the loss stays without a finite value, the disk is full, or memory runs out (it
    names settings that fit).
    """
    settings, out_dir = override(settings or TrainConfig(), changes), Path(out_dir).expanduser()
    common = {"device": device, "show_progress": show_progress, "processes": processes, "loggers": loggers}
    first = None
    if isinstance(settings.start_from, dict):
        begun = processes.broadcast(RunFolder(out_dir, {}).begun() if processes.main else None)
        if not begun:
            first = _train(model, corpus, out_dir / START, settings.first_run(), last=False, **common)
    run = _train(model, corpus, out_dir, settings, **common)
    run.start = first.history if first else history_of(out_dir / START)
    run.seconds += run.start[-1]["seconds"] if run.start else 0.0
    return run


def _train(
    model: Recognizer,
    corpus: Corpus,
    out_dir: Path,
    settings: TrainConfig,
    *,
    device: str | None,
    show_progress: bool | None,
    processes: Processes,
    loggers: Sequence[Logger],
    last: bool = True,
) -> Run:
    """One run, in one folder. last: its checkpoint is to know how the training clips look; else another run follows."""
    chosen = find_device(device)
    if model.vocabulary != corpus.glosses:
        raise ConfigError(
            f"the model has {len(model.vocabulary)} classes and {corpus.name} has {len(corpus.glosses)}, or other "
            "glosses; create it with glosses=corpus.glosses"
        )
    check_splits(corpus)
    samples, left_out = split_trainable(corpus.train, settings)
    for clip, reason in left_out.items() if processes.main and last else ():  # said once, of two runs
        print(f"not trained on: {clip} ({reason})")
    if not samples:
        raise SlakitError(f"no training clip of {corpus!r} can be used; see the reasons above")
    said = start_from(model, settings.start_from) if isinstance(settings.start_from, str) else ""
    model.to(chosen)
    if chosen.type == "cuda":
        torch.cuda.reset_peak_memory_stats(chosen)  # what was before is no part of the rows' memory
    store = ClipStore(keep_in_memory=settings.keep_in_memory)
    identity = _identity(model, corpus, settings, processes)
    loggers = [*make_loggers(settings.track, out_dir), *loggers] if processes.main else []
    with ExitStack() as stack:
        if processes.main:
            stack.enter_context(held(out_dir))
        stack.enter_context(deterministic(settings.deterministic))
        stack.enter_context(naming_what_fits(model, settings, chosen, samples))
        stack.enter_context(shared_statistics(model, processes))
        folder = RunFolder(out_dir, identity)
        run = TrainingRun(
            model, corpus, samples, settings, folder, store, chosen, show_progress if processes.main else False,
            processes, loggers,
        )  # fmt: skip
        run.resume()
        if said and processes.main and run.cursor == Cursor():
            print(said)
        for logger in loggers:
            stack.callback(logger.close)
            logger.start(identity, run.history)
        begun = run.cursor.epoch
        if begun < run.total and run.on_frames:
            half = half_precision(settings.precision, chosen)
            stack.enter_context(compiled(model.encoder, settings.compile, chosen, half, say=processes.main))
        train(run)
        processes.barrier()
        if run.best is None:
            raise SlakitError(f"nothing was trained: epochs={settings.epochs}")
        if processes.main and begun < run.cursor.epoch and not run.on_frames:
            print(warning_of(run.best["wer"], more=not last), end="")
        _finish(run, describe=last)
    return Run(model.eval(), out_dir, run.history, run.best, run.history[-1]["seconds"], left_out)


def check_splits(corpus: Corpus) -> None:
    """ConfigError for a corpus on which fit() could not end well: nothing to train on, or nothing to choose by."""
    for split in ("train", "dev"):
        clips = corpus.split(split)
        if not any(sample.glosses for sample in clips):
            found = f"{len(clips)} {split} clips, none with glosses" if clips else f"no {split} clips"
            raise ConfigError(
                f"{corpus.name} has {found}; training keeps the weights with the lowest WER on dev, so give some clips "
                f"with glosses to {split} in its annotation ({corpus.root})"
            )


def _finish(run: TrainingRun, describe: bool) -> None:
    """The best weights into the model; into their checkpoint, once, how the training clips look to them."""
    assert run.best is not None
    model, main, path, said = run.model, run.processes.main, with_suffix(run.folder.path / BEST), run.about(run.best)
    if main:
        restore(model, load_tensors(path), path)
    run.processes.same_weights(model)
    if not describe:
        return
    if main and (known := read_description(path).get(KEY)) is not None:
        said[KEY] = known
    elif main:
        options = {"store": run.store, "device": run.device, "show_progress": run.show_progress}
        said[KEY] = training_features(model, run.samples, run.corpus.dev, settings=run.settings, **options)
        with run.disk():
            add_to_description(path, **{KEY: said[KEY]})
    model.about = run.processes.broadcast(said if main else None)  # it answers as the checkpoint does


def _identity(model: Recognizer, corpus: Corpus, settings: TrainConfig, processes: Processes) -> dict[str, Any]:
    """What a run's folder belongs to: other settings, model or clips must not be resumed into it."""
    clips = [[sample.id, *sample.glosses] for part in (corpus.train, corpus.dev) for sample in part]
    flat: dict[str, Any] = {"corpus": corpus.name, "clips": digest(clips)[:16], "processes": processes.size}
    flat["glosses"] = digest(list(corpus.glosses.glosses))[:16]  # a gloss of test alone moves the classes behind it
    flat |= {f"model.{key}": value for key, value in to_dict(model.config).items()}
    flat |= {f"train.{key}": value for key, value in to_dict(settings).items() if key not in IGNORED_BY_IDENTITY}
    if isinstance(settings.start_from, str):  # the weights count, not their place
        flat["train.start_from"] = weights_checksum(settings.start_from)
    return flat


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Deterministic kernels where torch has them, inside; a warning names those without (CTC's gradient on a GPU)."""
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark
