"""Pretrain the tiny CLIP of the demo on rendered dictionary pictures with captions, or a small ResNet in its place.

    python data/tiny_clip/pretrain.py                 # 20 minutes on two cores; writes tiny-clip.safetensors, card.json
    python data/tiny_clip/pretrain.py --resnet 16 --out data/tiny_resnet      # a ResNet-18 of 16 to 128 channels

An open_clip model (classes and contrastive loss of open_clip, configuration in tiny-clip.json), trained from random
weights on pictures of MiniSign's "pictures" domain: still poses, plain backgrounds, clean colours. The corpus that the
notebooks work on ("film": motion, clutter, grading, grain, other signers) is never shown here.

Beside the contrastive loss on whole captions three helpers are used, and thrown away or kept as said:
  prompts    for each phonological parameter, the text tower's embeddings of its prompts classify the picture
             (the zero-shot task itself; uses nothing but the two towers)
  read-outs  linear layers on the class token name the parameters (thrown away)
  regions    linear layers on the patch tokens nearest to each visible hand and to the mouth name handshape,
             orientation, palm and mouth (thrown away). Without them a model this small never looks at fingers.

With --resnet the same pictures, captions, losses and text tower train slakit's ResNet-18 as the image tower: its
feature stands for the class token, the maps of its last two stages for the tokens of the last two blocks. What is
written is the network alone, under torchvision's names.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import re
import time
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from captions import PARAMETERS, Tokenizer, draw, prompt
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm.auto import tqdm

from slakit.models.methods.vac import ResNetOptions
from slakit.models.packing import Clips
from slakit.models.towers.resnet import RESNET, load_resnet

HERE = Path(__file__).resolve().parent
RENDERED = 96  # pixels; the towers see crops of 84


def render_pictures(count: int, seed: int) -> dict[str, np.ndarray]:
    """`count` pictures with captions and labels, drawn by two processes (about 1 ms a picture and core)."""
    parts = 64
    with multiprocessing.get_context("fork").Pool(2) as pool:
        jobs = pool.imap(draw, [(seed, part, math.ceil(count / parts), RENDERED) for part in range(parts)])
        chunks = list(tqdm(jobs, total=parts, desc="pictures"))
    return {key: np.concatenate([chunk[key] for chunk in chunks])[:count] for key in chunks[0]}


def crops(images: torch.Tensor, points: torch.Tensor, size: int, generator: torch.Generator, train: bool):
    """Random (or centre) crops of `size` pixels, some zoomed in; points [B, P, 2] move along (nan = absent).

    images: uint8 [B, H, W, 3] -> float [B, 3, size, size] in [-1, 1].
    """
    batch, full = images.shape[0], images.shape[1]
    scale = torch.full((batch, 1), size / full)
    centre = torch.zeros(batch, 2)
    if train:
        zoomed = torch.rand(batch, 1, generator=generator) < 0.4
        factor = torch.where(zoomed, 0.55 + 0.4 * torch.rand(batch, 1, generator=generator), torch.ones(1))
        scale = scale * factor
        # Zoomed crops are drawn to a hand or the mouth.
        target = points[torch.arange(batch), torch.randint(points.shape[1], (batch,), generator=generator)]
        target = torch.nan_to_num(target / (full / 2) - 1, nan=0.0)
        room = 1 - scale
        centre = (2 * torch.rand(batch, 2, generator=generator) - 1) * room
        centre = torch.where(zoomed, (target + 0.3 * centre).clamp(-room, room), centre)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale[:, 0]
    theta[:, :, 2] = centre
    pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    grid = F.affine_grid(theta, [batch, 3, size, size], align_corners=False)
    pixels = F.grid_sample(pixels, grid, align_corners=False, padding_mode="border")
    moved = ((points / (full / 2) - 1) - centre[:, None]) / scale[:, None]  # [-1, 1] inside the crop
    if train:
        gain = 1 + 0.15 * torch.randn(batch, 1, 1, 1, generator=generator)
        tint = 0.06 * torch.randn(batch, 3, 1, 1, generator=generator)
        pixels = (pixels * gain + tint).clamp(-1, 1)
    return pixels, moved


def weight(name: str) -> float:
    """Handshapes and mouths are the smallest things in a picture and the last that a model learns."""
    return 2.0 if name == "mouth" or name.endswith("handshape") else 1.0


def encode_text(clip: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """open_clip's encode_text, normalised, without the columns that hold padding alone (they only cost time)."""
    length = int((tokens > 0).sum(1).max())
    tokens = tokens[:, :length]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    return F.normalize((x[torch.arange(len(x)), tokens.argmax(-1)] @ clip.text_projection).float(), dim=-1)


