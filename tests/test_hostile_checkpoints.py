"""Checkpoints that lie: refused in a sentence, before memory is taken, and nothing of their own choosing is opened."""

from __future__ import annotations

import json
import random
import resource
import time

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import CONFIGS, frames, stir, tiny, tower

from slakit.models import create_model, load_backbone, load_checkpoint, save_checkpoint
from slakit.models.checkpoints import load_tensors
from slakit.models.description import describe, read_description
from slakit.records import CheckpointError, ConfigError, SlakitError


@pytest.fixture
def model():
    built = tiny("sla-lora", "tiny-quick")
    stir(built)
    return built.eval()


def forged(file, old=True, **changes):
    """The same tensors under a description that says something else; old: without the checksum that would tell."""
    description = read_description(file) | changes
    if old:
        description.pop("checksum")
    save_file(load_tensors(file), file, {"slakit": json.dumps(description)})


def answer(model):
    with torch.no_grad():
        return model(frames(9), torch.tensor([9])).sequence


CONFIG_LIES = [
    {"hidden_size": 20_000}, {"hidden_size": 10**9 * 2}, {"hidden_size": 2**62}, {"lstm_layers": 10**9},
    {"lstm_layers": 3}, {"dropout": 3}, {"image_size": 10**9}, {"seed": -1}, {"options": {"rank": 10**9}},
    {"options": {"blocks": "1-99999999999"}}, {"options": {"blocks": "²"}}, {"options": {"alpha": "x"}},
    {"options": {"alpha": 1e308}},
    {"options": [[]]}, {"backbone": 3}, {"backbone": "x" * 5000}, {"backbone": "hf-hub:some/where"},
    {"backbone": "../../etc/x.json"}, {"pretrained": []}, {"method": None}, {"method": "sla-lora2"},
]  # fmt: skip
LIES = [
    {"glosses": None}, {"glosses": -1}, {"glosses": [None]}, {"glosses": [["A"]]}, {"glosses": []},
    {"glosses": ["\ud800"] * 5}, {"glosses": ["A" * 1_000_000, *"BCDE"]}, {"glosses": ["A", "A", *"BCD"]},
    {"glosses": [f"G{i}" for i in range(100_000)] * 2}, {"glosses": [f"G{i}" for i in range(3_000_000)]},
    {"base_checksum": None}, {"versions": None}, {"versions": [1]}, {"config": []}, {"config": None},
    {"include_base": "yes"}, {"format": True}, {"format": "1"}, {"metrics": 3}, {"train": "x"},
    {"backbone_definition": []}, {"backbone_definition": {"vision_cfg": []}}, {"activation": 1},
]  # fmt: skip


@pytest.mark.parametrize("lie", [*LIES, *({"config": config} for config in CONFIG_LIES)], ids=lambda lie: str(lie)[:50])
def test_a_lie_is_one_sentence_and_takes_no_memory(model, tmp_path, lie):
    file = save_checkpoint(model, tmp_path / "x", include_base=True)
    own = read_description(file)["backbone_definition"]
    if lie.get("config"):
        config = read_description(file)["config"]
        lie = {
            "config": {**config, **lie["config"]},
            "backbone_definition": None if "backbone" in lie["config"] else own,
        }
        if isinstance(lie["config"]["options"], dict):
            lie["config"]["options"] = {**config["options"], **lie["config"]["options"]}
    forged(file, **lie)
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SlakitError) as caught:
        load_checkpoint(file)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1500 + len(str(tmp_path))
    assert time.perf_counter() - begin < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2_000_000  # KiB


def test_a_description_nested_deeply_or_of_digits_without_end(model, tmp_path):
    file = save_checkpoint(model, tmp_path / "x")
    for text in ("[" * 5000 + "]" * 5000, '{"a":' * 500 + "1" + "}" * 500, "[" * 40 + "]" * 40, "1" * 5000, "{"):
        save_file(load_tensors(file), file, {"slakit": text})
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(file)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64, torch.uint8, torch.float64, torch.bfloat16])
def test_tensors_of_another_type_are_not_cast(model, tmp_path, dtype):
    file = save_checkpoint(model, tmp_path / "x")
    tensors = load_tensors(file)
    name = "sequence.classifier.weight"
    save_file(tensors | {name: tensors[name].to(dtype)}, file, {"slakit": json.dumps(read_description(file))})
    with pytest.raises(CheckpointError, match=f"classifier.weight holds {dtype}, the model has torch.float32"):
        load_checkpoint(file)


