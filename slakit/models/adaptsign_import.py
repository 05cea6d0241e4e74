"""Import of checkpoints of the released AdaptSign code, without executing what their pickles ask for."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip.transformer import VisionTransformer
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from slakit.config import ModelConfig, to_dict
from slakit.models.exact.recompute import QuickGELU
from slakit.models.methods.adaptsign import AdaptSignOptions, adaptsign
from slakit.models.recognizer import Recognizer
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.open_clip import open_tower
from slakit.records import CheckpointError, Vocabulary


class Placeholder:
    """Stands for a class or function that a pickle names, and for what it would make of it: does nothing.

    Plain data, tensors and containers come as they are; random states, optimisers and whatever else a training file
    holds come as this. The state that it is given is kept, for in a gloss_dict.npy that is the dictionary.
    """

    state: Any = None

    def __new__(cls, *arguments: Any) -> Placeholder:
        return cls if isinstance(cls, Placeholder) else super().__new__(cls)  # "a new object of this": itself

    def __init__(self, module: str, name: str):
        self.__module__, self.__qualname__, self.__name__ = module, name, name

    def __call__(self, *arguments: Any) -> Placeholder:
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


# What a damaged or hostile pickle can raise; nothing of it has been executed then.
UNREADABLE = (
    pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, TypeError, AttributeError, LookupError,
)  # fmt: skip
# What the released code's random states name. A file of PyTorch before 1.6 cannot be asked for its names.
NUMPY_NAMES = ("numpy.ndarray", "numpy.dtype", *(f"numpy.{c}.multiarray._reconstruct" for c in ("core", "_core")))


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The `model_state_dict` of a released training checkpoint (or a bare state dict), tensors alone."""
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        names = {*NUMPY_NAMES, *(get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else ())}
        inert = [Placeholder(module, name) for module, _, name in (full.rpartition(".") for full in names)]
        with safe_globals([Placeholder, *inert]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
    ) as error:
        raise CheckpointError(f"{path} is no readable PyTorch checkpoint: {str(error)[:200]}") from error
    state = content.get("model_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no model_state_dict; is it a checkpoint of the AdaptSign code?")
    return {key.removeprefix("module."): value for key, value in state.items() if isinstance(value, torch.Tensor)}


class _NpyUnpickler(pickle.Unpickler):
    """Reads plain data; every class or function is a Placeholder."""

    def find_class(self, module: str, name: str) -> Any:
        return Placeholder(module, name)


def read_gloss_dict(source: str | Path | Mapping[str, Sequence[int]]) -> Vocabulary:
    """The glosses of a `gloss_dict.npy` ({gloss: [index, count]}, indices from 1), or of such a dictionary itself."""
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            with open(path, "rb") as file:
                version = np.lib.format.read_magic(file)
                read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
                read_header[version](file)
                (source,) = _NpyUnpickler(io.BytesIO(file.read())).load().state[-1]  # a 0-dimensional object array
        except UNREADABLE as error:
            raise CheckpointError(f"{path} is no readable gloss_dict.npy: {error}") from error
    if not isinstance(source, Mapping):
        raise CheckpointError(f"the gloss dictionary is a {type(source).__name__}; expected {{gloss: [index, count]}}")
    indices = {gloss: int(entry[0] if isinstance(entry, Sequence) else entry) for gloss, entry in source.items()}
    glosses = sorted(indices, key=lambda gloss: indices[gloss])
    if [indices[gloss] for gloss in glosses] != list(range(1, len(glosses) + 1)):
        raise CheckpointError(f"the gloss dictionary's indices are not 1 to {len(glosses)}, each once")
    return Vocabulary(glosses)


