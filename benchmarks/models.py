"""How much the rewritten model parts save, as ratios of processor time.

    OMP_NUM_THREADS=1 python benchmarks/models.py            # some minutes on one core
    OMP_NUM_THREADS=1 python benchmarks/models.py conv       # one of: lora, last, prefix, conv, aggregation, cross

One process, one thread; the two forms of each comparison run alternately (A B A B …) and the medians are compared.
Forms are checked to agree before they are timed. ViT-B/16 sizes with random weights. The literal forms are written
from the papers' equations. Rows are kept in results/models.json, each run replacing those that it measured again.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from data_formats import cpu_name
from published import sliced, unfolded
from torch import nn

from slakit.models.exact.depthwise import DepthwiseConv3d
from slakit.models.methods.adaptsign_attention import Aggregation, CrossFrameAttention
from slakit.models.methods.lora import LoRALinear
from slakit.models.packing import Clips
from slakit.models.towers.blocks import MLP, Attention, Block

WIDTH, HEADS, TOKENS, FRAMES = 768, 12, 197, 8


RESULTS = Path(__file__).parent / "results" / "models.json"
ROWS: dict[str, dict] = {}


def compare(name: str, ours: Callable[[], object], other: Callable[[], object], repeats: int, goal: float) -> None:
    """Print the ratio of the medians of processor time, the two run alternately after one warm-up each."""
    times: tuple[list[float], list[float]] = ([], [])
    for step in range(repeats + 1):
        for form, kept in zip((ours, other), times, strict=True):
            begin = time.process_time()
            form()
            if step:
                kept.append(time.process_time() - begin)
    a, b = (1e3 * statistics.median(kept) for kept in times)
    print(f"{name:<46}{a:>10.1f} ms{b:>10.1f} ms{b / a:>8.2f} x   (goal {goal} x)", flush=True)
    ROWS[name] = {"ours_ms": round(a, 1), "other_ms": round(b, 1), "ratio": round(b / a, 2), "goal": goal}


def keep_rows() -> None:
    """Write what was measured, over what stands there of other comparisons."""
    rows = json.loads(RESULTS.read_text())["comparisons"] if RESULTS.is_file() else {}
    content = {
        "cpu": cpu_name(),
        "torch": torch.__version__,
        "threads": 1,
        "time": "process CPU, median",
        "unit": "ms a step",
    }
    RESULTS.write_text(json.dumps(content | {"comparisons": rows | ROWS}, indent=1) + "\n")


def step_of(module: nn.Module, *inputs: torch.Tensor, call: Callable | None = None) -> Callable[[], torch.Tensor]:
    """A training step's forward and backward."""
    cotangent: list[torch.Tensor] = []

    def run() -> torch.Tensor:
        for tensor in (*inputs, *module.parameters()):
            tensor.grad = None
        output = (call or module)(*inputs)
        if not cotangent:
            cotangent.append(torch.randn_like(output))
        output.backward(cotangent[0])  # dense, as from the layers above (a sum's gradient is one repeated number)
        return output.detach()

    return run


def agree(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Stop if two forms do not give the same."""
    error = float(((a - b).abs().max() / b.abs().max()).detach())
    if error > tolerance:
        raise SystemExit(f"the two forms differ by {error:.1e}")


def block() -> Block:
    """A frozen transformer block of ViT-B/16's size."""
    linears = [nn.Linear(WIDTH, WIDTH) for _ in range(4)]
    mlp = MLP(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))
    made = Block(
        nn.LayerNorm(WIDTH), Attention(*linears, HEADS), nn.Identity(), nn.LayerNorm(WIDTH), mlp, nn.Identity()
    )
    return made.requires_grad_(False)


def with_lora(made: Block, rank: int = 16) -> Block:
    """The block with LoRA on all six Linears."""
    for parent, names in ((made.attn, ("q_proj", "k_proj", "v_proj", "out_proj")), (made.mlp, ("fc1", "fc2"))):
        for name in names:
            setattr(parent, name, LoRALinear(getattr(parent, name), rank))
            nn.init.normal_(getattr(parent, name).lora_B, std=0.01)
    return made


def stock_with_peft(made: Block, rank: int = 16) -> nn.Module:
    """PEFT's LoRA on open_clip's own block: nn.MultiheadAttention and both MLP layers."""
    from open_clip.transformer import ResidualAttentionBlock
    from peft import LoraConfig, get_peft_model

    stock = ResidualAttentionBlock(WIDTH, HEADS)
    del made  # only the size matters: PEFT's update of the output projection counts twice, so outputs cannot agree
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=["attn", "mlp.c_fc", "mlp.c_proj"], lora_dropout=0.0)
    model = get_peft_model(nn.Sequential(stock), config)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    return model


