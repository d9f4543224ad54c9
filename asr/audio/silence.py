"""Silent clips: digital silence, a constant, or noise under what any codec makes of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from asr.audio.decode import SAMPLE_RATE
from asr.errors import DataError

# Measured (tiny.en, twelve English prompts made quieter and stored with 16 bits; level of the loudest tenth of a
# second): at -51 dBFS (40 dB quieter) and at -71 WER is 1 to 3 %, at -77 29 %, at -83 76 %, at -89 98 %. Silence
# decoded from WAV, FLAC, MP3, AAC, Opus, mu-law and A-law is 0 or a constant, from G.722 -86, dither of 16 bits -91.
SILENCE_DBFS = -80.0
# A-law has no step at 0: dither of silence becomes noise at -72 dBFS, in mu-law at -73 to -78. That is steadier than
# speech: 95th to 20th percentile of the frames' levels up to 3.2 dB, where 91 Italian and English prompts as quiet, in
# FLAC with and without dither, have 9.8 or more. A-law loses speech well above that (tiny.en, 14 English prompts: WER
# 10 % as recorded, 98 % with the loudest frames at -64 dBFS).
STEADY_DBFS = -71.5
_STEADY_DB = 6.0
_FRAME = SAMPLE_RATE // 100
_MIN_FRAMES = 10  # 0.1 s is shorter than any word, and longer than a click
_SAMPLED = 4  # one frame in so many is looked at first
_LOUD = 10 ** (STEADY_DBFS / 20) * 1.001  # more than rounding makes of it


def is_silent(waveform: NDArray[np.float32]) -> bool:
    """Return whether a waveform [samples at 16 kHz] is silent: next to nothing of it is loud, or it is steady noise.

    It is where less than 0.1 s of it, or half of a shorter one, is over -80 dBFS, and where all of it is quieter than
    -71.5 dBFS and as steady as noise. The level is the RMS of 10 ms about their own mean: a recorder's constant offset
    is no sound.
    """
    frames = waveform[: len(waveform) // _FRAME * _FRAME].reshape(-1, _FRAME)
    if _is_loud(frames):
        return False
    levels = 20 * np.log10(np.maximum(frames.std(axis=1), 1e-9))
    if np.count_nonzero(levels > SILENCE_DBFS) < max(1, min(_MIN_FRAMES, len(frames) // 2)):
        return True
    low, high, loudest = np.percentile(levels, [20, 95, 99])
    return bool(loudest < STEADY_DBFS and high - low < _STEADY_DB)


def _is_loud(frames: NDArray[np.float32]) -> bool:
    """Return True only where ``is_silent`` is False: a part of the frames is loud enough for the rest not to matter.

    Nearly all speech is: 62 µs a clip of 3 s, against 199. The 99th percentile is among ``len // 100 + 2`` frames.
    """
    loud = np.count_nonzero(frames[::_SAMPLED].std(axis=1) > _LOUD)
    return bool(loud >= max(_MIN_FRAMES, len(frames) // 100 + 2))


def require_sound(waveform: NDArray[np.float32]) -> None:
    """Raise DataError silent for a waveform of silence that is to have words."""
    if is_silent(waveform):
        peak = float(np.abs(waveform).max(initial=0.0))
        loudest = f"peak {20 * np.log10(peak):.0f} dBFS" if peak else "all samples are 0"
        raise DataError("silent", f"{len(waveform) / SAMPLE_RATE:.2f} s with nothing to hear, {loudest}")
