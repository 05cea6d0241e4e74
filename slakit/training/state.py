"""A run in progress: what the loop works with, and how it is saved, resumed and told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from tqdm.auto import tqdm

from slakit.config import TrainConfig
from slakit.data.clips import Batch, ClipStore
from slakit.data.loader import ClipLoader, clip_loader, too_many_unreadable
from slakit.machine import Processes, half_precision, progress, random_state, set_random_state
from slakit.models.checkpoints import restore, save_checkpoint, with_suffix
from slakit.models.recognizer import Recognizer
from slakit.recognition import evaluate
from slakit.records import CheckpointError, ConfigError, Corpus, Sample, SlakitError
from slakit.training.features import EpochOfFeatures, FeatureBatch, FeatureBatches
from slakit.training.folder import RunFolder, about, best_on_disk, mark_of
from slakit.training.looks import compare_looks, looks
from slakit.training.memory import naming_what_fits
from slakit.training.optimizers import epochs_of, make_optimizer
from slakit.training.totals import EpochTotals, line_of
from slakit.training.trackers import Logger

BEST, LAST = "best", "last"  # the checkpoints of a run
Batches = ClipLoader | EpochOfFeatures


@dataclass
class Cursor:
    """Where the run is: batches that are done, by each process, of an epoch."""

    epoch: int = 0
    batch: int = 0


@dataclass
class TrainingRun:
    """Everything that the loop needs. history: a row an epoch; best: the row of the best weights; waiting: clips
    whose gradients wait for the optimiser's step; steps: of the optimiser since the last checkpoint."""

    model: Recognizer
    corpus: Corpus
    samples: Sequence[Sample]
    settings: TrainConfig
    folder: RunFolder
    store: ClipStore
    device: torch.device
    show_progress: bool | None
    processes: Processes
    loggers: Sequence[Logger]
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    cursor: Cursor = field(default_factory=Cursor)
    totals: EpochTotals = field(default_factory=EpochTotals)
    waiting: list[str] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        half = half_precision(self.settings.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half == torch.float16)
        self.optimizer = make_optimizer(self.model, self.settings)
        self.features: FeatureBatches | None = None
        self.resumed: dict[str, Any] = {}  # what the first epoch after a resume has to put back
        self.best_mark = 0  # of the file; what a state without a best checkpoint holds is not looked at
        self.looks: dict[str, list[int]] = {}
        self.begin = self.last_save = self.epoch_begin = time.perf_counter()

    @property
    def on_frames(self) -> bool:
        """Whether clips pass the encoder in every epoch; else their features are cached."""
        return not self.settings.feature_views

    @property
    def total(self) -> int:
        """Epochs, as far as is known now: dev may end a run before its time."""
        return epochs_of(self.settings, len(self.samples), self.processes.size, self.history)[0]

    def evaluates_after(self, epoch: int) -> bool:
        every = epochs_of(self.settings, len(self.samples), self.processes.size)[1]
        return epoch + 1 == self.total or (epoch + 1) % every == 0

    @property
    def seconds(self) -> float:
        """Computing time so far, earlier pieces of a resumed run included."""
        return time.perf_counter() - self.begin

    def resume(self) -> None:
        """Go on from what the folder holds."""
        main = self.processes.main
        saved = self.processes.broadcast(self.folder.load() if main else None)
        self.looks = self.processes.broadcast(looks(self.corpus, self.store, self.settings) if main else None)
        if saved is not None:
            compare_looks(saved.get("looks", {}), self.looks, self.folder.path)
            restore(self.model, saved["weights"], self.folder.state)
            self.history, self.best, self.resumed = saved["history"], saved["best"], saved
            self.begin -= saved["seconds"]
            totals = dict(saved["positions"][self.processes.rank])
            self.cursor = Cursor(totals.pop("epoch"), totals.pop("batches"))
            self.totals = EpochTotals(**totals)
            self.optimizer.load_state_dict(saved["optimizer"])
            if saved["scaler"]:  # empty where the run went on without one so far, as "auto" does on a CPU
                self.scaler.load_state_dict(saved["scaler"])
            at, total = self.cursor, self.total
            if (at.epoch, at.batch) > (total, 0):
                raise ConfigError(
                    f"{self.folder.path} holds {at.epoch} epochs of training, and part of the next: epochs="
                    f"{self.settings.epochs} is less; give that many, or another out_dir"
                )
            if main and at.epoch < total:
                print(f"going on in epoch {at.epoch + 1} of {total} after {at.batch} batches of it")
            elif main:
                print(f"{self.folder.path} holds this run, and all its {total} epochs are done: nothing to train")
        if main and self.best:
            self.best = self._best_on_disk(self.best, saved or {})
        self.best = self.processes.broadcast(self.best)
        self.processes.same_weights(self.model)

    def _best_on_disk(self, known: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any] | None:
        """The row of the best checkpoint. One that is gone, damaged or another run's costs no training: the weights of
        the state take its place where their WER is known."""
        path, last = with_suffix(self.folder.path / BEST), self.history[-1]
        try:
            row, self.best_mark = best_on_disk(path, known, saved.get("best_mark"), self.cursor.epoch)
            return row
        except CheckpointError as error:
            lost = f"the best weights so far (epoch {known['epoch'] + 1}) are lost: {error}"
        if self.cursor.batch or "wer" not in last:
            print(f"{lost}; the lowest WER from here on is kept")
            return None
        print(f"{lost}; those of epoch {last['epoch'] + 1} take their place")
        self._keep(BEST, last)
        self.folder.save(saved | {"best": last, "best_mark": self.best_mark})
        return last

    def epochs_to_do(self) -> Iterator[int]:
        """Each epoch that is left."""
        while self.cursor.epoch < self.total:
            yield self.cursor.epoch

    def start_epoch(self, epoch: int) -> Batches:
        """The epoch's batches from the cursor on; dropout's seed is ready for them."""
        if not self.on_frames and self.features is None:
            kept = (self.store, self.device, self.show_progress, self.processes)
            self.features = FeatureBatches(self.model, self.samples, self.settings, *kept)
        if self.features is not None:
            batches = self.features.epoch(epoch, self.cursor.batch)
        else:
            batches = clip_loader(
                self.samples, self.model.vocabulary, self.settings, train=True, epoch=epoch,
                start_batch=self.cursor.batch, store=self.store, rank=self.processes.rank,
                world_size=self.processes.size, keep_empty=True, pin_memory=self.device.type == "cuda",
                max_unreadable=self.settings.max_bad_clips,
            )  # fmt: skip
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self.epoch_begin = time.perf_counter() - self.totals.seconds
        # For dropout: the same whether or not the run was stopped.
        torch.manual_seed(self.settings.seed * 100_003 + epoch + 7_368_787 * self.processes.rank)
        return batches

    def bar(self, batches: Batches, epoch: int) -> tqdm:
        """The batches under a bar. Of cached features ten epochs are one printed line: each takes a second or two."""
        name, done = f"epoch {epoch + 1}/{self.total}", self.cursor.batch
        show = self.show_progress if self.on_frames else False
        return progress(batches, name, show, initial=done, total=done + len(batches))

    def restore_random_state(self) -> None:
        """Once, after a resume within an epoch: torch's generators as they were."""
        if "random" in self.resumed:
            set_random_state(self.resumed["random"][self.processes.rank], self.device)
        self.resumed = {}

    def all_have_clips(self, batch: Batch | FeatureBatch) -> bool:
        """Whether no process lacks a clip in this step: else its partners leave theirs out, too."""
        if self.processes.sum([not batch.ids])[0]:
            self.totals.left_out += batch.ids
            return False
        return True

    def advance(self, batches: Batches) -> None:
        """The cursor after the batch that was handled last, with the time and the clips that could not be read."""
        self.cursor.batch, self.totals.seconds = batches.position, time.perf_counter() - self.epoch_begin
        self.totals.left_out = sorted({*self.totals.left_out, *batches.left_out})

    def checkpoint_due(self) -> bool:
        """Whether the settings ask for a checkpoint now, by rank 0's clock."""
        seconds, steps = self.settings.checkpoint_seconds, self.settings.checkpoint_steps
        late = bool(seconds) and time.perf_counter() - self.last_save >= seconds
        return self.processes.sum([self.processes.main and (late or 0 < steps <= self.steps)])[0] > 0

    def row(self, batches: Batches) -> dict[str, Any]:
        """The epoch's row."""
        self.advance(batches)
        self.resumed = {}
        row = {"epoch": self.cursor.epoch, "trained": "all" if self.on_frames else "head"}
        rate = self.optimizer.param_groups[0]["lr"]
        return row | self.totals.row(self.cursor.epoch, rate, self.device, self.processes)

    def evaluate(self, row: dict[str, Any]) -> None:
        """WER on dev into the row; the weights with the lowest so far are kept. SlakitError where dev went away."""
        model, dev, settings = self.model, self.corpus.dev, self.settings
        with naming_what_fits(model, settings, self.device, dev, train=False):
            found = evaluate(
                model, dev, self.corpus.name, settings=settings, store=self.store,
                show_progress=self.show_progress, processes=self.processes, device=self.device,
            )  # fmt: skip
        if len(found.unreadable) > settings.max_bad_clips:
            raise SlakitError("of dev, " + too_many_unreadable(found.unreadable, settings.max_bad_clips))
        row["wer"] = found.wer
        row |= {"dev_unreadable": sorted(found.unreadable)} if found.unreadable else {}
        if self.best is None or row["wer"] < self.best["wer"]:  # kept before the state that knows of them
            self.best = row
            self._keep(BEST, {"seconds": self.seconds, **row})

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """The row goes to the history, the loggers and the screen, the state to the disk."""
        row["seconds"] = self.seconds
        self.history.append(row)
        self.cursor, self.totals = Cursor(row["epoch"] + 1), EpochTotals()
        if self.cursor.epoch == self.total:
            self._keep(LAST, row)
        with self.disk():
            for logger in self.loggers:  # before the state: what it does not know of is logged again, not lost
                logger.epoch(row)
        self.save()
        if self.processes.main and (self.on_frames or "wer" in row or (row["epoch"] + 1) % 10 == 0):
            print(line_of(row))

    def save(self, within_epoch: bool = False) -> None:
        """The state to resume from. Inside an epoch a disk that is full is a warning, at its end it stops the run."""
        at = self.cursor
        positions = self.processes.gather({"epoch": at.epoch, "batches": at.batch, **asdict(self.totals)})
        random = self.processes.gather(random_state(self.device))
        self.last_save, self.steps = time.perf_counter(), 0
        if not self.processes.main:
            return
        weights = {name: value.detach().cpu() for name, value in self.model.trainable_state().items()}
        content = {
            "positions": positions, "history": self.history, "seconds": self.seconds, "best": self.best,
            "weights": weights, "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(), "best_mark": self.best_mark, "looks": self.looks,
        } | ({"random": random} if within_epoch else {})  # fmt: skip
        if not within_epoch:
            with self.disk():
                self.folder.save(content)
            return
        try:
            self.folder.save(content)
        except OSError as error:
            print(f"no checkpoint was made in {self.folder.path} ({error.strerror}); the one before it is kept")

    def _keep(self, name: str, row: dict[str, Any]) -> None:
        """A checkpoint of the weights as they are, with the whole setting and the epoch's row."""
        if self.processes.main:
            with self.disk():
                file = save_checkpoint(self.model, self.folder.path / name, **self.about(row))
                if name == BEST:
                    self.best_mark = mark_of(file)

    def about(self, row: dict[str, Any]) -> dict[str, Any]:
        """What a checkpoint of that epoch says of itself."""
        return about(self.corpus, len(self.samples), self.settings, row)

    @contextmanager
    def disk(self) -> Iterator[None]:
        """What writes the run's files: a disk that is full or gone is one sentence."""
        try:
            yield
        except OSError as error:
            raise SlakitError(
                f"{self.folder.path} cannot be written ({error.strerror or error}); make room or mend the folder and "
                "start again: training goes on from the last checkpoint"
            ) from error
