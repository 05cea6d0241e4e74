"""The command line: python -m slakit demo | train | evaluate | recognize | convert | score | doctor | prepare | info |
notebooks | sweep.

A command is a function: its signature and docstring are its options and help (command_line.py). What it needs of the
rooms it imports itself, so that --help and a misspelt option are answered at once.
Every mistake that a user can mend ends with one sentence and exit code 2.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from slakit import __version__
from slakit.command_line import convert, info, notebooks, parse, run_config, settings_as_pairs, settings_help
from slakit.records import ConfigError, SlakitError
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
        print(f"slakit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nslakit: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def command(arguments: list[str]):
    """What the arguments ask for, ready to be called. SystemExit after --help or for options that do not exist."""
    if arguments == ["--version"]:
        return lambda: print(f"slakit {__version__}")
    training = arguments[:1] == ["train"]
    try:
        if training:
            options = {"help", *inspect.signature(train).parameters}
            return parse(COMMANDS, settings_as_pairs(arguments, options))
        return parse(COMMANDS, arguments)
    except SystemExit as end:
        if training and end.code == 0 and not arguments[1].startswith("-"):  # help for a preset or a file
            return lambda: print("\n" + settings_help(run_config(arguments[1])))
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
            print(f"training on {target.type} in {precision}; {settings.out_dir}")
        run = fit(model, data, settings.out_dir, settings.train, device=device, processes=processes)
        if processes.main:
            best = run.out_dir / "best.safetensors"
            print(f"best dev WER {run.best['wer']:.2f} % in epoch {run.best['epoch'] + 1}; {best}")


def evaluate(
    *,
    checkpoint: Checkpoint,
    corpus: str = "minisign",
    root: Path | None = None,
    split: Literal["train", "dev", "test"] = "dev",
    option: Options = (),
    device: Device = None,
    pretrained: Pretrained = None,
) -> None:
    """WER of a checkpoint on a split

    Args:
        corpus: its name, such as phoenix2014
        root: the corpus' folder
        split: the clips that are recognised
        option: of load_corpus: prepared FOLDER, vocabulary train, setup US, allow_outside true, ...
    """
    from slakit import evaluate, load_checkpoint, load_corpus
    from slakit.machine import find_device

    target = find_device(device)
    data = load_corpus(corpus, root=root, **read_pairs(option))
    model = load_checkpoint(checkpoint, glosses=data.glosses, pretrained=pretrained).to(target)
    print(evaluate(model, data.split(split), data.name))


def recognize(
    video: Path,
    /,
    checkpoint: Checkpoint,
    out: Path | None = None,
    no_crop: bool = False,
    crop: Annotated[tuple[int, int, int] | None, arg(metavar="LEFT TOP SIDE")] = None,
    on_damage: Literal["error", "keep-readable"] = "error",
    json: bool = False,
    save: Annotated[tuple[Path, ...], UseAppendAction, arg(metavar="FILE")] = (),
    device: Device = None,
    pretrained: Pretrained = None,
) -> None:
    """glosses, times and score of one video

    Args:
        video: a video file, or a folder of frames
        out: folder for the result as JSON, ELAN, WebVTT, CTM and a picture
        no_crop: do not cut a square around the signer
        crop: this square, in pixels
        on_damage: what a damaged video is: an error, or recognised as far as it can be read
        json: machine-readable output
        save: also write .eaf, .vtt, .json or .ctm
    """
    from slakit import load_checkpoint, recognize
    from slakit.data.video.cropping import Box
    from slakit.machine import find_device

    model = load_checkpoint(checkpoint, pretrained=pretrained).to(find_device(device))
    square = Box(*crop) if crop else "none" if no_crop else "auto"
    result = recognize(model, video, crop=square, on_damage=on_damage)
    for path in save:
        result.save(path)
    print(result.json() if json else result)
    if out is not None:
        from slakit.show import model_card, write_report

        paths = write_report(model, result, out)
        lines = [model_card(model), *(f"{kind:<4}  {path}" for kind, path in paths.items())]
        print("\n".join(lines), file=sys.stderr if json else sys.stdout)


def score(references: Path, hypotheses: Path, /, corpus: str | None = None) -> None:
    """WER of another program's CTM file, as sclite counts it

    Args:
        references: STM file, such as the official phoenix2014-groundtruth-dev.stm
        hypotheses: CTM file
        corpus: whose clean-up rules apply, such as phoenix2014-t (default: none)
    """
    from slakit.scoring import bootstrap_interval, confusions, per_signer, read_ctm, read_stm, score, variants

    stm = read_stm(references)
    recognised = read_ctm(hypotheses, stm)
    result = score(stm.references, recognised, corpus)
    interval = bootstrap_interval(result)
    nothing = sum(not glosses for glosses in recognised.values())
    print(result)
    print(f"95 % interval {interval.low:.2f} to {interval.high:.2f}; nothing recognised in {nothing} videos")
    tables = {"scored in every way in use": variants(stm.references, recognised, corpus)}
    tables |= {"by signer": per_signer(result, stm.signers), "most confused": confusions(result, 10)}
    for title, table in tables.items():
        print(f"\n{title}\n{table.to_string(float_format='%.2f') if len(table) else 'none'}")


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
    print(report.json() if json else report.text())
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
    aspect: Literal["stretch", "pad"] = "stretch",
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
        aspect: pad keeps it, with black
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
    print(ready)
    print("\n".join(ready.notes))


COMMANDS = (demo, train, evaluate, recognize, convert, score, doctor, prepare, info, notebooks, sweep)

if __name__ == "__main__":
    sys.exit(main())