def lora(repeats: int) -> None:
    """A block with LoRA in every Linear, against PEFT on the stock block; x requires a gradient as inside a tower."""
    ours = with_lora(block())
    clips, x = Clips([FRAMES]), torch.randn(FRAMES, TOKENS, WIDTH, requires_grad=True)
    try:
        peft = stock_with_peft(ours)
    except ImportError as error:
        print(f"LoRA against PEFT: left out, PEFT is not installed ({error})")
    else:
        compare(
            "LoRA block, training step, against PEFT",
            step_of(ours, x, call=lambda x: ours(x, clips)),
            step_of(peft, x),
            repeats,
            1.2,
        )
    plain = TwoProducts(ours)
    agree(ours(x, clips), plain(x, clips))
    compare(
        "LoRA block, training step, against two products",
        step_of(ours, x, call=lambda x: ours(x, clips)),
        step_of(plain, x, call=lambda x: plain(x, clips)),
        repeats,
        1.0,
    )


class TwoProducts(nn.Module):
    """The same block with LoRA in the usual form: F.linear, then two thin products added to it."""

    def __init__(self, ours: Block):
        super().__init__()
        self.block = copy.deepcopy(ours)
        for parent in (self.block.attn, self.block.mlp):
            for child in list(parent.children()):
                if isinstance(child, LoRALinear):
                    child.forward = lambda x, c=child: (
                        F.linear(x, c.weight, c.bias) + c.scale * F.linear(F.linear(x, c.lora_A), c.lora_B)
                    )

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        return self.block(x, clips)


class Tower(nn.Module):
    """Twelve blocks, LoRA in 5-12 as published; the class token comes out."""

    def __init__(self, pruned: bool):
        super().__init__()
        self.blocks = nn.ModuleList(block() if index < 4 else with_lora(block()) for index in range(12))
        self.pruned = pruned

    def forward(self, x: torch.Tensor, clips: Clips) -> torch.Tensor:
        for index, layer in enumerate(self.blocks):
            x = layer(x, clips, self.pruned and index == 11)
        return x[:, 0]


def last(repeats: int) -> None:
    """The last adapted block for the class token alone: as one block, and as its share of the whole tower's step."""
    ours = with_lora(block())
    clips, x = Clips([FRAMES]), torch.randn(FRAMES, TOKENS, WIDTH, requires_grad=True)
    agree(ours(x, clips, True)[:, 0], ours(x, clips)[:, 0])
    compare(
        "last block for the class token, training step",
        step_of(ours, x, call=lambda x: ours(x, clips, True)[:, 0]),
        step_of(ours, x, call=lambda x: ours(x, clips)[:, 0]),
        repeats,
        10.0,
    )
    pruned, whole = Tower(True), Tower(False)
    whole.load_state_dict(pruned.state_dict())
    clips, x = Clips([FRAMES]), torch.randn(FRAMES, TOKENS, WIDTH)
    steps = [step_of(tower, x, call=lambda x, tower=tower: tower(x, clips)) for tower in (pruned, whole)]
    agree(steps[0](), steps[1](), 1e-4)
    compare("twelve blocks, the last for the class token", *steps, repeats, 1.08)


def prefix(repeats: int) -> None:
    """What a graph below the first adapted block would cost: four blocks, LoRA in the last two."""
    blocks = nn.ModuleList([block(), block(), with_lora(block()), with_lora(block())])
    clips, x = Clips([FRAMES]), torch.randn(FRAMES, TOKENS, WIDTH)
    wanting = x.clone().requires_grad_(True)

    def run(images: torch.Tensor) -> torch.Tensor:
        for layer in blocks:
            images = layer(images, clips)
        return images

    compare(
        "no gradient below the first adapted block",
        step_of(blocks, x, call=run),
        step_of(blocks, wanting, call=run),
        repeats,
        1.1,
    )
    for key, images in (("ours", x), ("other", wanting)):
        below: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, below=below: below.append(t.nbytes) or t, lambda t: t):
            y = blocks[1](blocks[0](images, clips), clips)
        saved = sum(below) / 2**20 / FRAMES
        print(f"  {key}: saved below it {saved:.1f} MiB a frame, grad_fn there {y.grad_fn and y.grad_fn.name()}")
        ROWS["no gradient below the first adapted block"][f"{key}_saved_mib_per_frame"] = round(saved, 1)


