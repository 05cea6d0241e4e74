"""What python -m slakit evaluate, recognize and score print and write; `slakit/__main__.py` has their options."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import pandas as pd

from slakit.data.corpora import load_corpus
from slakit.data.video.images import SUFFIXES
from slakit.data.video.read import open_source
from slakit.machine import find_device
from slakit.models import demo_model, load_checkpoint
from slakit.models.description import read_description
from slakit.models.hub import find_checkpoint
from slakit.recognition import Recognition, StreamingRecognizer, clip_name, recognize, settings_for, transcribe
from slakit.recognition.exports import write_ctm_spans
from slakit.recognition.pictures import crop_of, pictures_for
from slakit.records import ConfigError, Corpus, CorpusError, Sample, VideoError, say, write_files
from slakit.scoring import Score, Stm, bootstrap_interval, confusions, per_signer, score, variants, write_ctm
from slakit.scoring.escapes import as_csv

if TYPE_CHECKING:
    import torch

    from slakit.models import Recognizer

DRAWN = "minisign"  # the corpus that needs no folder


def checkpoints_corpus(
    checkpoint: Path, corpus: str | None, root: Path | None, options: Mapping[str, Any]
) -> tuple[Corpus, dict[str, Any]]:
    """(the corpus, its options): the one that is named, or the checkpoint's; with the options that the checkpoint was
    trained with where it is the same, changed by those given. ConfigError, before anything is drawn, for a corpus that
    needs its folder and got none."""
    known = read_description(find_checkpoint(checkpoint))
    name = corpus or known.get("corpus")
    if not name:
        raise ConfigError(f"{checkpoint} does not say on which corpus it was trained; name one with --corpus")
    if root is None and name != DRAWN:
        whose = "was trained on" if corpus is None else "is to be evaluated on"
        raise ConfigError(f"{checkpoint} {whose} {name}: give its folder with --root (or another --corpus)")
    kept = dict(known.get("corpus_options") or {}) if name == known.get("corpus") else {}
    if name == DRAWN and root is not None and not options:
        kept = {}  # a folder that was named is read as it is
    chosen = {**kept, **options}
    return load_corpus(name, root=root, **chosen), chosen


def free(paths: Iterable[Path], overwrite: bool) -> None:
    """ConfigError where one of these files is there and may not be overwritten, or two have the same name."""
    seen: set[Path] = set()
    for path in paths:
        if path in seen:
            raise ConfigError(f"{path} would be written twice: two videos have this name; give each its own --out")
        seen.add(path)
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} is there already; give another folder, or --overwrite")


def made(folder: Path) -> Path:
    """The folder, made where it is missing; ConfigError where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{error.filename or folder} cannot be written ({reason}); give another folder") from None
    return folder


def evaluate(
    checkpoint: Path,
    corpus: str | None,
    root: Path | None,
    options: Mapping[str, Any],
    split: str,
    out: Path | None,
    overwrite: bool,
    device: str | None,
    pretrained: Path | None,
    clip_by_clip: bool = False,
) -> None:
    """Print the score of a split, with its interval; into out: <split>.ctm, .csv (a line a clip) and .json.

    clip_by_clip: recognise every clip alone as well, and say what that changes: see alone().
    """
    target = find_device(device)
    files = {kind: out / f"{split}.{kind}" for kind in ("ctm", "csv", "json")} if out else {}
    free(files.values(), overwrite)
    data, chosen = checkpoints_corpus(checkpoint, corpus, root, options)
    samples = data.split(split)
    if not samples:
        raise CorpusError(f"{data.name} has no clips in {split}; choose another --split")
    model = load_checkpoint(checkpoint, glosses=data.glosses, pretrained=pretrained).to(target)
    references, hypotheses = transcribe(model, samples, device=target)
    nothing = sum(not glosses for glosses in hypotheses.values())
    result = score(references, hypotheses, data) if any(references.values()) else None
    settings = settings_for(model)
    facts: dict[str, Any] = {
        "checkpoint": str(checkpoint), "corpus": data.name, "options": chosen, "split": split, "clips": len(samples),
        "nothing_recognised": nothing, "decode": vars(settings.decode), "augment": vars(settings.augment),
        "precision": settings.precision, "device": str(target),
    }  # fmt: skip
    if result is None:
        say(f"{len(samples)} clips recognised, nothing in {nothing}; {split} has no glosses, so there is no WER")
    else:
        facts |= score_facts(result)
        say(result)
        say(f"95 % interval {facts['interval'][0]:.2f} to {facts['interval'][1]:.2f}; nothing recognised in {nothing}")
    if clip_by_clip:
        facts["clip_by_clip"] = alone(model, samples, hypotheses, data, target)
    if out is None:
        if result is None:
            say("\n".join(f"{clip} {glosses}" for clip, glosses in hypotheses.items()))
        return
    made(out)
    write_ctm(files["ctm"], hypotheses)
    text = json.dumps(facts, ensure_ascii=False, indent=1, default=str) + "\n"
    write_files({files["csv"]: per_clip(samples, hypotheses, result), files["json"]: text})
    say("\n".join(f"{kind:<4}  {path}" for kind, path in files.items()))


