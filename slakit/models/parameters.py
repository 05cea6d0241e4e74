"""How many parameters a recognizer has, by part: the papers' "tunable parameters" column for any configuration."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from slakit.config import ModelConfig
from slakit.models.methods import METHODS, base_of, build_encoder, with_method
from slakit.models.recognizer import Recognizer
from slakit.models.towers.backbones import load_backbone
from slakit.records import Vocabulary


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
    names = "image tower", "adaptation", "temporal convolution", "BiLSTM", "classifier", "pathways", "auxiliary head"
    parts = {name: [0, 0] for name in names}
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
                "sequence.conv_classifier": "classifier",
                "auxiliary.weight": "auxiliary head",
            }.get(".".join(name.split(".")[:2]), "pathways")
        parts[part][0] += parameter.numel()
        parts[part][1] += parameter.numel() * parameter.requires_grad
    return ParameterTable({part: (total, trainable) for part, (total, trainable) in parts.items() if total})


# Millions, CLIP-SLA Table 1. AdaptSign is not in it and gives no figure itself, nor do the networks trained whole.
PAPER_MILLIONS = {
    "frozen": 23.1, "partial": 37.2, "full": 109.9, "sla-lora": 26.2, "sla-adapter": 30.8, "adaptsign": None,
}  # fmt: skip


def compare_with_papers(backbone: str = "ViT-B-16", num_glosses: int = 1295) -> list[dict]:
    """One row a method at its default setting: what is trained, by part, beside the papers' figure.

    The networks of the compared systems stand beside it, at their own size. The defaults are Phoenix-2014's 1295
    glosses and blank, on ViT-B/16. Weights are random, nothing is downloaded; some seconds, and 2 GB of memory for the
    moment. Keys: method, encoder, head, auxiliary, total, paper (millions or None).
    """
    base, rows = load_backbone(backbone), []
    shared = {id(parameter): parameter for parameter in base.parameters()}  # only the modules are copied
    vocabulary = Vocabulary([f"gloss-{number}" for number in range(num_glosses)])
    for name, method in METHODS.items():
        config = with_method(ModelConfig(backbone=backbone), name)
        config = replace(config, pretrained=None, auxiliary_head=method.auxiliary_head)
        chosen = base_of(config) if method.network else copy.deepcopy(base, dict(shared))
        encoder, _ = build_encoder(name, chosen, {})
        counted = count_parameters(Recognizer(config, vocabulary, encoder)).rows
        trained = {part: trainable for part, (_, trainable) in counted.items()}
        auxiliary = trained.get("auxiliary head", 0)
        in_encoder = trained["image tower"] + trained.get("adaptation", 0)
        total = sum(trained.values())
        rows.append({
            "method": name, "encoder": in_encoder, "head": total - in_encoder - auxiliary, "auxiliary": auxiliary,
            "total": total, "paper": PAPER_MILLIONS.get(name),
        })  # fmt: skip
    return sorted(rows, key=lambda row: row["total"])
