"""slakit: continuous sign language recognition with adapted CLIP (CLIP-SLA's SLA-LoRA and SLA-Adapter, AdaptSign).

    corpus = slakit.load_corpus("minisign")
    model  = slakit.create_model("sla-lora", glosses=corpus.glosses, backbone="tiny-clip")
    run    = slakit.fit(model, corpus, out_dir="runs/first")
    score  = slakit.evaluate(run.model, corpus.test)
    result = slakit.recognize(run.model, "clip.mp4")

Names are imported when they are first used, so that `import slakit` is quick.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOME = {
    "load_corpus": "slakit.data.corpora",
    "Corpus": "slakit.data.samples",
    "Sample": "slakit.data.samples",
    "Span": "slakit.data.samples",
    "Vocabulary": "slakit.data.samples",
    "read_frames": "slakit.data.video",
    "probe_video": "slakit.data.video",
    "VideoInfo": "slakit.data.video",
    "create_model": "slakit.models",
    "Recognizer": "slakit.models",
    "Logits": "slakit.models",
    "load_checkpoint": "slakit.models",
    "save_checkpoint": "slakit.models",
    "load_adaptsign_checkpoint": "slakit.models",
    "load_backbone": "slakit.models",
    "merge": "slakit.models",
    "count_parameters": "slakit.models",
    "preset": "slakit.presets",
    "preset_names": "slakit.presets",
    "fit": "slakit.training",
    "Run": "slakit.training",
    "memory_plan": "slakit.memory",
    "evaluate": "slakit.evaluation",
    "transcribe": "slakit.evaluation",
    "recognize": "slakit.recognition",
    "Recognition": "slakit.recognition",
    "StreamingRecognizer": "slakit.streaming",
    "beam_search": "slakit.decoding",
    "greedy_search": "slakit.decoding",
    "Hypothesis": "slakit.decoding",
    "score": "slakit.scoring",
    "Score": "slakit.scoring",
    "SlakitError": "slakit.errors",
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'slakit' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
