"""SlowFast weights by their published names: PySlowFast's, and those of its Caffe2 pickles (the Kinetics file)."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from slakit.records import CheckpointError, read_bytes
from slakit.strict import UNREADABLE, check_pickle

# PySlowFast's names -> ours, in order.
NAMES = (
    (r"^s1\.pathway0_stem\.", "tower.slow."),
    (r"^s1\.pathway1_stem\.", "tower.fast."),
    (r"^s(\d)_fuse\.", lambda m: f"blocks.{int(m[1]) - 1}."),
    (r"conv_(f2s|s2f)\.", lambda m: f"to_{'slow' if m[1] == 'f2s' else 'fast'}.conv."),
    (r"(blocks\.\d)\.bn(2?)\.", lambda m: f"{m[1]}.to_{'fast' if m[2] else 'slow'}.bn."),
    (r"^s(\d)\.pathway(\d)_res(\d+)\.", lambda m: f"blocks.{int(m[1]) - 2}.{('slow', 'fast')[int(m[2])]}.{m[3]}."),
    (r"branch1(_bn)?\.", lambda m: f"shortcut.{'bn' if m[1] else 'conv'}."),
    (r"branch2\.([abc])(_bn)?\.", lambda m: f"{m[1]}.{'bn' if m[2] else 'conv'}."),
)
# Caffe2's names without "t_", the fast pathway's, -> PySlowFast's.
CAFFE2 = (
    (
        r"^(pool1|res(\d)_\d+_branch2c_bn)_subsample(_bn)?_",
        lambda m: f"s{m[2] or 1}_fuse.{'bn' if m[3] else 'conv_f2s'}_",
    ),
    (r"^(res_)?conv1(_bn)?_", lambda m: f"s1.pathway0_stem.{'bn' if m[2] else 'conv'}_"),
    (r"^res(\d)_(\d+)_branch2([abc])", r"s\1.pathway0_res\2.branch2.\3"),
    (r"^res(\d)_(\d+)_branch1", r"s\1.pathway0_res\2.branch1"),
    (r"_w$", ".weight"),
    (r"_s$", ".weight"),
    (r"_b$", ".bias"),
    (r"_rm$", ".running_mean"),
    (r"_riv$", ".running_var"),
)


def renamed(name: str, rules: tuple) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def slowfast_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """PySlowFast's tensors under the names of a Backbone."""
    return {renamed(name, NAMES): value for name, value in state.items()}


class _Arrays(pickle.Unpickler):
    """Reads plain data and numpy arrays; a pickle that asks for anything else is refused before anything is run."""

    def find_class(self, module: str, name: str) -> Any:
        arrays = {
            "_reconstruct": np.empty(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype,
            "encode": lambda text, codec: text.encode("latin1"), "OrderedDict": dict,
        }  # fmt: skip
        if name not in arrays or module.partition(".")[0] not in ("numpy", "_codecs", "collections"):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return arrays[name]


def read_kinetics(path: Path, network: nn.Module) -> None:
    """Load PySlowFast's Caffe2 pickle, as the released SlowFastSign code does: a kernel over time is cut to its first
    frame where the network has none there, inputs beyond the network's (the old fusion's) are left out, statistics of
    a narrower norm are repeated, other shapes stay as they start. Executes nothing of the pickle. CheckpointError."""
    if not path.is_file():
        raise CheckpointError(
            f"{path} is no file here; give pretrained=FILE, SLOWFAST_64x2_R101_50_50.pkl of PySlowFast's model zoo "
            "(ava/pretrain), or pretrained=None for random weights"
        )
    try:
        content = check_pickle(read_bytes(path, CheckpointError, limit=2**30))
        blobs = _Arrays(io.BytesIO(content), encoding="latin1").load()["blobs"]
        found = {
            key: torch.from_numpy(np.array(value)) for key, value in blobs.items() if isinstance(value, np.ndarray)
        }
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is no readable PySlowFast pickle: {str(error)[:200]}") from error
    state, loaded = network.state_dict(), 0
    for key, value in found.items():
        name = renamed(key.removeprefix("t_"), CAFFE2)
        if key.startswith("t_"):
            name = name.replace("pathway0", "pathway1")
        name = renamed(name, NAMES)
        if name not in state:
            continue  # the classifier, the optimiser's momentum
        target = state[name]
        value = value.reshape(*value.shape, *[1] * (target.dim() - value.dim()))
        if target.dim() == 5:
            value = value[:, : target.shape[1], : target.shape[2] if target.shape[2] == 1 else None]
        elif target.dim() == 1 and len(value) < len(target) and len(target) % len(value) == 0:
            value = value.repeat(len(target) // len(value))
        if value.shape == target.shape:
            state[name], loaded = value.float(), loaded + 1
    if not loaded:
        raise CheckpointError(f"{path} holds nothing of a SlowFast network of this width")
    network.load_state_dict(state)
