"""Named settings: one preset = one published setting, the demo's own for every method, and those for own videos.

preset("sla-lora/phoenix2014") is a RunConfig: model, augmentation, optimiser, schedule, epochs and decoding as
published (CLIP-SLA section 4; AdaptSign section 4.1 and its released code; the released code of the systems that both
compare with).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from slakit.config import (
    AugmentConfig,
    DecodeConfig,
    LossWeights,
    ModelConfig,
    RunConfig,
    TrainConfig,
    brief,
    nearest,
    override,
    parse_json,
)  # fmt: skip
from slakit.models.methods import with_method
from slakit.records import ConfigError, read_text

# CLIP-SLA Table 1 and section 4.2: corpus -> (LoRA options, its WER, adapter options, its WER).
_SLA = {
    "phoenix2014": ({"rank": 16}, (19.7, 19.3), {"blocks": "2-12"}, (18.5, 18.8)),
    "phoenix2014-t": ({"rank": 32}, (19.8, 19.4), {"blocks": "3-12"}, (18.8, 19.5)),
    "csl-daily": ({"rank": 32}, (26.0, 25.8), {"blocks": "5-12"}, (26.1, 25.8)),
    "isharah-500": ({"rank": 16}, (), {"blocks": "5-12"}, ()),
}
_BLOCKS_NOTE = (
    "CLIP-SLA's text and Table 4 name different blocks for the same figure (2-12 and 1-12 for phoenix2014); "
    "the text is followed."
)
# AdaptSign: the four corpora, WER of its README (its paper has 19.8 for phoenix2014-t's test set).
_ADAPTSIGN = {"phoenix2014": (18.5, 18.8), "phoenix2014-t": (18.6, 18.9), "csl-daily": (26.7, 26.3), "csl": ()}
# The compared systems as released: name -> (epochs, milestones, loss weights unlike the defaults, WER by corpus: None
# where none was trained on it, () where the figure is not of dev and test).
_LIFT = {"lift_update": 0.001, "lift_predict": 0.001}
_CORPORA = ("phoenix2014", "phoenix2014-t", "csl-daily", "csl")
_SYSTEMS: dict[str, tuple[int, tuple[int, ...], dict, tuple[tuple[float, ...] | None, ...]]] = {
    "vac": (40, (20, 35), {}, ((21.2, 22.3),)),
    "vac-smkd": (40, (20, 35), {"distillation": 0.0}, ((19.8, 20.5),)),
    "tlp": (80, (40, 60), _LIFT, ((19.7, 20.8), (19.4, 21.2), None, ())),
    "sen": (80, (40, 60), {}, ((19.5, 21.0), (19.3, 20.7), (31.1, 30.7))),
    "corrnet": (40, (20, 35), {}, ((18.8, 19.4), (18.9, 20.5), (30.6, 30.1))),
    "corrnet+": (80, (40, 60), {name: v / 2 for name, v in _LIFT.items()}, ((18.0, 18.2), (17.2, 19.1), (28.6, 28.2))),
    "slowfastsign": (80, (40, 60), {"slow": 0.25, "fast": 0.25}, ((18.01, 18.28), (17.66, 18.71), (25.49, 24.85))),
    "adabrowse-224": (40, (20, 30), {}, ((19.7, 21.0),)),
    "adabrowse-160": (40, (20, 30), {}, ((20.7, 21.7),)),
    "adabrowse-96": (40, (20, 30), {}, ((23.4, 23.2),)),
}
_SYSTEM_NOTES = {
    "vac": "the released run with distillation 25 (its configuration's comment has 10); CTC alone 21.5 / 22.1",
    "vac-smkd": "one normalised classifier and both CTC terms, as released; the paper's three stages give 20.8 / 21.0",
    "tlp": "filters 3 wide as in the code (the paper has 5, and so has the CSL checkpoint: lift_kernel); CSL WER 1.8 %",
    "sen": "for CSL-Daily a rate of 5e-5, gamma 0.5 and no temporal rescaling, as the code's README says",
    "corrnet": "the released phoenix2014 file gives 18.9 / 19.7, retraining about 1 more; CSL-Daily without the module "
    "behind stage 2, rate 5e-5, gamma 0.5, no temporal rescaling",
    "corrnet+": "the published figures",
    "slowfastsign": "pretrained is PySlowFast's SLOWFAST_64x2_R101_50_50.pkl, a path; the released CSL-Daily frames "
    "lose their top 40 of 256 rows before, which this does not do",
    "adabrowse": "stage one of AdaBrowse (Hu et al., ACM MM 2023): VAC-SMKD's network with distillation 25 at this "
    "size. Frames are resized once, to 8/7 of it, and cropped; the released code resizes after the crop",
}


def _presets() -> dict[str, RunConfig]:
    presets: dict[str, RunConfig] = {}

    def add(method: str, corpus: str, epochs: int, options: dict, wer: tuple[float, ...] = (), note: str = "") -> None:
        name = f"{method}/{corpus}"
        model = ModelConfig(method=method, pretrained="openai", options=options)
        train = TrainConfig(epochs=epochs, num_workers=None, decode=DecodeConfig(collapse_repeats=True))
        presets[name] = RunConfig(name, corpus, model=model, train=train, published_wer=wer, note=note)

    for corpus, (lora, lora_wer, adapter, adapter_wer) in _SLA.items():
        add("sla-lora", corpus, 35, {"blocks": "5-12", **lora, "alpha": float(lora["rank"]), "n_div": 32}, lora_wer)
        add("sla-adapter", corpus, 40, {"width": 256, **adapter}, adapter_wer, _BLOCKS_NOTE)
        add("frozen", corpus, 40, {}, note="CLIP-SLA's and AdaptSign's tables disagree about this baseline")
        add("partial", corpus, 40, {"num_blocks": 2}, note="the last two blocks are trained")
        add("full", corpus, 40, {})
    for corpus, wer in _ADAPTSIGN.items():
        note = "weight decay 1e-4 as in the released code (the paper's text has 1e-3)"
        add("adaptsign", corpus, 40, {"variant": "published"}, wer, note)
    # Isharah-500 test WER is published alone (24.0 and 22.4), so it is said in words.
    for method, wer in (("sla-lora", 24.0), ("sla-adapter", 22.4)):
        name = f"{method}/isharah-500"
        presets[name] = replace(presets[name], note=f"published WER on the test set: {wer} % (dev not given)")
    return presets | _systems() | _minisign() | _folder()


def _systems() -> dict[str, RunConfig]:
    presets = {}
    for system, (epochs, milestones, weights, results) in _SYSTEMS.items():
        kind, _, side = system.partition("-") if system.startswith("adabrowse") else (system, "", "")
        model = with_method(ModelConfig(), "vac-smkd" if side else system)
        train = TrainConfig(
            epochs=epochs, milestones=milestones, precision="float32" if kind.startswith("vac") else "float16",
            num_workers=None, loss_weights=LossWeights(**weights), decode=DecodeConfig(collapse_repeats=True),
        )  # fmt: skip
        if side:
            sizes = AugmentConfig(image_size=round(int(side) * 8 / 7), crop_size=int(side))
            model, train = replace(model, image_size=int(side)), replace(train, augment=sizes)
        for corpus, wer in zip(_CORPORA, results, strict=False):
            if wer is None:
                continue
            if corpus == "csl-daily" and system in ("sen", "corrnet"):
                still = replace(train.augment, temporal_scale=None)
                train = replace(train, learning_rate=5e-5, gamma=0.5, augment=still)
                model = replace(model, options={"stages": [3, 4]} if system == "corrnet" else {})
            name, note = f"{system}/{corpus}", _SYSTEM_NOTES[kind]
            presets[name] = RunConfig(name, corpus, model=model, train=train, published_wer=wer, note=note)
    return presets


_MINISIGN_NOTE = (
    "The demo: about six minutes on two cores. Differs from the papers where that asks for it: tiny-clip (84 px), "
    "hidden size 256, LoRA in the last three of four blocks (the papers' 5-12 of 12), adapters in all four, a warm "
    "start of the sequence model on cached features, batches of four, higher rates on a cosine, clipped gradients, "
    "a quarter of the frame head's weight (in so few steps it would lead the encoder), shorter clips allowed, equal "
    "neighbours kept."
)
_MINISIGN_NETWORK_NOTE = (
    "The demo's settings for a network of its own: a quarter of the published channels, begun with tiny-resnet, which "
    "was pretrained on tiny-clip's pictures with its losses; the rest as for the methods on tiny-clip. Differs from "
    "the system's paper as those do, and pads features in the place of frames."
)
_MINISIGN_SLOWFAST_NOTE = (
    "The demo's size, 8 of 33 blocks and a quarter of the channels, from random weights: there is no small SlowFast "
    "that has seen tiny-clip's pictures, so it has seen less than the others."
)
# method -> (its options at tiny-clip's size, the encoder's learning rate): small added parts bear a higher one than
# weights that were trained already.
_MINISIGN = {
    "sla-lora": ({"rank": 16, "blocks": "2-4", "n_div": 32}, 5e-3),
    "sla-adapter": ({"width": 32, "blocks": "1-4"}, 4e-3),
    "adaptsign": ({"variant": "published"}, 1e-3),
    "partial": ({"num_blocks": 2}, 1e-3),
    "full": ({}, 5e-4),
    "frozen": ({}, 1e-4),
}


_HEAD = {"start_from": None, "head_learning_rate": 2e-3}  # of the frozen encoder: what the others start with, longer


def _minisign() -> dict[str, RunConfig]:
    """The demo's settings; "frozen" has the same head and spends all its time on it."""
    train = TrainConfig(
        epochs=4,
        batch_size=4,
        head_learning_rate=1e-3,
        schedule="cosine",
        start_from={"epochs": 20, "head_learning_rate": 2e-3},
        clip_norm=5.0,
        evaluate_every=4,
        keep_in_memory=True,
        loss_weights=LossWeights(clip=0.25),
        augment=AugmentConfig(image_size=96, crop_size=84, min_frames=16, max_frames=120),
    )
    settings = {
        method: (ModelConfig(method, "tiny-clip", hidden_size=256, options=options), replace(train, learning_rate=rate))
        for method, (options, rate) in _MINISIGN.items()
    }
    settings["frozen"] = settings["frozen"][0], replace(train, **_HEAD, epochs=60, evaluate_every=60, feature_views=3)
    notes = dict.fromkeys(settings, _MINISIGN_NOTE)
    for method in (system for system in _SYSTEMS if not system.startswith("adabrowse")):
        model = replace(with_method(ModelConfig(), method), image_size=84, hidden_size=256, options={"width": 16})
        model = replace(model, pretrained="tiny-resnet", padding="features")
        chosen = replace(train, learning_rate=5e-4, loss_weights=LossWeights(**_SYSTEMS[method][2]))
        settings[method], notes[method] = (model, chosen), _MINISIGN_NETWORK_NOTE
    model, chosen = settings["slowfastsign"]  # nothing to warm up on, and a phase that padded features would shift
    model = replace(model, pretrained=None, padding="published", options={"width": 16, "depths": [2, 2, 2, 2]})
    chosen = replace(chosen, epochs=15, evaluate_every=15, learning_rate=1e-3, start_from=None)
    settings["slowfastsign"], notes["slowfastsign"] = (model, chosen), _MINISIGN_SLOWFAST_NOTE
    return {
        (name := f"{method}/minisign"): RunConfig(name, "minisign", model=model, train=chosen, note=notes[method])
        for method, (model, chosen) in settings.items()
    }


