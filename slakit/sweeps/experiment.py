"""One point of an ablation: a preset with some options changed, checked whole before anything is loaded or trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip

from slakit.config import IGNORED_BY_IDENTITY, ModelConfig, RunConfig, override, to_dict
from slakit.config import digest as config_digest
from slakit.data.corpora import check_options
from slakit.machine import locked
from slakit.models.methods import chosen_blocks
from slakit.models.recognizer import Recognizer, build_model, model_config
from slakit.models.towers.weights import TINY_CLIP, tiny_clip_files
from slakit.records import ConfigError, Corpus
from slakit.sweeps.spec import identity
from slakit.training.presets import preset as named_preset
from slakit.training.run import fit


def experiment(
    preset: str,
    *,
    corpus: str = "",
    root: str = "",
    model_options: Mapping[str, Any] | None = None,
    train_options: Mapping[str, Any] | None = None,
    corpus_options: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> RunConfig:
    """The preset with changes: the whole setting of a run, every name, type and block number checked.

    model_options: fields of ModelConfig and of the method's own options (as create_model() takes them, see
    model_config()).
    train_options: fields of TrainConfig; "decode.beam_width" or {"decode": {…}} reaches a nested one.
    corpus_options: only checked here, as load_corpus() takes them. seed: of model and training.
    Raises ConfigError that names the wrong option and the nearest right one.
    """
    config = named_preset(preset)
    if "method" in (model_options or {}):
        raise ConfigError(f"model_options cannot change 'method'; choose another preset than {preset!r}")
    model = model_config(config.model, {"seed": seed, **(model_options or {})}, "model_options")
    check_blocks(model)
    train = override(config.train, {"seed": seed, **(train_options or {})}, "train_options")
    name = corpus or config.corpus
    check_options(name, corpus_options or {})
    if name != config.corpus:  # the paper's figures are of the preset's corpus
        config = replace(config, published_wer=(), note="")
    return replace(config, corpus=name, root=root or config.root, model=model, train=train)


def check_blocks(model: ModelConfig) -> None:
    """Block numbers beyond the tower, known from the backbone's configuration alone, without building it."""
    name = model.backbone
    if name == TINY_CLIP:
        content = json.loads(Path(tiny_clip_files()[0]).read_text(encoding="utf-8"))
    else:
        content = (open_clip.get_model_config(name) if name in open_clip.list_models() else None) or {}
    depth = (content.get("vision_cfg") or {}).get("layers")
    if not isinstance(depth, int):
        return  # a tower of another library, or a file: it is checked when it is built
    for key in ("blocks", "shift_blocks"):
        if model.options.get(key) is not None:
            blocks = model.options[key]
            chosen_blocks(tuple(blocks) if isinstance(blocks, list) else blocks, depth)
    if model.options.get("num_blocks", 1) > depth:
        raise ConfigError(f"num_blocks={model.options['num_blocks']} does not fit {name}'s {depth} blocks")


def shared_start(
    model: Recognizer, corpus: Corpus, config: RunConfig, folder: str | Path, **fit_options: Any
) -> tuple[str, float]:
    """(checkpoint, its WER on dev in percent) of the run that `config.train.start_from` describes, encoder frozen.

    It is made once for each seed, corpus and head and kept in `folder`; every run of a sweep that asks for the same one
    begins with it, so that all methods start from the same head. ConfigError where the setting describes none.
    """
    if not isinstance(config.train.start_from, dict):
        raise ConfigError(
            f"start_from={config.train.start_from!r} describes no run that could be shared; leave shared_dir empty"
        )
    plain = replace(config.model, method="frozen", options={}, auxiliary_head=model.auxiliary is not None)
    train = config.train.first_run()
    kept = {key: value for key, value in to_dict(train).items() if key not in IGNORED_BY_IDENTITY}
    same = [to_dict(plain), kept, corpus.name, [s.id for s in corpus.train], [s.id for s in corpus.dev]]
    shared = Path(folder) / config_digest(same)[:12]
    with locked(shared / "turn", seconds=3600.0) as mine:  # fit() locks `shared` itself, and does not wait
        if not mine:
            raise ConfigError(
                f"{shared} has been locked by another run for an hour; stop that one or delete the folder"
            )
        run = fit(build_model(plain, corpus.glosses), corpus, shared, train, **fit_options)
    return str(shared / "best"), run.best["wer"]


def digest(config: RunConfig, corpus_options: Mapping[str, Any] | None = None) -> str:
    """Six hex digits that change with the setting: a name for the folder of a run that was started by hand."""
    setting = to_dict(config)
    options = {"corpus_options": dict(corpus_options or {}), "train_options": setting.pop("train")}
    return config_digest(identity({**setting, **options}))[:6]
