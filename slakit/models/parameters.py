"""How many parameters a recognizer has, by part: the papers' "tunable parameters" column for any configuration."""

from __future__ import annotations

from dataclasses import dataclass

from slakit.models.recognizer import Recognizer


@dataclass(frozen=True)
class ParameterTable:
    """rows: part -> (total, trainable). Prints as a table."""

    rows: dict[str, tuple[int, int]]

    @property
    def total(self) -> int:
        return sum(total for total, _ in self.rows.values())

    @property
    def trainable(self) -> int:
        return sum(trainable for _, trainable in self.rows.values())

    def __str__(self) -> str:
        lines = [f"{'part':<22}{'total':>14}{'trainable':>14}"]
        for part, (total, trainable) in {**self.rows, "all": (self.total, self.trainable)}.items():
            lines.append(f"{part:<22}{total:>14,}{trainable:>14,}")
        return "\n".join(lines)


def count_parameters(model: Recognizer) -> ParameterTable:
    """Parameters by part, total and trainable. The one classifier that both heads share is counted once."""
    parts = {
        name: [0, 0]
        for name in ("image tower", "adaptation", "temporal convolution", "BiLSTM", "classifier", "auxiliary head")
    }
    base = model.encoder.backbone.base_names
    for name, parameter in model.named_parameters():
        if name.startswith("encoder."):
            inside = name.removeprefix("encoder.backbone.") in base
            part = "image tower" if inside else "adaptation"
        else:
            part = {
                "sequence.conv": "temporal convolution",
                "sequence.lstm": "BiLSTM",
                "sequence.classifier": "classifier",
            }.get(".".join(name.split(".")[:2]), "auxiliary head")
        parts[part][0] += parameter.numel()
        parts[part][1] += parameter.numel() * parameter.requires_grad
    return ParameterTable({part: (total, trainable) for part, (total, trainable) in parts.items() if total})
