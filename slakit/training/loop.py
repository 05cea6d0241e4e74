"""The training loop: epochs of batches, checkpoints at any batch, the choice of the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from slakit.config import to_dict
from slakit.data.loader import clip_loader
from slakit.machine import autocast, half_precision, peak_memory, progress, random_state, set_random_state
from slakit.models.checkpoints import read_description, restore, save_checkpoint, with_suffix
from slakit.recognition import evaluate
from slakit.records import CheckpointError, SlakitError
from slakit.training.features import FeatureBatches
from slakit.training.losses import recognition_loss
from slakit.training.optimizers import make_optimizer, set_rate
from slakit.training.state import Position


class Trainer:
    """The loop behind fit(): epochs, resumption, the choice of the best weights."""

    def __init__(self, model, corpus, samples, settings, state, store, device, show_progress, processes, loggers):
        self.model, self.corpus, self.samples, self.settings = model, corpus, samples, settings
        self.state, self.store, self.device = state, store, device
        self.processes, self.loggers = processes, loggers
        self.show_progress = show_progress if processes.main else False
        self.history, self.best, self.at = [], None, Position()
        self.optimizer, self.saved = None, {}
        self.earlier, self.begin = 0.0, time.perf_counter()
        self.last_save, self.steps = self.begin, 0
        half = half_precision(settings.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=half == torch.float16)

    @property
    def seconds(self) -> float:
        """Computing time so far."""
        return self.earlier + time.perf_counter() - self.begin

    def resume(self) -> None:
        """Go on from what the folder holds."""
        saved = self.state.load() if self.processes.main else None
        saved = self.processes.gather(saved)[0]  # what rank 0 read
        for warning in self.state.warnings:
            print(warning)
        if saved is not None:
            restore(self.model, saved["weights"], self.state.folder)
            self.history, self.best, self.earlier = saved["history"], saved["best"], saved["seconds"]
            self.at, self.saved = Position(**saved["positions"][self.processes.rank]), saved
            if saved["scaler"]:  # empty where the run went on without one so far, as "auto" does on a CPU
                self.scaler.load_state_dict(saved["scaler"])
            total = self.settings.warm_start_epochs + self.settings.epochs
            if self.processes.main and self.at.epoch < total:
                print(f"going on in epoch {self.at.epoch + 1} of {total} after {self.at.batches} batches of it")
            elif self.processes.main:
                print(f"{self.state.folder} holds this run, and all its {total} epochs are done: nothing to train")
        if self.processes.main:
            if self.best:
                self.best = self.newer_best(self.best)
        self.best = self.processes.gather(self.best)[0]
        self.processes.same_weights(self.model)

    def newer_best(self, known: dict) -> dict:
        """The row of the best checkpoint on disk: it is written before the state that knows of it."""
        path = with_suffix(self.state.folder / "best")
        try:
            kept = read_description(path)["metrics"]
        except (CheckpointError, KeyError) as error:
            raise CheckpointError(f"{path} is gone or damaged; give another out_dir ({error})") from error
        if kept["epoch"] == known["epoch"]:
            return known
        print(f"{path.name} is of epoch {kept['epoch'] + 1}, later than the state; it is kept")
        return kept

    def run(self) -> None:
        """All epochs that are still to do: first the warm start's, then the others."""
        settings, warm_epochs = self.settings, self.settings.warm_start_epochs
        features = None
        for epoch in range(self.at.epoch, warm_epochs + settings.epochs):
            warm = epoch < warm_epochs
            done, total = (epoch, warm_epochs) if warm else (epoch - warm_epochs, settings.epochs)
            if self.optimizer is None or done == 0:
                self.optimizer = make_optimizer(self.model, settings, warm)
            if self.saved.get("optimizer"):
                self.optimizer.load_state_dict(self.saved["optimizer"])
            if warm:
                features = features or FeatureBatches(
                    self.model, self.samples, settings, self.store, self.device, self.show_progress, self.processes
                )
                batches = features.epoch(epoch, self.at.batches)
            else:
                features = None
                batches = clip_loader(
                    self.samples, self.model.vocabulary, settings, train=True, epoch=done, start_batch=self.at.batches,
                    store=self.store, rank=self.processes.rank, world_size=self.processes.size,
                    keep_empty=self.processes.size > 1,
                )  # fmt: skip
            # For dropout: the same whether or not the run was stopped.
            torch.manual_seed(settings.seed * 100_003 + epoch + 7_368_787 * self.processes.rank)
            row = {"epoch": epoch, "phase": "warm start" if warm else "adapt"}
            row |= self.train_epoch(batches, warm, done, total)
            last = done + 1 == total
            if last or (not warm and (done + 1) % settings.evaluate_every == 0):
                self.choose(row)
            row["seconds"] = self.seconds
            self.history.append(row)
            self.at = Position(epoch + 1)
            if self.processes.main and epoch + 1 == warm_epochs + settings.epochs:
                self._keep(self.state.folder / "last", row)
            for logger in self.loggers:  # before the state: what it does not know of is logged again, not lost
                self._write(logger.epoch, row)
            self.save(None if last else self.optimizer.state_dict())
            if self.processes.main and (last or not warm or (done + 1) % 10 == 0):
                print(_line(row))

    def train_epoch(self, batches, warm: bool, done: int, total: int) -> dict:
        """One pass over the batches that are left; returns the epoch's row: losses a clip, speed, what was skipped."""
        settings, at, begin = self.settings, self.at, time.perf_counter() - self.at.seconds
        self.model.train()
        # An epoch of the warm start takes a second or two: ten of them are one printed line, not ten bars.
        bar = progress(
            batches, f"epoch {done + 1}/{total}", False if warm else self.show_progress, initial=at.batches,
            total=at.batches + len(batches),
        )  # fmt: skip
        self.optimizer.zero_grad(set_to_none=True)
        waiting, due = [], False  # clips whose gradients wait for the optimiser's step; a checkpoint is to be made
        for batch in bar:
            if "random" in self.saved:  # only now: the loader has drawn from the generator, too
                set_random_state(self.saved["random"][self.processes.rank], self.device)
            self.saved = {}
            set_rate(self.optimizer, settings, done + min(at.clips / len(self.samples), 1.0), total)
            taken, wants_checkpoint = self.learn(batch, warm)
            waiting += batch.ids if taken else []
            at.batches, at.seconds, due = batches.position, time.perf_counter() - begin, due or wants_checkpoint
            if at.batches % settings.accumulate == 0:
                self.step(waiting)
                waiting = []
                if due:
                    at.left_out = sorted({*at.left_out, *batches.left_out})
                    self.save(self.optimizer.state_dict(), within=True)
                    due = False
        self.step(waiting)
        self.saved = {}
        at.seconds, at.left_out = time.perf_counter() - begin, sorted({*at.left_out, *batches.left_out})
        return self.row()

    def learn(self, batch, warm: bool) -> tuple[bool, bool]:
        """Forward and backward of one batch. Returns whether it counts, and whether a checkpoint is due.

        A batch whose loss is not finite leaves no trace: no gradient, and batch norm's statistics as they were.
        """
        empty, due = self.processes.sum((not batch.ids, self.due()))
        if empty:
            self.at.left_out += batch.ids  # a process without a clip: its partners leave theirs out, too
            return False, due > 0
        at, settings, forward = self.at, self.settings, self.model.recognize_features if warm else self.model
        buffers = [buffer.clone() for buffer in self.model.sequence.buffers()]
        with autocast(settings.precision, self.device):
            logits = forward(batch.to(self.device).frames, batch.lengths)
        loss, terms = recognition_loss(
            logits, batch.targets.to(self.device), batch.target_lengths,
            weights=settings.loss_weights, temperature=settings.distillation_temperature,
        )  # fmt: skip
        values = torch.stack([loss, *terms.values()]).detach().tolist()  # now, and not after the backward pass
        clips, frames, bad = self.processes.sum(
            (len(batch.ids), int(batch.lengths.sum()), not math.isfinite(values[0]))
        )
        at.clips, at.frames = at.clips + int(clips), at.frames + int(frames)
        if bad:
            for buffer, before in zip(self.model.sequence.buffers(), buffers, strict=True):
                buffer.copy_(before)
            self.skip(batch.ids, int(clips), f"the loss is {values[0]}")
            return False, due > 0
        at.counted += int(clips)
        share = 1.0 if self.processes.size == 1 else len(batch.ids) / clips
        self.scaler.scale(loss * share / settings.accumulate).backward()
        for name, value in zip(("total", *terms), values, strict=True):
            at.losses[name] = at.losses.get(name, 0.0) + value * len(batch.ids)
        return True, due > 0

    def skip(self, ids: Sequence[str], clips: int, reason: str) -> None:
        """Count clips (of this process, of all) that taught nothing; SlakitError where they become too many."""
        self.at.skipped += ids
        self.at.skipped_clips += clips
        if self.at.skipped_clips > self.settings.max_bad_clips:
            raise SlakitError(
                f"{reason} for {self.at.skipped_clips} clips ({', '.join(self.at.skipped[:5])}, …); lower the "
                "learning rate, or look at these clips"
            )

    def step(self, waiting: Sequence[str]) -> None:
        """One step of the optimiser on the gradients of the clips `waiting`, clipped where asked.

        Gradients that are not finite make no step. With float16 that is usual while the scale is above 1, and falls:
        such steps are only counted; all others are the fault of their clips.
        """
        if not waiting:
            return
        self.steps += 1
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.processes.sum_gradients(parameters)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if self.settings.clip_norm:
            torch.nn.utils.clip_grads_with_norm_(parameters, self.settings.clip_norm, norm)
        if torch.isfinite(norm):
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            before = self.scaler.get_scale()  # 1 where there is no scaler
            self.scaler.update()
            self.at.steps_skipped += 1
            if before <= 1 or self.scaler.get_scale() == before:  # otherwise the scaler still looks for its scale
                clips = self.processes.sum([len(waiting)])[0]
                self.skip(waiting, int(clips), f"the gradient's norm is {norm.item()}")
        self.optimizer.zero_grad(set_to_none=True)

    def row(self) -> dict:
        """This epoch's row, over all processes."""
        at = [Position(**one) for one in self.processes.gather(asdict(self.at))]
        if not at[0].counted:
            names = ", ".join([clip for one in at for clip in one.skipped][:10])
            raise SlakitError(f"no batch of epoch {at[0].epoch + 1} had a finite loss (clips {names})")
        row = {f"loss_{name}": sum(one.losses[name] for one in at) / at[0].counted for name in at[0].losses}
        return row | {
            "frames_per_second": at[0].frames / at[0].seconds,
            "memory_gib": max(self.processes.gather(peak_memory(self.device))),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "clips": at[0].clips,
            "skipped": sorted({clip for one in at for clip in one.skipped}),
            "left_out": sorted({clip for one in at for clip in one.left_out}),
            "steps_skipped": at[0].steps_skipped,
        }

    def choose(self, row: dict) -> None:
        """WER on dev into the row; the best weights so far are kept, before the state that speaks of them."""
        found = evaluate(
            self.model, self.corpus.dev, self.corpus.name, settings=self.settings, store=self.store,
            show_progress=self.show_progress, processes=self.processes,
        )  # fmt: skip
        row["wer"] = found.wer
        if self.best is None or row["wer"] < self.best["wer"]:
            self.best = row
            if self.processes.main:
                self._keep(self.state.folder / "best", {"seconds": self.seconds, **row})

    def _keep(self, path: Path, row: dict) -> None:
        """A checkpoint of the weights as they are, with the epoch's row."""
        metrics = {"dev_wer": row["wer"], **row}
        self._write(
            save_checkpoint, self.model, path, corpus=self.corpus.name, train=to_dict(self.settings), metrics=metrics
        )

    def due(self) -> bool:
        """Whether the settings ask rank 0 for a checkpoint after the step that this batch belongs to."""
        seconds, steps = self.settings.checkpoint_seconds, self.settings.checkpoint_steps
        late = seconds and time.perf_counter() - self.last_save >= seconds
        return self.processes.main and bool(late or (steps and self.steps + 1 >= steps))

    def save(self, optimizer: dict | None, within: bool = False) -> None:
        """The state to resume from. Inside an epoch a disk that is full is a warning, at its end it stops the run."""
        positions = self.processes.gather(asdict(self.at))
        random = self.processes.gather(random_state(self.device))
        self.last_save, self.steps = time.perf_counter(), 0
        if not self.processes.main:
            return
        weights = {name: value.detach().cpu() for name, value in self.model.trainable_state().items()}
        content = {
            "positions": positions, "history": self.history, "seconds": self.seconds, "best": self.best,
            "weights": weights, "optimizer": optimizer, "scaler": self.scaler.state_dict(),
        } | ({"random": random} if within else {})  # fmt: skip
        if not within:
            self._write(self.state.save, content)
            return
        try:
            self.state.save(content)
        except OSError as error:
            print(f"no checkpoint was made in {self.state.folder} ({error.strerror}); the one before it is kept")

    def _write(self, write: Callable, *arguments, **options) -> None:
        try:
            write(*arguments, **options)
        except OSError as error:
            raise SlakitError(
                f"{self.state.folder} cannot be written ({error.strerror or error}); make room or "
                "mend the folder and start again: training goes on from the last checkpoint"
            ) from error


def _line(row: dict) -> str:
    wer = f"  dev WER {row['wer']:6.2f} %" if "wer" in row else ""
    skipped = f"  skipped {len(row['skipped'])}" if row["skipped"] else ""
    skipped += f"  steps skipped {row['steps_skipped']}" if row["steps_skipped"] else ""
    return (
        f"{row['phase']:>10} epoch {row['epoch'] + 1:3d}  loss {row['loss_total']:8.3f}{wer}  "
        f"{row['frames_per_second']:7.0f} frames/s  {row['memory_gib']:5.2f} GiB  {row['seconds']:6.1f} s{skipped}"
    )
