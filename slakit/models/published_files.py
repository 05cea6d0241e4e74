"""What released training code leaves behind, read without executing what its pickles ask for: weights, glosses."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from slakit.models.towers.weights import BAD_WEIGHTS, Placeholder, read_pickle
from slakit.records import MAX_BYTES, CheckpointError, Vocabulary

# Glosses of the published dictionaries, for a sentence that says which one was given.
KNOWN_SIZES = {1295: "phoenix2014", 1115: "phoenix2014-t", 2000: "csl-daily", 178: "csl"}


PARTS = {"": "sequence", "slow": "pathways.slow", "fast": "pathways.fast"}
PARTS |= {"main": PARTS[""], "0": PARTS[""], "1": PARTS["slow"], "2": PARTS["fast"]}
# Released names -> ours, in order: the sequence models, with lift pooling in a nested list.
HEADS = (
    (r"^conv1d\.(main|slow|fast|)_?temporal_conv", lambda m: f"{PARTS[m[1]]}.conv"),
    (r"^temporal_model\.?(\d?)\.rnn", lambda m: f"{PARTS[m[1]]}.lstm"),
    (r"^classifier\.?(\d?)\.", lambda m: f"{PARTS[m[1]]}.classifier."),
    (r"^conv1d\.fc\.?(\d?)\.", lambda m: f"{PARTS[m[1]]}.conv_classifier."),
    (r"\.conv\.([02])\.([01])\.", lambda m: f".conv.{2 * int(m[1]) + int(m[2])}."),
    (r"\.conv\.([13])\.(?=predictor|updater|weight\d)", lambda m: f".conv.{2 * int(m[1]) + 1}."),
    ("insnorm", "norm"),
)


# What the released code's random states name. A file of PyTorch before 1.6 cannot be asked for its names.
NUMPY_NAMES = ("numpy.ndarray", "numpy.dtype", *(f"numpy.{c}.multiarray._reconstruct" for c in ("core", "_core")))


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The `model_state_dict` of a released training checkpoint (or a bare state dict), tensors alone."""
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        names = {*NUMPY_NAMES, *(get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else ())}
        inert = [Placeholder(module, name) for module, _, name in (full.rpartition(".") for full in names)]
        with safe_globals([Placeholder, *inert]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except BAD_WEIGHTS as error:
        raise CheckpointError(f"{path} is no readable PyTorch checkpoint: {str(error)[:200]!a}") from error
    state = content.get("model_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no model_state_dict; is it a checkpoint of the released training code?")
    plain = ((re.sub(r"(^|\.)module\.", r"\1", key), value) for key, value in state.items())  # of DataParallel
    return {key: value for key, value in plain if isinstance(value, torch.Tensor)}


def read_gloss_dict(source: str | Path | Mapping[str, Sequence[int]]) -> Vocabulary:
    """The glosses of a `gloss_dict.npy` ({gloss: [index, count]}, indices from 1), or of such a dictionary itself."""
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            with open(path, "rb") as file:
                version = np.lib.format.read_magic(file)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                read_header[version](file)
                (source,) = read_pickle(file.read(MAX_BYTES)).state[-1]  # a 0-dimensional object array
        except BAD_WEIGHTS as error:
            raise CheckpointError(f"{path} is no readable gloss_dict.npy: {error}") from error
    if not isinstance(source, Mapping):
        raise CheckpointError(f"the gloss dictionary is a {type(source).__name__}; expected {{gloss: [index, count]}}")
    try:
        indices = {
            str(gloss): int(entry[0] if isinstance(entry, Sequence) else entry) for gloss, entry in source.items()
        }
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        raise CheckpointError(f"the gloss dictionary is not {{gloss: [index, count]}}: {error}") from None
    glosses = sorted(indices, key=lambda gloss: indices[gloss])
    if [indices[gloss] for gloss in glosses] != list(range(1, len(glosses) + 1)):
        raise CheckpointError(f"the gloss dictionary's indices are not 1 to {len(glosses)}, each once")
    return Vocabulary(glosses)


def check_classes(classes: int, vocabulary: Vocabulary, path: Path) -> None:
    """CheckpointError that names the corpora which both numbers look like, unless they are equal."""
    if classes == len(vocabulary):
        return
    sizes = classes - 1, len(vocabulary.glosses)
    there, given = (f"{n} ({KNOWN_SIZES[n]} has so many)" if n in KNOWN_SIZES else str(n) for n in sizes)
    raise CheckpointError(
        f"{path} has {there} glosses, the gloss dictionary {given}; give the dictionary that the checkpoint was "
        "trained with"
    )