_FOLDER_NOTE = (
    "For a folder of one's own videos, from sixty clips on: steps in the place of epochs, the head trained until dev "
    "stops improving before the encoder is touched. On tiny-clip, for a laptop; @gpu is the same on OpenAI's ViT-B/16 "
    "at the papers' sizes and rates, which was not measured."
)


def _folder() -> dict[str, RunConfig]:
    """The demo's settings, for a corpus of any size."""
    presets = {}
    for method in ("sla-lora", "sla-adapter", "adaptsign", "frozen"):
        demo = _minisign()[f"{method}/minisign"]
        train = replace(
            demo.train, epochs=0, steps=300, evaluate_every=2, loss_weights=LossWeights(),
            start_from={"steps": 1600, "patience": 500, "feature_views": 2, "head_learning_rate": 2e-3},
        )  # fmt: skip
        if method == "frozen":
            train = replace(train, **_HEAD, steps=4000, patience=1200, feature_views=4, evaluate_every=1000)
        name = f"{method}/folder"
        options = {"crop": "signer"}
        presets[name] = RunConfig(
            name, "folder", corpus_options=options, model=demo.model, train=train, note=_FOLDER_NOTE
        )
    return presets


def _on_gpu(config: RunConfig) -> RunConfig:
    """A preset for own videos on ViT-B/16: the published model, pictures and rates, the steps of a small corpus."""
    published = preset(f"{config.model.method}/phoenix2014")
    train = replace(
        config.train, augment=replace(published.train.augment, min_frames=16), num_workers=None, keep_in_memory=False,
    )  # fmt: skip
    if isinstance(start := train.start_from, dict):
        start = {**start, "head_learning_rate": 1e-3, "batch_size": 4}
        train = replace(train, batch_size=2, learning_rate=1e-4, head_learning_rate=1e-4, start_from=start)
    else:  # frozen: the head alone
        train = replace(train, head_learning_rate=1e-3)
    return replace(config, name=f"{config.name}@gpu", model=published.model, train=train)


