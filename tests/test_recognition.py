"""One video in, glosses out; wrong files, checkpoints and parameters end with one clear line."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import slakit
from slakit.__main__ import main
from slakit.explain.watched import watch
from slakit.models.modes import evaluating
from slakit.recognition import fit_frames, log_probs, settings_for, stream_frames
from slakit.recognition.forward import placed
from slakit.records import CheckpointError, ConfigError, CorpusError, VideoError
from slakit.scoring import read_ctm

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return slakit.load_corpus("minisign", root=tmp_path_factory.mktemp("c"), train=2, dev=1, test=1, progress=False)


@pytest.fixture(scope="module")
def model(corpus):
    return slakit.create_model("sla-lora", glosses=corpus.glosses, backbone="tiny-clip", hidden_size=32, rank=4)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    slakit.save_checkpoint(model, folder, corpus="minisign")
    return folder


def process(*arguments) -> subprocess.CompletedProcess:
    """The command line as a user starts it: some seconds of imports."""
    return subprocess.run(
        [sys.executable, "-m", "slakit", *map(str, arguments)], capture_output=True, text=True, timeout=300
    )


@pytest.fixture
def command(capfd):
    """The same without a new process; what libraries write past Python is caught, too."""

    def run(*arguments) -> subprocess.CompletedProcess:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


def one_line_error(done: subprocess.CompletedProcess, *words: str) -> None:
    assert done.returncode == 2, (done.returncode, done.stderr)
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("slakit: "), done.stderr
    for word in words:
        assert word in lines[0], f"{word!r} is missing in: {lines[0]}"


def test_recognize_agrees_with_evaluation(model, corpus):
    clip = corpus.dev[0]
    result = slakit.recognize(model, clip.source)
    _, hypotheses = slakit.transcribe(
        model, [clip], settings=slakit.preset("sla-lora/minisign").train, show_progress=False
    )
    assert " ".join(result.glosses) == hypotheses[clip.id]
    assert [span.gloss for span in result.spans] == list(result.glosses)
    assert all(0 <= s.start < s.end <= clip.num_frames for s in result.spans)
    assert result.score <= 0 and all(other <= result.score + 1e-6 for _, other in result.alternatives)
    assert json.loads(result.json())["glosses"] == list(result.glosses)


def test_one_model_gives_one_answer(model, tmp_path):
    """Large pictures of another shape: evaluation, recognition, stream and maps see and say the same."""
    samples = [
        slakit.Sample(f"clip {count}", folder_of_frames(tmp_path / str(count), count), tuple(model.vocabulary)[:3])
        for count in (23, 8)
    ]
    for network in (model, slakit.create_model("adaptsign", model.vocabulary, "tiny-clip", hidden_size=32)):
        clips = {clip.id: clip for clip in log_probs(network, samples, settings=settings_for(network))}
        _, hypotheses = slakit.transcribe(network, samples, show_progress=False)
        for sample in samples:
            steps, result = clips[sample.id].steps, slakit.recognize(network, sample.source, crop="none")
            assert np.abs(np.log(result.posteriors) - steps).max() < 1e-5
            assert " ".join(result.glosses) == hypotheses[sample.id]
            assert np.abs(watch(network, sample.source, crop="none").log_probs.numpy() - steps).max() < 1e-5
            stream, _ = stream_frames(network, slakit.read_frames(sample.source), crop="none", chunk_frames=99)
            assert np.array_equal(stream.posteriors, result.posteriors)


def folder_of_frames(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number, picture in enumerate(np.random.default_rng(count).integers(0, 256, (count, 26, 33, 3), np.uint8)):
        Image.fromarray(picture).resize((330, 260)).save(folder / f"{number:03}.png")
    return folder


@pytest.mark.parametrize("error", [None, KeyError])
def test_evaluating_leaves_the_model_as_it_was(model, error):
    model.train()
    model.encoder.eval()
    modes, switches = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    for gradients in (False, True):
        with pytest.raises(error) if error else nullcontext(), evaluating(model, "bfloat16", gradients) as device:
            assert not any(m.training for m in model.modules()) and torch.is_inference_mode_enabled() is not gradients
            assert torch.is_autocast_enabled("cpu") and device == torch.device("cpu")
            assert not gradients or not any(p.requires_grad for p in model.parameters())
            if error:
                raise error
        assert [m.training for m in model.modules()] == modes and not torch.is_inference_mode_enabled()
        assert [p.requires_grad for p in model.parameters()] == switches and not torch.is_autocast_enabled("cpu")
    model.eval()


@pytest.fixture
def often_switching():
    """Threads take turns often, so that what two of them may not do at once is seen."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)


def test_threads_share_a_model(model, corpus, often_switching):
    """Whoever comes first switches to evaluation, whoever goes last switches back; no statistic moves."""
    clip = corpus.test[0].source
    expected = slakit.recognize(model.eval(), clip).posteriors
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: slakit.recognize(model, clip).posteriors, range(32)))
    assert all(np.array_equal(result, expected) for result in results)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()


