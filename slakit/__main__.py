"""The command line: python -m slakit demo | train | evaluate | recognize | score | doctor | prepare | sweep.

Every mistake that a user can mend ends with one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from slakit.records import SlakitError


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 fine, 1 unhealthy corpus or failed run, 2 a mistake to mend)."""
    options = _parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except SlakitError as error:
        print(f"slakit: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nslakit: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="slakit", description="Continuous sign language recognition with adapted CLIP"
    )
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser(
        "demo", help="the main job on the generated corpus: build, train, score (about six minutes)"
    )
    demo.add_argument("--spec", type=Path, help="a YAML file with the notebook's parameters")
    demo.add_argument("--out", type=Path, help="folder of the executed notebook, the run and its checkpoint")
    demo.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    demo.set_defaults(run=_demo)

    train = commands.add_parser("train", help="train from a JSON file: corpus, model and settings")
    train.add_argument("config", type=Path)
    train.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU where there is one)")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser("evaluate", help="WER of a checkpoint on a split")
    evaluate.add_argument("--checkpoint", required=True, type=Path)
    evaluate.add_argument("--corpus", default="minisign")
    evaluate.add_argument("--root", type=Path)
    evaluate.add_argument("--split", default="dev", choices=("train", "dev", "test"))
    _corpus_options(evaluate)
    evaluate.set_defaults(run=_evaluate)

    recognize = commands.add_parser("recognize", help="glosses, times and score of one video")
    recognize.add_argument("video", type=Path)
    recognize.add_argument("--checkpoint", required=True, type=Path)
    recognize.add_argument("--out", type=Path, help="folder for the result as JSON, ELAN, WebVTT, CTM and a picture")
    recognize.add_argument("--no-crop", action="store_true", help="do not cut a square around the signer")
    recognize.add_argument("--crop", type=int, nargs=3, metavar=("LEFT", "TOP", "SIDE"), help="this square, in pixels")
    recognize.add_argument("--on-damage", default="error", choices=("error", "keep-readable"))
    recognize.add_argument("--json", action="store_true", help="machine-readable output")
    recognize.add_argument(
        "--save", type=Path, action="append", default=[], metavar="FILE", help="also write .eaf, .vtt, .json or .ctm"
    )
    recognize.set_defaults(run=_recognize)

    score = commands.add_parser("score", help="WER of another program's CTM file, as sclite counts it")
    score.add_argument("references", type=Path, help="STM file, such as the official phoenix2014-groundtruth-dev.stm")
    score.add_argument("hypotheses", type=Path, help="CTM file")
    score.add_argument("--corpus", help="whose clean-up rules apply, such as phoenix2014-t (default: none)")
    score.set_defaults(run=_score)

    doctor = commands.add_parser("doctor", help="what is wrong with a corpus on disk, before any training")
    doctor.add_argument("corpus")
    doctor.add_argument("--root", type=Path)
    doctor.add_argument("--deep", action="store_true", help="decode every frame of every clip")
    doctor.add_argument("--json", action="store_true", help="machine-readable output")
    _corpus_options(doctor)
    doctor.set_defaults(run=_doctor)

    prepare = commands.add_parser("prepare", help="resize a corpus once into packed files that read fast")
    prepare.add_argument("corpus")
    prepare.add_argument("--root", type=Path)
    prepare.add_argument("--out", required=True, type=Path)
    prepare.add_argument("--size", type=int, default=256)
    prepare.add_argument("--encoding", default="jpeg", choices=("jpeg", "raw"))
    prepare.add_argument("--quality", type=int, default=95, help="of the JPEG encoding, 1 to 100")
    prepare.add_argument("--resize-filter", default="lanczos4", choices=("lanczos4", "antialias"))
    prepare.add_argument("--aspect", default="stretch", choices=("stretch", "pad"), help="pad keeps it, with black")
    prepare.add_argument("--on-damage", default="skip", choices=("skip", "keep-readable", "error"))
    prepare.add_argument("--workers", type=int, default=1)
    _corpus_options(prepare)
    prepare.set_defaults(run=_prepare)

    from slakit.sweeps import command

    sweep = commands.add_parser("sweep", help="many runs of a notebook from a spec; sweep collect: their tables")
    command.add_arguments(sweep)
    return parser


def _corpus_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--option", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help="of load_corpus: prepared FOLDER, vocabulary train, setup US, allow_outside true, …",
    )  # fmt: skip


def _options(options: argparse.Namespace) -> dict:
    import yaml

    return {name: yaml.safe_load(value) for name, value in options.option}


def _demo(options: argparse.Namespace) -> int:
    import yaml
    from papermill.exceptions import PapermillExecutionError

    from slakit.machine import project_root
    from slakit.sweeps import load_spec, run_notebook
    from slakit.training.presets import preset

    root = project_root()
    spec = load_spec(options.spec or root / "papermill_runs" / "specs" / "demo.yaml")
    out = (options.out or root / "papermill_runs" / "out" / "demo").resolve()
    parameters = spec.base | {"out_dir": str(out)}
    parameters |= {name: yaml.safe_load(value) for name, value in options.parameter}
    notebook = root / spec.notebook
    preset(f"{parameters.get('method', 'sla-lora')}/minisign")  # a misspelt method stops here, not in the notebook
    print(f"Running {notebook.name} (corpus, training, evaluation); the same command resumes a run that was stopped.")
    started = time.time()
    try:
        executed = run_notebook(notebook, out / notebook.name, parameters)
    except PapermillExecutionError as error:
        print(f"slakit: cell {error.exec_count} failed: {error.ename}: {error.evalue}", file=sys.stderr)
        print(f"slakit: see {out / notebook.name}; run the same command again to go on", file=sys.stderr)
        return 1
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    print(_demo_table(metrics, time.time() - started, executed, out))
    return 0


