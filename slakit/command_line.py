"""What the command line makes of its arguments: a command to call, values, the settings of a run changed by name.

`slakit/__main__.py` has the commands; nothing else of slakit imports this file.
"""

from __future__ import annotations

import difflib
import functools
import importlib.metadata
import inspect
import json
import os
import platform
import typing
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import DisallowNone, FlagCreatePairsOff, arg

from slakit import __version__
from slakit.records import ConfigError, say
from slakit.strict import nearest
from slakit.sweeps.command import Pairs

if TYPE_CHECKING:
    from slakit.config import RunConfig


def parse(commands: Collection[Callable[..., int | None]], arguments: list[str]) -> Callable[[], int | None]:
    """The command that the arguments name, ready to be called with what they say; tyro makes the parser from the
    functions' signatures and docstrings. SystemExit after --help (0) or a usage error (2)."""
    named, names = arguments[:1], [function.__name__ for function in commands]
    if named and not named[0].startswith("-") and named[0] not in names:
        raise ConfigError(f"there is no command {named[0]!r}{nearest(named[0], names)}")
    app = tyro.extras.SubcommandApp()
    for function in commands:
        app.command(name=function.__name__)(_bound(function))
    return app.cli(
        prog="slakit", args=arguments, config=(DisallowNone, FlagCreatePairsOff),
        description="Continuous sign language recognition with adapted CLIP (--version: which slakit this is)",
    )  # fmt: skip


def _bound(function: Callable[..., Any]) -> Callable[..., functools.partial]:
    """The function that keeps its arguments for later: tyro would report an error inside it as one of the arguments.

    Its signature is the function's; the help names positional arguments by their names, and is silent about defaults
    that say nothing (None, False).
    """

    def bind(*arguments, **options):
        return functools.partial(function, *arguments, **options)

    hints, signature = typing.get_type_hints(function, include_extras=True), inspect.signature(function)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.POSITIONAL_ONLY and not hasattr(hints[name], "__metadata__"):
            title = name.upper() if parameter.default is parameter.empty else f"[{name.upper()}]"
            hints[name] = Annotated[hints[name], arg(metavar=title)]
        if parameter.default is None or parameter.default is False:
            hints[name] = Annotated[hints[name], arg(help_behavior_hint="")]
    bind.__name__, bind.__doc__, bind.__annotations__ = function.__name__, function.__doc__, hints
    bind.__dict__["__signature__"] = signature
    return bind


def settings_as_pairs(arguments: Iterable[str], options: Container[str]) -> list[str]:
    """`--train.batch-size 4` and `--train.batch-size=4` become `--set train.batch-size 4`, and so does whatever else is
    not among the options: run_config() knows the right names."""
    rest, pairs = iter(arguments), []
    for argument in rest:
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or name[2:].replace("-", "_") in options:
            pairs.append(argument)
            continue
        text = value if equals else next(rest, "--")
        if text.startswith("--"):
            raise ConfigError(f"{name} has no value; write {name} VALUE (true or false for a switch)")
        pairs += ["--set", name[2:], text]
    return pairs


def run_config(name: str, changes: Mapping[str, Any] | None = None) -> RunConfig:
    """The settings of a preset or a JSON file, changed by dotted names ("model.options.rank").

    Names, types, the method's options and the corpus' are checked before anything is read: ConfigError, with the
    nearest right name. Options of a method stay unless "model.method" names another one.
    """
    from slakit.config import from_dict, override
    from slakit.data.corpora import check_options
    from slakit.models.methods import find_method, with_method
    from slakit.sweeps.experiment import check_blocks
    from slakit.training.presets import load_run, preset

    config = load_run(name) if name.endswith(".json") or os.path.isfile(name) else preset(name)
    changes = {key.replace("-", "_"): value for key, value in (changes or {}).items()}
    if changes.get("model.method", config.model.method) != config.model.method:
        config = replace(config, model=with_method(config.model, changes["model.method"]))
    _check_places(config, changes)
    if changes.get("corpus", config.corpus) != config.corpus:  # the paper's figures are of the preset's corpus
        config = replace(config, published_wer=(), note="")
    config = override(config, changes)
    from_dict(find_method(config.model.method).options, config.model.options, "model.options")
    check_blocks(config.model)
    check_options(config.corpus, {key: value for key, value in config.corpus_options.items() if key != "prepared"})
    return config


