"""Opened image towers against the stock ones, every published key layout, image sizes, messages."""

from __future__ import annotations

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tiny_models import CONFIGS, FLAVA, tower

from slakit.models import load_backbone, record_attention
from slakit.models.packing import Clips
from slakit.models.towers.weights import resample_positions
from slakit.records import CheckpointError, ConfigError

# Families of open_clip that slakit opens, a model of each, and how many of its blocks are built (wide ones: one).
FAMILIES = {
    "ViT-B-32": 2,
    "ViT-B-16": 2,
    "ViT-L-14": 1,
    "ViT-L-14-336": 1,
    "ViT-H-14": 1,
    "coca_ViT-B-32": 2,
    "coca_ViT-L-14": 1,
    "ViT-B-16-SigLIP": 2,
    "ViT-B-16-SigLIP2": 2,
    "ViT-SO400M-14-SigLIP": 1,
}


def stock(path: str, seed: int = 0) -> torch.nn.Module:
    """open_clip's own model for a configuration file that is registered already."""
    torch.manual_seed(seed)
    return open_clip.create_model(path.rsplit("/", 1)[-1].removesuffix(".json")).eval()


def shake(model: torch.nn.Module) -> None:
    """Random values everywhere: biases and norms are not left at zero and one."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + (parameter.dim() == 1) * 0.3)


def test_a_class_token_alone_equals_the_whole_last_block():
    backbone = load_backbone(tower("tiny-vit"), None).double()
    shake(backbone)
    x = torch.randn(5, 17, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    clips = Clips([5])
    whole, part = backbone.blocks[-1](x, clips), backbone.blocks[-1](x, clips, class_token_only=True)
    assert part.shape == (5, 1, 64)
    assert (whole[:, :1] - part).abs().max() < 1e-12


@pytest.mark.parametrize("name", CONFIGS)
def test_tiny_towers_equal_stock(name):
    path = tower(name)
    load_backbone(path)  # registers the configuration
    model = stock(path)
    shake(model)
    file = path.replace(".json", ".safetensors")
    save_file(model.state_dict(), file)
    backbone = load_backbone(path, file).eval()
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.visual(images)
        expected = expected[0] if isinstance(expected, tuple) else expected
        found = backbone.project(backbone(images))
    assert found.abs().max() > 0.1
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("name", FAMILIES)
def test_families_at_reduced_depth(name, tmp_path, monkeypatch):
    """The family's own configuration and key layout, with few blocks: saved, loaded, compared with the stock tower."""
    import json

    config = open_clip.get_model_config(name)
    vision = config["vision_cfg"]
    config["text_cfg"] = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
    config.pop("multimodal_cfg", None)
    if vision.get("timm_model_name"):
        import timm

        create = timm.create_model
        monkeypatch.setattr(
            timm, "create_model", lambda *args, **options: create(*args, **options, depth=FAMILIES[name])
        )
    else:
        vision["layers"] = FAMILIES[name]
    short = tmp_path / f"{name}-short.json"
    short.write_text(json.dumps(config))
    load_backbone(str(short))
    model = stock(str(short), seed=3)
    tensors = {f"visual.{key}": value.contiguous() for key, value in model.visual.state_dict().items()}
    save_file(tensors, tmp_path / "weights.safetensors")
    backbone = load_backbone(str(short), tmp_path / "weights.safetensors", seed=9).eval()
    assert backbone.depth == FAMILIES[name]
    images = torch.randn(1, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = model.visual(images)
        expected = expected[0] if isinstance(expected, tuple) else expected
        found = backbone.project(backbone(images))
    assert (found - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.slow
def test_vit_b16_at_full_size(tmp_path):
    torch.manual_seed(1)
    model = open_clip.create_model("ViT-B-16").eval()
    save_file(
        {f"visual.{key}": value for key, value in model.visual.state_dict().items()}, tmp_path / "b16.safetensors"
    )
    backbone = load_backbone("ViT-B-16", tmp_path / "b16.safetensors")
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert (backbone.project(backbone(images)) - model.visual(images)).abs().max() < 1e-5
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 86_192_640


@pytest.mark.parametrize("layout", ["folder", "image model", "whole model"])
def test_flava_equals_transformers(layout, tmp_path):
    """The class token after the last norm, from every way its weights are stored; another size resamples positions."""
    transformers = pytest.importorskip("transformers", reason="FLAVA is an extra")
    torch.manual_seed(2)
    model = transformers.FlavaImageModel(transformers.FlavaImageConfig(**FLAVA), add_pooling_layer=False).eval()
    shake(model)
    if layout == "folder":
        model.save_pretrained(tmp_path / "weights")
    else:
        start = "flava.image_model." if layout == "whole model" else ""
        extra = {"flava.text_model.x": torch.zeros(1)} if start else {}
        torch.save({start + key: value for key, value in model.state_dict().items()} | extra, tmp_path / "weights")
    images = torch.randn(3, 3, 32, 32)
    backbone = load_backbone(tower("tiny-flava"), tmp_path / "weights", seed=7)
    with torch.no_grad():
        expected = model(images).last_hidden_state[:, 0]
        assert (backbone(images) - expected).abs().max() < 1e-5
    larger = load_backbone(tower("tiny-flava"), tmp_path / "weights", image_size=48)
    assert larger.grid == (6, 6) and larger(torch.zeros(1, 3, 48, 48)).shape == (1, 64)
    torch.save({"cls_token": torch.zeros(1, 1, 8)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt does not hold this FLAVA"):
        load_backbone(tower("tiny-flava"), tmp_path / "other.pt")


@pytest.mark.slow
def test_flava_at_full_size():
    transformers = pytest.importorskip("transformers", reason="FLAVA is an extra")
    backbone = load_backbone("FLAVA-ViT-B-16", None, seed=1)
    torch.manual_seed(1)
    model = transformers.FlavaImageModel(transformers.FlavaImageConfig(), add_pooling_layer=False).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert (backbone(images) - model(images).last_hidden_state[:, 0]).abs().max() < 1e-5


class Archive(torch.nn.Module):
    """A stand-in for OpenAI's archive: a TorchScript module `visual.*` in half precision, three more buffers."""

    def __init__(self, visual: torch.nn.Module):
        super().__init__()
        self.visual = visual
        for key in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(key, torch.tensor(32))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.visual(images)


@pytest.mark.parametrize("layout", ["openai", "state_dict", "module", "bare tower"])
def test_published_key_layouts(layout, tmp_path):
    path = tower("tiny-vit")
    load_backbone(path)
    model = stock(path, seed=4)
    file = tmp_path / "weights.pt"
    state = model.state_dict()
    if layout == "openai":
        images = torch.zeros(1, 3, 32, 32)
        torch.jit.trace(Archive(model.visual), images, check_trace=False).half().save(str(file))
    elif layout == "module":
        torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, file)
    elif layout == "bare tower":
        torch.save(model.visual.state_dict(), file)
    else:
        torch.save(state, file)
    backbone = load_backbone(path, file, seed=8)
    reference = (
        stock(tower("tiny-quick"), seed=4) if layout == "openai" and load_backbone(tower("tiny-quick")) else model
    )
    reference.load_state_dict({k: v.half().float() if layout == "openai" else v for k, v in state.items()})
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert (backbone.project(backbone(images)) - reference.visual(images)).abs().max() < 1e-5


def test_image_size_resamples_positions(tmp_path):
    path = tower("tiny-vit")
    load_backbone(path)
    file = tmp_path / "weights.safetensors"
    save_file(stock(path).state_dict(), file)
    larger = load_backbone(path, file, image_size=48)
    assert larger.grid == (6, 6)
    assert larger(torch.zeros(1, 3, 48, 48)).shape == (1, 64)
    # A grid whose values are a linear function of the place stays that function inside.
    ramp = torch.arange(4.0).repeat(4, 1).reshape(16, 1)
    new = resample_positions(torch.cat([torch.full((1, 1), 7.0), ramp]), 65, "x")
    assert new[0, 0] == 7.0
    assert torch.allclose(new[1:].reshape(8, 8)[:, 2:6], (torch.arange(8.0)[2:6] + 0.5) / 2 - 0.5, atol=0.05)


def test_random_weights_come_from_the_seed_alone():
    first, again, other = (load_backbone(tower("tiny-vit"), None, seed=s) for s in (3, 3, 4))
    assert first.base_checksum == again.base_checksum != other.base_checksum
    state = torch.random.get_rng_state()
    load_backbone(tower("tiny-vit"), None, seed=3)
    assert torch.equal(state, torch.random.get_rng_state())


def test_recorded_attention_is_the_softmax_on_the_graph():
    backbone = load_backbone(tower("tiny-vit"), None).eval()
    images = torch.randn(2, 3, 32, 32)
    plain = backbone(images)
    with record_attention(backbone) as attentions:
        recorded = backbone(images)
        weights = attentions[0].weights
        assert weights.shape == (2, 4, 17, 17)
        assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 17))
        assert torch.autograd.grad(recorded.square().sum(), weights)[0].abs().max() > 0
    assert (plain - recorded).abs().max() < 1e-5
    assert attentions[0].weights is None


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("ViT-B-17",), ConfigError, ["ViT-B-17", "did you mean 'ViT-B-16'"]),
        (("ViT-B-16", "openay"), ConfigError, ["openay", "did you mean 'openai'"]),
        (("ViT-B-16", "missing.safetensors"), CheckpointError, ["missing.safetensors"]),
        (("RN50",), ConfigError, ["ModifiedResNet"]),
        (("nothing.json",), ConfigError, ["nothing.json"]),
        (("tiny", None, 33), ConfigError, ["33", "patch of 8"]),
    ],
)
def test_messages(arguments, error, words):
    name = tower("tiny-vit") if arguments[0] == "tiny" else arguments[0]
    with pytest.raises(error) as caught:
        load_backbone(name, *arguments[1:])
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_wrong_weights_and_sizes_are_named(tmp_path):
    load_backbone(tower("tiny-vit"))
    save_file({"visual.conv1.weight": torch.zeros(8, 3, 8, 8)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"conv1.weight has shape \(8, 3, 8, 8\)"):
        load_backbone(tower("tiny-vit"), tmp_path / "other.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\x10\x00\x00")
    with pytest.raises(CheckpointError, match=r"damaged\.safetensors"):
        load_backbone(tower("tiny-vit"), tmp_path / "damaged.safetensors")
    with pytest.raises(ConfigError, match=r"\[N, 3, 32, 32\]"):
        load_backbone(tower("tiny-vit"))(torch.zeros(1, 3, 40, 40))
