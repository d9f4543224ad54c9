"""Finds the speech of a recording in the child that has decoded it, and says it to the parent.

There it costs neither the parent's interpreter nor its event loop anything, and what stops the decoding stops this too.
A child that is taken over can say what it likes of its own file, as it can of the samples: what is believed of it is
that the stretches are some of that recording's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asr.audio.sounding import SAMPLE_BYTES, Stretch, written
from asr.audio.track.downmix import SAMPLE_RATE
from asr.audio.vad import speech
from asr.parsed import JsonObject

SPEECH_S_PER_S = 50  # seconds of a recording that are judged in one, at the least: it takes about 1/900 of its length
SEARCHED_S = 60  # of a recording that is searched here, at the most
_SIGN_S = 1.0  # how often a child shows that it goes on


@dataclass
class SampleFile:
    """Float32 samples in a file [descriptor], to be read as an array is.

    A confined child may not map it. Each second a sample is written once more where it stands: a parent that waits sees
    by the file's time that its child is at work.
    """

    file: int
    samples: int
    _shown: float = field(default_factory=time.monotonic)
    dtype: np.dtype[np.float32] = field(default_factory=lambda: np.dtype(np.float32))

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, part: slice[int, int, None]) -> NDArray[np.float32]:
        start, end, _ = part.indices(self.samples)
        data = self._read(start, end)
        if len(data) < (end - start) * SAMPLE_BYTES:
            raise ValueError(f"there are fewer than {end} samples")
        if data and time.monotonic() - self._shown >= _SIGN_S:
            os.pwrite(self.file, data[:SAMPLE_BYTES], start * SAMPLE_BYTES)
            self._shown = time.monotonic()
        return np.frombuffer(data, np.float32)

    def _read(self, start: int, end: int) -> bytes:
        return os.pread(self.file, (end - start) * SAMPLE_BYTES, start * SAMPLE_BYTES)


def speech_in(file: int, samples: int) -> list[Stretch] | None:
    """Return the speech in so many samples of the ``file`` [descriptor], as ``asr.audio.vad.speech``.

    None for a longer recording: the parent finds that in it window by window, and sends the first one meanwhile.
    """
    return speech(SampleFile(file, samples), written(file, samples)) if samples <= SEARCHED_S * SAMPLE_RATE else None


def speech_of(answer: JsonObject, samples: int) -> list[Stretch] | None:
    """Return the stretches of an answer about so many samples; None where it tells none.

    Raises ValueError for what are no stretches of it, in order and apart.
    """
    told = answer.get("speech")
    if told is None:
        return None
    if not isinstance(told, list):
        raise ValueError("no stretches")
    before, stretches = -1, []
    for each in told:
        start, end = _pair(each)
        if not before < start < end <= samples:
            raise ValueError("no stretch of the recording")
        stretches.append((start, end))
        before = end
    return stretches


def _pair(said: object) -> Sequence[int]:
    if not (isinstance(said, list) and len(said) == 2 and all(type(each) is int for each in said)):
        raise ValueError("no stretch")
    return said
