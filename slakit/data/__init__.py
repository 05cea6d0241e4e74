"""From files to batches: corpora and clips on disk become packed batches of frames.

In: the name and the folder of a corpus, or the path of a clip. Out: a `Corpus` of `Sample`s; frames uint8 [T, H, W, 3]
(RGB, upright) of one clip; `Batch`es with frames uint8 [sum of lengths, 3, H, W], the clips one after the other, no
padded frame, and int64 lengths [B], targets [sum of target_lengths], target_lengths [B].

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from slakit.config import AugmentConfig, TrainConfig
    >>> from slakit.data import clip_loader, load_corpus, probe_video, read_frames
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "monday").mkdir()
    >>> for number in range(8):
    ...     Image.new("RGB", (64, 48), (9 * number, 0, 0)).save(folder / f"monday/{number}.png")
    >>> written = (folder / "annotations.csv").write_text("path,glosses,split\\nmonday,HELLO YOU,train\\n")
    >>> corpus = load_corpus("folder", folder)
    >>> read_frames(corpus.train[0].source).shape, probe_video(corpus.train[0].source).num_frames
    ((8, 48, 64, 3), 8)
    >>> settings = TrainConfig(augment=AugmentConfig(image_size=32, crop_size=28))
    >>> batch = next(iter(clip_loader(corpus.train, corpus.glosses, settings, train=False)))
    >>> batch.frames.shape, batch.lengths.tolist(), batch.targets.tolist()
    (torch.Size([8, 3, 28, 28]), [8], [1, 2])

In reading order:
    corpora/      one file a layout on disk -> Corpus
    video/        one path -> frames, whole or refused with a reason
    augment.py    crop, flip, temporal rescale: decided before a pixel is touched
    clips.py      single clips, planned, read and packed         loader.py    the batches of an epoch
    annotate.py   ELAN files (elan.py), names or tables -> annotations.csv
    prepare.py    a corpus decoded and resized once, packed      doctor.py    what is wrong with a corpus on disk

It imports records, config and machine (and minisign in one file), never models.
"""

from slakit.data.clips import Batch
from slakit.data.corpora import CORPORA, load_corpus
from slakit.data.loader import clip_loader
from slakit.data.video import DamageWarning, VideoInfo, probe_video, read_frames

__all__ = [
    "CORPORA", "Batch", "DamageWarning", "VideoInfo", "clip_loader", "load_corpus", "probe_video", "read_frames",
]  # fmt: skip