def alone(
    model: Recognizer, samples: Sequence[Sample], batched: Mapping[str, str], data: Corpus, device: torch.device
) -> dict[str, Any]:
    """What changes where no clip shares a batch with another, whose length would decide about its padding: printed, and
    the ids of the clips that are answered otherwise, with the score. batched: the answers of evaluation as it was."""
    settings = settings_for(model)
    references, hypotheses = transcribe(model, samples, settings=replace(settings, batch_size=1), device=device)
    changed = [clip for clip, answer in hypotheses.items() if answer != batched[clip]]
    result = score(references, hypotheses, data) if any(references.values()) else None
    against = f"{len(changed)} of {len(samples)} clips are answered otherwise than in batches of {settings.batch_size}"
    say(f"clip by clip: {f'WER {result.wer:.2f} %; ' if result else ''}{against}")
    return {"changed": changed, **(score_facts(result) if result else {})}


def score_facts(result: Score) -> dict[str, Any]:
    """A score and its 95 % interval as JSON has them."""
    interval, names = bootstrap_interval(result), ("substitutions", "deletions", "insertions", "correct", "words")
    return {"wer": result.wer, "interval": [interval.low, interval.high], **{n: getattr(result, n) for n in names}}


def per_clip(samples: Sequence[Sample], hypotheses: Mapping[str, str], result: Score | None) -> str:
    """CSV: id, signer, what was signed and recognised, and the counts where there is a score."""
    names = ("substitutions", "deletions", "insertions", "words")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["id", "signer", "reference", "recognised", *(names if result else ())])
    for sample in samples:
        video = result.per_video.get(sample.id) if result else None
        counts = [getattr(video, name) for name in names] if video else [""] * (len(names) if result else 0)
        words = sample.id, sample.signer, " ".join(sample.glosses), hypotheses[sample.id]
        rows.writerow([*map(as_csv, words), *counts])
    return text.getvalue()


def print_score(stm: Stm, hypotheses: Mapping[str, str], corpus: str | None) -> None:
    """Score, interval and tables of another program's answers."""
    references = stm.references
    result = score(references, hypotheses, corpus)
    interval, nothing = bootstrap_interval(result), sum(not glosses for glosses in hypotheses.values())
    say(result)
    say(f"95 % interval {interval.low:.2f} to {interval.high:.2f}; nothing recognised in {nothing} videos")
    say("cleaned: the corpus' rules on the answers, as its scripts do; symmetric: on both sides; plain_wer: jiwer's")
    tables: dict[str, pd.DataFrame] = {"scored in every way in use": variants(references, hypotheses, corpus)}
    tables |= {"by signer": per_signer(result, stm.signers), "most confused": confusions(result, 10)}
    for title, table in tables.items():
        say(f"\n{title}\n{table.to_string(float_format='%.2f') if len(table) else 'none'}")


def clips_of(names: Sequence[str], corpus: Corpus | None) -> list[Path | Sample]:
    """What is to be recognised: ids of the corpus where there is one, files and folders, the images of one folder as
    one clip. VideoError for what is none of these."""
    samples = {s.id: s for split in ("train", "dev", "test") for s in corpus.split(split)} if corpus else {}
    paths = [Path(name) for name in names]
    if (
        len(paths) > 1
        and len({path.parent for path in paths}) == 1
        and all(p.suffix.lower() in SUFFIXES for p in paths)
    ):
        return [paths[0].parent]  # a pattern that the shell wrote out: FOLDER/*.png
    clips: list[Path | Sample] = []
    for name, path in zip(names, paths, strict=True):
        if name in samples:
            clips.append(samples[name])
        elif "*" in path.name and os.path.isdir(path.parent):  # as the annotation of Phoenix-2014 names its clips
            clips.append(path.parent)
        elif os.path.exists(path):  # False, not OSError, for a name that is too long for any file
            clips.append(path)
        elif corpus is not None:
            raise VideoError(f"{name}: no file, and no clip of {corpus.name}; check the path or the id")
        else:
            raise VideoError(f"{name}: no such file or folder; check the path, or name its corpus (--corpus, --root)")
    return clips


