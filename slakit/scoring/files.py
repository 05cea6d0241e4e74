"""STM (references) and CTM (hypotheses), the text files of NIST's scoring tools, in UTF-8; and NIST's sclite itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from slakit.records import ConfigError, CorpusError, control_in, read_text, write_files
from slakit.scoring.cleanup import BLANKS, words_of
from slakit.scoring.wer import Sentences, check_ids, fold


class Stm(NamedTuple):
    """An STM file: video id -> glosses, -> signer, and -> channel."""

    references: dict[str, str]
    signers: dict[str, str]
    channels: dict[str, str]


# Words with a meaning of their own: a segment that is not to be scored; alternatives in a CTM file.
_IGNORED = "ignore_time_segment_in_scoring"
_ALTERNATIVES = ("<alt>", "<alt_begin>", "<alt_end>")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines that hold something; ";;" begins a comment line."""
    for number, line in enumerate(read_text(path).split("\n"), 1):
        line = line.strip(" \t\r\f\v")
        if line and not line.startswith(";;"):
            if (letter := control_in(BLANKS.sub(" ", line))) is not None:
                raise CorpusError(f"{path}:{number}: holds the control character {letter!r}; delete it")
            yield number, line


def _seconds(text: str, path: Path, number: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise CorpusError(f"{path}:{number}: {text!r} is no time in seconds; expected a number, 0 or more")
    return value


def read_stm(path: str | Path) -> Stm:
    """Read references: lines `<id> <channel> <signer> <start> <end> [<label>] gloss gloss ...`, one line a video.

    CorpusError names file and line of a line that is too short, a bad time, an id that comes twice, and of what asks
    for another count than that of one sentence: alternatives "{ A / B }" and IGNORE_TIME_SEGMENT_IN_SCORING.
    """
    path = Path(path)
    references: dict[str, str] = {}
    signers: dict[str, str] = {}
    channels: dict[str, str] = {}
    for number, line in _lines(path):
        fields = BLANKS.split(line)
        if len(fields) < 5:
            raise CorpusError(f"{path}:{number}: {len(fields)} fields; an STM line has id, channel, signer, start, end")
        video, channel, signer, start, end, *glosses = fields
        if _seconds(end, path, number) < _seconds(start, path, number):
            raise CorpusError(f"{path}:{number}: ends at {end} before it starts at {start}; mend the times")
        if glosses and glosses[0].startswith("<") and glosses[0].endswith(">"):
            glosses = glosses[1:]
        if video in references:
            raise CorpusError(f"{path}:{number}: the video {video!r} comes a second time; keep one line a video")
        for gloss in glosses:
            if "{" in gloss:
                raise CorpusError(
                    f"{path}:{number}: {gloss!r} begins alternatives, as in {{ A / B }}; keep the one that was signed"
                )
            if _IGNORED in fold(gloss):
                raise CorpusError(f"{path}:{number}: {gloss} leaves {video!r} out of scoring; delete it here and there")
        references[video], signers[video], channels[video] = " ".join(glosses), signer, channel
    if not references:
        raise CorpusError(f"{path}: holds no reference; check that it is an STM file")
    return Stm(references, signers, channels)


def write_stm(path: str | Path, references: Sentences, signers: Mapping[str, str] | None = None) -> None:
    """Write references sorted by id as the official files have them: whole video, channel 1.

    signers: a name for each id ("unknown" without it). What STM could not carry is a CorpusError: ids or signers with
    blanks, control characters, glosses such as "{" or a first gloss "<...>", which STM reads as markup. ConfigError
    where the file cannot be written.
    """
    rows = []
    for video in sorted(references, key=str):
        signer = "unknown" if signers is None else signers.get(video, "")
        glosses = [_gloss(gloss, video) for gloss in words_of(references[video])]
        marked = [g for g in glosses if "{" in g or g in ("}", "/") or _IGNORED in fold(g)]
        marked += [g for g in glosses[:1] if g[0] == "<" and g[-1] == ">"]
        if marked:
            raise CorpusError(f"the gloss {marked[0]!r} of {video} is markup in an STM file; rename it")
        rows.append(
            [word_for(video, "id"), "1", word_for(signer, f"signer of {video}"), "0.0", "1.79769e+308", *glosses]
        )
    _write(path, rows)


def read_ctm(path: str | Path, ids: Iterable[str] | Stm | None = None) -> dict[str, str]:
    """Read hypotheses: lines `<id> <channel> <start> <duration> <gloss> [<confidence>]`, glosses in order of start.

    A CTM file says nothing of a video where nothing was recognised; ids (of the references, say) gives those "". An id
    outside ids, a line that is too short, two glosses of a video at the same time, alternatives (<ALT>), another
    channel than before or than that of the Stm given as ids, and a file without any gloss (as a program leaves it that
    failed) are a CorpusError.
    """
    path = Path(path)
    channels = {video: fold(name) for video, name in ids.channels.items()} if isinstance(ids, Stm) else {}
    known = None if ids is None else list(ids.references if isinstance(ids, Stm) else ids)
    found: dict[str, dict[float, str]] = {}
    for number, line in _lines(path):
        fields = BLANKS.split(line)
        if len(fields) not in (5, 6):
            raise CorpusError(
                f"{path}:{number}: {len(fields)} fields; a CTM line has id, channel, start, duration, gloss, "
                "and perhaps a confidence"
            )
        video, channel, start, duration, gloss = fields[:5]
        if fold(gloss) in _ALTERNATIVES:
            raise CorpusError(f"{path}:{number}: {gloss} belongs to alternatives; keep the glosses of one of them")
        if fold(channel) != channels.setdefault(video, fold(channel)):
            raise CorpusError(
                f"{path}:{number}: channel {channel!r} of {video!r}, elsewhere {channels[video]!r}; mend it"
            )
        time = _seconds(start, path, number)
        _seconds(duration, path, number)
        if time in found.setdefault(video, {}):
            raise CorpusError(f"{path}:{number}: {video!r} has two glosses at {start} s; was the file written twice?")
        found[video][time] = gloss
    if not found:
        raise CorpusError(f"{path}: holds no gloss of any video; the program that wrote it may have failed")
    hypotheses = {video: " ".join(glosses[time] for time in sorted(glosses)) for video, glosses in found.items()}
    if known is None:
        return hypotheses
    strange = sorted(set(hypotheses) - set(known))
    if strange:
        raise CorpusError(f"{path}: {len(strange)} ids are unknown ({', '.join(strange[:3])}); is it of another split?")
    return {video: hypotheses.get(video, "") for video in known}


def write_ctm(path: str | Path, hypotheses: Sentences) -> None:
    """Write hypotheses sorted by id, with the nominal times of the published repositories: gloss i at i/100 s.

    A video without glosses leaves no line. For real times see `slakit.recognition.exports.write_ctm_spans`. CorpusError
    for ids and glosses that CTM cannot carry, ConfigError where the file cannot be written.
    """
    rows = []
    for video in sorted(hypotheses, key=str):
        for i, gloss in enumerate(words_of(hypotheses[video])):
            rows.append([word_for(video, "id"), "1", f"{i / 100:.2f}", f"{(i + 1) / 100:.2f}", ctm_word(gloss, video)])
    _write(path, rows)


def word_for(text: str, what: str) -> str:
    """An id or the name of a signer as STM and CTM can carry it: one word that begins no comment, or CorpusError."""
    if not isinstance(text, str) or not text or BLANKS.search(text) or text.startswith(";;") or control_in(text):
        raise CorpusError(f"the {what} is {text!r}; it must be text without blanks or control characters")
    return text


def ctm_word(gloss: str, video: str) -> str:
    """A gloss as CTM can carry it, or CorpusError."""
    if fold(_gloss(gloss, video)) in _ALTERNATIVES or BLANKS.search(gloss):
        raise CorpusError(f"the gloss {gloss!r} of {video} is no word in a CTM file; rename it")
    return gloss


def _gloss(gloss: str, video: str) -> str:
    if control_in(gloss):
        raise CorpusError(f"the gloss {gloss!r} of {video} holds control characters; rename it")
    return gloss


def _write(path: str | Path, rows: list[list[str]]) -> None:
    write_files({Path(path): "".join(" ".join(row) + "\n" for row in rows)})


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
    rows = re.findall(r"^File: (\S+)\s.*?^Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", report, re.M | re.S)
    counts = {names.get(fold(video), str(video)): (int(c), int(s), int(d), int(i)) for video, c, s, d, i in rows}
    if done.returncode or set(counts) != set(references):
        error = done.stderr.decode("utf-8", "replace").strip()[-200:]
        scored = f"sclite scored {len(counts)} of {len(references)} videos"
        raise ConfigError(f"{scored}, exit code {done.returncode}: {error}")
    return counts
