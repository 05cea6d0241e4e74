"""The command line: python -m slakit demo | train | evaluate | recognize | convert | score | doctor | prepare |
annotate | draw | info | notebooks | sweep.

A command is a function: its signature and docstring are its options and help (command_line.py). What it needs of the
rooms it imports itself, so that --help and a misspelt option are answered at once.
Every mistake that a user can mend ends with one sentence and exit code 2.
"""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from slakit import __version__, command_line
from slakit.command_line import parse, run_config, settings_as_pairs, settings_help
from slakit.records import ConfigError, SlakitError, say
from slakit.sweeps.command import Pairs, read_pairs, sweep

Options = Annotated[Pairs, arg(aliases=("-o",))]
Device = Annotated[str | None, arg(help="cpu, cuda or cuda:1 (default: a GPU where there is one)")]
Pretrained = Annotated[Path | None, arg(help="base weights, of a checkpoint that was trained from a local file")]
Checkpoint = Annotated[Path, arg(help="what training wrote (best, last), a demo model (sla-lora), or hf://user/name")]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 fine, 1 unhealthy corpus or failed run, 2 a mistake to mend)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return command(arguments)() or 0
    except SlakitError as error:
        say(f"slakit: {error}", file=sys.stderr)
        if os.environ.get("TORCHELASTIC_ERROR_FILE"):
            from slakit.training.processes import tell_torchrun

            tell_torchrun(error)
        return 2
    except BrokenPipeError:  # `| head` has seen enough; nothing more is written there, at the end either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (RuntimeError, MemoryError) as error:
        if type(error).__name__ in ("OutOfMemoryError", "MemoryError") or "allocate memory" in str(error):  # on a CPU
            reason = (str(error) or "MemoryError").splitlines()[0]
            say(f"slakit: the memory ran out ({reason}); ask for less, or take another --device", file=sys.stderr)
            return 2
        from slakit.training.processes import lost_its_partner

        if lost_its_partner(error):
            return 1  # of several processes one has ended, and has said why
        raise
    except KeyboardInterrupt:
        say("\nslakit: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def command(arguments: list[str]):
    """What the arguments ask for, ready to be called. SystemExit after --help or for options that do not exist."""
    if arguments == ["--version"]:
        return lambda: say(f"slakit {__version__}")
    training = arguments[:1] == ["train"]
    try:
        if training:
            options = {"help", *inspect.signature(train).parameters}
            return parse(COMMANDS, settings_as_pairs(arguments, options))
        return parse(COMMANDS, arguments)
    except SystemExit as end:
        if training and end.code == 0 and not arguments[1].startswith("-"):  # help for a preset or a file
            return lambda: say("\n" + settings_help(run_config(arguments[1])))
        raise


def demo(
    spec: Path | None = None, out: Path | None = None, parameter: Annotated[Pairs, arg(aliases=("-p",))] = ()
) -> int:
    """the main job on the generated corpus: build, train, score (about six minutes)

    Args:
        spec: a YAML file with the notebook's parameters (default: specs/demo.yaml, which slakit ships)
        out: folder of the executed notebook, the run and its checkpoint (default: papermill_runs/out/demo of the
            checkout, or runs/demo)
        parameter: change a parameter of the notebook, such as -p seed 1
    """
    from slakit.sweeps.demo import run_demo

    return run_demo(spec, out, read_pairs(parameter))


def train(
    config: Annotated[str, arg(metavar="PRESET|FILE")],
    /,
    root: str | None = None,
    out: str | None = None,
    corpus: str | None = None,
    device: Device = None,
    set: Pairs = (),
) -> None:
    """train from a preset or a JSON file, with any setting changed: --train.batch-size 4

    Args:
        config: a preset such as sla-lora/phoenix2014, or a JSON file; with --help behind it, its settings are listed
        root: the corpus' folder
        out: folder of the run; one that was stopped goes on from there
        corpus: another corpus than the preset's
        set: change any setting, as do --train.batch-size 4, --model.options.rank 8, --corpus-options.prepared FOLDER
    """
    import torch

    from slakit import create_model, fit, load_corpus
    from slakit.machine import find_device, half_precision, launched

    chosen = {"root": root, "out_dir": out, "corpus": corpus}
    settings = run_config(config, read_pairs(set) | {key: value for key, value in chosen.items() if value is not None})
    target = find_device(device)  # a wrong one is said before a corpus is read
    half = half_precision(settings.train.precision, target)

    def load():
        return load_corpus(settings.corpus, root=settings.root, **settings.corpus_options)

    with launched(device or "auto") as processes:
        data = load() if processes.main else None  # a corpus that is drawn when it is first asked for: once
        processes.barrier()
        data = data or load()
        model = create_model(glosses=data.glosses, **settings.model_options())
        if processes.main:
            precision = str(half or torch.float32).removeprefix("torch.")
            say(f"training on {target.type} in {precision}; {settings.out_dir}")
        run = fit(model, data, settings.out_dir, settings.train, device=device, processes=processes)
        if processes.main:
            best = run.out_dir / "best.safetensors"
            say(f"best dev WER {run.best['wer']:.2f} % in epoch {run.best['epoch'] + 1}; {best}")


def evaluate(
    *,
    checkpoint: Checkpoint,
    corpus: str | None = None,
    root: Path | None = None,
    split: Literal["train", "dev", "test"] = "dev",
    option: Options = (),
    out: Path | None = None,
    overwrite: bool = False,
    device: Device = None,
    pretrained: Pretrained = None,
    clip_by_clip: bool = False,
) -> None:
    """WER of a checkpoint on a split; one without glosses is transcribed

    Args:
        corpus: its name, such as phoenix2014 (default: the checkpoint's, with its options)
        root: the corpus' folder
        split: the clips that are recognised
        option: of load_corpus: prepared FOLDER, vocabulary train, setup US, allow_outside true, ...
        out: folder for the answers as CTM and CSV, the score and its interval as JSON
        overwrite: files of the same name may go
        clip_by_clip: recognise every clip alone too, and say what changes: a batch pads a clip as its longest one needs
    """
    from slakit.show.commands import evaluate

    evaluate(checkpoint, corpus, root, read_pairs(option), split, out, overwrite, device, pretrained, clip_by_clip)


def recognize(
    videos: Annotated[tuple[str, ...], arg(metavar="VIDEO|ID [...]", help_behavior_hint="")] = (),
    /,
    checkpoint: Annotated[
        Path | None, arg(help="what training wrote (best, last), a demo model (sla-lora), or hf://user/name")
    ] = None,
    out: Path | None = None,
    overwrite: bool = False,
    no_picture: bool = False,
    no_crop: bool = False,
    crop: Annotated[tuple[int, int, int] | None, arg(metavar="LEFT TOP SIDE")] = None,
    on_damage: Literal["error", "keep-readable"] = "error",
    pauses: float | None = None,
    stream: bool = False,
    json: bool = False,
    save: Annotated[tuple[Path, ...], UseAppendAction, arg(metavar="FILE")] = (),
    corpus: str | None = None,
    root: Path | None = None,
    option: Options = (),
    demo: bool = False,
    device: Device = None,
    pretrained: Pretrained = None,
) -> None:
    """glosses of videos, with times and confidence; --demo shows it on a drawn clip, without any training

    Args:
        videos: video files, folders of frames, or with --corpus or --root ids of clips of a corpus
        out: folder for each result as JSON, ELAN, WebVTT, CTM and a picture
        overwrite: files of the same name may go
        no_picture: none is drawn into the folder
        no_crop: show the model the whole picture (default: what it was trained on; if squares, one around the signer)
        crop: this square, in pixels
        on_damage: what a damaged video is: an error, or recognised as far as it can be read
        pauses: cut the video where nothing moves for so many seconds, such as 0.6: a sentence model knows one sentence
        stream: print glosses while the video is read, as live video would be; for videos of any length
        json: machine-readable output
        save: also write .eaf, .vtt, .json or .ctm
        corpus: whose clips are named by their ids (default: the checkpoint's)
        root: the corpus' folder
        option: of load_corpus: prepared FOLDER, ...
        demo: a drawn clip and the shipped model, where none are given
    """
    from slakit.data.video.cropping import Box
    from slakit.show.commands import recognize_all

    square = Box(*crop) if crop else "none" if no_crop else "auto"
    recognize_all(
        videos, checkpoint, corpus, root, read_pairs(option), out, save, square, on_damage=on_damage, pauses=pauses,
        stream=stream, picture=not no_picture, as_json=json, overwrite=overwrite, demo=demo, device=device,
        pretrained=pretrained,
    )  # fmt: skip


def score(references: Path, hypotheses: Path, /, corpus: str | None = None) -> None:
    """WER of another program's CTM file, as sclite counts it

    Args:
        references: STM file, such as the official phoenix2014-groundtruth-dev.stm
        hypotheses: CTM file
        corpus: whose clean-up rules apply, such as phoenix2014-t (default: none)
    """
    from slakit.scoring import read_ctm, read_stm
    from slakit.show.commands import print_score

    stm = read_stm(references)
    print_score(stm, read_ctm(hypotheses, stm), corpus)


def doctor(
    corpus: str, /, root: Path | None = None, deep: bool = False, json: bool = False, option: Options = ()
) -> int:
    """what is wrong with a corpus on disk, before any training

    Args:
        corpus: its name, such as phoenix2014
        root: the folder that it was extracted to
        deep: decode every frame of every clip
        json: machine-readable output
        option: of load_corpus: prepared FOLDER, vocabulary train, setup US, allow_outside true, ...
    """
    from slakit.data.corpora import find_corpus
    from slakit.data.doctor import doctor

    find_corpus(corpus)  # a wrong name ends here, with the nearest one
    if root is None and corpus != "minisign":
        raise ConfigError(f"doctor {corpus} needs --root, the folder that the corpus was extracted to")
    report = doctor(corpus, root, deep=deep, **read_pairs(option))
    say(report.json() if json else report.text())
    return 0 if report.healthy else 1


def prepare(
    corpus: str,
    /,
    out: Path,
    root: Path | None = None,
    size: int = 256,
    encoding: Literal["jpeg", "raw"] = "jpeg",
    quality: int = 95,
    resize_filter: Literal["lanczos4", "antialias"] = "lanczos4",
    aspect: Literal["stretch", "pad", "crop"] = "stretch",
    on_damage: Literal["skip", "keep-readable", "error"] = "skip",
    workers: int = 1,
    option: Options = (),
) -> None:
    """resize a corpus once into packed files that read fast

    Args:
        corpus: its name, such as phoenix2014
        out: folder of the packed files, for load_corpus(prepared=...)
        root: the folder that the corpus was extracted to
        size: of the square frames, in pixels
        encoding: raw loses nothing and takes ten times the room
        quality: of the JPEG encoding, 1 to 100
        resize_filter: lanczos4 as published
        aspect: pad keeps it, with black; crop cuts the square around the signer
        on_damage: damaged clips are left out by name, taken as far as they can be read, or stop the command
        workers: processes
        option: of load_corpus: vocabulary train, setup US, allow_outside true, ...
    """
    from slakit import load_corpus
    from slakit.data.prepare import prepare

    ready = prepare(
        load_corpus(corpus, root=root, **read_pairs(option)), out, size=size, encoding=encoding, quality=quality,
        resize_filter=resize_filter, aspect=aspect, on_damage=on_damage, workers=workers,
    )  # fmt: skip
    say("\n".join([str(ready), *ready.notes]))


COMMANDS = (demo, train, evaluate, recognize, score, doctor, prepare, *command_line.COMMANDS, sweep)

if __name__ == "__main__":
    sys.exit(main())
