"""Change of sample rate by FFmpeg's resampler, to an exact number of samples."""

from __future__ import annotations

import av
import numpy as np
from numpy.typing import NDArray


def resample(waveform: NDArray[np.float32], from_hz: int, to_hz: int, num_samples: int) -> NDArray[np.float32]:
    """Return ``waveform`` [samples] (mono float32) at another rate as float32 [``num_samples``], nothing shifted.

    What FFmpeg's filter gives more than ``num_samples`` is cut, what it lacks (a few samples) is silence.
    """
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform, np.float32)[None], format="flt", layout="mono")
    frame.sample_rate = from_hz
    resampler = av.AudioResampler(format="flt", layout="mono", rate=to_hz)
    blocks = [block.to_ndarray()[0] for part in (frame, None) for block in resampler.resample(part)]
    return fitted(np.concatenate([*blocks, np.zeros(0, np.float32)]), num_samples)


def fitted(waveform: NDArray[np.float32], num_samples: int) -> NDArray[np.float32]:
    """Return ``waveform`` cut or filled with silence to float32 [``num_samples``]."""
    result = np.zeros(num_samples, np.float32)
    result[: len(waveform)] = waveform[:num_samples]
    return result
