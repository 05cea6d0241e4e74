"""slakit: continuous sign language recognition with adapted CLIP (CLIP-SLA's SLA-LoRA and SLA-Adapter, AdaptSign).

    corpus = slakit.load_corpus("minisign")                 # clips and their glosses, in train, dev and test
    model  = slakit.create_model("sla-lora", glosses=corpus.glosses, backbone="tiny-clip")
    run    = slakit.fit(model, corpus, out_dir="runs/first")    # a second call goes on where the first one stopped
    score  = slakit.evaluate(run.model, corpus.test)        # .wer in percent, and its parts
    result = slakit.recognize(run.model, "clip.mp4")        # .glosses, .spans in seconds

The plan of the house: data flows one way, from files to glosses. A room's first screen (its `__init__`) says what goes
in and comes out, shows an example, and names its files in reading order.

    records.py    Sample, Span, Vocabulary, Corpus, the errors: the words of every room
    config.py     the settings of a run: typed, read strictly, changed by name (strict.py holds how)
    machine.py    device, precision, processes, files, locks, progress bars
    __main__.py   the commands; command_line.py makes them of what was typed

    data          files -> Corpus -> batches of frames, uint8 [N, 3, H, W], clips one after the other
    models        frames -> Logits [B, T', V]: image towers, a file a method, the sequence model, checkpoints
    decoding      log probabilities -> glosses and their times (arrays only)
    scoring       glosses and references -> WER as sclite counts it, intervals, tables (words and numbers only)
    recognition   a model and a video, a split or a stream -> glosses, times, files
    training      fit(): the loop, its state, losses, presets, memory
    explain       what a model looked at, as numbers
    show          everything with pixels: figures, widgets, films, reports

    minisign      guest: draws the demo corpus             sweeps    guest: specs -> runs of a notebook -> tables
    lessons       guest: the course's drawing, words and exercises

    files --data--> frames --models--> logits --decoding--> glosses --scoring--> WER
                    recognition is where these five meet; training, explain and show stand on it

Who may import whom is a table in tests/test_house.py. `python -m slakit --help` lists the commands, and
`python -m slakit info` says what is installed. The names below are imported when they are first used, so that
`import slakit` is quick; notebooks and users take them from here or from a room: `from slakit.training import …`.
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
    "push_to_hub": "slakit.models",
    "load_adaptsign_checkpoint": "slakit.models",
    "load_published_checkpoint": "slakit.models",
    "load_backbone": "slakit.models",
    "merge": "slakit.models",
    "count_parameters": "slakit.models",
    "preset": "slakit.training.presets",
    "preset_names": "slakit.training.presets",
    "fit": "slakit.training.run",
    "Run": "slakit.training.run",
    "memory_plan": "slakit.training.memory",
    "shipped": "slakit.machine",
    "output_folder": "slakit.machine",
    "evaluate": "slakit.recognition",
    "transcribe": "slakit.recognition",
    "recognize": "slakit.recognition",
    "Recognition": "slakit.recognition",
    "StreamingRecognizer": "slakit.recognition",
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
