"""What the training notebooks share: the setting that their parameters mean, what it will cost, and what came out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from slakit.config import RunConfig, TrainConfig
from slakit.data.corpora import load_corpus
from slakit.data.video.read import probe_video
from slakit.machine import find_device
from slakit.models.packing import STRIDE, steps
from slakit.models.recognizer import Recognizer
from slakit.recognition import evaluate
from slakit.records import ConfigError, Corpus, Sample
from slakit.scoring import Score
from slakit.sweeps.experiment import digest, experiment
from slakit.training.memory import GIB, memory_plan
from slakit.training.optimizers import epochs_of

COUNTED = 100  # clips whose frames are counted where the annotation does not say how many they have


def chosen(
    preset: str,
    own: str,
    small: Mapping[str, Mapping[str, Any]],
    *,
    corpus: str = "",
    root: str = "",
    corpus_options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Any] | None = None,
    train_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> RunConfig:
    """The setting of a training notebook's parameters; arguments and errors otherwise as in `experiment`.

    own: the notebook's default preset; small: {"corpus_options": {…}, …} of the short run that its lesson makes. A
    dictionary that is left out (None) is the short run's where preset and corpus are the notebook's own, and otherwise
    empty: the preset decides. ConfigError for a preset of another method than `own`'s.
    """
    method = own.partition("/")[0]
    if preset.partition("/")[0] != method:
        raise ConfigError(
            f"this notebook trains {method}; preset={preset!r} is another method's: take its notebook, or "
            "12_ablation_run, which trains any"
        )
    lesson = small if preset == own and not corpus else {}
    given = {"corpus_options": corpus_options, "model_options": model_options, "train_options": train_options}
    options = {name: lesson.get(name, {}) if value is None else value for name, value in given.items()}
    config = experiment(preset, corpus=corpus, root=root, seed=seed, **options)
    return replace(config, corpus_options={**config.corpus_options, **options["corpus_options"]})


def load(config: RunConfig, show_progress: bool | None = None) -> Corpus:
    """The corpus of a setting; a bar where it has to be drawn first."""
    options = {"progress": bool(show_progress)} if config.corpus == "minisign" else {}
    return load_corpus(config.corpus, root=config.root or None, **options, **config.corpus_options)


def run_name(config: RunConfig) -> str:
    """A name for a run's folder that changes with its setting, not with where its frames lie or who reads them."""
    return f"{config.name.replace('/', '_')}_{digest(config, config.corpus_options)}"


def expected_cost(model: Recognizer, corpus: Corpus, settings: TrainConfig, device: str | None = None) -> str:
    """What a run will ask of this device, in lines, before anything is computed: memory, and frames in an epoch."""
    lengths = _lengths(corpus.train)
    mean = sum(lengths) / len(lengths)
    augment, about = settings.augment, "" if len(lengths) == len(corpus.train) else "about "
    longest = STRIDE * steps(min(augment.max_frames, round(max(lengths) * (1 + (augment.temporal_scale or 0)))))
    batch = settings.batch_size * longest
    if settings.max_frames_per_batch:
        batch = min(batch, max(longest, settings.max_frames_per_batch))
    plan = memory_plan(model, settings, find_device(device))
    parts = (settings.first_run(), settings) if isinstance(settings.start_from, dict) else (settings,)
    *warm, adapt = (epochs_of(part, len(corpus.train))[0] for part in parts)
    before = f" after {warm[0]} of a warm start on cached features" if warm else ""
    lines = [
        str(plan),
        f"the largest batch: {batch} frames, {plan.bytes_for(batch) / GIB:.2f} GiB counted",
        f"an epoch: {len(corpus.train)} clips, {about}{round(mean * len(corpus.train)):,} frames; "
        f"{adapt} epochs{before}",
    ]
    if batch > plan.frames:
        lines.append(plan.advice(longest, settings))
    return "\n".join(lines)


def _lengths(samples: Sequence[Sample]) -> list[int]:
    """Frames of the clips: as the annotation says, or counted in up to a hundred of them, evenly chosen."""
    said = [sample.num_frames for sample in samples if sample.num_frames]
    if len(said) == len(samples):
        return said
    some = [samples[round(i * (len(samples) - 1) / max(1, COUNTED - 1))] for i in range(min(COUNTED, len(samples)))]
    return [probe_video(sample.source).num_frames for sample in some]


def scores_of(
    model: Recognizer, corpus: Corpus, settings: TrainConfig, show_progress: bool | None = None
) -> dict[str, Score]:
    """The scores of dev and of test; a split without glosses to compare with is named and left out."""
    scores = {}
    for split in ("dev", "test"):
        clips = [sample for sample in corpus.split(split) if sample.glosses]
        if clips:
            scores[split] = evaluate(model, clips, corpus.name, settings=settings, show_progress=show_progress)
        else:
            print(f"{corpus.name} has no {split} clips with glosses: not scored")
    return scores


def beside_paper(scores: Mapping[str, Score], config: RunConfig) -> pd.DataFrame:
    """A row a split: errors, glosses, WER in percent, and the paper's where it reports this setting."""
    parts = ("substitutions", "deletions", "insertions", "words")
    rows = {split: {part: getattr(s, part) for part in parts} | {"WER %": s.wer} for split, s in scores.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").astype(dict.fromkeys(parts, int) if rows else {})
    if config.published_wer:
        paper = dict(zip(("dev", "test"), config.published_wer, strict=True))
        table["the paper's WER %"] = [paper[split] for split in table.index]
    return table.round(2)
