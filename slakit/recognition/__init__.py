"""Model and video -> glosses, times, files: every forward pass that is not training's.

In: a Recognizer and clips (Samples of a corpus), a video file, or frames uint8 [T, H, W, 3]. Out: `ClipLogProbs`, the
natural log probabilities of a clip ([T', V], T' = ceil(T / 4)); a `Recognition` (.glosses, .spans in frames and
seconds, .score, .alternatives) that saves itself as ELAN, WebVTT, JSON or CTM; a transcript {id: "gloss gloss"} and its
Score. All of them show the model the pictures that it was trained on, decode as its checkpoint was chosen, and work in
the same precision (bfloat16 where a GPU has it), on a GPU where there is one.

>>> import numpy as np
>>> import slakit
>>> from slakit.recognition import StreamingRecognizer, recognize_frames
>>> model = slakit.create_model("frozen", ["HELLO", "WORLD"], backbone="tiny-clip", hidden_size=16)
>>> frames = np.random.default_rng(0).integers(0, 256, (18, 96, 96, 3), np.uint8)
>>> result = recognize_frames(model, frames, fps=25.0)
>>> result.posteriors.shape, len(result.spans) == len(result.glosses)  # 18 frames: 5 steps, blank and two glosses
((5, 3), True)
>>> stream = StreamingRecognizer(model, chunk_frames=18)  # a chunk that holds the clip: the same answer
>>> stream.push(frames).frames_received, stream.finish().glosses == result.glosses
(18, True)

In reading order:
  pictures.py   the pictures and settings that a model was trained with: what every answer is made with
  forward.py    log_probs: the one forward pass; decode, transcribe, evaluate stand on it
  likeness.py   how unlike its training clips a video looks to a model
  video.py      recognize: one video in, a Recognition out
  pauses.py     where a video of several sentences can be cut
  streaming.py  the same while frames arrive
  spans.py      how well the times of glosses are found
  exports.py    ELAN, WebVTT, JSON, CTM

It stands on data, models, decoding and scoring, and imports nothing of training, explain or show.
"""

from slakit.recognition.forward import ClipLogProbs, decode, evaluate, log_probs, placed, transcribe
from slakit.recognition.likeness import Likeness, likeness, training_features
from slakit.recognition.pauses import between_pauses
from slakit.recognition.pictures import Pictures, fit_frames, pictures_for, settings_for
from slakit.recognition.spans import WAYS, span_table, spans_by
from slakit.recognition.streaming import StreamingRecognizer, StreamState, long_streams, stream_frames
from slakit.recognition.video import Recognition, clip_name, recognize, recognize_frames

__all__ = [
    "WAYS",
    "ClipLogProbs",
    "Likeness",
    "Pictures",
    "Recognition",
    "StreamState",
    "StreamingRecognizer",
    "between_pauses",
    "clip_name",
    "decode",
    "evaluate",
    "fit_frames",
    "likeness",
    "log_probs",
    "long_streams",
    "pictures_for",
    "placed",
    "recognize",
    "recognize_frames",
    "settings_for",
    "span_table",
    "spans_by",
    "stream_frames",
    "training_features",
    "transcribe",
]
