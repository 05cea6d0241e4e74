"""`python -m slakit recognize VIDEO --out`: files in every format, from good, odd, broken and hostile videos."""

from __future__ import annotations

import json

import numpy as np
import pytest
from media import SHARED, pictures, shared, write_video
from PIL import Image

import slakit
from slakit.__main__ import main
from slakit.recognition.forward import ClipLogProbs
from slakit.recognition.video import recognition_of
from slakit.scoring import read_ctm
from slakit.show.report import KINDS, clip_maps, model_card, write_report

GLOSSES = ["RAIN", "SUN", "WIND"]
CLIPS = sorted(SHARED.glob("data/msl150/*.mp4"))
FILES = sorted(path for path in SHARED.glob("data/videos/*") if path.suffix != ".csv")
BROKEN = {"corrupt_mid.mp4", "corrupted.mp4", "empty.mp4", "text.mp4", "trunc_nomoov.mp4"}
QUICK = BROKEN | {"one.mp4", "rot90.mp4", "trim_edit2.mp4", "vfr.mp4"}
NOT_HERE = "the folder ../shared with real videos is not here"


def quick_or_slow(path):
    return pytest.param(path, id=path.name, marks=[] if path.name in QUICK else pytest.mark.slow)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = slakit.create_model("sla-lora", GLOSSES, "tiny-clip", hidden_size=32, rank=4)
    folder = tmp_path_factory.mktemp("checkpoint")
    slakit.save_checkpoint(model, folder, corpus="minisign", metrics={"wer": {"dev": 9.5, "test": 7.25}})
    return folder


def check_files(folder, name: str) -> dict:
    """All five files are there and say the same; returns the JSON."""
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for kind in KINDS}
    content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert (folder / f"{name}.vtt").read_text().count(" --> ") == len(content["glosses"])
    assert (folder / f"{name}.eaf").read_text().count("<ANNOTATION>") == len(content["glosses"])
    read = read_ctm(folder / f"{name}.ctm", [name]) if content["glosses"] else {name: ""}
    assert read == {name: " ".join(content["glosses"])}
    with Image.open(folder / f"{name}.png") as picture:
        assert picture.width >= 600 and np.asarray(picture.convert("L")).std() > 10
    return content


def test_every_format_of_a_clip_whose_name_holds_blanks(checkpoint, tmp_path, capsys):
    video = write_video(tmp_path / "my clip ä.mp4", pictures(30, 96, 128))
    out = tmp_path / "out"
    arguments = ["recognize", str(video), "--checkpoint", str(checkpoint), "--out", str(out), "--crop", "20", "4", "90"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "knows       3 glosses" in said and "RAIN SUN WIND" in said and "dev 9.5 %, test 7.2 %" in said
    content = check_files(out, "my_clip_ä")
    assert (content["frames"], content["fps"], content["source"]) == (30, 25.0, "my clip ä.mp4")
    assert content["model"]["corpus"] == "minisign" and content["model"]["glosses"] == 3
    assert len(content["alternatives"]) >= 1
    assert video.as_uri() in (out / "my_clip_ä.eaf").read_text(encoding="utf-8")


def test_nothing_recognised_is_a_report_too(tmp_path):
    model = slakit.create_model("frozen", GLOSSES, "tiny-clip", hidden_size=32)
    frames = pictures(9, 84, 84)
    steps = np.log(np.full((3, 4), 0.01 / 3))
    steps[:, 0] = np.log(0.99)
    result = recognition_of(model, ClipLogProbs("x", steps), frames, 25.0, 3)
    assert result.glosses == () and clip_maps(model, result) is None
    write_report(model, result, tmp_path / "out")
    assert check_files(tmp_path / "out", "x")["glosses"] == []


def test_maps_belong_to_the_gloss_that_is_signed():
    model = slakit.create_model("sla-lora", GLOSSES, "tiny-clip", hidden_size=32)
    from dataclasses import replace

    from slakit.decoding import GlossSpan
    from slakit.explain import gloss_maps

    result = slakit.StreamingRecognizer(model, keep_frames=True)
    result.push(pictures(20, 84, 84))
    spans = (GlossSpan("SUN", 0, 8, 1.0, 25.0), GlossSpan("RAIN", 12, 20, 1.0, 25.0))
    result = replace(result.finish(), glosses=("SUN", "RAIN"), spans=spans)
    maps, own = clip_maps(model, result), gloss_maps(model, result.frames, [2, 1])
    assert maps.shape == (20, 7, 7) and maps.max() == pytest.approx(1) and not maps[8:12].any()
    assert np.allclose(maps[:8] * own[0, :8].max(), own[0, :8], atol=1e-6)
    assert np.allclose(maps[12:] * own[1, 12:].max(), own[1, 12:], atol=1e-6)


def test_the_card_says_when_nothing_is_known_of_the_training():
    card = model_card(slakit.create_model("frozen", GLOSSES, "tiny-clip", hidden_size=32))
    assert "unknown: the checkpoint does not say" in card and "word error" not in card


def test_a_folder_that_cannot_be_written_is_one_line(checkpoint, tmp_path, capfd):
    video = write_video(tmp_path / "a.mp4", pictures(8))
    (tmp_path / "file").write_text("")
    assert main(["recognize", str(video), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "file" / "x")]) == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert main(["recognize", str(video), "--checkpoint", str(checkpoint), "--crop", "60", "0", "30"]) == 2
    assert "leaves the picture of 64x48" in capfd.readouterr().err


@pytest.mark.skipif(not CLIPS, reason=NOT_HERE)
@pytest.mark.parametrize("path", CLIPS, ids=lambda path: path.stem)
def test_real_camera_clips_are_read_cropped_and_decoded(checkpoint, path, tmp_path):
    """No accuracy is claimed: the model has never seen a camera."""
    assert main(["recognize", str(path), "--checkpoint", str(checkpoint), "--out", str(tmp_path)]) == 0
    content = check_files(tmp_path, path.stem)
    assert content["frames"] == slakit.probe_video(path).num_frames
    assert all(0 <= span["start"] < span["end"] <= content["frames"] / content["fps"] for span in content["spans"])
    with Image.open(tmp_path / f"{path.stem}.png") as picture:
        strip = np.asarray(picture.convert("RGB"))[-240:-120]
    assert strip.std() > 30, "the crop shows a picture, not a plain area"


@pytest.mark.skipif(not FILES, reason=NOT_HERE)
@pytest.mark.parametrize("path", [quick_or_slow(path) for path in FILES])
def test_every_odd_or_broken_file_is_recognised_or_refused_in_one_line(checkpoint, path, tmp_path, capfd):
    done = main(["recognize", str(path), "--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")])
    error = capfd.readouterr().err
    if path.name in BROKEN:
        assert done == 2 and not (tmp_path / "out").exists()
        assert len(error.splitlines()) == 1 and error.startswith("slakit: ") and path.name in error
    else:
        assert done == 0 and error == ""
        check_files(tmp_path / "out", path.stem)


def test_of_a_damaged_clip_what_can_be_read_is_recognised_when_asked(checkpoint, tmp_path):
    path = shared("data", "videos", "corrupt_mid.mp4")
    options = ["--checkpoint", str(checkpoint), "--out", str(tmp_path), "--on-damage", "keep-readable"]
    with pytest.warns(match="97 frames kept"):
        assert main(["recognize", str(path), *options]) == 0
    assert check_files(tmp_path, "corrupt_mid")["frames"] == 97
