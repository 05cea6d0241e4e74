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
from slakit.explain import watch
from slakit.models import demo_model
from slakit.recognition import fit_frames, pictures_for, stream_frames
from slakit.recognition.forward import encode
from slakit.records import Corpus, VideoError
from slakit.scoring import read_ctm

SETTINGS = replace(
    slakit.preset("sla-lora/minisign").train, epochs=1, warm_start_epochs=0, evaluate_every=1, learning_rate=1e-6,
    head_learning_rate=None, keep_in_memory=False, batch_size=2, track=(),
)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder corpus of wide pictures, the signer right of the middle; its vocabulary is the demo model's."""
    folder = tmp_path_factory.mktemp("wide")
    drawn = slakit.load_corpus("minisign", root=tmp_path_factory.mktemp("c"), train=2, dev=3, test=1, progress=False)
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
    assert 100 * wrong / sum(int(row["words"]) for row in rows) == wer and len(rows) == 3

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
    assert len(read_ctm(tmp_path / "test.ctm")) == 3 and "wer" not in json.loads((tmp_path / "test.json").read_text())
