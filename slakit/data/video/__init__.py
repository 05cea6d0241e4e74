"""One path -> frames: a video file, a folder of frames or a clip of a prepared corpus, whole or refused with a reason.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from slakit.data.video import open_source
    >>> folder = Path(tempfile.mkdtemp())
    >>> for number in range(3):
    ...     Image.new("RGB", (64, 48), (90 * number, 0, 0)).save(folder / f"{number}.png")
    >>> source = open_source(folder)
    >>> source.info.num_frames, source.read([2, 0])[:, 0, 0, 0].tolist()
    (3, [180, 0])

In reading order:
    read.py       open_source, read_frames, probe_video          source.py    what every source answers; on_damage
    file.py       a video file by PyAV      decode.py    packets and frames      second_reader.py    decord compares
    images.py     frames in files of their own                   packed.py    a prepared corpus
    resize.py     OpenCV's LANCZOS4                              cropping.py  the square around the signer
"""

from slakit.data.video.read import open_source, probe_video, read_frames
from slakit.data.video.source import DamageWarning, Source, VideoInfo

__all__ = ["DamageWarning", "Source", "VideoInfo", "open_source", "probe_video", "read_frames"]