def _demo_table(metrics: dict, seconds: float, notebook: Path, out: Path) -> str:
    line = "-" * 72
    rows = [line, f"{'split':<28}{'WER %':>8}{'clips':>8}{'glosses':>9}   (signers never seen in training)"]
    for split in ("dev", "test"):
        found = metrics[split]
        rows.append(f"{split:<28}{found['wer']:>8.1f}{found['clips']:>8}{found['words']:>9}")
    rows += [
        line,
        f"corpus {metrics['seconds']['corpus']:.0f} s, training {metrics['seconds']['training']:.0f} s, "
        f"evaluation {metrics['seconds']['evaluation']:.0f} s; notebook in all {seconds:.0f} s",
        f"executed notebook  {notebook}",
        f"checkpoint         {out / 'run' / 'best'}",
        line,
    ]
    return "\n".join(rows)


def _train(options: argparse.Namespace) -> int:
    import torch

    from slakit import create_model, fit, load_corpus
    from slakit.machine import find_device, half_precision, launched
    from slakit.training.presets import load_run

    config = load_run(options.config)
    device = find_device(options.device)  # a wrong one is said before a corpus is read
    half = half_precision(config.train.precision, device)

    def load():
        return load_corpus(config.corpus, root=config.root, **config.corpus_options)

    with launched(options.device or "auto") as processes:
        corpus = load() if processes.main else None  # a corpus that is drawn when it is first asked for: once
        processes.barrier()
        corpus = corpus or load()
        model = create_model(glosses=corpus.glosses, **config.model_options())
        if processes.main:
            print(f"training on {device.type} in {str(half or torch.float32).removeprefix('torch.')}; {config.out_dir}")
        run = fit(model, corpus, config.out_dir, config.train, device=options.device, processes=processes)
        if processes.main:
            print(f"best dev WER {run.best['wer']:.2f} % in epoch {run.best['epoch'] + 1}; {run.out_dir / 'best'}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from slakit import evaluate, load_checkpoint, load_corpus

    corpus = load_corpus(options.corpus, root=options.root, **_options(options))
    model = load_checkpoint(options.checkpoint, glosses=corpus.glosses)
    print(evaluate(model, corpus.split(options.split), corpus.name))
    return 0


def _recognize(options: argparse.Namespace) -> int:
    from slakit import load_checkpoint, recognize
    from slakit.data.video.cropping import Box

    model = load_checkpoint(options.checkpoint)
    crop = Box(*options.crop) if options.crop else "none" if options.no_crop else "auto"
    result = recognize(model, options.video, crop=crop, on_damage=options.on_damage)
    for path in options.save:
        result.save(path)
    print(result.json() if options.json else result)
    if options.out is not None:
        from slakit.show.report import model_card, write_report

        paths = write_report(model, result, options.out)
        said = [model_card(model), *(f"{kind:<4}  {path}" for kind, path in paths.items())]
        print("\n".join(said), file=sys.stderr if options.json else sys.stdout)
    return 0


def _score(options: argparse.Namespace) -> int:
    from slakit.scoring import bootstrap_interval, confusions, per_signer, read_ctm, read_stm, score, variants

    stm = read_stm(options.references)
    hypotheses = read_ctm(options.hypotheses, stm.references)
    result = score(stm.references, hypotheses, options.corpus)
    interval = bootstrap_interval(result)
    nothing = sum(not glosses for glosses in hypotheses.values())
    print(result)
    print(f"95 % interval {interval.low:.2f} to {interval.high:.2f}; nothing recognised in {nothing} videos")
    tables = {"scored in every way in use": variants(stm.references, hypotheses, options.corpus)}
    tables |= {"by signer": per_signer(result, stm.signers), "most confused": confusions(result, 10)}
    for title, table in tables.items():
        print(f"\n{title}\n{table.to_string(float_format='%.2f') if len(table) else 'none'}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from slakit.data.corpora import CORPORA, load_corpus
    from slakit.data.doctor import doctor
    from slakit.records import ConfigError

    if options.corpus not in CORPORA:
        load_corpus(options.corpus)  # raises with the nearest name
    if options.root is None and options.corpus != "minisign":
        raise ConfigError(f"doctor {options.corpus} needs --root, the folder that the corpus was extracted to")
    report = doctor(options.corpus, options.root, deep=options.deep, **_options(options))
    print(report.json() if options.json else report.text())
    return 0 if report.healthy else 1


def _prepare(options: argparse.Namespace) -> int:
    from slakit import load_corpus
    from slakit.data.prepare import prepare

    ready = prepare(
        load_corpus(options.corpus, root=options.root, **_options(options)), options.out, size=options.size,
        encoding=options.encoding, quality=options.quality, resize_filter=options.resize_filter, aspect=options.aspect,
        on_damage=options.on_damage, workers=options.workers,
    )  # fmt: skip
    print(ready)
    print("\n".join(ready.notes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
