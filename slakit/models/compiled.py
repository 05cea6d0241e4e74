"""torch.compile on a GPU: norms, shifts, activations and sums of a block become a few kernels between its products.

On a GPU about half of an adapted block's time goes into such steps, each a kernel and a pass over memory. The embedding
is one graph and every block, with what hangs on it, another (equal ones share their kernels, so that a tower takes half
a minute, once), for any number of frames. On a CPU nothing is gained, and "auto" compiles nothing there.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

import torch

from slakit.models.exact.recompute import WIDTH, held
from slakit.models.packing import Clips
from slakit.models.towers.backbones import Backbone
from slakit.models.towers.encoder import Encoder
from slakit.models.towers.resnet import MapTower

CAPABILITY = (8, 0)  # "auto" begins here: measured on such GPUs alone
SLOWER = "training is slower, its results are the same"
GRAPHS = 128  # of one block's code: trained or not, first or last, training or evaluation, of every model


def should_compile(encoder: Encoder, device: torch.device) -> bool:
    """Whether "auto" compiles: a GPU of compute capability 8 and above, and a tower of some width."""
    return (
        device.type == "cuda"
        and torch.cuda.get_device_capability(device) >= CAPABILITY
        and encoder.backbone.width >= WIDTH
    )


@contextmanager
def compiled(
    encoder: Encoder,
    choice: Literal["auto"] | bool,
    device: torch.device,
    half: torch.dtype | None,
    say: bool = True,
    backend: str = "inductor",
) -> Iterator[None]:
    """Within: the encoder's blocks run compiled. A step on a few frames is tried first; where it fails, the reason is
    printed and they run as they are.

    choice: True, False, or "auto", see should_compile(). half: the autocast type of the steps to come, None for
    float32. say: print a line, that it takes a minute. backend: torch.compile's.
    """
    if choice is False or (choice == "auto" and not should_compile(encoder, device)):
        yield
        return
    missing = _missing() if device.type == "cuda" else None
    reason = f"torch.compile needs {missing}" if missing else None
    if isinstance(encoder.backbone.tower, MapTower) and encoder.reach:
        reason = "the network's blocks look at whole clips, and would be compiled anew for every batch's lengths"
    if reason:
        if say:
            print(f"not compiled: {reason}; {SLOWER}")
        yield
        return
    if say:
        hint = "" if device.type == "cuda" else "; on a CPU it gains nothing: compile=False leaves it out"
        print(f"compiling the encoder's blocks, half a minute or more{hint}")
    warnings.filterwarnings("ignore", message=r"\s*Online softmax is disabled")  # how a kernel is built: no news
    with torch._dynamo.config.patch(cache_size_limit=GRAPHS):
        try:
            parts = (Backbone.embed, encoder.block_step)
            encoder.compiled = {part: torch.compile(part, backend=backend) for part in parts}
            reason = _try(encoder, device, half)
            if reason:
                encoder.compiled = {}
                if say:
                    print(f"not compiled ({reason}); {SLOWER}")
            yield
        finally:
            encoder.compiled = {}


def _missing() -> str | None:
    """What a GPU's kernels are made with and is not here."""
    if find_spec("triton") is None:
        return "Triton"
    return None if any(map(shutil.which, ("cc", "gcc", "clang"))) else "a C compiler"


def _try(encoder: Encoder, device: torch.device, half: torch.dtype | None) -> str | None:
    """Steps on a few frames: why they cannot be compiled, or None, and the graphs of training are ready then.

    Two of them: behind a part that is left out of the graph, a number of frames is only seen to vary at the second. And
    both again: a number that was seen before has other attention kernels.
    """
    size, training, weight = encoder.backbone.image_size, encoder.training, next(encoder.parameters())
    encoder.train()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), held(encoder):
            encoder.frames_seen.clear()
            for lengths in ([5, 4], [6, 7], [5, 4], [6, 7]):
                clips = Clips(lengths, device)
                images = torch.zeros(clips.total, 3, size, size, device=device, dtype=weight.dtype)
                with torch.autocast(device.type, half or torch.bfloat16, enabled=half is not None):
                    features = encoder(images, clips)
                if features.requires_grad:
                    features.float().sum().backward()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return f"{type(error).__name__}: " + " ".join(str(error).split("\n\n")[0].split())[:300]
    finally:
        encoder.train(training)
        encoder.zero_grad(set_to_none=True)
        encoder.frames_seen.clear()
    return None