class Tower(nn.Module):
    """open_clip's image tower: the class token, the embedding, the tokens of the last two blocks as maps."""

    def __init__(self, clip: nn.Module):
        super().__init__()
        self.visual, self.features = clip.visual, clip.visual.ln_post.normalized_shape[0]

    def forward(self, pixels: torch.Tensor):
        x = self.visual._embeds(pixels)
        blocks = self.visual.transformer.resblocks
        for block in blocks[:-1]:
            x = block(x)
        before = x
        x = self.visual.ln_post(blocks[-1](x))
        maps = [y[:, 1:].transpose(1, 2).unflatten(2, self.visual.grid_size) for y in (x, before)]
        return x[:, 0], x[:, 0] @ self.visual.proj, maps


class ResNetTower(nn.Module):
    """slakit's ResNet-18 in its place: the feature, its projection, the maps of the last two stages."""

    def __init__(self, width: int, image_size: int, embed_dim: int):
        super().__init__()
        self.network = load_resnet(RESNET, None, image_size, 0, ResNetOptions(width))
        self.network.to(memory_format=torch.channels_last)  # a quarter faster
        self.features = self.network.feature_dim
        self.proj = nn.Linear(self.features, embed_dim, bias=False)

    def forward(self, pixels: torch.Tensor):
        x, clips, maps = self.network.embed(pixels.to(memory_format=torch.channels_last)), Clips([len(pixels)]), []
        for block in self.network.blocks:
            x = block(x, clips)
            maps.append(x)
        pooled = self.network.pool(x)
        return pooled, self.proj(pooled), [maps[7], maps[5]]

    def weights(self) -> dict[str, torch.Tensor]:
        """The network alone, under torchvision's names."""
        state = {k: v for k, v in self.network.state_dict().items() if not k.endswith("num_batches_tracked")}
        names = {k: re.sub(r"^blocks\.(\d)", lambda m: f"layer{int(m[1]) // 2 + 1}.{int(m[1]) % 2}", k) for k in state}
        return {names[k].removeprefix("tower."): v for k, v in state.items()}


def parameter_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the rows whose label is known (not -1)."""
    if not (labels >= 0).any():
        return logits.sum() * 0
    return F.cross_entropy(logits.float(), labels, ignore_index=-1)


def nearest_tokens(maps: list[torch.Tensor], points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What maps [B, C, h, w] hold at points [B, 2] in [-1, 1] -> [B, sum of C], and whether the point is inside."""
    inside = (points.abs() < 1).all(-1)  # nan compares as False
    at = torch.nan_to_num(points)[:, None, None].clamp(-1, 1)
    found = [F.grid_sample(m.float(), at, "nearest", "border", align_corners=False)[:, :, 0, 0] for m in maps]
    return torch.cat(found, 1), inside


