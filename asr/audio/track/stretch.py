"""The wanted stretch of a recording, as its blocks come: what is kept of them, and whether that is within limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from asr.audio.limits import AudioLimits
from asr.audio.track.downmix import SAMPLE_RATE
from asr.errors import DataError

SILENCE_SAMPLES = 1 << 20  # at once


class Stretch:
    """The wanted stretch of a recording, block by block. Positions are 16 kHz samples from its beginning."""

    def __init__(
        self,
        place: str,
        start_s: float,
        end_s: float | None,
        limits: AudioLimits,
        sink: Callable[[NDArray[np.float32]], object],
    ) -> None:
        self.place = place
        self.limits = limits
        self.sink = sink
        self.start = round(start_s * SAMPLE_RATE)
        self.end = None if end_s is None else round(end_s * SAMPLE_RATE)
        self.position = 0
        self.kept = 0
        self.wild = 0  # NaN or infinite

    @property
    def complete(self) -> bool:
        return self.end is not None and self.position >= self.end

    def add(self, block: NDArray[np.float32]) -> None:
        first = max(self.start - self.position, 0)
        last = len(block) if self.end is None else min(self.end - self.position, len(block))
        self.position += len(block)
        if last > first:
            kept = block[first:last]
            self.kept += len(kept)
            self.wild += len(kept) - int(np.count_nonzero(np.isfinite(kept)))
            self.sink(kept)
        if self.kept > self.limits.max_audio_s * SAMPLE_RATE:
            raise DataError("too_long", f"{self.place}: over {self.limits.max_audio_s:g} s")

    def silence(self, until_s: float) -> Iterator[NDArray[np.float32]]:
        """Yield blocks of silence from where the stretch has come to until ``until_s``; ``add`` takes them."""
        left = round(until_s * SAMPLE_RATE) - self.position
        while left > 0:
            block = np.zeros(min(left, SILENCE_SAMPLES), np.float32)
            left -= len(block)
            yield block

    def checked(self) -> int:
        """Return how many samples there are, once all of them have come."""
        if not self.kept:
            after = f" after {self.start / SAMPLE_RATE:g} s" if self.start else ""
            raise DataError("no_samples", f"{self.place}: no audio{after}")
        if self.kept < self.limits.min_audio_s * SAMPLE_RATE:
            detail = f"{self.kept / SAMPLE_RATE:.4f} s, under {self.limits.min_audio_s:g} s"
            raise DataError("too_short", f"{self.place}: {detail}")
        if self.wild:
            raise DataError("non_finite", f"{self.place}: {self.wild} samples are NaN or infinite")
        return self.kept
