"""SlowFast weights by their published names: PySlowFast's, and those of its Caffe2 pickles (the Kinetics file)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from slakit.models.towers.weights import Placeholder, read_pickle, renamed
from slakit.records import CheckpointError, read_bytes
from slakit.strict import UNREADABLE

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
    (r"^(pool1|res(\d)_\d+_branch2c_bn)_subsample_", lambda m: f"s{m[2] or 1}_fuse.conv_f2s_"),
    (r"conv_f2s_bn", "bn"),
    (r"^(res_)?conv1(_bn)?_", lambda m: f"s1.pathway0_stem.{'bn' if m[2] else 'conv'}_"),
    (r"^res(\d)_(\d+)_branch", r"s\1.pathway0_res\2.branch"),
    (r"branch2([abc])", r"branch2.\1"),
    (r"_[ws]$", ".weight"),
    (r"_b$", ".bias"),
    (r"_rm$", ".running_mean"),
    (r"_riv$", ".running_var"),
)


def read_array(value: Any) -> torch.Tensor | None:
    """A pickled numpy array of floats, from its bytes; None for anything else. numpy's own reader believes whatever
    size a file names, which can end the process."""
    match value.state if isinstance(value, Placeholder) else None:
        case (_, tuple(shape), Placeholder(arguments=(str(kind), *_)), fortran, content) if kind.startswith("f"):
            text = getattr(content, "arguments", (content,))[0]  # Python 3 writes a call that makes bytes of it
            data = text.encode("latin1") if isinstance(text, str) else text
            return torch.tensor(np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C"))
    return None


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
        blobs = read_pickle(read_bytes(path, CheckpointError, limit=2**30), "latin1")["blobs"]
        found = {key: array for key, value in dict(blobs).items() if (array := read_array(value)) is not None}
    except UNREADABLE as error:
        raise CheckpointError(f"{path} is no readable PySlowFast pickle: {str(error)[:200]}") from error
    state, loaded = network.state_dict(), {}
    for key, value in found.items():
        pathway = f"pathway{int(key.startswith('t_'))}"
        name = renamed(renamed(key.removeprefix("t_"), CAFFE2).replace("pathway0", pathway), NAMES)
        if (target := state.get(name)) is None:
            continue  # the classifier, the optimiser's momentum
        value = value.reshape(*value.shape, *[1] * (target.dim() - value.dim()))
        if target.dim() == 5:
            value = value[:, : target.shape[1], : target.shape[2] if target.shape[2] == 1 else None]
        elif target.dim() == 1 and len(value) < len(target) and len(target) % len(value) == 0:
            value = value.repeat(len(target) // len(value))
        if value.shape == target.shape:
            loaded[name] = value.float()
    if not loaded:
        raise CheckpointError(f"{path} holds nothing of a SlowFast network of this width")
    network.load_state_dict(loaded, strict=False)