def test_flipped_bits_are_refused(model, tmp_path):
    """Wherever they are: in the weights, in the header's shapes, in the description."""
    file = save_checkpoint(model, tmp_path / "x", corpus="toy")
    sound, choose = file.read_bytes(), random.Random(0)
    for _ in range(25):
        place, bit = choose.randrange(len(sound)), choose.randrange(8)
        damaged = bytearray(sound)
        damaged[place] ^= 1 << bit
        file.write_bytes(damaged)
        with pytest.raises(SlakitError):
            load_checkpoint(file)
    for place in (9, 40, len(sound) - 1):  # and certainly in each part of the file
        damaged = bytearray(sound)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(SlakitError):
            load_checkpoint(file)
    file.write_bytes(sound)
    load_checkpoint(file)


def test_a_description_that_was_edited_is_refused_by_its_checksum(model, tmp_path):
    file = save_checkpoint(model, tmp_path / "x", corpus="toy")
    forged(file, old=False, glosses=["G1", "G0", "G2", "G3", "G4"])
    with pytest.raises(CheckpointError, match="checksum is wrong"):
        load_checkpoint(file)
    forged(file, glosses=["G1", "G0", "G2", "G3", "G4"])  # of before there were checksums
    assert load_checkpoint(file).vocabulary.glosses[0] == "G1"


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-quick"])
def test_a_tower_of_ones_own_travels_with_its_checkpoint(tmp_path, monkeypatch, name):
    """The JSON file that defined it need not be there any more, and no registered tower changes."""
    (tmp_path / "towers").mkdir()
    own = tmp_path / "towers" / f"{name}-own.json"
    own.write_text(json.dumps(CONFIGS[name]))
    model = create_model("frozen", ["A", "B"], str(own), None, hidden_size=32).eval()
    file = save_checkpoint(model, tmp_path / "x")
    own.unlink()
    loaded = load_checkpoint(file)
    assert torch.equal(answer(loaded), answer(model)) and loaded.config == model.config
    again = load_checkpoint(save_checkpoint(loaded, tmp_path / "again"))
    assert torch.equal(answer(again), answer(model))
    forged(file, backbone_definition=None)
    with pytest.raises(CheckpointError, match=r"tiny-.*-own\.json, a file that is not followed there; copy it to"):
        load_checkpoint(file)
    (tmp_path / own.name).write_text(json.dumps(CONFIGS[name]))
    assert torch.equal(answer(load_checkpoint(file)), answer(model))


