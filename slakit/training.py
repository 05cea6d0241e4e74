"""Training: one loop that notebooks, the command line and batch runs share.

fit() first trains the sequence model alone on cached features of the untouched encoder (`warm_start_epochs`, 0 in the
papers' presets), then everything that is trainable. It resumes by itself from what it finds in `out_dir`.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from slakit.config import TrainConfig, override, to_dict
from slakit.data.batches import clip_loader, split_trainable
from slakit.data.samples import Corpus
from slakit.data.store import ClipStore
from slakit.errors import CheckpointError, ConfigError, SlakitError
from slakit.evaluation import evaluate
from slakit.losses import recognition_loss
from slakit.models.checkpoints import save_checkpoint
from slakit.models.recognizer import Recognizer
from slakit.progress import progress
from slakit.run_state import RunState, write_json
from slakit.warm_start import FeatureBatches


@dataclass
class Run:
    """What fit() returns.

    model: the weights with the lowest dev WER; history: one row an epoch; best: the row of those weights;
    seconds: computing time, earlier pieces of a resumed run included; left_out: clip id -> why it was not trained on.
    """

    model: Recognizer
    out_dir: Path
    history: list[dict]
    best: dict
    seconds: float
    left_out: dict[str, str]


def fit(
    model: Recognizer,
    corpus: Corpus,
    out_dir: str | Path,
    settings: TrainConfig | None = None,
    *,
    device: str | None = None,
    show_progress: bool | None = None,
    **changes,
) -> Run:
    """Train `model` on corpus.train, keep the weights with the lowest WER on corpus.dev, all files in `out_dir`.

    settings: a TrainConfig (default: the published one); **changes replace single fields of it by name.
    Files: state.pt (to resume), history.json, best/ (the checkpoint that load_checkpoint() and `recognize` take).
    A second call with the same arguments goes on where the first one stopped, or returns at once if it had ended.
    Raises ConfigError for an unknown setting, another vocabulary or a folder that holds another run; SlakitError where
    no clip can be trained on or the loss stays without a finite value.
    """
    settings = override(settings or TrainConfig(), changes)
    out_dir, device = Path(out_dir), torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if model.vocabulary != corpus.glosses:
        raise ConfigError(
            f"the model has {len(model.vocabulary)} classes and {corpus.name} has {len(corpus.glosses)}, or other "
            "glosses; create it with glosses=corpus.glosses"
        )
    samples, left_out = split_trainable(corpus.train, settings)
    for clip, reason in left_out.items():
        print(f"not trained on: {clip} ({reason})")
    if not samples:
        raise SlakitError(f"no training clip of {corpus!r} can be used; see the reasons above")
    model.to(device)
    store = ClipStore(keep_in_memory=settings.keep_in_memory)
    state = RunState(out_dir, _identity(model, corpus, settings))
    saved = state.load()
    for warning in state.warnings:
        print(warning)
    trainer = Trainer(model, corpus, samples, settings, out_dir, state, store, device, show_progress)
    if saved is not None:
        trainer.restore(saved)
    trainer.run()
    if trainer.best is None:
        raise SlakitError(f"nothing was trained: epochs={settings.epochs}, warm_start_epochs=0")
    restore_trained(model, load_file(out_dir / "best" / "model.safetensors"))
    return Run(model, out_dir, trainer.history, trainer.best, trainer.seconds, left_out)


class Trainer:
    """The loop behind fit(): epochs, resumption, the choice of the best weights."""

    def __init__(self, model, corpus, samples, settings, out_dir, state, store, device, show_progress):
        self.model, self.corpus, self.samples, self.settings = model, corpus, samples, settings
        self.out_dir, self.state, self.store, self.device = out_dir, state, store, device
        self.show_progress = show_progress
        self.epoch, self.history, self.best, self.seconds = 0, [], None, 0.0
        self.optimizer, self.saved_optimizer = None, None
        self.half = half_precision(settings.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half == torch.float16)

    def restore(self, saved: dict) -> None:
        """Go on from a saved state."""
        restore_trained(self.model, saved["weights"])
        self.epoch, self.history, self.best = saved["epoch"], saved["history"], saved["best"]
        self.seconds, self.saved_optimizer = saved["seconds"], saved["optimizer"]

    def run(self) -> None:
        """All epochs that are still to do: first the warm start's, then the others."""
        settings, warm_epochs = self.settings, self.settings.warm_start_epochs
        features = None
        for epoch in range(self.epoch, warm_epochs + settings.epochs):
            begin = time.perf_counter()
            warm = epoch < warm_epochs
            done, total = (epoch, warm_epochs) if warm else (epoch - warm_epochs, settings.epochs)
            if self.optimizer is None or done == 0:
                self.optimizer = make_optimizer(self.model, settings, warm)
                if self.saved_optimizer is not None and done > 0:
                    self.optimizer.load_state_dict(self.saved_optimizer)
            if warm:
                features = features or FeatureBatches(
                    self.model, self.samples, settings, self.store, self.device, self.show_progress
                )
                batches: Iterable = features.epoch(epoch)
            else:
                features = None
                batches = clip_loader(
                    self.samples, self.model.vocabulary, settings, train=True, epoch=done, store=self.store
                )
            torch.manual_seed(
                settings.seed * 100_003 + epoch
            )  # for dropout: the same whether or not the run was stopped
            row = {"epoch": epoch, "phase": "warm start" if warm else "adapt"}
            row |= self.train_epoch(batches, warm, done, total)
            last = done + 1 == total
            if last or (not warm and (done + 1) % settings.evaluate_every == 0):
                self.choose(row)
            self.seconds += time.perf_counter() - begin
            row["seconds"] = self.seconds
            self.history.append(row)
            self.save(epoch + 1, None if last else self.optimizer.state_dict())
            if last or not warm or (done + 1) % 10 == 0:
                print(_line(row, total))

    def train_epoch(self, batches, warm: bool, done: int, total: int) -> dict:
        """One pass over the batches; returns the mean of each loss term a clip, and frames a second."""
        model, settings = self.model.train(), self.settings
        sums, seen, frames, bad, begin = {}, 0, 0, [], time.perf_counter()
        forward = model.recognize_features if warm else model
        # An epoch of the warm start takes a second or two: ten of them are one printed line, not ten bars.
        bar = progress(batches, f"epoch {done + 1}/{total}", False if warm else self.show_progress)
        self.optimizer.zero_grad(set_to_none=True)
        for number, batch in enumerate(bar, start=1):
            set_rate(self.optimizer, settings, done + min(seen / len(self.samples), 1.0), total)
            with torch.autocast(self.device.type, self.half or torch.bfloat16, enabled=self.half is not None):
                logits = forward(batch.to(self.device).frames, batch.lengths.to(self.device))
            loss, terms = recognition_loss(
                logits, batch.targets.to(self.device), batch.target_lengths.to(self.device),
                weights=settings.loss_weights, temperature=settings.distillation_temperature,
            )  # fmt: skip
            seen, frames = seen + len(batch.ids), frames + int(batch.lengths.sum())
            if not torch.isfinite(loss):
                bad += batch.ids
                if len(bad) > settings.max_bad_clips:
                    raise SlakitError(
                        f"the loss is {loss.item()} for {len(bad)} clips ({', '.join(bad[:5])}, …); lower the learning "
                        "rate, or look at these clips"
                    )
                continue
            self.scaler.scale(loss / settings.accumulate).backward()
            for name, value in {"total": loss, **terms}.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) * len(batch.ids)
            if number % settings.accumulate == 0 or number == len(batches):
                self.step()
        if not sums:
            raise SlakitError(f"no batch of epoch {done + 1} had a finite loss (clips {', '.join(bad[:10])})")
        row = {f"loss_{name}": value / (seen - len(bad)) for name, value in sums.items()}
        row["frames_per_second"] = frames / (time.perf_counter() - begin)
        return row | ({"skipped": bad} if bad else {})

    def step(self) -> None:
        """One step of the optimiser, gradients clipped where asked."""
        if self.settings.clip_norm:
            self.scaler.unscale_(self.optimizer)
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def choose(self, row: dict) -> None:
        """WER on dev into the row; the best weights so far into best/."""
        found = evaluate(
            self.model, self.corpus.dev, self.corpus.name, settings=self.settings, store=self.store,
            show_progress=self.show_progress,
        )  # fmt: skip
        row["wer"] = found.wer
        if self.best is None or row["wer"] < self.best["wer"]:
            self.best = row
            metrics = {"dev_wer": row["wer"], "epoch": row["epoch"]}
            save_checkpoint(self.model, self.out_dir / "best", corpus=self.corpus.name, metrics=metrics)

    def save(self, epoch: int, optimizer: dict | None) -> None:
        """The state to resume from, and the history for people."""
        weights = {name: value.detach().cpu() for name, value in self.model.trainable_state().items()}
        self.state.save({
            "epoch": epoch, "history": self.history, "seconds": self.seconds, "best": self.best,
            "weights": weights, "optimizer": optimizer,
        })  # fmt: skip
        write_json(self.out_dir / "history.json", self.history)


