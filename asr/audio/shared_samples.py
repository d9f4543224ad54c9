"""Takes over samples that a child has written into a memory file."""

from __future__ import annotations

import contextlib
import fcntl
import math
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.audio.sounding import Stretch, written
from asr.errors import DataError
from asr.sound import SoundReport

SAMPLE = np.dtype(np.float32)
BRIEF_BYTES = 1 << 21  # of samples, 33 s: copied in less than a millisecond; their writer's end takes three


@dataclass(frozen=True)
class Decoded:
    """A recording: ``waveform`` [samples] at 16 kHz, as ``asr.audio.decode`` returns it, and what was found in it.

    The samples are memory that is given back piece by piece. Outside of ``stretches`` they are digital silence, which
    takes no memory until it is read. ``speech`` are those in which somebody speaks, where the child has found them.
    """

    waveform: NDArray[np.float32]
    report: SoundReport
    stretches: Sequence[Stretch]
    _memory: mmap.mmap
    speech: Sequence[Stretch] | None = None

    def forget(self, samples: int) -> None:
        """Give back the memory of so many samples from the beginning, which nobody will read again."""
        whole = samples * SAMPLE.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
        if whole:
            self._memory.madvise(mmap.MADV_REMOVE, 0, whole)


@contextlib.contextmanager
def memory() -> Iterator[int]:
    """Yield the descriptor of a new file in memory, and close it."""
    file = os.memfd_create("waveform", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        yield file
    finally:
        os.close(file)


def progress(file: int) -> tuple[int, int]:
    """Return how many samples a ``file`` [descriptor] holds, and the bytes of memory of those that are no holes."""
    state = os.fstat(file)
    return state.st_size // SAMPLE.itemsize, state.st_blocks * 512


def brief(file: int) -> bool:
    """Have a ``file`` [descriptor] keep its size for ever, and return whether what is in it is copied by ``taken``.

    What is not copied stays the memory of the process that wrote it: that one must have ended before ``taken``.
    """
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return os.fstat(file).st_size <= BRIEF_BYTES


def taken(file: int, report: SoundReport, place: str, speech: Sequence[Stretch] | None = None) -> Decoded:
    """Return what is in the ``file`` [descriptor], ``mapped`` or, where it is ``brief``, as a copy of our own.

    Raises ValueError where there is less in it than was reported, and DataError non_finite as ``copied``.
    """
    if not brief(file):
        return mapped(file, report, place, speech)
    _require(file, report.samples)
    memory = mmap.mmap(-1, report.samples * SAMPLE.itemsize)
    waveform, stretches = np.frombuffer(memory, SAMPLE), written(file, report.samples)
    for start, end in stretches:  # the rest is digital silence, and takes no memory here either
        _read(file, waveform[start:end], start)
    _check_finite((waveform[start:end] for start, end in stretches), place)
    return Decoded(waveform, report, stretches, memory, speech)


def mapped(file: int, report: SoundReport, place: str, speech: Sequence[Stretch] | None = None) -> Decoded:
    """Return what is in the ``file`` [descriptor] without a copy; the file can no longer be cut under us.

    Raises ValueError where there is less in it than was reported, and DataError non_finite as ``copied``.
    """
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    _require(file, report.samples)
    memory = mmap.mmap(file, report.samples * SAMPLE.itemsize)
    waveform, stretches = np.frombuffer(memory, SAMPLE), written(file, report.samples)
    _check_finite((waveform[start:end] for start, end in stretches), place)
    return Decoded(waveform, report, stretches, memory, speech)


def copied(file: int, start: int, samples: int, place: str) -> NDArray[np.float32]:
    """Return a copy of so many samples of the ``file`` [descriptor] from ``start`` on, which nobody else can change.

    Raises ValueError as ``mapped``, and DataError non_finite for samples that no recording has.
    """
    _require(file, samples, start)
    waveform = np.empty(samples, SAMPLE)
    _read(file, waveform, start)
    _check_finite([waveform], place)
    return waveform


def _require(file: int, samples: int, start: int = 0) -> None:
    if samples < 1 or not 0 < (start + samples) * SAMPLE.itemsize <= os.fstat(file).st_size:
        raise ValueError(f"{samples} samples")


def _read(file: int, samples: NDArray[np.float32], start: int) -> None:
    left, offset = samples.data.cast("B"), start * SAMPLE.itemsize
    while left:
        count = os.preadv(file, [left], offset)
        if not count:
            raise ValueError("cut short")
        left, offset = left[count:], offset + count


def _check_finite(sounds: Iterable[NDArray[np.float32]], place: str) -> None:
    with np.errstate(over="ignore"):
        energy = sum(float(np.dot(sound, sound)) for sound in sounds)
    if not math.isfinite(energy):
        raise DataError("non_finite", f"{place}: it decodes to samples that are no numbers")
