"""Log-mel spectrograms of a clip's true length.

Shapes: waveform [samples] at 16 kHz; features [mel bins, frames], one frame each 10 ms. Silence after a clip adds
frames of one constant value (see ``pad``), so that nothing needs to be padded before the batch is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from asr.audio.decode import SAMPLE_RATE

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

# Whether the encoder hears a clip at its own length, or padded to the whole window.
Context = Literal["short", "full"]

FRAMES_PER_S = 100
HOP = SAMPLE_RATE // FRAMES_PER_S
WINDOW_S = 30.0
WINDOW_FRAMES = int(WINDOW_S * FRAMES_PER_S)

# The window of one frame reaches 200 samples past its centre: two more frames of silence and the rest is constant.
TAIL_FRAMES = 2

# Whisper takes the decimal logarithm of at least 1e-10, clips it at 8 below its maximum and maps x to (x + 4) / 4:
# silence stands 2 below the loudest bin, or, beside a clip so quiet that this is higher, at the value of 1e-10.
_FLOOR = 2.0
_SILENCE = -1.5


class LogMel:
    """Turns waveforms into log-mel features, as ``WhisperFeatureExtractor`` computes them."""

    def __init__(self, extractor: WhisperFeatureExtractor) -> None:
        self.extractor = extractor

    def __call__(self, waveform: np.ndarray) -> np.ndarray:
        """Return float16 [mel bins, frames] of at most 30 s of speech; the clip's last frame is followed by silence.

        Equal to the first frames of what the extractor gives for the clip padded to 30 s (within 1e-4 in float32).
        Raises ValueError for more than 30 s.
        """
        return self.exact(waveform).astype(np.float16)

    def exact(self, waveform: np.ndarray) -> np.ndarray:
        """Return the same in float32."""
        if len(waveform) > WINDOW_FRAMES * HOP:
            raise ValueError(f"{len(waveform) / SAMPLE_RATE:.4f} s do not fit the window of {WINDOW_S:.0f} s")
        frames = min(num_frames(len(waveform)), WINDOW_FRAMES)
        padded = np.zeros((frames + TAIL_FRAMES) * HOP, dtype=np.float32)
        padded[: len(waveform)] = waveform
        batch = self.extractor(
            padded[: WINDOW_FRAMES * HOP],
            sampling_rate=SAMPLE_RATE,
            padding="do_not_pad",
            truncation=False,
            return_tensors="np",
        )
        return np.asarray(batch["input_features"][0][:, :frames], dtype=np.float32)


def num_frames(num_samples: int) -> int:
    """Return the frames that hold a clip and the silence that closes it."""
    return -(-num_samples // HOP) + TAIL_FRAMES


def pad(features: Sequence[np.ndarray], frames: int) -> np.ndarray:
    """Stack clips [mel bins, their frames] to float32 [clips, mel bins, ``frames``], each followed by its silence."""
    batch = np.empty((len(features), features[0].shape[0], frames), dtype=np.float32)
    for row, clip in zip(batch, features, strict=True):
        row[:] = max(float(clip.max()) - _FLOOR, _SILENCE)
        row[:, : clip.shape[1]] = clip
    return batch
