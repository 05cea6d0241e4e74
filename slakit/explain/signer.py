"""Where MiniSign's hands and faces are in the pictures that a model sees: the targets of the pointing game."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slakit.data.corpora.minisign import load_landmarks
from slakit.data.samples import Corpus, Sample

HAND_RADIUS = 12.0  # pixels of MiniSign's 96: palm and fingers


@dataclass(frozen=True, eq=False)
class SignerPlaces:
    """points [T, 3, 2] in pixels of the model's frames: right hand, left hand (NaN at rest), face; radius [T, 3]."""

    points: np.ndarray
    radius: np.ndarray

    def only(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(points, radius) of the "hands", the "face", or "hands or face"."""
        chosen = {"hands": slice(0, 2), "face": slice(2, 3), "hands or face": slice(0, 3)}[name]
        return self.points[:, chosen], self.radius[:, chosen]


def signer_places(corpus: Corpus, sample: Sample, image_size: int, video_size: int = 96) -> SignerPlaces:
    """The places of one MiniSign clip, after fit_frames() resized the picture to 8/7 and kept its middle."""
    marks = load_landmarks(corpus.root, sample.id)
    side = round(image_size * 8 / 7)
    scale, margin = side / video_size, (side - image_size) // 2
    points = np.stack([marks.right_hand, marks.left_hand, marks.face[:, :2]], 1) * scale - margin
    hand = np.full(len(points), HAND_RADIUS)
    return SignerPlaces(points, np.stack([hand, hand, marks.face[:, 2]], 1) * scale)