def _check_places(config: RunConfig, changes: Iterable[str]) -> None:
    """ConfigError for a right name in a wrong place, such as model.rank; override() only looks at names beside it."""
    known = [f"{part}.{key}" for part, settings in _parts(config).items() for key in settings]
    ends = {name: name.rpartition(".")[2] for name in known}
    for key in changes:
        if key in known or hasattr(config, key) or key.startswith(("corpus_options.", "train.start_from.")):
            continue
        last = key.rpartition(".")[2]
        if "." not in key:  # no part to look in: any near name
            last = (difflib.get_close_matches(last, ends.values(), n=1) or [last])[0]
        if right := [repr(name) for name in known if ends[name] == last]:
            raise ConfigError(f"{key!r} is no setting; did you mean {' or '.join(right)}?")


def _parts(config: RunConfig) -> dict[str, dict[str, Any]]:
    """{"model": {"method": …}, "model.options": {"rank": …}, "train": …, "train.augment": …}, all with their values."""
    from slakit.config import from_dict, to_dict
    from slakit.models.methods import find_method

    options = from_dict(find_method(config.model.method).options, config.model.options, "model.options")
    model, train = to_dict(config.model), to_dict(config.train)
    parts = {"model": model, "model.options": to_dict(options), "train": train}
    del model["options"]
    return parts | {f"train.{name}": train.pop(name) for name in ("augment", "decode", "loss_weights")}


def settings_help(config: RunConfig) -> str:
    """Every setting as the command line takes it, with its present value, below what the settings mean."""
    from slakit.models.methods import find_method

    docs = {
        "model": config.model.__doc__,
        "model.options": find_method(config.model.method).options.__doc__,
        "train": config.train.__doc__,
        **{f"train.{name}": getattr(config.train, name).__doc__ for name in ("augment", "decode", "loss_weights")},
    }
    lines = [str(config).partition("\n")[0].strip(), f"--root {config.root}", f"--out {config.out_dir}"]
    lines += [f"--corpus-options.{key} {json.dumps(value)}" for key, value in config.corpus_options.items()]
    for part, settings in _parts(config).items():
        lines += ["", inspect.cleandoc(docs[part] or part)]
        for key, value in settings.items():
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append(f"  --{part}.{key} ".replace("_", "-") + text)
    return "\n".join(lines)


def info(checkpoint: str | None = None, /, as_json: Annotated[bool, arg(name="json")] = False) -> None:
    """what a checkpoint is and what it scored; without one: versions, devices and folders, for a bug report

    Args:
        checkpoint: what training wrote (best, last), a demo model (sla-lora), or hf://user/name
        as_json: machine-readable output
    """
    if checkpoint is None:
        facts = environment()
        say(json.dumps(facts, indent=1) if as_json else "\n".join(f"{key:<17}{facts[key]}" for key in facts))
        return
    from slakit.models.description import checkpoint_bytes, describe, read_description
    from slakit.models.hub import find_checkpoint

    path = Path(find_checkpoint(checkpoint))
    text_file = path / "model.json"  # of a checkpoint in two files
    description = read_description(text_file if os.path.isfile(text_file) else path)
    if as_json:
        facts = {"path": str(path), "bytes": checkpoint_bytes(path), **description}
        say(json.dumps(facts, indent=1, ensure_ascii=False))
    else:
        say(describe(description, path))


def notebooks(folder: Path, /) -> None:
    """write the course, its glossary and its solutions into a folder, to be opened with jupyter lab

    Args:
        folder: where to; a notebook that is there already stays as it is
    """
    from slakit.machine import shipped

    folder.mkdir(parents=True, exist_ok=True)
    course = shipped("notebooks")
    for source in (*sorted(course.glob("[0-9]*.ipynb")), course / "glossary.ipynb", course / "solutions.ipynb"):
        target = folder / source.name
        kept = target.exists()
        if not kept:
            target.write_bytes(source.read_bytes())
        say(f"{target}{'  is there already, kept' * kept}")
    say(f"open them with: jupyter lab {folder}")


