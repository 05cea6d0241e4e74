"""What doctor found: findings with advice, the sizes of the splits, and their text and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

NAMED = 8  # clips that a finding names


@dataclass(frozen=True)
class Finding:
    """One result. level: "ok", "note", "warning" (training is possible) or "error". advice: what to do about it."""

    level: str
    check: str
    message: str
    advice: str = ""
    clips: tuple[str, ...] = ()


@dataclass
class Report:
    """What doctor found. splits: split -> clips, official, tokens, glosses, frames, bytes. healthy: no error in it.

    lengths: frames of every clip that could be opened, by its id (not in the JSON).
    """

    name: str
    root: str
    deep: bool
    findings: list[Finding] = field(default_factory=list)
    splits: dict[str, dict] = field(default_factory=dict)
    lengths: dict[str, int] = field(default_factory=dict)

    @property
    def healthy(self) -> bool:
        return all(finding.level != "error" for finding in self.findings)

    def add(self, level: str, check: str, message: str, advice: str = "", clips: Sequence[str] = ()) -> None:
        self.findings.append(Finding(level, check, message, advice, tuple(clips[:NAMED])))

    def json(self) -> str:
        """Everything but `lengths` as JSON."""
        content = {"healthy": self.healthy, **asdict(replace(self, lengths={}))}
        del content["lengths"]
        return json.dumps(content, ensure_ascii=False, indent=1)

    def text(self) -> str:
        """A table of the splits, the findings with the worst first, and the verdict."""
        lines = [f"{self.name} in {self.root}{' (every frame decoded)' if self.deep else ''}", ""]
        if self.splits:
            lines.append("split    clips  official   tokens  glosses     frames      disk")
        for split, row in self.splits.items():
            lines.append(
                f"{split:6} {row['clips']:7,} {row['official'] or '-':>9} {row['tokens']:8,} {row['glosses']:8,} "
                f"{row['frames']:10,} {size_text(row['bytes']):>9}"
            )
        order = {"error": 0, "warning": 1, "note": 2, "ok": 3}
        for finding in sorted(self.findings, key=lambda f: order[f.level]):
            lines += ["", f"{finding.level.upper():8}{finding.check}: {finding.message}"]
            if finding.clips:
                lines.append(f"        clips: {', '.join(finding.clips)}")
            if finding.advice:
                lines.append(f"        -> {finding.advice}")
        return "\n".join([*lines, "", self._verdict()])

    def _verdict(self) -> str:
        if not self.healthy:
            return "NOT healthy: see the errors above"
        count = sum(finding.level == "warning" for finding in self.findings)
        return "healthy" + (f", with {count} warning{'s' * (count > 1)}: see above" if count else "")


def size_text(count: float) -> str:
    """Bytes in words: 5.1 MB."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
