"""Finds the stretches of a waveform that are not digital silence, so that hours of zeros are not stored or examined.

Samples are written with a hole wherever a block of them is zero, and the file's own map tells where they are not. A
hole must not even be read through a mapping: reading gives it memory.
"""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAMPLE_BYTES = np.dtype(np.float32).itemsize
HOLE_BYTES = 1 << 16  # about a second: whole pages of memory, and few calls to the system

Stretch = tuple[int, int]
_AT_ONCE = 1 << 20  # samples, of what may be no array


class Waveform(Protocol):
    """Samples [samples] that are read stretch by stretch: an array, or a file."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice[int, int, None], /) -> NDArray[np.float32]: ...


def put(file: int, samples: NDArray[np.float32], at: int) -> int:
    """Write samples, float32, to the ``file`` [descriptor] from a byte on; return the byte at which they end."""
    left = samples.data.cast("B")
    while left:
        count = os.pwrite(file, left, at)
        at, left = at + count, left[count:]
    return at


def put_sparsely(file: int, samples: NDArray[np.float32], at: int) -> int:
    """Do as ``put`` at the end of a file; blocks of zeros become holes, and take no memory.

    Raises PermissionError where the file may not grow any more.
    """
    block, end = HOLE_BYTES // SAMPLE_BYTES, at + samples.nbytes
    for left, right in sounding(samples, block):
        put(file, samples[left:right], at + left * SAMPLE_BYTES)
    if os.fstat(file).st_size < end:
        os.ftruncate(file, end)
    return end


def written(file: int, samples: int) -> list[Stretch]:
    """Return the stretches (start, end) of so many samples in ``file`` that are no holes, in order."""
    stretches: list[Stretch] = []
    end, size = 0, samples * SAMPLE_BYTES
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            break
        if start >= size:
            break
        end = min(os.lseek(file, start, os.SEEK_HOLE), size)
        stretches.append((start // SAMPLE_BYTES, -(-end // SAMPLE_BYTES)))
    return stretches


def sounding(waveform: Waveform, block: int) -> list[Stretch]:
    """Return the stretches of a waveform [samples] outside of which its blocks of so many samples are zero."""
    stretches: list[Stretch] = []
    for start in range(0, len(waveform), block):
        end = min(start + block, len(waveform))
        if not waveform[start:end].any():
            continue
        if stretches and stretches[-1][1] == start:
            stretches[-1] = (stretches[-1][0], end)
        else:
            stretches.append((start, end))
    return stretches


def within(stretches: Sequence[Stretch], start: int, end: int) -> Iterator[Stretch]:
    """Yield the parts of stretches, which are in order, that lie between ``start`` and ``end``."""
    for index in range(max(bisect_right(stretches, (start, 0)) - 1, 0), len(stretches)):
        left, right = stretches[index]
        if left >= end:
            return
        if right > start:
            yield max(left, start), min(right, end)


def copied(waveform: Waveform, stretches: Sequence[Stretch], start: int, end: int) -> NDArray[np.float32]:
    """Return samples ``start`` to ``end`` in memory of their own, without reading what is outside of ``stretches``."""
    samples = np.zeros(end - start, np.float32)
    for left, right in within(stretches, start, end):
        samples[left - start : right - start] = waveform[left:right]
    return samples


def held_bytes(stretches: Sequence[Stretch], start: int) -> int:
    """Return the bytes of the samples of ``stretches`` that come after the first ``start``."""
    return SAMPLE_BYTES * sum(right - left for left, right in within(stretches, start, sys.maxsize))


def mean(waveform: Waveform, stretches: Sequence[Stretch]) -> np.float32:
    """Return the mean of a waveform that is zero outside of ``stretches``."""
    parts = [slice(at, min(at + _AT_ONCE, end)) for start, end in stretches for at in range(start, end, _AT_ONCE)]
    total = sum(float(waveform[part].sum(dtype=np.float64)) for part in parts)
    return np.float32(total / max(len(waveform), 1))
