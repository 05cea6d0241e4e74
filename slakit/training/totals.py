"""What an epoch has added up so far, and the row of the history that it becomes."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil
import torch

from slakit.data.clips import Batch
from slakit.machine import Processes
from slakit.records import SlakitError
from slakit.training.features import FeatureBatch
from slakit.training.optimizers import READY


@dataclass
class EpochTotals:
    """The sums of an epoch's row; saved with every checkpoint, so that a resumed epoch ends with the same row.

    clips, frames: handed to all processes; counted: clips with a finite loss. losses, skipped, left_out: of this
    process alone, the last two ids of clips. steps_skipped: steps of the optimiser that were left out.
    """

    clips: int = 0
    frames: int = 0
    counted: int = 0
    skipped_clips: int = 0
    steps_skipped: int = 0
    seconds: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def count(
        self, batch: Batch | FeatureBatch, loss: torch.Tensor, terms: dict[str, torch.Tensor], processes: Processes
    ) -> float | None:
        """Add a batch; returns its share of the clips of all processes, or None where a loss is not finite."""
        values = torch.stack([loss, *terms.values()]).detach().tolist()  # now, and not after the backward pass
        clips, frames, bad = processes.sum((len(batch.ids), int(batch.lengths.sum()), not math.isfinite(values[0])))
        self.clips, self.frames = self.clips + int(clips), self.frames + int(frames)
        if bad:
            return None
        self.counted += int(clips)
        for name, value in zip(("total", *terms), values, strict=True):
            self.losses[name] = self.losses.get(name, 0.0) + value * len(batch.ids)
        return len(batch.ids) / clips

    def skip(self, ids: Sequence[str], reason: str, most: int, processes: Processes) -> None:
        """Count clips of this process that taught nothing; SlakitError where those of all become more than `most`."""
        self.skipped += ids
        self.skipped_clips += int(processes.sum([len(ids)])[0])
        if self.skipped_clips > most:
            raise SlakitError(
                f"{reason} for {self.skipped_clips} clips ({', '.join(self.skipped[:5])}, …); lower the "
                "learning rate, or look at these clips"
            )

    def row(self, epoch: int, rate: float, device: torch.device, processes: Processes) -> dict[str, Any]:
        """The epoch's row over all processes: losses a clip, speed, memory, and the clips that were left out."""
        parts = [EpochTotals(**part) for part in processes.gather(asdict(self))]
        skipped, left_out = (sorted({c for part in parts for c in getattr(part, n)}) for n in ("skipped", "left_out"))
        if not self.counted and left_out:
            raise SlakitError(
                f"none of the {len(left_out)} clips of epoch {epoch + 1} can be used; see the reasons above"
            )
        if not self.counted:
            raise SlakitError(f"no batch of epoch {epoch + 1} had a finite loss (clips {', '.join(skipped[:10])})")
        losses = {f"loss_{name}": sum(part.losses[name] for part in parts) / self.counted for name in parts[0].losses}
        return losses | {
            "frames_per_second": parts[0].frames / parts[0].seconds,
            "memory_gib": max(processes.gather(peak_memory(device))),
            "learning_rate": rate,
            "clips": self.clips,
            "skipped": skipped,
            "left_out": left_out,
            "steps_skipped": self.steps_skipped,
        }


def line_of(row: dict[str, Any]) -> str:
    """An epoch's row as it is printed."""
    wer = f"  dev WER {row['wer']:6.2f} %" if "wer" in row else ""
    wer += f" ({len(row['dev_unreadable'])} unreadable)" if row.get("dev_unreadable") else ""
    skipped = f"  left out {len(row['left_out'])}" if row["left_out"] else ""
    skipped += f"  skipped {len(row['skipped'])}" if row["skipped"] else ""
    skipped += f"  steps skipped {row['steps_skipped']}" if row["steps_skipped"] else ""
    return (
        f"{row['trained']:>4} epoch {row['epoch'] + 1:3d}  loss {row['loss_total']:8.3f}{wer}  "
        f"{row['frames_per_second']:7.0f} frames/s  {row['memory_gib']:5.2f} GiB  {row['seconds']:6.1f} s{skipped}"
    )


def warning_of(wer: float, more: bool) -> str:
    """What is to be said after a run on cached features, of its lowest WER on dev, where the head has learnt too little
    for what follows (more: whether something does); a line, or nothing."""
    if wer < READY:
        return ""
    follows = "adaptation will not help yet" if more else "the head has not learnt the glosses"
    longer = "train.start_from.steps" if more else "train.steps"
    return (
        f"dev WER {wer:.0f} % of the head alone: {follows}; look at the pictures (the signer fills them? "
        f"corpus_options.crop), record each gloss more often, or train the head longer ({longer})\n"
    )


class Pace:
    """Says once, after a hundred batches on frames, how long an epoch will take; the first twenty warm up."""

    FROM, UNTIL = 20, 100

    def __init__(self) -> None:
        self.batches, self.begin, self.clips, self.frames = 0, 0.0, 0, 0

    def count(self, totals: EpochTotals, clips: int, epochs: int) -> str | None:
        """To be called after each batch of an epoch of `clips` clips; the line to print, after the hundredth."""
        self.batches += 1
        if self.batches == self.FROM:
            self.begin, self.clips, self.frames = time.perf_counter(), totals.clips, totals.frames
        if self.batches != self.UNTIL or totals.clips <= self.clips:  # another epoch began between: its row says it
            return None
        seconds = time.perf_counter() - self.begin
        minutes = seconds / 60 * clips / (totals.clips - self.clips)
        speed = (totals.frames - self.frames) / seconds
        return (
            f"after {self.batches} batches: {speed:.0f} frames/s, reading included; an epoch takes about "
            f"{minutes:.1f} min, {epochs} of them {minutes * epochs / 60:.1f} h, evaluations besides"
        )


def peak_memory(device: torch.device) -> float:
    """GiB at the highest so far: allocated on the GPU, resident of this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset / 2**30
    import resource  # psutil knows the highest of the past on Windows alone, where this module is not there

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
