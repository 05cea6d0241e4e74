"""The systems that the papers compare with, against numbers of their public code, and what else must hold for them."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import survival
import torch
import torchvision
from safetensors.torch import load_file, save_file
from tiny_models import NETWORKS, WHOLE_CLIP, golden, stir, tiny, tower
from tiny_models import frames as pictures

import slakit
from slakit import explain
from slakit.__main__ import main
from slakit.config import ModelConfig, from_dict
from slakit.data.loader import clip_loader
from slakit.machine import Processes, shipped
from slakit.models import create_model, load_adaptsign_checkpoint, load_checkpoint, load_published_checkpoint
from slakit.models.methods import with_method
from slakit.models.packing import Clips
from slakit.models.published_import import UNUSED, described
from slakit.recognition import StreamingRecognizer
from slakit.recognition.forward import log_probs, settings_for
from slakit.recognition.video import recognize_frames
from slakit.records import CheckpointError, ConfigError
from slakit.training.losses import recognition_loss
from slakit.training.memory import memory_plan
from slakit.training.presets import preset
from slakit.training.processes import shared_statistics
from slakit.training.state import TrainingRun
from tests.layouts import export

FILES = {
    "vac": "vac", "vac_smkd": "vac-smkd", "tlp": "tlp", "sen": "sen", "corrnet": "corrnet",
    "corrnet_csldaily": "corrnet", "corrnet_plus": "corrnet+", "slowfast": "slowfastsign",
}  # fmt: skip
HEAVY = ("sen", "corrnet", "slowfast")  # the others cover every module but SlowFast's
TERMS = {"SeqCTC": "sequence", "ConvCTC": "conv", "Dist": "distillation", "Cu": "lift_update", "Cp": "lift_predict"}
TERMS |= {"Slow": "slow", "Fast": "fast"}
MAIN = "out.train.sequence_logits.main"
LENGTHS = torch.tensor([22, 17])
GLOSSES = {f"G{i}": [i, 1] for i in range(1, 13)}


def some(*heavy: str) -> list:
    """The golden files, the heavy ones in thorough tests alone."""
    return [pytest.param(name, marks=pytest.mark.thorough if name in heavy else ()) for name in FILES]


def state_of(numbers: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    state = {key.removeprefix("state."): value for key, value in numbers.items() if key.startswith("state.")}
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def published(name: str, folder: Path):
    """(the model of a golden file, imported through a file as the training code writes it; its numbers)."""
    numbers = golden(f"systems/{name}")
    torch.save({"epoch": 3, "model_state_dict": state_of(numbers)}, folder / f"{name}.pt")
    return load_published_checkpoint(folder / f"{name}.pt", GLOSSES), numbers


def frames() -> torch.Tensor:
    return golden("systems/inputs")["frames"]


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest value."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize("name", some(*HEAVY))
def test_features_and_logits_equal_the_public_code(name, tmp_path):
    model, numbers = published(name, tmp_path)
    assert model.config.method == FILES[name]
    for part, clips, lengths in (("batch", frames(), LENGTHS), ("single", frames()[22:], LENGTHS[1:])):
        with torch.no_grad():
            features = model.encode(clips, lengths)
            logits = model.recognize_features(features, lengths)
        close(features, numbers[f"out.{part}.features"], 1e-5)
        close(logits.conv.transpose(0, 1), numbers[f"out.{part}.conv_logits"], 1e-5)
        close(logits.sequence.transpose(0, 1), numbers[f"out.{part}.sequence_logits"], 1e-5)
        assert logits.lengths.tolist() == numbers[f"out.{part}.steps"].tolist()


@pytest.mark.parametrize("name", some(*(name for name in FILES if name != "tlp")))
def test_losses_gradients_and_statistics_equal_the_public_code(name, tmp_path):
    """One training pass without dropout, in float64, with the weights that the system's preset has."""
    model, numbers = published(name, tmp_path)
    model.double().train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout | torch.nn.LSTM):
            module.dropout = module.p = 0.0
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs = golden("systems/inputs")
    weights = preset(f"{FILES[name]}/phoenix2014").train.loss_weights
    if name == "vac_smkd":  # the recorded run has the distillation too
        weights = preset("vac/phoenix2014").train.loss_weights
    logits = model(frames(), LENGTHS)
    total, terms = recognition_loss(logits, inputs["labels"] % 12 + 1, inputs["label_lengths"], weights)
    close(logits.sequence.transpose(0, 1), numbers.get("out.train.sequence_logits", numbers.get(MAIN)), 1e-4)
    for key, term in TERMS.items():
        if f"out.train.loss.{key}" in numbers:
            close(terms[term].detach().view(1), numbers[f"out.train.loss.{key}"], 1e-4)
    close(total.detach().view(1), numbers["out.train.loss.total"], 1e-4)
    total.backward()
    # Names: which of our tensors is which of theirs.
    state = state_of(numbers)
    _, ours = described(FILES[name], {key: value for key, value in state.items() if not UNUSED.search(key)}, tmp_path)
    parameters, buffers, counted = dict(model.named_parameters()), model.state_dict(), 0
    for key, expected in numbers.items():
        kind, _, theirs = key.removeprefix("out.train.").partition(".")
        if not key.startswith(("out.train.gradient_norm.", "out.train.moved_by.")) or UNUSED.search(theirs):
            continue
        names = [mine for mine, value in ours.items() if value is state[theirs]]
        if theirs == "conv2d.alpha":
            names = [mine for mine in ours if mine.endswith(".after.0.alpha")]
        if theirs.startswith("conv1d.fc.") and not names:
            continue  # shared with the classifier
        assert names, theirs
        if kind == "gradient_norm":
            found = torch.stack([parameters[mine].grad.norm() for mine in names]).norm()
        else:
            found = (buffers[names[0]] - before[names[0]]).norm()
        assert abs(found - expected) <= 1e-5 * expected + 1e-9, theirs
        counted += 1
    assert counted > 100


