"""The training loop. Everything else in this room serves it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from slakit.machine import autocast
from slakit.training.losses import recognition_loss
from slakit.training.optimizers import set_rate
from slakit.training.state import TrainingRun
from slakit.training.totals import Pace


def train(run: TrainingRun) -> None:
    """All epochs that are still to do: forward, loss, backward, a step; a score, the best weights, a checkpoint."""
    model, settings, device, processes = run.model, run.settings, run.device, run.processes
    pace = Pace()
    forward = model.recognize_features if settings.feature_views else model  # cached features, or frames
    for epoch in run.epochs_to_do():
        batches, totals = run.start_epoch(epoch), run.totals
        for batch in run.bar(batches, epoch):
            run.restore_random_state()  # once after a resume, and only now: the loader draws from the generator, too
            done = min(totals.clips / len(run.samples), 1.0)
            set_rate(run.optimizer, settings, epoch + done, run.total)
            if run.all_have_clips(batch):
                undo = statistics_of(model)
                with autocast(settings.precision, device):
                    logits = forward(batch.to(device).frames, batch.lengths)
                loss, terms = recognition_loss(
                    logits, batch.targets.to(device), batch.target_lengths,
                    weights=settings.loss_weights, temperature=settings.distillation_temperature,
                )  # fmt: skip
                share = totals.count(batch, loss, terms, processes)
                if share is not None:  # finite in all processes; a mean over clips, not over processes
                    run.scaler.scale(loss * share / settings.accumulate).backward()
                    run.waiting += batch.ids
                else:
                    undo()  # a bad clip leaves no trace
                    totals.skip(batch.ids, f"the loss is {loss.item()}", settings.max_bad_clips, processes)
            run.advance(batches)
            if run.on_frames and processes.main and (line := pace.count(totals, len(run.samples), run.total)):
                print(line)
            if run.cursor.batch % settings.accumulate == 0:
                optimizer_step(run)
                if run.checkpoint_due():
                    run.save(within_epoch=True)
        optimizer_step(run)  # on what is left of an accumulation
        row = run.row(batches)
        if run.evaluates_after(epoch):
            run.evaluate(row)
        run.finish_epoch(row)


def optimizer_step(run: TrainingRun) -> None:
    """One step on the gradients of the clips that wait for it, clipped where the settings ask for that.

    Gradients that are not finite make no step. With float16 that is usual while the scale is above 1, and falls:
    such steps are only counted; all others are the fault of their clips.
    """
    waiting, run.waiting = run.waiting, []
    if not waiting:
        return
    run.steps += 1
    scaler, optimizer, totals = run.scaler, run.optimizer, run.totals
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    run.processes.sum_gradients(parameters)
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if run.settings.clip_norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, run.settings.clip_norm, norm)
    if torch.isfinite(norm):
        scaler.step(optimizer)
        scaler.update()
    else:
        before = scaler.get_scale()  # 1 where there is no scaler
        scaler.update()
        totals.steps_skipped += 1
        if before <= 1 or scaler.get_scale() == before:  # otherwise the scaler still looks for its scale
            totals.skip(waiting, f"the gradient's norm is {norm.item()}", run.settings.max_bad_clips, run.processes)
    optimizer.zero_grad(set_to_none=True)


def statistics_of(module: nn.Module) -> Callable[[], None]:
    """A function that puts the module's buffers, batch norm's statistics, back as they are now."""
    before = [buffer.clone() for buffer in module.buffers()]

    def put_back() -> None:
        for buffer, value in zip(module.buffers(), before, strict=True):
            buffer.copy_(value)

    return put_back