@torch.no_grad()
def zero_shot(clip, tower, tokenizer, data, size: int) -> dict[str, dict[str, float]]:
    """Accuracy (%) of prompts against pictures for every phonological parameter, beside chance."""
    clip.eval(), tower.eval()
    points = torch.from_numpy(data["points"])
    embedded = []
    for start in range(0, len(points), 500):
        pixels, _ = crops(
            torch.from_numpy(data["images"][start : start + 500]), points[start : start + 500], size, None, False
        )
        embedded.append(F.normalize(tower(pixels)[1], dim=-1))
    embedded = torch.cat(embedded)
    result = {}
    for name, values in PARAMETERS.items():
        text = F.normalize(clip.encode_text(tokenizer([prompt(name, value) for value in values])), dim=-1)
        labels = torch.from_numpy(data[name]).long()
        known = labels >= 0
        hit = ((embedded @ text.T).argmax(-1) == labels)[known].float().mean().item()
        majority = labels[known].bincount().max().item() / known.sum().item()
        result[name] = {"accuracy": 100 * hit, "chance": 100 / len(values), "most_frequent": 100 * majority}
    clip.train(), tower.train()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=80_000)
    parser.add_argument("--samples", type=int, default=450_000, help="pictures seen in all, repeats counted")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast, where the processor is fast at it")
    parser.add_argument("--start", type=Path, help="go on from these weights (a second round)")
    parser.add_argument("--prompts", type=float, default=1.0, help="weight of the prompt loss")
    parser.add_argument("--regions", type=float, default=1.0, help="weight of the region labels")
    parser.add_argument("--resnet", type=int, help="a ResNet-18 with so many channels in its first stage")
    parser.add_argument("--out", type=Path, default=HERE)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    generator = torch.Generator().manual_seed(args.seed)
    open_clip.add_model_config(HERE / "tiny-clip.json")
    clip = open_clip.create_model("tiny-clip")
    if args.start:
        clip.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(args.start).items()})
    size, tokenizer = clip.visual.image_size[0], Tokenizer(clip.context_length)
    tower = Tower(clip)
    if args.resnet:
        tower = ResNetTower(args.resnet, size, clip.visual.output_dim)
        clip.visual = nn.Identity()
    width = tower.features
    readouts = nn.ModuleDict({name: nn.Linear(width, len(values)) for name, values in PARAMETERS.items()})
    near_width = width + width // 2 if args.resnet else 2 * width
    local = {"right": ["handshape", "orientation", "palm"], "left": ["handshape", "orientation", "palm"]}
    regions = nn.ModuleDict(
        {
            f"{side} {what}": nn.Linear(near_width, len(PARAMETERS[f"{side} {what}"]))
            for side in local
            for what in local[side]
        }
        | {"mouth": nn.Linear(near_width, len(PARAMETERS["mouth"]))}
    )

    data = render_pictures(args.pictures, args.seed)
    held_out = render_pictures(3000, args.seed + 1_000_000)  # every picture draws a signer of its own: all are unseen
    tokens = tokenizer(list(data["captions"]))
    captions_at = np.unique(data["captions"], return_inverse=True)[1]
    prompts = {name: tokenizer([prompt(name, value) for value in values]) for name, values in PARAMETERS.items()}

    matrices = [p for n, p in clip.named_parameters() if p.ndim == 2 and "resblocks" in n]
    chosen = {id(p) for p in matrices}
    modules = nn.ModuleList([clip, tower, readouts, regions])  # a parameter of both, the ViT's, counts once
    others = [p for p in modules.parameters() if id(p) not in chosen]
    optimizers = [
        torch.optim.Muon(matrices, lr=args.learning_rate, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=args.learning_rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]
    steps = args.samples // args.batch
    started = time.time()
    bar = tqdm(range(steps), desc="pretraining", mininterval=5)
    for step in bar:
        rate = min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * step / steps)) * args.learning_rate
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = max(rate, 1e-6)
        index = torch.randint(len(tokens), (args.batch,), generator=generator).numpy()
        pixels, points = crops(
            torch.from_numpy(data["images"][index]), torch.from_numpy(data["points"][index]), size, generator, True
        )
        labels = {name: torch.from_numpy(data[name][index]).long() for name in PARAMETERS}
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            pooled, image, maps = tower(pixels)
            image = F.normalize(image.float(), dim=-1)
            text = encode_text(clip, tokens[index])
            names = encode_text(clip, torch.cat(list(prompts.values())))
            names = names.split([len(prompts[name]) for name in PARAMETERS])
            scale = clip.logit_scale.exp().clamp(max=50)
            logits = scale * image @ text.T  # [B, B]
            same = torch.from_numpy(captions_at[index][:, None] == captions_at[index][None]).float()
            same = same / same.sum(1, keepdim=True)
            loss = 0.5 * (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same))
            terms = {"clip": loss.item()}
            named = sum(
                weight(n) * parameter_loss(scale * image @ e.T, labels[n])
                for n, e in zip(PARAMETERS, names, strict=True)
            )
            read = sum(weight(name) * parameter_loss(readouts[name](pooled), labels[name]) for name in PARAMETERS)
            near = 0.0
            for key, head in regions.items():
                row = {"right": 0, "left": 1, "mouth": 2}[key.split()[0]]
                token, inside = nearest_tokens(maps, points[:, row])
                near = near + weight(key) * parameter_loss(head(token), torch.where(inside, labels[key], -1))
            loss = loss + 0.3 * args.prompts * named + 0.3 * read + 0.3 * args.regions * near
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        if step % 100 == 99 or step == steps - 1:
            terms |= {"prompts": named.item(), "read-outs": read.item(), "regions": float(near), "all": loss.item()}
            report = {k: round(v["accuracy"]) for k, v in zero_shot(clip, tower, tokenizer, held_out, size).items()}
            if step % 200 == 199 or step == steps - 1:
                tqdm.write(
                    f"{step + 1} {time.time() - started:.0f}s " + " ".join(f"{k} {v:.2f}" for k, v in terms.items())
                )
                tqdm.write(f"   zero-shot {report}")

    args.out.mkdir(parents=True, exist_ok=True)
    written = clip.state_dict() if not args.resnet else tower.weights()
    halves = {k: v.detach().half().contiguous() if v.is_floating_point() else v for k, v in written.items()}
    for name, value in halves.items():  # the card speaks of what is shipped
        written[name].copy_(value)
    file = "tiny-resnet.safetensors" if args.resnet else "tiny-clip.safetensors"
    save_file(halves, args.out / file, metadata={"format": "pt"})
    card = {
        "zero_shot": zero_shot(clip, tower, tokenizer, held_out, size),
        "seconds": round(time.time() - started),
        "settings": {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items() if k != "out"},
        "image_parameters": sum(p.numel() for p in (tower.network if args.resnet else clip.visual).parameters()),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
    }
    (args.out / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card, indent=1))


if __name__ == "__main__":
    main()
