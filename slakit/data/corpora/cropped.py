"""How the clips of a corpus are cut: load_corpus(crop=…), one answer for all that shows a model its pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from slakit.config import brief, nearest
from slakit.data.video.cropping import Box, read_crop
from slakit.records import ConfigError, Corpus


def plain_crop(crop: Any) -> Any:
    """The crop as JSON holds it: "signer", "none", [left, top, side] or {signer: one of these}; else ConfigError."""
    if isinstance(crop, Mapping):
        if not crop or not all(isinstance(signer, str) for signer in crop):
            raise ConfigError(f"crop={brief(dict(crop))} names no signers; write {{signer: signer, none or a square}}")
        return {signer: _plain(read_crop(value)) for signer, value in crop.items()}
    return _plain(read_crop(crop))


def _plain(crop: str | Box) -> str | list[int]:
    return crop if isinstance(crop, str) else list(crop)


def cropped(corpus: Corpus, crop: Any) -> Corpus:
    """The corpus, each clip with its own crop. ConfigError for signers that it lacks, or whom `crop` does not name."""
    crop = plain_crop(crop)
    splits = {split: corpus.split(split) for split in ("train", "dev", "test")}
    signers = {sample.signer for samples in splits.values() for sample in samples}
    if isinstance(crop, dict):
        if strange := sorted(crop.keys() - signers):
            raise ConfigError(
                f"crop names the signer {strange[0]!r}, whom {corpus.name} lacks{nearest(strange[0], signers)}"
            )
        if missing := sorted(signers - crop.keys()):
            raise ConfigError(
                f"crop does not say how the signer {missing[0]!r} is cut; name everybody, or one crop for all"
            )
    of = {signer: read_crop(crop[signer] if isinstance(crop, dict) else crop) for signer in signers}
    return replace(
        corpus, **{split: tuple(replace(s, crop=of[s.signer]) for s in samples) for split, samples in splits.items()}
    )
