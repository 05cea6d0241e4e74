"""One drawing of the whole way, from a frame to glosses, with shapes on the arrows; a lesson colours its own part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from slakit.config import nearest
from slakit.records import ConfigError


@dataclass(frozen=True)
class Sizes:
    """What the shapes are made of: pixels of a side, patches of a frame, width of a token, blocks, and further on the
    width of the sequence model and the number of classes, blank included ("V" where it is not said)."""

    name: str
    pixels: int
    patches: int
    width: int
    blocks: int
    hidden: int
    classes: str = "V"


TINY = Sizes("tiny-clip", 84, 49, 96, 4, 256, "32")  # of the lessons' models
VIT_B16 = Sizes("ViT-B/16", 224, 196, 768, 12, 1024)  # of the papers

FROZEN, TRAINED, PLAIN = ("#cfe3f5", "#0072b2"), ("#ffe0a8", "#b36b00"), ("#eef1f4", "#57606a")
PALE = ("#ffffff", "#c4cbd2")
INK, GREY = "#1f2328", "#6e7781"
# Part: its name in text, (left, top, width, height), colours, lines: the first is bold.
PARTS = {
    "clip": ("the clip", (14, 62, 96, 124), PLAIN, ("video", "T frames")),
    "patches": ("patches and class token", (216, 62, 148, 124), FROZEN, ("patches", "and a class token")),
    "blocks": ("the blocks of the image encoder", (462, 30, 268, 156), FROZEN, ("{blocks} blocks: attention, MLP",)),
    "modules": ("the small modules inside", (478, 66, 236, 104), TRAINED,
                ("small modules inside", "SLA-LoRA, SLA-Adapter", "or AdaptSign: look also", "at neighbouring frames")),
    "feature": ("the feature of a frame", (836, 62, 132, 124), FROZEN,
                ("feature", "the class token", "alone, a frame")),
    "convolution": ("the temporal convolution", (14, 262, 172, 84), TRAINED,
                    ("temporal convolution", "4 frames become 1 step")),
    "bilstm": ("the BiLSTM", (264, 262, 126, 84), TRAINED, ("BiLSTM", "reads both ways")),
    "classifier": ("the classifier", (484, 262, 132, 84), TRAINED, ("classifier", "glosses + blank")),
    "ctc": ("CTC", (714, 252, 130, 104), PLAIN, ("CTC", "training: sum of", "paths; reading:", "beam search")),
    "glosses": ("the glosses", (880, 262, 92, 84), ("#24292f", "#24292f"), ("glosses", "and times")),
}  # fmt: skip
# Arrow: its path, where its shape stands, the shape.
ARROWS = (
    ("M110 124 H212", (161, 115), "[T, 3,", "{pixels}, {pixels}]"),
    ("M364 124 H458", (411, 115), "[T, {tokens},", "{width}]"),
    ("M730 124 H832", (781, 115), "[T, {tokens},", "{width}]"),
    ("M902 186 V220 H89 V258", (496, 212), "[T, {width}]: a clip is now a row of features", ""),
    ("M186 304 H260", (223, 295), "[T/4,", "{hidden}]"),
    ("M390 304 H480", (435, 295), "[T/4,", "{hidden}]"),
    ("M616 304 H710", (663, 295), "[T/4,", "{classes}]"),
    ("M844 304 H876", (0, 0), "", ""),
)


class Drawing:
    """An SVG that a notebook shows; `svg` is its source, `text` says the same in words."""

    def __init__(self, svg: str, text: str):
        self.svg, self.text = svg, text

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return self.text


def pipeline(part: str | Sequence[str] | None = None, sizes: Sizes = TINY) -> Drawing:
    """The way of a clip through the model, from frames to glosses.

    part: what the lesson is about, one of PARTS or several, in full colour with the rest pale; None: all of it.
    sizes: whose shapes stand at the arrows. ConfigError for a part that is not drawn.
    """
    chosen = list(PARTS) if part is None else [part] if isinstance(part, str) else list(part)
    for name in chosen:
        if name not in PARTS:
            raise ConfigError(f"the pipeline has no part {name!r}{nearest(name, PARTS)}; it has {', '.join(PARTS)}")
    here = "" if part is None else f" Now: {', '.join(PARTS[name][0] for name in chosen)}."
    text = (
        f"From a video to glosses, the shapes for {sizes.name}.{here} T frames of {sizes.pixels} x {sizes.pixels} "
        f"pixels are cut into {sizes.patches} patches each; patches and a class token are {sizes.patches + 1} tokens "
        f"of {sizes.width} numbers. They go through {sizes.blocks} frozen blocks with small trained modules inside, "
        f"and the class token comes out as the frame's feature: [T, {sizes.width}]. Trained parts follow: a temporal "
        f"convolution makes one step of four frames, [T/4, {sizes.hidden}], a BiLSTM reads the steps both ways, a "
        "classifier gives each step a probability for every gloss and the blank. CTC trains with them; beam search "
        "reads glosses and their times from them."
    )
    values = vars(sizes) | {"tokens": sizes.patches + 1}
    body = [_box(name, name in chosen, part is not None, values) for name in PARTS]
    body += [_pictures("clip" in chosen, "patches" in chosen)]
    body += [_arrow(path, place, [line.format(**values) for line in lines]) for path, place, *lines in ARROWS]
    head = (  # 920 pixels: a notebook's column beside an open side bar on a screen of 1366
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 986 398" width="920" style="max-width:100%" role="img" '
        'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" font-size="13" text-anchor="middle" '
        f'fill="{INK}">\n<title>From a video to glosses</title>\n<desc>{escape(text)}</desc>\n'
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 L10 5 L0 10 z" fill="{INK}"/></marker></defs>\n'
        '<rect x="1" y="1" width="984" height="396" rx="10" fill="#ffffff" stroke="#8c959f"/>'
    )
    return Drawing("\n".join([head, *body, _legend(sizes), "</svg>"]) + "\n", text)


def _box(name: str, chosen: bool, marked: bool, values: dict) -> str:
    _, (left, top, width, height), (fill, line), lines = PARTS[name]
    if not chosen:
        fill, line = PALE
    ink = "#ffffff" if fill == "#24292f" else INK if chosen else GREY
    first = {"blocks": top + 24, "patches": top + 92, "clip": top + 92}.get(
        name, top + height / 2 + 5 - 9 * (len(lines) - 1)
    )
    texts = [
        f'<text x="{left + width / 2:g}" y="{first + 18 * k:g}" font-weight="{"normal" if k else "bold"}">'
        f"{escape(text.format(**values))}</text>"
        for k, text in enumerate(lines)
    ]
    return (
        f'<g fill="{ink}"><rect x="{left}" y="{top}" width="{width}" height="{height}" rx="8" fill="{fill}" '
        f'stroke="{line}" stroke-width="{4 if chosen and marked else 2}"/>{"".join(texts)}</g>'
    )


def _pictures(clip: bool, patches: bool) -> str:
    """A signer in the clip's box; a grid of patches and one square more, the class token, in that of the patches."""
    dark = "#57606a" if clip else PALE[1]
    signer = (
        f'<g fill="{dark}"><circle cx="60" cy="88" r="10"/><path d="M38 136 q0 -34 22 -34 q22 0 22 34 z"/>'
        '<path d="M81 126 l9 -28 l6 2 l-8 30 z"/></g>'
    )
    ink, square = (FROZEN[1], "#e69f00") if patches else (PALE[1], PALE[1])
    grid = "".join(f"M254 {74 + 9 * k} H317 M{254 + 9 * k} 74 V137 " for k in range(8))
    return (
        f'{signer}<path d="{grid}" stroke="{ink}" fill="none"/>'
        f'<rect x="327" y="101" width="9" height="9" fill="{square}"/>'
    )


def _arrow(path: str, place: tuple[float, float], lines: Sequence[str]) -> str:
    x, y = place
    texts = "".join(f'<text x="{x}" y="{y + 26 * k}">{escape(line)}</text>' for k, line in enumerate(lines) if line)
    return f'<path d="{path}" stroke="{INK}" stroke-width="2" fill="none" marker-end="url(#tip)"/>{texts}'


def _legend(sizes: Sizes) -> str:
    entries = ((24, FROZEN, "frozen: CLIP as it came"), (226, TRAINED, "trained"), (326, PLAIN, "no weights"))
    marks = "".join(
        f'<rect x="{x}" y="367" width="18" height="18" rx="4" fill="{fill}" stroke="{line}" stroke-width="2"/>'
        f'<text x="{x + 26}" y="381" text-anchor="start">{text}</text>'
        for x, (fill, line), text in entries
    )
    return f'{marks}<text x="960" y="381" text-anchor="end" fill="#57606a">shapes: {sizes.name}, one clip</text>'