def test_a_training_file_becomes_a_checkpoint_of_ours(tmp_path, capsys):
    """vac.pt is as VAC's code writes it: DataParallel's names, random states. The command line walks the whole way."""
    golden("systems/vac")
    source = Path(__file__).resolve().parents[2] / "shared" / "golden" / "systems" / "vac.pt"
    np.save(tmp_path / "gloss_dict.npy", np.array(GLOSSES, dtype=object), allow_pickle=True)
    out = tmp_path / "vac.safetensors"
    assert main(["convert", str(source), "--gloss-dict", str(tmp_path / "gloss_dict.npy"), "--out", str(out)]) == 0
    assert "is vac with 12 glosses" in capsys.readouterr().out
    model, numbers = load_checkpoint(out), golden("systems/vac")
    with torch.no_grad():
        close(model(frames()[22:], LENGTHS[1:]).sequence.transpose(0, 1), numbers["out.single.sequence_logits"], 1e-5)
    protocol = settings_for(model)
    assert (protocol.augment.image_size, protocol.augment.crop_size, protocol.batch_size) == (256, 224, 2)
    smaller = settings_for(load_published_checkpoint(source, GLOSSES, image_size=160)).augment
    assert (smaller.image_size, smaller.crop_size) == (183, 160), "AdaBrowse's size, which no tensor says"
    assert (protocol.decode.collapse_repeats, protocol.precision, model.config.padding) == (
        True,
        "float32",
        "published",
    )


