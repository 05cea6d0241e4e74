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
    "Corpus": "slakit.records",
    "Sample": "slakit.records",
    "Span": "slakit.records",
    "Vocabulary": "slakit.records",
    "read_frames": "slakit.data.video.read",
    "probe_video": "slakit.data.video.read",
    "VideoInfo": "slakit.data.video.source",
    "create_model": "slakit.models",
    "Recognizer": "slakit.models",
    "Logits": "slakit.models",
    "load_checkpoint": "slakit.models",
    "save_checkpoint": "slakit.models",
    "load_adaptsign_checkpoint": "slakit.models",
    "load_backbone": "slakit.models",
    "merge": "slakit.models",
    "count_parameters": "slakit.models",
    "preset": "slakit.training.presets",
    "preset_names": "slakit.training.presets",
    "fit": "slakit.training.run",
    "Run": "slakit.training.run",
    "memory_plan": "slakit.training.memory",
    "evaluate": "slakit.recognition.transcribe",
    "transcribe": "slakit.recognition.transcribe",
    "recognize": "slakit.recognition.video",
    "Recognition": "slakit.recognition.video",
    "StreamingRecognizer": "slakit.recognition.streaming",
    "beam_search": "slakit.decoding",
    "greedy_search": "slakit.decoding",
    "Hypothesis": "slakit.decoding",
    "score": "slakit.scoring",
    "Score": "slakit.scoring",
    "SlakitError": "slakit.records",
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
