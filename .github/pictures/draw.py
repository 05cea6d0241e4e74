"""Makes the README's pictures again: `python .github/pictures/draw.py`.

pipeline.svg      the lessons' drawing of the whole way, with the shapes of ViT-B/16
recognition.gif   the demo model reads a clip of a signer whom it has never seen: the clip, where the gloss of the
                  moment comes from, and the glosses on a time line, at half speed
NN.png            a thumbnail of some notebooks, cut from the picture of that number among their stored outputs
"""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import slakit
from slakit.lessons import VIT_B16, pipeline
from slakit.show import film, save_film
from slakit.show.films import font
from slakit.show.report import clip_maps

HERE = Path(__file__).resolve().parent
CLIP = "test-0011"  # six glosses of which one is taken for another
SLOWER = 2
RIGHT, WRONG, TRUE, INK, GREY = "#56B4E9", "#E69F00", "#D0D0D0", "#FFFFFF", "#666666"  # apart for every colour vision
# Notebook: the picture among its stored outputs, and the part of it that is kept (left, top, right, bottom as shares).
THUMBNAILS = {
    "00": (0, (0, 0, 0.67, 1)), "02": (0, (0, 0, 1, 1)), "03": (0, (0, 0, 0.34, 1)), "07": (2, (0.09, 0, 0.62, 0.49)),
    "09": (2, (0.3, 0, 1, 1)),
}  # fmt: skip


def timeline_strip(width: int, rows: dict, count: int, now: int) -> Image.Image:
    """Rows of glosses over time, {name: [(span, colour)]}, with a line at the present; what is to come is grey."""
    strip = Image.new("RGB", (width, 30 * len(rows) + 8), "black")
    draw, left = ImageDraw.Draw(strip), 96
    scale = (width - left - 8) / count
    for k, (name, spans) in enumerate(rows.items()):
        top = 6 + 30 * k
        draw.text((8, top + 12), name, font=font(14), fill=TRUE, anchor="lm")
        for span, colour in spans:
            a, b = left + scale * span.start, left + scale * span.end
            draw.rectangle((a, top, max(a + 2, b - 2), top + 24), fill=colour if span.start <= now else GREY)
            if span.start <= now:
                size = next(s for s in range(14, 5, -1) if s == 6 or font(s).getlength(span.gloss) < b - a - 4)
                draw.text(((a + b) / 2, top + 12), span.gloss, font=font(size), fill="black", anchor="mm")
    x = left + scale * now
    draw.line((x, 2, x, strip.height - 2), fill=INK, width=2)
    return strip


def pipeline_svg() -> Path:
    path = HERE / "pipeline.svg"
    path.write_text(pipeline(sizes=VIT_B16).svg, encoding="utf-8")
    return path


def recognition_gif() -> Path:
    corpus = slakit.load_corpus("minisign", train=1, dev=1, test=12, progress=False)
    sample = next(s for s in corpus.test if s.id == CLIP)
    model = slakit.load_checkpoint("sla-lora")
    result = slakit.recognize(model, sample.source)
    assert len(result.glosses) == len(sample.glosses), "the colours below compare place by place"
    count = len(result.frames)
    colours = [RIGHT if a == b else WRONG for a, b in zip(sample.glosses, result.glosses, strict=True)]
    wide = [_until_next(result.spans, i, count) for i in range(len(result.spans))]
    signed = [(_until_next(sample.spans, i, count), TRUE) for i in range(len(sample.spans))]
    rows = {"signed": signed, "recognised": list(zip(wide, colours, strict=True))}
    pictures = film(
        result.frames, {"what the model looked at": clip_maps(model, result)}, result.spans, "", 25.0, zoom=3
    )
    height = result.frames.shape[1] * 3 + 18
    frames = []
    for t, picture in enumerate(pictures):
        strip = timeline_strip(picture.shape[1], rows, count, t)
        frames.append(np.concatenate([picture[:height], np.asarray(strip)]))
    frames += [frames[-1]] * 6  # to be read
    print(" ".join(sample.glosses), "->", " ".join(result.glosses))
    return save_film(HERE / "recognition.gif", np.stack(frames), 25.0 / SLOWER)


def _until_next(spans, index: int, count: int):
    """A gloss lasts on the time line until the next begins, so that its name can be read."""
    end = spans[index + 1].start if index + 1 < len(spans) else min(count, spans[index].end + 8)
    return replace(spans[index], end=max(end, spans[index].end))


def thumbnail(number: str) -> Path:
    index, (left, top, right, bottom) = THUMBNAILS[number]
    (book,) = (HERE.parents[1] / "notebooks").glob(f"{number}_*.ipynb")
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    data = [out["data"] for cell in cells for out in cell.get("outputs", []) if "data" in out]
    kept = [next((d[kind] for kind in ("image/png", "image/jpeg") if kind in d), None) for d in data]
    picture = Image.open(io.BytesIO(base64.b64decode([text for text in kept if text][index]))).convert("RGB")
    w, h = picture.size
    picture = picture.crop((round(left * w), round(top * h), round(right * w), round(bottom * h)))
    picture.thumbnail((2 * 150, 2 * 110))
    canvas = Image.new("RGB", (300, 220), "white")
    canvas.paste(picture, ((300 - picture.width) // 2, (220 - picture.height) // 2))
    path = HERE / f"{number}.png"
    canvas.quantize(128).save(path, optimize=True)
    return path


if __name__ == "__main__":
    for written in [pipeline_svg(), recognition_gif(), *map(thumbnail, THUMBNAILS)]:
        print(written, f"{written.stat().st_size / 1e3:.0f} kB")
