"""What a corpus shows a model, before anything is trained."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from slakit.data.video.read import open_source
from slakit.records import Corpus
from slakit.scoring.escapes import as_label
from slakit.show.palette import WIDTH


def signer_strips(corpus: Corpus, clips: int = 4, width: float = WIDTH) -> Figure:
    """A row a signer, eight at most: the middle of some clips, in orange the square that is cut out as the corpus says.

    VideoError where one of them cannot be read.
    """
    samples = [sample for split in ("train", "dev", "test") for sample in corpus.split(split)]
    signers = list(dict.fromkeys(sample.signer for sample in samples))[:8]
    rows = {name: [sample for sample in samples if sample.signer == name] for name in signers}
    rows = {name: found[:: max(1, len(found) // clips)][:clips] for name, found in rows.items()}
    figure, axes = plt.subplots(len(rows), clips, figsize=(width, 0.68 * width / clips * len(rows)), squeeze=False)
    for line, (name, found) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set_axis_off()
        line[0].set_title(as_label(name or "signer unknown"), loc="left")
        for axis, sample in zip(line, found, strict=False):
            source = open_source(sample.source)
            axis.imshow(source.read([source.num_frames // 2])[0])
            if box := source.box(sample.crop or "none"):
                corner = box.left, box.top
                axis.add_patch(Rectangle(corner, box.side, box.side, fill=False, edgecolor="tab:orange", linewidth=2))
    figure.tight_layout()
    return figure