def recognize_all(
    names: Sequence[str],
    checkpoint: Path | None,
    corpus: str | None,
    root: Path | None,
    options: Mapping[str, Any],
    out: Path | None,
    save: Sequence[Path],
    crop: str | Sequence[int],
    *,
    on_damage: str,
    pauses: float | None,
    stream: bool,
    picture: bool,
    as_json: bool,
    overwrite: bool,
    demo: bool,
    device: str | None,
    pretrained: Path | None,
) -> None:
    """Print what is recognised in each clip, and write it into out, each file named after its clip."""
    target = find_device(device)
    if demo:
        checkpoint = checkpoint or demo_model("sla-lora")
        if not names:
            drawn = load_corpus(DRAWN, train=1, dev=1, test=1, progress=False)
            names, corpus, options = [drawn.test[0].id], DRAWN, {"train": 1, "dev": 1, "test": 1}
            out = out or Path("slakit-demo")
            overwrite = True
    if checkpoint is None or not names:
        lone = "give --checkpoint too: what training wrote, or a demo model such as sla-lora"
        raise ConfigError(lone if names else "give a video and --checkpoint; or --demo alone, to see how it looks")
    asked = corpus is not None or root is not None or bool(options)
    clips = clips_of(names, checkpoints_corpus(checkpoint, corpus, root, options)[0] if asked else None)
    if save and len(clips) > 1:
        raise ConfigError(f"--save names one file and there are {len(clips)} videos; use --out FOLDER")
    titles = [clip.id if isinstance(clip, Sample) else clip_name(clip) for clip in clips]
    kinds = ("json", "eaf", "vtt", "ctm", *(("png",) if picture and not stream else ()))
    files = [out / f"{title}.{kind}" for title in titles for kind in kinds] if out else []
    together = [out / "all.ctm"] if out and len(clips) > 1 else []
    free([*files, *together, *save], overwrite)
    model = load_checkpoint(checkpoint, pretrained=pretrained).to(target)
    spoken = sys.stderr if as_json else sys.stdout
    answers = {}
    for clip, title in zip(clips, titles, strict=True):
        if len(clips) > 1 and not as_json:
            say(title)
        if stream:
            result = streamed(model, clip, title, crop, on_damage, None if as_json else sys.stdout)
        else:
            result = recognize(model, clip, crop=crop, on_damage=on_damage, pauses=pauses, device=target)
        result = replace(result, id=title)
        for path in save:
            result.save(path)
        say(result.json() if as_json else result.table())
        if isinstance(clip, Sample) and clip.glosses and not as_json:
            say(f"signed, as its corpus says: {' '.join(clip.glosses)}")
        answers[title] = result.spans
        if out is not None:
            from slakit.show.report import write_report

            paths = write_report(model, result, out, kinds)
            say("\n".join(f"{kind:<4}  {path}" for kind, path in paths.items()), file=spoken)
    if together:
        write_ctm_spans(together[0], answers)
        say(f"ctm   {together[0]} (all of them)", file=spoken)
    if out is not None:
        from slakit.show.report import model_card

        say(model_card(model), file=spoken)


def streamed(
    model: Recognizer,
    clip: Path | Sample,
    title: str,
    crop: str | Sequence[int],
    on_damage: str,
    told_to: TextIO | None,
) -> Recognition:
    """A clip through a StreamingRecognizer; glosses are printed once nothing that follows can change them."""
    source = open_source(clip.source if isinstance(clip, Sample) else clip)
    fps = source.info.fps or (clip.fps if isinstance(clip, Sample) else 25.0)
    crop = crop_of(model, clip) if isinstance(clip, Sample) and crop == "auto" else crop
    pictures, info = pictures_for(model), source.info
    box = source.box(pictures.cut(crop, info.height, info.width), on_damage)  # of a file: as recognize() finds it
    stream, told = StreamingRecognizer(model, fps=fps, crop=box or "none"), 0
    for piece in source.pieces(None, on_damage, stream.chunk_frames):
        state = stream.push(piece)
        for gloss in state.glosses[told : state.settled]:
            if told_to is not None:
                say(f"  {state.frames_received / fps:7.2f} s  {gloss}", told_to)
        told = max(told, state.settled)
    path = source.name if isinstance(clip, Sample) else str(clip)
    return replace(stream.finish(), id=title, source=path)
