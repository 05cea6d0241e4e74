"""NIST's own sclite, where it is installed: the independent check of `score`."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from slakit.records import ConfigError
from slakit.scoring.cleanup import words_of
from slakit.scoring.files import write_ctm, write_stm
from slakit.scoring.wer import Sentences, check_ids, fold


def sclite_command() -> list[str] | None:
    """How sclite is called here (Debian's package sctk: `sctk sclite`; built from source: `sclite`), or None."""
    if found := shutil.which("sctk"):
        return [found, "sclite"]
    return [found] if (found := shutil.which("sclite")) else None


def sclite_counts(references: Sentences, hypotheses: Sentences) -> dict[str, tuple[int, int, int, int]]:
    """Correct, substitutions, deletions, insertions of each video as the real program counts them.

    Nothing is cleaned up. sclite passes over videos without any recognised gloss, silently; here that is a ConfigError,
    as are ids that differ in case only (sclite folds them) and a machine without sclite (apt install sctk). The
    official pipeline writes [EMPTY] where nothing was recognised.
    """
    command = sclite_command()
    if command is None:
        raise ConfigError("sclite is not installed; on Debian and Ubuntu: apt install sctk (slakit.score needs it not)")
    check_ids(references, hypotheses)
    empty = [video for video in references if not words_of(hypotheses[video])]
    if empty:
        raise ConfigError(f"sclite passes over videos with nothing recognised ({', '.join(empty[:3])}); write [EMPTY]")
    names = {fold(video): video for video in references}
    if len(names) < len(references):
        raise ConfigError("some ids differ in case only, which sclite cannot tell apart; rename them")
    with tempfile.TemporaryDirectory() as folder:
        write_stm(Path(folder) / "ref.stm", references)
        write_ctm(Path(folder) / "hyp.ctm", hypotheses)
        files = ["-h", "hyp.ctm", "ctm", "-r", "ref.stm", "stm"]
        done = subprocess.run([*command, *files, "-f", "0", "-o", "pra", "stdout"], cwd=folder, capture_output=True)
    report = done.stdout.decode("utf-8", "replace")
    found = re.findall(r"^File: (\S+)\s.*?^Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", report, re.M | re.S)
    counts = {names.get(fold(video), video): tuple(int(n) for n in numbers) for video, *numbers in found}
    if done.returncode or set(counts) != set(references):
        said = done.stderr.decode("utf-8", "replace").strip()[-200:]
        raise ConfigError(
            f"sclite scored {len(counts)} of {len(references)} videos, exit code {done.returncode}: {said}"
        )
    return counts