def preset_names() -> tuple[str, ...]:
    """All names that preset() knows."""
    return tuple(_presets())


def preset(name: str) -> RunConfig:
    """A published setting by name, "method/corpus": prints as readable text. ConfigError for an unknown name.

    "method/corpus@t4" is the same for a GPU of 16 GB without bfloat16, as Colab lends it; see for_t4(). Those for own
    videos, "method/folder", are for a laptop, and with @gpu (or @t4) for ViT-B/16.
    """
    presets, (plain, _, machine) = _presets(), name.partition("@")
    own = plain.endswith("/folder")
    if plain not in presets or machine not in ("", "t4", "gpu") or (machine == "gpu" and not own):
        known = "each also with @t4, those for own videos, …/folder, with @gpu"
        raise ConfigError(f"there is no preset {name!r}{nearest(plain, presets)} ({known})")
    config = _on_gpu(presets[plain]) if own and machine else presets[plain]
    return replace(for_t4(config), name=name) if machine == "t4" else config


_KEEP_MUCH = ("sla-adapter", "adaptsign", "full")


def for_t4(config: RunConfig) -> RunConfig:
    """A setting for a T4 with 15 usable GB and a session that may die: one clip at a time and two to a step of the
    optimiser (the published batch; batch norm sees one clip instead of two), float16 with a scaler, two readers.
    Methods that keep much compute the MLPs a second time: else a clip of 230 frames would not fit."""
    accumulate = config.train.accumulate * config.train.batch_size
    train = replace(
        config.train, batch_size=1, accumulate=accumulate, precision="float16", num_workers=2, checkpoint_seconds=120.0
    )
    model = replace(config.model, recompute="mlp") if config.model.method in _KEEP_MUCH else config.model
    return replace(config, name=f"{config.name}@t4", model=model, train=train)


def load_run(path: str | Path) -> RunConfig:
    """The settings of a JSON file; its key "preset" names the setting to start from, the other keys change that, and
    what they do not name stays, also of the method's options (unless "model" names another method).

    {"preset": "sla-lora/phoenix2014", "root": "/data/phoenix", "train": {"batch_size": 4}}
    """
    values = parse_json(read_text(path, ConfigError), f"the settings file {path}")
    if not isinstance(values, dict):
        raise ConfigError(f"the settings file {path} must hold one JSON object")
    if not isinstance(name := values.pop("preset", RunConfig), str | type):
        raise ConfigError(f"{path}: preset={brief(name)} is no name; known: {', '.join(preset_names())}")
    start = preset(name) if isinstance(name, str) else RunConfig()
    changed = values.get("model")
    if isinstance(changed, dict) and changed.get("method", start.model.method) != start.model.method:
        start = replace(start, model=with_method(start.model, changed["method"]))
    try:
        return override(start, values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
