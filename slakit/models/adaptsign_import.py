"""Import of checkpoints of the released AdaptSign code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from open_clip.transformer import VisionTransformer

from slakit.config import ModelConfig, to_dict
from slakit.models.exact.recompute import QuickGELU
from slakit.models.methods.adaptsign import AdaptSignOptions, adaptsign
from slakit.models.published_files import HEADS, check_classes, read_gloss_dict, read_state_dict
from slakit.models.recognizer import Recognizer
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.definition import PLAIN_TEXT
from slakit.models.towers.open_clip import open_tower
from slakit.models.towers.resnet import fill
from slakit.models.towers.weights import renamed
from slakit.records import CheckpointError


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
    check_classes(state["classifier.weight"].shape[1], vocabulary, path)
    backbone = _backbone(visual, num_heads)
    prefix_length = visual["transformer.resblocks.0.prefix_embedding_k"].shape[0]
    inner = visual["transformer.resblocks.0.S_Adapter.mlp.c_in.weight"].shape[0]
    options = AdaptSignOptions(adapter_width=inner, prefix_length=prefix_length)
    config = ModelConfig(
        "adaptsign", backbone.name, None, backbone.image_size, padding="published", auxiliary_head=False,
        hidden_size=state["classifier.weight"].shape[0], options=to_dict(options),
    )  # fmt: skip
    model = Recognizer(config, vocabulary, adaptsign(backbone.requires_grad_(False), options))
    if "conv1d.fc.weight" in state and not torch.equal(state["conv1d.fc.weight"], state["classifier.weight"]):
        raise CheckpointError(f"{path} has two different classifiers; slakit shares one, as the published runs do")
    ours = {f"encoder.{key}": value for key, value in released_names(visual).items()}
    heads = ("conv1d.temporal_conv.", "temporal_model.rnn.", "classifier.")
    ours |= {renamed(key, HEADS): value for key, value in state.items() if key.startswith(heads)}
    fill(model, ours, path)
    return model.eval()


def _backbone(visual: dict[str, torch.Tensor], num_heads: int | None) -> Backbone:
    """An image tower of the tensors' sizes, not yet filled; OpenAI's layout, so QuickGELU."""
    width, _, patch, _ = visual["conv1.weight"].shape
    grid = int((visual["positional_embedding"].shape[0] - 1) ** 0.5)
    depth = len({key.split(".")[2] for key in visual if key.startswith("transformer.resblocks.")})
    hidden = visual["transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    heads, output = num_heads or max(width // 64, 1), visual["proj"].shape[1]
    sizes = {"width": width, "layers": depth, "head_width": width // heads, "mlp_ratio": hidden / width}
    stock = VisionTransformer(
        grid * patch, patch, width, depth, heads, hidden / width, output_dim=output, act_layer=QuickGELU
    )
    known = {(768, 12, 16): "ViT-B-16", (768, 12, 32): "ViT-B-32", (1024, 24, 14): "ViT-L-14"}
    usual = known.get((width, depth, patch))
    name = f"{usual}-quickgelu" if usual else f"adaptsign-{width}x{depth}.json"
    backbone = Backbone(name, *open_tower(stock, name))
    if name.endswith(".json"):  # no name of open_clip's: a checkpoint of ours holds the sizes
        vision = {"image_size": grid * patch, "patch_size": patch, **sizes}
        backbone.definition = {"embed_dim": output, "quick_gelu": True, "vision_cfg": vision, "text_cfg": PLAIN_TEXT}
    return backbone


# Released names, without "conv2d.visual.", -> those of AdaptSignEncoder, in order.
NAMES = (
    (r"^transformer\.resblocks\.", "backbone.blocks."),
    (r"^transformer\.aggblocks\.", "aggregations."),
    (r"^transformer\.query$", "query"),
    (r"^transformer\.temporal_ada_weight$", "cross_frame.scale"),
    (r"^transformer\.taggblocks\.ln_1\.", "cross_frame.ln."),
    (r"^ada_weight$", "fusion"),
    (r"^ln_post_cls\.", "ln_query."),
    (r"^(?!backbone|aggregations|query|cross_frame|fusion|ln_query)", "backbone.tower."),
    (r"(S|MLP)_Adapter\.mlp\.", lambda m: f"adapter_{1 if m[1] == 'S' else 2}."),
    (r"(adapter_\d|mlp)\.c_(in|fc)\.", r"\1.fc1."),
    (r"(adapter_\d|mlp)\.c_(out|proj)\.", r"\1.fc2."),
    (r"prefix_embedding_", "prefix."),
)


def released_names(visual: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The released code's tensors of an encoder (without "conv2d.visual.") under the names of AdaptSignEncoder."""
    ours: dict[str, torch.Tensor] = {}
    for key, value in visual.items():
        name = renamed(key, NAMES)
        if ".attn.in_proj_" in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                ours[name.replace("in_proj_", f"{part}_proj.")] = rows
        elif name in ("query", "cross_frame.scale", "fusion"):
            ours[name] = value.flatten()
        else:
            ours[name] = value.flatten(0, 1) if ".prefix." in name else value
    return ours