def restore_trained(model: Recognizer, tensors: dict[str, torch.Tensor]) -> None:
    """Put saved trained weights back; CheckpointError where they are not those of this model."""
    wanted, known = set(model.trainable_state()), set(model.state_dict())
    if not wanted <= set(tensors) <= known:
        strange = sorted(wanted - set(tensors)) or sorted(set(tensors) - known)
        raise CheckpointError(
            f"the saved weights do not fit the model, for instance {strange[0]}; give another out_dir"
        )
    model.load_state_dict(tensors, strict=False)


def half_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast type: None is float32. "auto": bfloat16 from compute capability 8, float16 below, CPU float32."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return {"float32": None, "float16": torch.float16, "bfloat16": torch.bfloat16}[precision]


def make_optimizer(model: Recognizer, settings: TrainConfig, warm: bool) -> torch.optim.Optimizer:
    """The optimiser over what trains: in the warm start everything but the encoder. One group an initial rate."""
    encoder = {id(p) for p in model.encoder.parameters()}
    inside = [p for p in model.parameters() if p.requires_grad and id(p) in encoder]
    head = [p for p in model.parameters() if p.requires_grad and id(p) not in encoder]
    head_rate = settings.head_learning_rate or settings.learning_rate
    if warm:
        groups = [(head, settings.warm_start_learning_rate or head_rate)]
    else:
        groups = [(inside, settings.learning_rate), (head, head_rate)]
    groups = [{"params": params, "lr": rate, "initial_lr": rate} for params, rate in groups if params]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[settings.optimizer]
    return kind(groups, weight_decay=settings.weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, settings: TrainConfig, done: float, total: int) -> None:
    """Learning rates after `done` of `total` epochs: steps at whole epochs, or a cosine after a short linear rise."""
    if settings.schedule == "steps":
        factor = settings.gamma ** sum(math.floor(done) >= milestone for milestone in settings.milestones)
    elif settings.schedule == "cosine":
        share = done / total
        factor = min(1.0, share / 0.05 + 0.02) * 0.5 * (1 + math.cos(math.pi * share))
    else:
        factor = 1.0
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def _identity(model: Recognizer, corpus: Corpus, settings: TrainConfig) -> dict:
    """What a run's folder belongs to: other settings, model or clips must not be resumed into it."""
    clips = "\n".join(f"{s.id} {' '.join(s.glosses)}" for part in (corpus.train, corpus.dev) for s in part)
    flat = {"corpus": corpus.name, "clips": hashlib.sha256(clips.encode()).hexdigest()[:16]}
    for part, content in (("model", to_dict(model.config)), ("train", to_dict(settings))):
        flat |= {f"{part}.{key}": value for key, value in content.items()}
    for harmless in ("train.num_workers", "train.keep_in_memory"):
        flat.pop(harmless)
    return flat


def _line(row: dict, total: int) -> str:
    wer = f"  dev WER {row['wer']:6.2f} %" if "wer" in row else ""
    return (
        f"{row['phase']:>10} epoch {row['epoch'] + 1:3d}  loss {row['loss_total']:8.3f}{wer}  "
        f"{row['frames_per_second']:7.0f} frames/s  {row['seconds']:6.1f} s"
    )
