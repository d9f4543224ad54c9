"""Log-mel spectrograms of a clip's true length.

Shapes: waveform [samples] at 16 kHz; features [mel bins, frames], one frame each 10 ms. Silence after a clip adds
frames of one constant value (see ``pad``), so that nothing needs to be padded before the batch is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor

# Whether the encoder gets a clip at its own length, or padded to the whole window.
Context = Literal["short", "full"]

FRAMES_PER_S = 100
HOP = SAMPLE_RATE // FRAMES_PER_S
WINDOW_S = 30.0
WINDOW_FRAMES = int(WINDOW_S * FRAMES_PER_S)

# The window of one frame reaches 200 samples past its centre: two more frames of silence and the rest is constant.
TAIL_FRAMES = 2

# Frames of silence that a short context keeps behind a clip, and the step its length is rounded up to. The step makes
# a clip's context depend on the clip alone, never on what else is in its batch: batched or alone, the same words.
MARGIN_FRAMES = 50
STEP_FRAMES = FRAMES_PER_S
# A longer context is the whole window: those of a long file, which are cut late, then share a batch. Decoding eight of
# them together takes 3/4 of the time that it takes in twos and threes, and the longer context adds 1/12 to encoding.
NEARLY_WHOLE_FRAMES = 24 * FRAMES_PER_S

# Whisper takes the decimal logarithm of at least 1e-10, clips it at 8 below its maximum and maps x to (x + 4) / 4:
# silence stands 2 below the loudest bin, or, beside a clip so quiet that this is higher, at the value of 1e-10.
_LEAST_POWER, _LEAST, _RANGE = np.float32(1e-10), np.float32(-10.0), np.float32(8.0)
_FLOOR = 2.0
_SILENCE = -1.5


class LogMel:
    """Turns waveforms into log-mel features, as ``WhisperFeatureExtractor`` computes them (it has no dither here).

    ``mel_filters`` [frequencies, mel bins] are those of the extractor. NumPy does it in 2/3 of the time, and a process
    that prepares requests needs neither torch nor transformers: its memory is half.
    """

    is_spectrogram = True

    def __init__(self, mel_filters: NDArray[np.float64]) -> None:
        self._filters = np.ascontiguousarray(mel_filters, dtype=np.float32)
        self._span = 2 * (len(mel_filters) - 1)  # samples of a frame
        self._taper = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self._span) / self._span)).astype(np.float32)

    @property
    def bins(self) -> int:
        """Mel bins of each frame."""
        return int(self._filters.shape[1])

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float16]:
        """Return float16 [mel bins, frames] of at most 30 s of speech; the clip's last frame is followed by silence.

        Equal to the first frames of what the extractor gives for the clip padded to 30 s (within 1e-4 in float32).
        Raises ValueError for more than 30 s.
        """
        return self.exact(waveform).astype(np.float16)

    def exact(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the same in float32."""
        if len(waveform) > WINDOW_FRAMES * HOP:
            raise ValueError(f"{len(waveform) / SAMPLE_RATE:.4f} s do not fit the window of {WINDOW_S:.0f} s")
        frames = min(num_frames(len(waveform)), WINDOW_FRAMES)
        padded = np.zeros(min(frames + TAIL_FRAMES, WINDOW_FRAMES) * HOP, dtype=np.float32)
        padded[: len(waveform)] = waveform
        centred = np.pad(padded, self._span // 2, mode="reflect")
        spectrum = np.fft.rfft(sliding_window_view(centred, self._span)[::HOP][:frames] * self._taper)
        power = spectrum.real**2 + spectrum.imag**2
        mel = np.log10(np.maximum(power @ self._filters, _LEAST_POWER))
        least = max(mel.max() - _RANGE, _LEAST)  # the least power's logarithm is a rounding below it on some processors
        return np.ascontiguousarray(((np.maximum(mel, least) + 4.0) / 4.0).T, dtype=np.float32)

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a clip of so many samples has; see ``num_frames``."""
        return min(num_frames(num_samples), WINDOW_FRAMES)

    def encoder_s(self, num_frames: int, context: Context) -> float:
        """Return the seconds of audio that the encoder sees of so many frames."""
        return context_frames(num_frames, context) / FRAMES_PER_S


def filters_of(extractor: WhisperFeatureExtractor) -> NDArray[np.float64]:
    """Return the mel filters [frequencies, mel bins] of an extractor. Raises ValueError for one with other frames."""
    if extractor.hop_length != HOP:
        raise ValueError(f"its frames are {extractor.hop_length} samples apart; here they are {HOP}")
    filters: NDArray[np.float64] = extractor.mel_filters
    return filters


def context_frames(num_frames: int, context: Context) -> int:
    """Return how many frames the encoder sees for a clip of ``num_frames``."""
    if context == "full":
        return WINDOW_FRAMES
    frames = -(-(num_frames + MARGIN_FRAMES) // STEP_FRAMES) * STEP_FRAMES
    return frames if frames <= NEARLY_WHOLE_FRAMES else WINDOW_FRAMES


def num_frames(num_samples: int) -> int:
    """Return the frames that hold a clip and the silence that closes it."""
    return -(-num_samples // HOP) + TAIL_FRAMES


def pad(features: Sequence[NDArray[np.float16] | NDArray[np.float32]], frames: int) -> NDArray[np.float32]:
    """Stack clips [mel bins, their frames] to float32 [clips, mel bins, ``frames``], each followed by its silence."""
    batch = np.empty((len(features), features[0].shape[0], frames), dtype=np.float32)
    for row, clip in zip(batch, features, strict=True):
        row[:] = max(float(clip.max()) - _FLOOR, _SILENCE)
        row[:, : clip.shape[1]] = clip
    return batch