@pytest.mark.thorough
def test_a_released_file_is_evaluated_as_published_and_clip_by_clip(tmp_path, capsys):
    """On drawn clips in the official tree, by the command line. TLP's norm reads the padding of a batch: a shorter clip
    has other log probabilities beside a longer one than alone, and evaluation is that of the batches of two."""
    torch.save({"model_state_dict": state_of(golden("systems/tlp"))}, tmp_path / "tlp.pt")
    names = [f"G{i:02}" for i in range(1, 13)]
    drawn = slakit.load_corpus("minisign", tmp_path / "drawn", train=1, dev=2, test=1, progress=False)
    signed = {"train": names[:4], "dev": names[4:8], "test": names[8:]}
    drawn = replace(drawn, **{
        split: tuple(replace(sample, glosses=tuple(glosses), spans=()) for sample in drawn.split(split))
        for split, glosses in signed.items()
    })  # fmt: skip
    root = export(drawn, "phoenix2014", tmp_path / "phoenix", show_progress=False)
    np.save(tmp_path / "gloss_dict.npy", np.array({n: [i, 1] for i, n in enumerate(names, 1)}, dtype=object))
    converted = tmp_path / "tlp.safetensors"
    assert main(["convert", str(tmp_path / "tlp.pt"), "--gloss-dict", str(tmp_path / "gloss_dict.npy")]) == 0
    asked = ["--checkpoint", str(converted), "--corpus", "phoenix2014", "--root", str(root), "--out", str(tmp_path)]
    assert main(["evaluate", *asked, "--clip-by-clip"]) == 0
    assert "2 clips are answered otherwise than in batches of 2" in capsys.readouterr().out
    facts = json.loads((tmp_path / "dev.json").read_text())
    assert (facts["clips"], facts["words"], facts["decode"]["collapse_repeats"]) == (2, 8, True)
    model, corpus = load_checkpoint(converted), slakit.load_corpus("phoenix2014", root)
    settings = settings_for(model)
    alone = [clip.steps for clip in log_probs(model, corpus.dev, settings=replace(settings, batch_size=1))]
    both = [clip.steps for clip in log_probs(model, corpus.dev)]
    batch = next(iter(clip_loader(corpus.dev, corpus.glosses, settings, train=False)))
    assert list(batch.ids) == [sample.id for sample in corpus.dev], "the annotation's order"
    expected = model(batch.frames, batch.lengths).sequence.log_softmax(-1).detach().numpy()
    moved = []
    for row, steps, single in zip(expected, both, alone, strict=True):
        np.testing.assert_allclose(steps, row[: len(steps)], atol=1e-5)
        moved.append(abs(steps - single).max())
    shorter, longer = sorted(range(2), key=lambda i: batch.lengths[i])
    assert moved[shorter] > 1e-3 > 1e-5 > moved[longer]


def test_adaptsign_is_one_of_them(tmp_path):
    golden("adaptsign_checkpoint_tiny.io")
    shared = Path(__file__).resolve().parents[2] / "shared" / "golden"
    files = shared / "adaptsign_checkpoint_tiny.pt", shared / "adaptsign_gloss_dict_tiny.npy"
    expected, model = load_adaptsign_checkpoint(*files).state_dict(), load_published_checkpoint(*files)
    slakit.save_checkpoint(model, tmp_path / "run", **model.about)
    loaded = load_checkpoint(tmp_path / "run")
    assert loaded.config.method == "adaptsign" and not loaded.training
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())
    protocol = settings_for(loaded)
    assert (protocol.augment.crop_size, protocol.batch_size, protocol.decode.collapse_repeats) == (32, 2, True)