def conv(repeats: int) -> None:
    """Depth-wise 3D convolution, 14x14, T = 16, C = 256, against nn.Conv3d(groups=C), both from the token layout."""
    for kernel in ("3x3x3", "3x1x1"):
        ours, size = DepthwiseConv3d(256, kernel), int(kernel[-1])
        nn.init.normal_(ours.weight, std=0.1)
        reference = nn.Conv3d(256, 256, (3, size, size), padding=(1, size // 2, size // 2), groups=256)
        reference.load_state_dict(ours.state_dict())
        clips, x = Clips([16]), torch.randn(16, 14, 14, 256, requires_grad=True)

        def literal(x: torch.Tensor, reference: nn.Module = reference) -> torch.Tensor:
            return reference(x.permute(3, 0, 1, 2)[None])[0].permute(1, 2, 3, 0)

        agree(ours(x, clips), literal(x))
        compare(
            f"depth-wise {kernel} convolution, training step",
            step_of(ours, x, call=lambda x, ours=ours, clips=clips: ours(x, clips)),
            step_of(reference, x, call=literal),
            repeats,
            4.0,
        )


class LiteralAggregation(nn.Module):
    """AdaptSign Eq. (4) and (5) as they stand: keys and values of all tokens are projected."""

    def __init__(self, ours: Aggregation):
        super().__init__()
        self.ours = ours

    def forward(self, query: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        ours, attn = self.ours, self.ours.attn
        q, memory = ours.ln_1(query)[:, None], ours.ln_1(tokens)
        q, k, v = (attn.heads(p(x)) for p, x in ((attn.q_proj, q), (attn.k_proj, memory), (attn.v_proj, memory)))
        query = query + attn.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))[:, 0]
        return query + ours.mlp(ours.ln_2(query))


def aggregation(repeats: int) -> None:
    """AdaptSign's multiscale aggregation of one block, T = 32."""
    ours = Aggregation(WIDTH, HEADS)
    literal = LiteralAggregation(ours)
    query = torch.randn(32, WIDTH, requires_grad=True)
    tokens = torch.randn(32, TOKENS, WIDTH, requires_grad=True)
    agree(ours(query, tokens), literal(query, tokens), 1e-6)
    compare(
        "aggregation, training step",
        step_of(ours, query, tokens),
        step_of(literal, query, tokens),
        repeats,
        8.0,
    )


def cross(repeats: int) -> None:
    """AdaptSign's cross-frame attention with tau = 2, T = 32, against the fivefold unfold, and a kinder form of it."""
    ours = CrossFrameAttention(WIDTH)
    nn.init.constant_(ours.scale, 0.01)
    clips, x = Clips([32]), torch.randn(32, TOKENS, WIDTH, requires_grad=True)

    def literal(x: torch.Tensor, slices: bool = False) -> torch.Tensor:
        normal = ours.ln(x)
        near = sliced(normal[:, 1:], 2) if slices else unfolded(normal[:, 1:], 2)  # [T, 5 n, D]
        scores = (normal[:, :1] @ near.transpose(1, 2) / WIDTH**0.5).sigmoid() - 0.5
        return x + ours.scale * (scores @ near)

    for slices, goal in ((False, 12.0), (True, 1.0)):
        agree(ours(x, clips)[:, 0], literal(x, slices)[:, 0], 1e-6)
        compare(
            "cross-frame attention, training step" + (", against slices of time" if slices else ""),
            step_of(ours, x, call=lambda x: ours(x, clips, class_token_only=True)[:, 0]),
            step_of(ours, x, call=lambda x, slices=slices: literal(x, slices)[:, 0]),
            repeats,
            goal,
        )


COMPARISONS = {
    "lora": lora,
    "last": last,
    "prefix": prefix,
    "conv": conv,
    "aggregation": aggregation,
    "cross": cross,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help=f"of {', '.join(COMPARISONS)}; default: all")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    unknown = set(options.which) - set(COMPARISONS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: choose from {', '.join(COMPARISONS)}")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, one thread; {'ours':>33}{'other':>13}{'ratio':>10}")
    for name in options.which or COMPARISONS:
        COMPARISONS[name](options.repeats)
        keep_rows()


if __name__ == "__main__":
    main()