def load_adaptsign_checkpoint(
    path: str | Path, gloss_dict: str | Path | Mapping[str, Sequence[int]], num_heads: int | None = None
) -> Recognizer:
    """A recognizer with the weights of a released AdaptSign checkpoint, in evaluation mode.

    path: a `.pt` file of the released training code. gloss_dict: its `gloss_dict.npy`, or the dictionary.
    num_heads: of the image tower; None: width / 64, CLIP's rule. All sizes are read from the tensors.
    Raises CheckpointError for files of another model and for a dictionary with another number of glosses.
    """
    path = Path(path)
    state, vocabulary = read_state_dict(path), read_gloss_dict(gloss_dict)
    visual = {k.removeprefix("conv2d.visual."): v.float() for k, v in state.items() if k.startswith("conv2d.visual.")}
    for needed, where in (("class_embedding", visual), ("transformer.query", visual), ("classifier.weight", state)):
        if needed not in where:
            raise CheckpointError(f"{path} lacks {needed}; is it a checkpoint of the AdaptSign code?")
    classes = state["classifier.weight"].shape[1]
    if classes != len(vocabulary):
        raise CheckpointError(
            f"{path} has {classes - 1} glosses, the gloss dictionary {len(vocabulary.glosses)}; give the dictionary "
            "that the checkpoint was trained with"
        )
    backbone = _backbone(visual, num_heads)
    prefix_length = visual["transformer.resblocks.0.prefix_embedding_k"].shape[0]
    inner = visual["transformer.resblocks.0.S_Adapter.mlp.c_in.weight"].shape[0]
    options = AdaptSignOptions(adapter_width=inner, prefix_length=prefix_length)
    config = ModelConfig(
        "adaptsign", backbone.name, None, backbone.image_size, padding="published", auxiliary_head=False,
        hidden_size=state["classifier.weight"].shape[0], options=to_dict(options),
    )  # fmt: skip
    encoder = adaptsign(backbone.requires_grad_(False), options)
    model = Recognizer(config, vocabulary, encoder)
    try:
        encoder.load_state_dict(released_names(visual))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the encoder does not fit: {str(error)[:300]}") from error
    head = {
        k.replace("conv1d.temporal_conv", "conv").replace("temporal_model.rnn", "lstm"): v
        for k, v in state.items()
        if k.startswith(("conv1d.temporal_conv.", "temporal_model.rnn.", "classifier."))
    }
    if "conv1d.fc.weight" in state and not torch.equal(state["conv1d.fc.weight"], state["classifier.weight"]):
        raise CheckpointError(f"{path} has two different classifiers; slakit shares one, as the published runs do")
    try:
        model.sequence.load_state_dict(head)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: the sequence model does not fit: {str(error)[:300]}") from error
    return model.eval()


def _backbone(visual: dict[str, torch.Tensor], num_heads: int | None) -> Backbone:
    """An image tower of the tensors' sizes, not yet filled; OpenAI's layout, so QuickGELU."""
    width, _, patch, _ = visual["conv1.weight"].shape
    grid = int((visual["positional_embedding"].shape[0] - 1) ** 0.5)
    depth = len({key.split(".")[2] for key in visual if key.startswith("transformer.resblocks.")})
    hidden = visual["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    stock = VisionTransformer(
        grid * patch,
        patch,
        width,
        depth,
        num_heads or max(width // 64, 1),
        hidden / width,
        output_dim=visual["proj"].shape[1],
        act_layer=QuickGELU,
    )
    known = {
        (768, 12, 16): "ViT-B-16-quickgelu",
        (768, 12, 32): "ViT-B-32-quickgelu",
        (1024, 24, 14): "ViT-L-14-quickgelu",
    }
    name = known.get((width, depth, patch), f"AdaptSign tower of width {width} and {depth} blocks")
    return Backbone(name, *open_tower(stock, name))


def released_names(visual: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The released code's tensors of an encoder (without "conv2d.visual.") under the names of AdaptSignEncoder."""
    ours: dict[str, torch.Tensor] = {}
    renamed = {
        "S_Adapter.mlp.c_in": "adapter_1.fc1",
        "S_Adapter.mlp.c_out": "adapter_1.fc2",
        "MLP_Adapter.mlp.c_in": "adapter_2.fc1",
        "MLP_Adapter.mlp.c_out": "adapter_2.fc2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
    }
    whole = {
        "transformer.query": "query",
        "transformer.temporal_ada_weight": "cross_frame.scale",
        "transformer.taggblocks.ln_1.weight": "cross_frame.ln.weight",
        "transformer.taggblocks.ln_1.bias": "cross_frame.ln.bias",
        "ada_weight": "fusion",
        "ln_post_cls.weight": "ln_query.weight",
        "ln_post_cls.bias": "ln_query.bias",
    }
    for key, value in visual.items():
        if key in whole:
            ours[whole[key]] = value.flatten()
            continue
        if not key.startswith(("transformer.resblocks.", "transformer.aggblocks.")):
            ours[f"backbone.tower.{key}"] = value
            continue
        _, kind, index, name = key.split(".", 3)
        start = f"backbone.blocks.{index}" if kind == "resblocks" else f"aggregations.{index}"
        if name.startswith("attn.in_proj_"):
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                ours[f"{start}.attn.{part}_proj.{name.removeprefix('attn.in_proj_')}"] = rows
        elif name.startswith("prefix_embedding_"):
            ours[f"{start}.prefix.{name[-1]}"] = value.flatten(0, 1)
        else:
            stem, _, tail = name.rpartition(".")
            ours[f"{start}.{renamed.get(stem, stem)}.{tail}"] = value
    return ours