def draw(folder: Path, /, train: int = 60, dev: int = 24, test: int = 24, seed: int = 0) -> None:
    """a folder of drawn clips as from a phone (16:9, hand-held, 12 words, three signers), to try what own videos need

    Args:
        folder: where to; drawing goes on where it stopped
        train: clips for training
        dev: clips to choose the best epoch by
        test: clips for the final score
        seed: another one draws other signers and sentences
    """
    from slakit.minisign.phone import draw

    drawn = draw(folder, train, dev, test, seed)
    say(f"{drawn}/annotations.csv and {train + dev + test} videos; look at them: slakit doctor folder --root {drawn}")


def annotate(
    folder: Path, /, table: Path | None = None, names: str | None = None, tier: str | None = None,
    utterances: str | None = None, column: Pairs = (), split: Literal["sentence", "signer", "random"] | None = None,
    dev: float = 0.15, test: float = 0.15, seed: int = 0, out: str = "annotations.csv", overwrite: bool = False,
) -> None:  # fmt: skip
    """annotations.csv from ELAN files, file names or a table, with splits, and what will be hard about it

    Args:
        folder: that holds the videos; without table and names its .eaf files are read, their videos cut into clips/
        table: a CSV file with any separator
        names: how the videos are named, such as "{signer}_{number}_{glosses}"
        tier: of the .eaf files: the one with the glosses
        utterances: of the .eaf files: the tier at which the videos are cut (default: that with the glosses)
        column: what a column is called in the table, such as --column glosses Satz
        split: no sentence in two splits, no signer in two, or at random (default: the table's, else by sentence)
        dev: share of the clips by which training chooses
        test: share of the clips for the final score
        seed: of the splits
        out: name of the file in the folder
        overwrite: a file of that name may go
    """
    from slakit.data.annotate import annotate

    options = {"split": split, "dev": dev, "test": test, "seed": seed, "out": out, "overwrite": overwrite}
    say(annotate(folder, table, names, tier, utterances, dict(column), **options).text())


def environment() -> dict[str, str]:
    """Versions, devices and folders, for a bug report."""
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    from slakit.data.corpora.minisign import default_root
    from slakit.machine import checkout, find_device, output_folder, shipped

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    packages = ("torch", "torchvision", "open_clip_torch", "numpy", "numba", "av", "decord", "papermill", "ipywidgets")
    return {
        "slakit": f"{__version__} in {Path(__file__).parent} ({'a checkout' if checkout() else 'installed'})",
        "python": f"{platform.python_version()} on {platform.platform()}",
        **{name: _version(name) for name in packages},
        "devices": ", ".join([f"CPU ({os.cpu_count()} cores, {torch.get_num_threads()} threads)", *gpus]),
        "trains on": str(find_device()),
        "demo corpus": str(default_root()),
        "base weights": f"{HF_HUB_CACHE}, {Path('~/.cache/clip').expanduser()}",
        "shipped files": str(shipped("notebooks").parent),
        "runs": f"the folder that --out names; of demo, sweep and notebooks: {output_folder()}",
    }


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def convert(file: Path, /, gloss_dict: Path, out: Path | None = None, image_size: int | None = None) -> None:
    """a released checkpoint of VAC, TLP, SEN, CorrNet, CorrNet+, SlowFastSign or AdaptSign as a file of ours

    Args:
        file: the .pt file of the released training code
        gloss_dict: the gloss_dict.npy that it was trained with
        out: the file to write (default: beside it, with the ending .safetensors)
        image_size: in pixels, of a convolutional network that was not trained at 224, such as AdaBrowse's 160
    """
    from slakit import load_published_checkpoint, save_checkpoint

    model = load_published_checkpoint(file, gloss_dict, image_size=image_size)
    written = save_checkpoint(model, out or file.with_suffix(".safetensors"), **model.about)
    glosses = len(model.vocabulary.glosses)
    say(f"{file} is {model.config.method} with {glosses} glosses; written: {written}")
    say(f"python -m slakit evaluate --checkpoint {written} --corpus NAME --root FOLDER follows the published protocol")
    say("(--clip-by-clip says what changes where no clip is padded for another's sake)")


COMMANDS = (annotate, draw, convert, info, notebooks)
