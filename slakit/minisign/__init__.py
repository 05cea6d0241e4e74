"""MiniSign, a guest room: draws the demo corpus, a signer who signs invented glosses, as real video files.

In: a few settings (clips and signers of each split, seed, film_strength, size). Out: a folder in the layout of a real
corpus, H.264 clips and annotation, with what real corpora lack: true spans of the glosses and true places of hands,
mouth and face in every frame. The same settings give the same corpus on every machine. slakit.load_corpus("minisign")
builds and reads it (slakit/data/corpora/minisign.py); one picture is drawn like this:

    >>> import numpy as np
    >>> from slakit.minisign import HandPose, Pose, sample_scene, sample_signer
    >>> from slakit.minisign.render import render
    >>> rng = np.random.default_rng(0)
    >>> pose = Pose(right=HandPose("index", "chin", "up", "viewer"), mouth="open")
    >>> frame = render(pose, sample_signer(rng, "film"), sample_scene(rng, "film"), size=96)
    >>> frame.image.shape, frame.left_hand
    ((96, 96, 3), None)

In reading order:
    phonology.py    what a sign is made of: handshape, location, orientation, palm, mouth; poses and their captions
    lexicon.py      31 glosses as such choices, and which of them differ in one        sentences.py  their grammar
    hands.py        the articulated hand                skeleton.py   arms and the whole body as one vector
    motion.py       a sentence as such vectors, frame by frame, with the true spans
    looks.py        signers, scenes, and the two domains "pictures" and "film"
    canvas.py  draw_hand.py  draw_body.py  backgrounds.py  camera.py    shapes, from the hand to the film's grain
    render.py       one picture and the truth about it
    clips.py        the plan of a corpus; one clip as files        corpus.py    all of them, by several processes
    phone.py        clips as from a phone, to try what own videos need: `python -m slakit draw`
    sheets.py       contact sheets for notebooks

Of slakit it imports records alone; of slakit only data/corpora/minisign.py and the command line import it.
"""

from slakit.minisign.clips import Settings
from slakit.minisign.corpus import build
from slakit.minisign.lexicon import GLOSSES, LEXICON, Sign, differing, minimal_pairs
from slakit.minisign.looks import Scene, Signer, sample_scene, sample_signer
from slakit.minisign.phonology import HandPose, Pose, describe, sample_pose
from slakit.minisign.render import Frame
from slakit.minisign.sheets import strips

__all__ = [
    "GLOSSES", "LEXICON", "Frame", "HandPose", "Pose", "Scene", "Settings", "Sign", "Signer", "build", "describe",
    "differing", "minimal_pairs", "sample_pose", "sample_scene", "sample_signer", "strips",
]  # fmt: skip