@pytest.mark.parametrize(
    "vision", [
        {"layers": 10**9}, {"width": 10**9}, {"head_width": 0}, {"patch_size": 0}, {"width": -64}, {"width": "64"},
        {"timm_model_name": "hf-hub:x/y"}, {"timm_model_name": "local-dir:/etc"},
        {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": True},
    ],
    ids=str,
)  # fmt: skip
def test_a_definition_is_bounded_and_asks_no_hub(model, tmp_path, vision, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was asked for"))
    lie = {**CONFIGS["tiny-quick"], "vision_cfg": {**CONFIGS["tiny-quick"]["vision_cfg"], **vision}}
    file = save_checkpoint(model, tmp_path / "x", include_base=True)
    forged(file, backbone_definition=lie)
    with pytest.raises(SlakitError):
        load_checkpoint(file)
    (tmp_path / "lie.json").write_text(json.dumps(lie))
    with pytest.raises(ConfigError):
        load_backbone(str(tmp_path / "lie.json"))


def test_a_text_tower_of_a_hub_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection was asked for"))
    lie = {**CONFIGS["tiny-vit"], "text_cfg": {"hf_model_name": "x/y", "hf_tokenizer_name": "x/y"}}
    (tmp_path / "lie.json").write_text(json.dumps(lie))
    with pytest.raises(ConfigError, match="asks a hub"):
        load_backbone(str(tmp_path / "lie.json"))
    assert load_backbone("roberta-ViT-B-32").width == 768  # open_clip's own configuration, whose text tower is a hub's


def weights_of(name, file, **options):
    """A file of the tower's weights as others publish them: `visual.…`, bare."""
    import open_clip

    load_backbone(tower(name))  # registers the configuration
    torch.manual_seed(11)
    stock = open_clip.create_model(name)
    state = {f"visual.{key}": value for key, value in stock.visual.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file, **options)
    return file


def test_a_checkpoint_trained_from_a_file_loads_elsewhere_with_that_file(tmp_path, capsys):
    file = weights_of("tiny-vit", tmp_path / "here" / "base.safetensors")
    model = create_model("sla-lora", ["A", "B"], tower("tiny-vit"), file, hidden_size=32)
    assert "base.safetensors: activation GELU, as the backbone's name says" in capsys.readouterr().out
    stir(model)
    checkpoint = save_checkpoint(model.eval(), tmp_path / "there" / "x")
    with pytest.raises(CheckpointError, match=r"trained from the weights .*base\.safetensors.*--pretrained FILE"):
        load_checkpoint(checkpoint)  # although the file is still where the checkpoint says
    assert torch.equal(answer(load_checkpoint(checkpoint, pretrained=file)), answer(model))
    other = weights_of("tiny-quick", tmp_path / "other.safetensors")
    other.write_bytes(other.read_bytes()[:-1] + b"\x11")
    with pytest.raises(CheckpointError, match="trained on other base weights"):
        load_checkpoint(checkpoint, pretrained=other)
    file.rename(checkpoint.parent / "base.safetensors")  # beside it, it is found
    assert torch.equal(answer(load_checkpoint(checkpoint)), answer(model))


def test_a_snapshot_of_a_hub_says_its_activation(tmp_path, capsys):
    cache = tmp_path / "models--some--clip"
    snapshot = cache / "snapshots" / "0123abc"
    weights_of("tiny-vit", snapshot / "open_clip_model.safetensors")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123abc")
    settings = {"model_cfg": {**CONFIGS["tiny-vit"], "quick_gelu": True}}
    (snapshot / "open_clip_config.json").write_text(json.dumps(settings))
    for place in (cache, snapshot, snapshot / "open_clip_model.safetensors"):
        assert load_backbone(tower("tiny-vit"), place).activation == "quick_gelu"
        assert "activation QuickGELU, as open_clip_config.json beside it says" in capsys.readouterr().out
    quick = load_backbone(tower("tiny-vit"), cache)
    (snapshot / "open_clip_config.json").unlink()
    (snapshot / "config.json").write_text('{"vision_config": {"hidden_act": "gelu"}}')
    plain = load_backbone(tower("tiny-vit"), cache)
    assert plain.activation == "gelu" and plain.base_checksum != quick.base_checksum
    with pytest.raises(ConfigError, match="trained with GELU"):
        load_backbone(tower("tiny-quick"), cache)
    (snapshot / "open_clip_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="holds no file of weights"):
        load_backbone(tower("tiny-vit"), cache)


def test_an_edited_source_does_not_change_the_activation(tmp_path):
    """Same weights, another activation: the checksum of the weights alone did not tell."""
    file = weights_of("tiny-vit", tmp_path / "base.safetensors")
    model = create_model("sla-lora", ["A", "B"], tower("tiny-vit"), file, hidden_size=32)
    checkpoint = save_checkpoint(model, tmp_path / "x")
    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"quick_gelu": true}}')
    with pytest.raises(CheckpointError, match=r"trained with GELU, the weights .* come with QuickGELU here"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("told", [True, False], ids=["as it says", "of before it said so"])
def test_a_whole_tower_keeps_the_activation_that_it_was_trained_with(tmp_path, monkeypatch, told):
    """`full` from OpenAI's tag stores its tower: nothing is fetched when it is loaded, and QuickGELU stays."""
    model = create_model("full", ["A", "B"], tower("tiny-quick"), None, hidden_size=32).eval()
    plain = tower("tiny-vit")  # the same sizes, GELU; its weights of a tag come with QuickGELU
    model.encoder.backbone.definition = CONFIGS["tiny-vit"]
    monkeypatch.setitem(model.config.__dict__, "backbone", plain)
    monkeypatch.setitem(model.config.__dict__, "pretrained", "openai")
    file = save_checkpoint(model, tmp_path / "x")
    if not told:
        forged(file, activation=None, backbone_definition=CONFIGS["tiny-vit"])
        monkeypatch.setattr("open_clip.get_pretrained_cfg", lambda *_: {"quick_gelu": True})
    assert torch.equal(answer(load_checkpoint(file)), answer(model))


def test_hub_names_and_missing_networks_have_a_way_out(monkeypatch):
    with pytest.raises(ConfigError, match=r"names a model of a hub.*download it"):
        load_backbone("hf-hub:timm/vit_base_patch16_clip_224.openai")

    def offline(*arguments, **options):
        raise RuntimeError("Failed to download weights for tag 'laion400m_e31': " + "no route, " * 40 + "the end")

    monkeypatch.setattr("open_clip.create_model", offline)
    with pytest.raises(ConfigError, match=r"the end; without a network give a file .*HF_HOME"):
        load_backbone("ViT-B-16", "laion400m_e31")


def test_a_forged_description_is_still_put_in_words(model, tmp_path):
    file = save_checkpoint(model, tmp_path / "x", clips={"train": []}, seed={})
    assert "unknown" in describe(read_description(file), file)
    forged(file, metrics={"wer": {"dev": "much"}, "epoch": "x"}, config={})
    assert isinstance(describe(read_description(file), file), str)
    forged(file, old=False, train={"decode": 3})
    with pytest.raises(ConfigError, match=r"train\.decode is 3"):
        describe(read_description(file), file)


def test_shipped_models_have_no_path_and_still_load():
    from slakit.models import demo_model

    with safe_open(demo_model("sla-lora").with_name("sla-lora.safetensors"), "pt") as content:
        assert len(list(content.keys())) == 68
    assert load_checkpoint(demo_model("sla-lora")).config.pretrained == "tiny-clip"