def test_other_files_and_dictionaries_are_named(tmp_path):
    golden("systems/vac")
    source = Path(__file__).resolve().parents[2] / "shared" / "golden" / "systems" / "vac.pt"
    csl_daily = {f"G{i}": [i, 1] for i in range(1, 2001)}
    with pytest.raises(CheckpointError, match=r"has 12 glosses, the gloss dictionary 2000 \(csl-daily has so many\)"):
        load_published_checkpoint(source, csl_daily)
    torch.save({"model_state_dict": {"conv3d.weight": torch.zeros(2)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"none of adaptsign, slowfastsign, .* its first key is 'conv3d.weight'"):
        load_published_checkpoint(tmp_path / "other.pt", GLOSSES)
    state = torch.load(source, weights_only=False)["model_state_dict"]
    del state["temporal_model.rnn.bias_hh_l0"]
    torch.save({"model_state_dict": state}, tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match=r"sequence\.lstm\.bias_hh_l0 is missing there"):
        load_published_checkpoint(tmp_path / "cut.pt", GLOSSES)


def test_resnet_is_torchvisions(tmp_path):
    torch.manual_seed(0)
    stock = torchvision.models.resnet18().eval()
    for name, buffer in stock.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    for suffix, write in ((".pth", torch.save), (".safetensors", save_file)):
        write(stock.state_dict(), tmp_path / f"resnet{suffix}")
        model = create_model("vac", ["A"], pretrained=tmp_path / f"resnet{suffix}", hidden_size=32).eval()
        images = torch.randn(2, 3, 224, 224)
        with torch.no_grad():
            expected = torch.nn.Sequential(*list(stock.children())[:-1])(images).flatten(1)
            close(model.encoder(images, Clips([2])), expected, 1e-5)
    with pytest.raises(CheckpointError, match=r"resnet.pth does not fit: .* is \(64,\) there and \(16,\) here"):
        create_model("vac", ["A"], pretrained=tmp_path / "resnet.pth", width=16)


def test_the_shipped_resnet_is_loaded_by_its_name():
    file = load_file(shipped("tiny_resnet/tiny-resnet.safetensors"))
    model = create_model("corrnet", ["A"], pretrained="tiny-resnet", width=16, image_size=84, hidden_size=32)
    state = model.encoder.backbone.state_dict()
    assert torch.equal(state["tower.conv1.weight"], file["conv1.weight"].float())
    assert torch.equal(state["blocks.7.bn2.running_var"], file["layer4.1.bn2.running_var"].float())
    assert sum(value.numel() for name, value in file.items() if "running" not in name) == 702_096
    with pytest.raises(CheckpointError, match=r"tiny-resnet does not fit: .* is \(16,\) there and \(64,\) here"):
        create_model("vac", ["A"], pretrained="tiny-resnet")


def test_networks_on_minisign_have_the_budget_of_the_methods_on_tiny_clip():
    """The same warm start, epochs, batches, pictures and padding, and weights that have seen the same pictures."""
    full = preset("full/minisign")
    for method in set(NETWORKS) - {"slowfastsign"}:
        run = preset(f"{method}/minisign")
        assert run.train == replace(full.train, loss_weights=run.train.loss_weights)
        assert (run.model.pretrained, run.model.padding, run.model.image_size) == ("tiny-resnet", "features", 84)


def test_adabrowse_is_smkd_at_other_sizes():
    for side, larger in ((224, 256), (160, 183), (96, 110)):
        run = preset(f"adabrowse-{side}/phoenix2014")
        assert (run.model.method, run.model.image_size, run.train.augment.crop_size) == ("vac-smkd", side, side)
        assert (run.train.augment.image_size, run.train.milestones, run.train.precision) == (
            larger,
            (20, 30),
            "float16",
        )


def test_correlations_and_temporal_gates_start_as_resnet():
    plain, *others = (tiny(method).eval() for method in ("vac", "corrnet", "corrnet+"))
    for other in others:
        assert torch.equal(plain.encode(pictures(8), [8]), other.encode(pictures(8), [8]))


def test_what_a_method_cannot_stand_on_is_refused():
    with pytest.raises(ConfigError, match="sla-lora adapts a ViT tower; ResNet-18 is the network of vac, vac-smkd"):
        create_model("sla-lora", ["A"], backbone="ResNet-18", pretrained=None)
    with pytest.raises(
        ConfigError, match="corrnet has a network of its own, ResNet-18, and cannot stand on 'ViT-B-16'"
    ):
        create_model("corrnet", ["A"], backbone="ViT-B-16", pretrained=None)
    with pytest.raises(ConfigError, match="ResNet-18 has no weights 'imagnet', and that is no file; known: 'imagenet'"):
        create_model("vac", ["A"], pretrained="imagnet")
    with pytest.raises(CheckpointError, match=r"SLOWFAST_64x2_R101_50_50\.pkl is no file here; give pretrained=FILE"):
        create_model("slowfastsign", ["A"])
    with pytest.raises(ConfigError, match=r"stages=\(5,\) are not stages"):
        tiny("corrnet", stages=(5,))


def test_a_setting_goes_from_a_tower_to_a_network_and_back():
    there = with_method(preset("sla-lora/phoenix2014").model, "sen")
    assert (there.backbone, there.pretrained, there.padding, there.classifier) == (
        "ResNet-18", "imagenet", "published", "linear",
    )  # fmt: skip
    assert not there.options
    assert with_method(there, "frozen") == from_dict(ModelConfig, {"method": "frozen"})


@pytest.mark.parametrize("method", NETWORKS)
def test_streams_are_exact_or_refused(method):
    model = tiny(method).eval()
    stir(model, scale=0.05)
    if method in WHOLE_CLIP:
        with pytest.raises(ConfigError, match=f"{method.replace('+', '.')} cannot recognise a stream: it has"):
            StreamingRecognizer(model)
        return
    raw = pictures(30).permute(0, 2, 3, 1).contiguous().numpy()
    stream = StreamingRecognizer(model, chunk_frames=9, context_steps=100, lookahead_steps=100)
    for part in np.split(raw, [4, 19]):
        stream.push(part)
    whole = recognize_frames(model, raw, source="stream")
    assert np.allclose(stream.finish().posteriors, whole.posteriors, atol=2e-5)


@pytest.mark.parametrize("method", ["tlp", "corrnet+"])
def test_a_clip_of_one_step_is_recognised(method):
    model = tiny(method).eval()
    assert model(pictures(3), torch.tensor([3])).sequence.isfinite().all()


@pytest.mark.parametrize("method", ["corrnet", "slowfastsign"])
def test_grad_cam_is_of_the_last_map(method):
    """The kept gradient is how the score changes with the last map, by small steps in float64; chunks are exact."""
    model = tiny(method, image_size=64)
    stir(model, scale=0.05)
    seen = explain.watch(model.double().eval(), pictures(12, size=64).permute(0, 2, 3, 1).numpy())
    target = explain.targets_of(seen, [2, 1])[0]
    assert seen.grid == (2, 2) and explain.kinds_of(model) == ["grad-cam", "gradient x token"]
    whole, chunked = (explain.gradient_maps(seen, [target], "grad-cam", chunk=chunk) for chunk in (100, 5))
    assert whole.shape == (1, 12, 2, 2) and whole.std() > 0
    np.testing.assert_allclose(chunked, whole, atol=1e-6 * whole.max())
    cotangent, places = explain.feature_gradients(seen, [target])[0], seen.packed(seen.frames[seen.order.numpy()])
    with torch.enable_grad(), explain.kept_tokens(model, -1) as kept:
        features = model.encoder(model.normalise(places).double(), Clips([len(places)]))
        (gradient,) = torch.autograd.grad(features, kept[0], cotangent)
    step = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(3)).double()

    def score(size: float) -> float:
        def move(_, __, output):
            return output + size * step.transpose(1, 2).view_as(output)

        handle = model.encoder.backbone.tower.maps.register_forward_hook(move)
        with torch.no_grad():
            logits = model(seen.packed(), torch.tensor([12])).sequence[0]
        handle.remove()
        return float(target(logits.log_softmax(-1)))

    analytic = float((gradient * step).sum())
    assert analytic == pytest.approx((score(1e-5) - score(-1e-5)) / 2e-5, rel=1e-5) and analytic != 0


def caffe2(model) -> dict[str, np.ndarray]:
    """A SlowFast's tensors as PySlowFast's Caffe2 pickles name them, with the sizes of the published one: fusion by
    concatenation, so that the slow pathway takes more channels and the fusion gives fewer; more kernels over time."""
    blobs, ends = {}, {"weight": "s", "bias": "b", "running_mean": "rm", "running_var": "riv"}
    for name, value in model.encoder.backbone.state_dict().items():
        part, _, end = name.rpartition(".")
        fast = "t_" if ".fast" in name else ""
        if end not in ends or any(word in name for word in ("shortcut", "to_fast", "to_slow.bn")):
            continue
        if part.startswith("tower"):
            key = f"{fast}{'res_conv1_bn' if part.endswith('bn') else 'conv1'}"
        elif "to_slow.conv" in part:
            key, value = "t_pool1_subsample", value[: len(value) // 4]  # of another number of channels: not loaded
            if not part.startswith("blocks.0"):
                continue
        else:
            _, stage, _, block, layer, kind = part.split(".")
            key = f"{fast}res{int(stage) + 2}_{block}_branch2{layer}{'_bn' if kind == 'bn' else ''}"
        end = "w" if value.dim() == 5 else ends[end]
        value = torch.randn(value.shape, generator=torch.Generator().manual_seed(len(blobs)))
        if key.endswith("branch2a") and not fast and value.dim() == 5:  # wider, and over time
            value = torch.cat([value, torch.ones_like(value)[:, :4]], 1)
            value = (
                value
                if value.shape[2] > 1
                else value.expand(-1, -1, 3, -1, -1) * torch.tensor([1, 2, 3])[:, None, None]
            )
        blobs[f"{key}_{end}"] = value.numpy()
    blobs["t_pool1_subsample_bn_s"] = np.arange(4, dtype=np.float32)  # a quarter of the width: repeated
    return blobs | {"pred_w": np.zeros((4, 2), np.float32), "conv1_w_momentum": np.zeros(3, np.float32)}


def test_kinetics_weights_of_a_pickle_execute_nothing(tmp_path):
    empty, path = tiny("slowfastsign"), tmp_path / "SLOWFAST.pkl"
    blobs = caffe2(empty)
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    options = {"width": 16, "depths": (1, 1, 1, 1), "image_size": 32, "hidden_size": 32}
    state = create_model("slowfastsign", ["A"], pretrained=path, **options).encoder.backbone.state_dict()
    as_loaded = {
        "conv1_w": "tower.slow.conv.weight", "t_conv1_w": "tower.fast.conv.weight",
        "res_conv1_bn_riv": "tower.slow.bn.running_var", "t_res3_0_branch2b_w": "blocks.1.fast.0.b.conv.weight",
        "res5_0_branch2c_bn_b": "blocks.3.slow.0.c.bn.bias",
    }  # fmt: skip
    for theirs, ours in as_loaded.items():
        assert np.array_equal(blobs[theirs], state[ours].numpy()), ours
    cut = blobs["res2_0_branch2a_w"][:, :16, :1]  # no kernel over time, no channels of the old fusion
    assert np.array_equal(cut, state["blocks.0.slow.0.a.conv.weight"].numpy())
    assert state["blocks.0.to_slow.bn.weight"].tolist() == [0, 1, 2, 3] * 4
    start = tiny("slowfastsign").encoder.backbone.state_dict()
    assert torch.equal(start["blocks.0.to_slow.conv.weight"], state["blocks.0.to_slow.conv.weight"])
    touched = tmp_path / "touched"

    class Hostile:
        def __reduce__(self):
            return Path.touch, (touched,)

    path.write_bytes(pickle.dumps(OrderedDict(blobs=Hostile())))
    with pytest.raises(CheckpointError, match="no readable PySlowFast pickle: 'Placeholder' object is not iterable"):
        create_model("slowfastsign", ["A"], pretrained=path, **options)
    assert not touched.exists()


def test_a_pickled_array_that_lies_about_its_size_is_a_sentence(tmp_path):
    """numpy's own reader walks past the end of such a list, which ends the process."""

    class Lying:
        def __reduce__(self):
            reconstruct = np.empty(0).__reduce__()[0]
            return reconstruct, (np.ndarray, (0,), b"b"), (1, (3_000_000,), np.dtype(self.kind), False, self.content)

    lying = Lying()
    for lying.kind, lying.content in (("O", []), ("f4", b"1234"), ("f4", [])):
        (tmp_path / "lying.pkl").write_bytes(pickle.dumps({"blobs": {"conv1_w": lying}}, protocol=2))
        with pytest.raises(CheckpointError, match=r"lying\.pkl (is no readable|holds nothing of a SlowFast)"):
            create_model("slowfastsign", ["A"], pretrained=tmp_path / "lying.pkl", width=16, depths=(1, 1, 1, 1))


@pytest.mark.parametrize("method", NETWORKS)
def test_what_several_processes_cannot_make_equal_is_said(method, capsys):
    with shared_statistics(tiny(method), Processes(rank=0, size=2)):
        said = capsys.readouterr().out
    assert ("which each of 2 processes has for itself" in said) == (method not in ("vac", "vac-smkd"))
    with shared_statistics(tiny(method), Processes(rank=1, size=2)):
        assert not capsys.readouterr().out


@pytest.mark.parametrize("method", [pytest.param("sen", marks=pytest.mark.thorough), "slowfastsign"])
def test_memory_is_planned(method):
    plan = memory_plan(tiny(method), device="cuda", available=1e9)
    assert plan.frames > 100 and plan.recomputed["block"] < plan.per_frame


@pytest.mark.thorough
def test_a_resumed_run_has_the_same_weights_and_statistics(tmp_path, monkeypatch):
    """Stopped in the middle of the second epoch; batch norms of the network are part of the state."""
    clips, out = survival.corpus(tmp_path, survival.LENGTHS[:6]), tmp_path / "stopped"
    settings = replace(survival.SETTINGS, start_from=None, loss_weights=preset("corrnet+/minisign").train.loss_weights)

    def model():
        return tiny("corrnet+", dropout=0.3, recompute="block")

    run = slakit.fit(model(), clips, tmp_path / "straight", settings, show_progress=False)
    assert run.history[-1]["loss_lift_update"] > 0
    save, made = TrainingRun.save, []

    def stop_after(self, *arguments, **options):
        save(self, *arguments, **options)
        made.append(self.cursor.epoch)
        if len(made) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "save", stop_after)
        with pytest.raises(KeyboardInterrupt):
            slakit.fit(model(), clips, out, settings, show_progress=False)
    slakit.fit(model(), clips, out, settings, show_progress=False)
    straight, resumed = survival.weights(tmp_path / "straight"), survival.weights(out)
    assert survival.same(straight, resumed) and "encoder.backbone.tower.bn1.running_var" in resumed
    with pytest.raises(ConfigError, match=r"training on cached features .* padding='published'"):
        slakit.fit(model(), clips, tmp_path / "warm", survival.SETTINGS, show_progress=False)


def test_a_tower_can_have_the_other_heads_and_terms():
    """The sequence model's options are settings of every method."""
    options = {"classifier": "linear", "share_classifier": False, "pooling": "lift", "lift_kernel": 5}
    model = create_model("frozen", ["A", "B"], tower("tiny-vit"), None, hidden_size=32, **options)
    weights = preset("tlp/phoenix2014").train.loss_weights
    _, terms = recognition_loss(model(pictures(9), torch.tensor([9])), torch.tensor([1]), torch.tensor([1]), weights)
    assert {"lift_update", "lift_predict"} < terms.keys()
    assert model.sequence.conv[3].predictor[0].kernel_size == (5,)
