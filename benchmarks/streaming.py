"""Streaming against the offline decoder on MiniSign: word error rate, latency, and what the overlap costs.

    python benchmarks/streaming.py            # the shipped SLA-LoRA demo model; a few minutes on one core

Clips of MiniSign last two to three seconds, shorter than a stream needs to be one; so clips of the same signer are
joined, ten at a time, to videos of about 25 seconds. Offline decoding of the single clips and of the joined videos
stands beside each setting. Times: process time of recognition, frames in memory, all settings in turns on each video.
MiniSign is drawn by a program; its error rates say nothing about real signing.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from data_formats import cpu_name

import slakit
from slakit.recognition.streaming import StreamingRecognizer, long_streams, stream_frames

OFFLINE = {"chunk_frames": 10**6}
DEFAULT = {"chunk_frames": 16, "context_steps": 24, "lookahead_steps": 8}
SETTINGS = {
    "offline": OFFLINE,
    "default": DEFAULT,
    **{f"lookahead {n}": DEFAULT | {"lookahead_steps": n} for n in (0, 4)},
    "context 4": DEFAULT | {"context_steps": 4},
    "chunk 64": DEFAULT | {"chunk_frames": 64},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="default: the shipped demo model of SLA-LoRA")
    parser.add_argument("--clips", type=int, default=10, help="clips that are joined to one video")
    parser.add_argument("--limit", type=int, help="joined videos a split, as many of each signer as of the others")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "streaming.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = slakit.load_checkpoint(given.checkpoint or slakit.models.towers.weights.demo_model("sla-lora"))
    corpus = slakit.load_corpus("minisign", train=640, dev=60, test=80)
    seconds, frames_encoded = dict.fromkeys(SETTINGS, 0.0), dict.fromkeys(SETTINGS, 0)
    wer: dict[str, dict[str, float]] = {name: {} for name in ("offline, single clips", *SETTINGS)}
    total, clips = 0, dict.fromkeys(("dev", "test"), 0)
    for split in ("dev", "test"):
        streams = long_streams(corpus.split(split), given.clips)
        seen: Counter[str] = Counter()
        turn = {name: seen.update([part[0].signer]) or seen[part[0].signer] for name, part in streams.items()}
        streams = {name: streams[name] for name in sorted(streams, key=turn.get)[: given.limit]}
        references = {name: " ".join(g for sample in part for g in sample.glosses) for name, part in streams.items()}
        answers: dict[str, dict[str, str]] = {name: {} for name in SETTINGS}
        single: list[tuple[str, str, str]] = []
        for name, part in streams.items():
            clips[split] += len(part)
            films = [slakit.read_frames(sample.source) for sample in part]
            for sample, clip in zip(part, films, strict=True):
                found = stream_frames(model, clip, **OFFLINE)[0].glosses
                single.append((sample.id, " ".join(sample.glosses), " ".join(found)))
            joined = np.concatenate(films)  # [T, H, W, 3]
            total += len(joined)
            for setting, options in SETTINGS.items():
                start = time.process_time()
                result, stream = stream_frames(model, joined, **options)
                seconds[setting] += time.process_time() - start
                frames_encoded[setting] += stream.encoder_frames
                answers[setting][name] = " ".join(result.glosses)
        clip_references = {key: reference for key, reference, _ in single}
        clip_answers = {key: answer for key, _, answer in single}
        wer["offline, single clips"][split] = slakit.score(clip_references, clip_answers, corpus=corpus.name).wer
        for setting in SETTINGS:
            wer[setting][split] = slakit.score(references, answers[setting], corpus=corpus.name).wer
    rows = []
    for setting, found in wer.items():
        row = {"setting": setting, **{f"{split}_wer": round(value, 2) for split, value in found.items()}}
        if setting in SETTINGS and setting != "offline":
            latency = StreamingRecognizer(model, **SETTINGS[setting]).latency_frames
            row |= SETTINGS[setting] | {"latency_seconds": [round(n / 25, 2) for n in latency]}
            row["frames_encoded_per_frame"] = round(frames_encoded[setting] / total, 2)
            row["time_over_offline"] = round(seconds[setting] / seconds["offline"], 2)
        rows.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    about = {"cpu": cpu_name(), "torch": torch.__version__, "threads": 1, "model": model.config.method}
    about["demo_model"] = {key: model.about[key] for key in ("seed", "best_epoch", "metrics") if key in model.about}
    about |= {"clips_joined": given.clips, "clips": clips, "frames": total, "fps": 25}
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
