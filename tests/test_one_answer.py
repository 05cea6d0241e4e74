"""One model, one answer: what training measured is what evaluation, recognition, stream and maps say afterwards."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import slakit
from slakit.__main__ import main
from slakit.data.prepare import prepare
from slakit.data.video.cropping import Box
from slakit.explain import watch
from slakit.minisign.phone import draw
from slakit.models import demo_model
from slakit.recognition import fit_frames, pictures_for, stream_frames
from slakit.recognition.forward import encode, log_probs
from slakit.records import ConfigError, Corpus, CorpusError, VideoError
from slakit.scoring import read_ctm
from slakit.show.commands import streamed

SETTINGS = replace(
    slakit.preset("sla-lora/minisign").train, epochs=1, start_from=None, evaluate_every=1, learning_rate=1e-6,
    head_learning_rate=None, keep_in_memory=False, batch_size=2, track=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder corpus of wide pictures, the signer right of the middle; its vocabulary is the demo model's."""
    folder = tmp_path_factory.mktemp("wide")
    drawn = slakit.load_corpus("minisign", root=tmp_path_factory.mktemp("c"), train=2, dev=9, test=1, progress=False)
    rows = [["path", "glosses", "split"]]
    for split in ("train", "dev", "test"):
        for sample in drawn.split(split):
            (folder / sample.id).mkdir()
            for number, frame in enumerate(slakit.read_frames(sample.source)):
                wide = np.full((96, 144, 3), 200, np.uint8)
                wide[:, 44:140] = frame
                Image.fromarray(wide).save(folder / sample.id / f"{number:03}.png")
            rows.append([sample.id, " ".join(sample.glosses) if split != "test" else "", split])
    (folder / "all").mkdir()  # too short for its glosses, so it is not trained on
    Image.fromarray(wide).save(folder / "all/0.png")
    rows.append(["all", " ".join(drawn.glosses), "train"])
    rows[-2][1] = rows[1][1]
    with open(folder / "annotations.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(params=["stretched", "cropped"])
def prepared(request, root, tmp_path):
    """Options of the corpus: as it is, or cut to squares around the signer."""
    if request.param == "stretched":
        return {}
    prepare(slakit.load_corpus("folder", root), tmp_path / "p", 96, "raw", aspect="crop", show_progress=False)
    return {"prepared": str(tmp_path / "p")}


def score_of(path, corpus: Corpus) -> float:
    references = {sample.id: " ".join(sample.glosses) for sample in corpus.dev}
    return slakit.score(references, read_ctm(path, references), corpus.name).wer


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_evaluation_and_recognition_agree_to_the_digit(root, prepared, precision, tmp_path, capsys):
    corpus = slakit.load_corpus("folder", root, **prepared)
    model = slakit.load_checkpoint(demo_model("sla-lora"), glosses=corpus.glosses)
    run = slakit.fit(model, corpus, tmp_path / "run", SETTINGS, precision=precision, show_progress=False)
    wer, best = run.history[-1]["wer"], run.out_dir / "best.safetensors"
    assert wer == run.best["wer"] and 0 < wer < 100, "an answer that could differ"
    loaded = slakit.load_checkpoint(best)
    for network in (run.model, loaded):
        assert slakit.evaluate(network, corpus.dev, corpus.name).wer == wer

    options = ["--checkpoint", str(best), "--root", str(root), *(x for pair in prepared.items() for x in ("-o", *pair))]
    assert main(["evaluate", *options, "--out", str(tmp_path / "scored")]) == 0
    facts = json.loads((tmp_path / "scored/dev.json").read_text())
    assert facts["wer"] == wer and facts["corpus"] == "folder" and facts["interval"][0] <= wer <= facts["interval"][1]
    assert score_of(tmp_path / "scored/dev.ctm", corpus) == wer
    with open(tmp_path / "scored/dev.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    wrong = sum(int(row[name]) for row in rows for name in ("substitutions", "deletions", "insertions"))
    assert 100 * wrong / sum(int(row["words"]) for row in rows) == wer and len(rows) == 9

    ids = [sample.id for sample in corpus.dev]
    assert main(["recognize", *ids, *options, "--out", str(tmp_path / "told"), "--no-picture"]) == 0
    assert score_of(tmp_path / "told/all.ctm", corpus) == wer
    folders = [str(root / clip) for clip in ids]  # as they were filmed: made square as those of training
    assert main(["recognize", *folders, *options[:2], "--out", str(tmp_path / "filmed"), "--no-picture"]) == 0
    assert (tmp_path / "filmed/all.ctm").read_bytes() == (tmp_path / "told/all.ctm").read_bytes()
    capsys.readouterr()

    for sample in corpus.dev[:1]:
        answer = slakit.recognize(loaded, sample)
        assert (answer.id, answer.num_frames) == (sample.id, len(answer.frames))
        assert watch(loaded, sample.source).glosses == list(answer.glosses)
        stream, _ = stream_frames(loaded, slakit.read_frames(sample.source), chunk_frames=999)
        assert stream.glosses == answer.glosses and np.array_equal(stream.frames, answer.frames)


def test_what_a_checkpoint_keeps_is_used_again(root, tmp_path, capsys):
    corpus = slakit.load_corpus("folder", root, vocabulary="train")
    model = slakit.load_checkpoint(demo_model("sla-lora"), glosses=corpus.glosses)
    run = slakit.fit(model, corpus, tmp_path / "run", SETTINGS, show_progress=False)
    best = ["--checkpoint", str(run.out_dir / "best")]
    about = slakit.load_checkpoint(best[1]).about
    assert about["corpus_options"] == {"vocabulary": "train"}
    assert about["pictures"] == {"aspect": "stretch", "shape": [96, 144]} and run.model.about["train"] == about["train"]
    assert pictures_for(run.model).aspect == "stretch"
    assert main(["evaluate", *best]) == 2
    assert "was trained on folder: give its folder with --root" in capsys.readouterr().err
    assert main(["evaluate", *best, "--root", str(root), "--out", str(tmp_path / "o")]) == 0
    assert json.loads((tmp_path / "o/dev.json").read_text())["options"] == {"vocabulary": "train"}
    assert main(["evaluate", *best, "--root", str(root), "--out", str(tmp_path / "o")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["evaluate", *best, "--root", str(root), "--out", str(tmp_path / "o"), "--overwrite"]) == 0


def test_pictures_that_are_not_square_follow_training():
    model, frames = (
        slakit.create_model("frozen", ["A"], "tiny-clip", hidden_size=8),
        np.zeros((9, 60, 100, 3), np.uint8),
    )
    frames[::2, 20:40, 70:90] = 255
    whole, cut = (fit_frames(frames, model, crop) for crop in ("none", "signer"))
    assert not np.array_equal(whole, cut)
    for facts, expected in (
        ({}, cut), ({"aspect": "stretch", "shape": [50, 50]}, cut), ({"aspect": "stretch", "shape": [50, 60]}, whole),
        ({"aspect": "stretch"}, whole), ({"aspect": "crop"}, cut),
    ):  # fmt: skip
        model.about = {"pictures": facts}
        assert np.array_equal(fit_frames(frames, model), expected), facts
    model.about = {"pictures": {"aspect": "pad"}}
    assert not fit_frames(frames, model)[:, :12].any(), "black above"


@pytest.mark.parametrize("padding", ["features", "published"])
@pytest.mark.parametrize("method", ["sla-lora", "adaptsign"])
def test_features_encoded_in_pieces_are_those_of_the_whole(method, padding):
    import torch
    from tiny_models import frames, stir, tiny

    model, lengths = tiny(method, padding=padding).eval(), torch.tensor([23, 9])
    stir(model)
    packed = frames(32)
    with torch.inference_mode():
        whole, pieces = model.encode(packed, lengths), encode(model, packed, lengths, piece=5)
    assert whole.shape == pieces.shape and torch.allclose(whole, pieces, atol=1e-5)


def test_clips_are_named_after_themselves_and_nothing_is_overwritten(root, tmp_path, capfd):
    ids = [path.name for path in sorted(root.glob("dev-*"))][:2]
    for clip in ids:  # as Phoenix-2014 has them
        (tmp_path / clip).mkdir()
        (root / clip).rename(tmp_path / clip / "1")
    try:
        model = ["--checkpoint", str(demo_model("sla-lora")), "--out", str(tmp_path / "out"), "--no-picture"]
        assert main(["recognize", str(tmp_path / ids[0] / "1"), str(tmp_path / ids[1]), *model]) == 0
        names = {f"{name}.{kind}" for name in ids for kind in ("json", "eaf", "vtt", "ctm")} | {"all.ctm"}
        assert {path.name for path in (tmp_path / "out").iterdir()} == names
        assert set(read_ctm(tmp_path / "out/all.ctm")) == set(ids)
        capfd.readouterr()
        assert main(["recognize", str(tmp_path / ids[0] / "1" / "*.png"), *model]) == 2
        assert "is there already; give another folder, or --overwrite" in capfd.readouterr().err
    finally:
        for clip in ids:
            (tmp_path / clip / "1").rename(root / clip)
    with pytest.raises(VideoError, match="it holds all, annotations"):
        slakit.read_frames(root)


def test_recognition_says_how_sure_it_is(root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = next(root.glob("dev-*"))
    assert main(["recognize", str(clip), "--checkpoint", str(demo_model("sla-lora"))]) == 0
    said = capsys.readouterr().out
    assert said.count("% sure") == len(said.splitlines()[0].split()) and " to " in said
    assert main(["recognize", str(clip), "--checkpoint", str(demo_model("sla-lora")), "--stream"]) == 0
    assert "% sure" in capsys.readouterr().out


def test_a_split_without_glosses_is_transcribed(root, tmp_path, capsys, monkeypatch):
    corpus = slakit.load_corpus("folder", root)
    silent = replace(corpus, test=tuple(replace(sample, glosses=()) for sample in corpus.dev))
    monkeypatch.setattr("slakit.show.commands.load_corpus", lambda *_, **__: silent)
    options = ["--checkpoint", str(demo_model("sla-lora")), "--corpus", "folder", "--root", str(root)]
    assert main(["evaluate", *options, "--split", "test", "--out", str(tmp_path)]) == 0
    assert "no glosses, so there is no WER" in capsys.readouterr().out
    assert len(read_ctm(tmp_path / "test.ctm")) == 9 and "wer" not in json.loads((tmp_path / "test.json").read_text())


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """Six clips as from a phone, 16:9; the signs are the demo model's."""
    return draw(tmp_path_factory.mktemp("phone") / "clips", train=2, dev=3, test=1, progress=False)


@pytest.mark.parametrize("way", ["as filmed", "prepared", "a square", "a square, prepared", "by signer"])
def test_a_crop_is_the_same_wherever_a_model_sees_the_clips(filmed, way, tmp_path, capsys):
    """fit's dev WER, evaluate with and without the prepared files, recognize of clips, files and streams, and maps."""
    square = [10, 0, 170]
    crop = square if "square" in way else "signer"
    crop = {"anna": square, "ben": "signer", "carla": "none"} if way == "by signer" else crop
    corpus = plain = slakit.load_corpus("folder", filmed, crop=crop, vocabulary="train")
    if "prepared" in way:
        prepare(corpus, tmp_path / "p", 96, "raw", show_progress=False)
        corpus = slakit.load_corpus("folder", filmed, prepared=tmp_path / "p", vocabulary="train")
    model = slakit.create_model("frozen", corpus.glosses, "tiny-clip", hidden_size=16, seed=1)
    settings = replace(SETTINGS, learning_rate=1e-3, epochs=2, augment=replace(SETTINGS.augment, temporal_scale=None))
    run = slakit.fit(model, corpus, tmp_path / "run", settings, show_progress=False)
    best = str(run.out_dir / "best.safetensors")
    loaded = slakit.load_checkpoint(best)
    assert loaded.about["corpus_options"] == {"crop": crop, "vocabulary": "train"}
    ours = {clip.id: clip.steps for clip in log_probs(loaded, corpus.dev)}
    others = {"the corpus": plain.dev, "not said": slakit.load_corpus("folder", filmed).dev}
    for name, samples in others.items() if way != "by signer" else [("the corpus", plain.dev)]:
        for clip in log_probs(loaded, samples):
            assert np.array_equal(clip.steps, ours[clip.id]), name
    assert main(["evaluate", "--checkpoint", best, "--root", str(filmed)]) == 0
    said = capsys.readouterr().out
    assert f"{run.best['wer']:.2f}" in said and slakit.evaluate(loaded, corpus.dev).wer == run.best["wer"]
    for sample in plain.dev:
        sources = [sample] if way == "by signer" else [sample, sample.source]
        for source in sources:
            answer = slakit.recognize(loaded, source)
            assert np.abs(np.log(answer.posteriors) - ours[sample.id]).max() < 1e-4
            assert watch(loaded, source).glosses == list(answer.glosses)
        assert np.array_equal(streamed(loaded, sample, sample.id, "auto", "error", None).glosses, answer.glosses)


def test_wrong_crops_are_refused(filmed, tmp_path):
    corpus, model = (
        slakit.load_corpus("folder", filmed),
        slakit.create_model("frozen", ["A"], "tiny-clip", hidden_size=8),
    )
    clip = corpus.dev[0]
    for crop in ("centre", (0, 0), (0, 0, -4), (0.5, 0, 9), None, {"anna": "signer"}):
        with pytest.raises(
            ConfigError, match=r"crop=.* is none of auto, signer, none, nor a square \[left, top, side\]"
        ):
            slakit.recognize(model, clip, crop=crop)
        with pytest.raises(ConfigError, match="is none of auto, signer, none"):
            slakit.StreamingRecognizer(model, crop=crop)
    frames = slakit.read_frames(clip.source)
    assert np.array_equal(fit_frames(frames, model, (20, 0, 170)), fit_frames(frames, model, Box(20, 0, 170)))
    with pytest.raises(ConfigError, match="leaves the picture of 320x180"):
        slakit.recognize(model, clip, crop=(200, 0, 170))
    for crop, told in (
        ("middle", "crop='middle' is none of signer, none"), ({}, "names no signers"), ({"anna": "all"}, "crop='all'"),
        ({"anne": "signer"}, "'anne', whom folder lacks; did you mean 'anna'"), ({"anna": "none"}, "'ben' is cut"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=told):
            slakit.load_corpus("folder", filmed, crop=crop)
    prepare(corpus, tmp_path / "whole", 48, "raw", show_progress=False)
    with pytest.raises(CorpusError, match="was prepared with crop 'none', and crop='signer' is asked for"):
        slakit.load_corpus("folder", filmed, prepared=tmp_path / "whole", crop="signer")
    with pytest.raises(ConfigError, match='crop="none" leaves whole'):
        prepare(slakit.load_corpus("folder", filmed, crop="none"), tmp_path / "x", 48, aspect="crop")