def test_a_model_that_lies_on_its_device_is_not_touched(model):
    """`to()` takes an LSTM's weights apart and together again, while other threads may be using them."""
    weights = model.sequence.lstm._flat_weights
    assert placed(model, "cpu").sequence.lstm._flat_weights is weights


def test_precision_is_the_same_wherever_a_model_is_asked(model, corpus, monkeypatch):
    """As on a GPU, where "auto" is bfloat16: in evaluation, recognition, stream and maps alike."""
    clip, half_types = corpus.dev[0], {"auto": torch.bfloat16, "float32": None}
    plain = np.log(slakit.recognize(model, clip.source).posteriors)
    monkeypatch.setattr("slakit.machine.half_precision", lambda precision, device: half_types[precision])
    half = next(log_probs(model, [clip])).steps
    assert 0 < np.abs(half - plain).max() < 0.2
    recognised = slakit.recognize(model, clip.source)
    assert np.array_equal(recognised.posteriors, np.exp(half))
    stream, _ = stream_frames(model, slakit.read_frames(clip.source), chunk_frames=999)
    assert np.array_equal(stream.posteriors, np.exp(half))
    assert np.array_equal(watch(model, clip.source).log_probs, half)
    float32 = slakit.recognize(model, clip.source, precision="float32")
    assert np.abs(np.log(float32.posteriors) - plain).max() < 1e-5


def test_command_line_recognises_a_clip(checkpoint, corpus):
    done = process("recognize", corpus.dev[0].source, "--checkpoint", checkpoint, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"source", "glosses", "score", "fps", "spans", "alternatives"}
    assert set(found["spans"][0]) == {"gloss", "start", "end", "start_frame", "end_frame", "confidence"}


def test_a_recognition_is_saved_in_the_formats_of_the_field(command, checkpoint, corpus, tmp_path):
    clip = corpus.dev[0]
    files = [tmp_path / f"x.{ending}" for ending in ("eaf", "vtt", "json", "ctm")]
    options = [text for path in files for text in ("--save", path)]
    done = command("recognize", clip.source, "--checkpoint", checkpoint, "--json", *options)
    assert done.returncode == 0, done.stderr
    eaf, vtt, as_json = (path.read_text(encoding="utf-8") for path in files[:3])
    found = json.loads(as_json)
    assert found == json.loads(done.stdout) and found["glosses"]
    for gloss in found["glosses"]:
        assert f">{gloss}<" in eaf and f"\n{gloss}\n" in vtt
    assert clip.source.name in eaf and read_ctm(files[3]) == {clip.source.stem: " ".join(found["glosses"])}
    one_line_error(command("recognize", clip.source, "--checkpoint", checkpoint, "--save", "x.srt"), "x.srt", ".vtt")


def test_files_that_are_no_video_end_with_one_line(command, checkpoint, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    empty = tmp_path / "empty"
    empty.mkdir()
    one_line_error(process("recognize", text, "--checkpoint", checkpoint), "text.mp4")
    one_line_error(command("recognize", empty, "--checkpoint", checkpoint), "empty")
    one_line_error(command("recognize", tmp_path / "none.mp4", "--checkpoint", checkpoint), "none.mp4")
    one_line_error(command("recognize", "x" * 5000, "--checkpoint", checkpoint), "no such file")
    one_line_error(command("recognize", text, "--checkpoint", tmp_path / "no-checkpoint"), "no-checkpoint")


def test_wrong_parameters_name_value_and_way_out(corpus, checkpoint):
    with pytest.raises(ConfigError, match=r"16x"):
        slakit.create_model("sla-lora", glosses=corpus.glosses, backbone="tiny-clip", rank="16x")
    with pytest.raises(ConfigError, match=r"ViT-B-17.*ViT-B-16"):
        slakit.create_model("sla-lora", glosses=corpus.glosses, backbone="ViT-B-17", pretrained=None)
    with pytest.raises(ConfigError, match=r"sla-lroa.*sla-lora"):
        slakit.create_model("sla-lroa", glosses=corpus.glosses, backbone="tiny-clip")
    with pytest.raises(CorpusError, match=r"minsign.*minisign"):
        slakit.load_corpus("minsign")
    with pytest.raises(CheckpointError, match=r"31 glosses in the checkpoint, 2 in the corpus"):
        slakit.load_checkpoint(checkpoint, glosses=slakit.Vocabulary(["A", "B"]))


@pytest.mark.parametrize("name", ["trunc_nomoov.mp4", "empty.mp4", "text.mp4", "corrupt_mid.mp4"])
def test_broken_videos_are_refused(model, name):
    path = SHARED / "data" / "videos" / name
    if not path.is_file():
        pytest.skip(f"{name}: the folder ../shared with broken videos is not here")
    with pytest.raises(VideoError, match=name):
        slakit.recognize(model, path)


def test_fit_frames_is_resize_and_centre_crop():
    frames = np.random.default_rng(0).integers(0, 256, (3, 96, 96, 3), np.uint8)
    assert np.array_equal(fit_frames(frames, 84), frames[:, 6:90, 6:90])
    assert fit_frames(frames[:, :, :60], 84).shape == (3, 84, 84, 3)
