"""Frames of any rate and number of channels made 16 kHz mono: the mean of the channels, or the one that was chosen."""

from __future__ import annotations

from collections.abc import Iterator

import av
import numpy as np
from numpy.typing import NDArray

from asr.errors import DataError
from asr.sound import AUTO, MIX, SoundChoice

SAMPLE_RATE = 16_000
MAX_CHANNELS = 64  # of FFmpeg's resampler (SWR_CH_MAX)

# Half a second is long against a pitch period, and short against what somebody says on one channel.
WINDOW_SAMPLES = SAMPLE_RATE // 2
# Of C channels that have nothing in common the mean has 1/C of their mean power. A fifth of that takes a correlation of
# -0.8 between two: one is a copy of the other, inverted, and no more than 6 dB louder.
CANCELLING = 0.2
AUDIBLE_POWER = 1e-9  # -90 dBFS, the last bit of 16; nothing is decided by less


class Downmixer:
    """Source frames in, 16 kHz mono blocks out; a change of rate or channels on the way is followed.

    Where ``auto`` is asked for and the channels cancel each other, the loudest one stands for all, half a second at a
    time. ``channels`` is how many there are, ``taken`` the one that stood for all last, ``cancelled`` samples long.
    """

    def __init__(self, place: str, choice: SoundChoice) -> None:
        self.place = place
        self.choice = choice
        self.channels = 0
        self.taken: int | None = None
        self.cancelled = 0
        self.audible = 0
        self._count = 0  # channels now
        self._resampler: av.AudioResampler = None
        self._shape: tuple[str, str, int] | None = None
        self._waiting: list[NDArray[np.float32]] = []

    @property
    def channel(self) -> str:
        """The channel taken, as ``SoundChoice`` names it: a number, or the mixture."""
        if self.choice.index is not None:
            return str(self.choice.index)
        # A channel that stood for the mixture in more than half of the audible part stands for the file.
        return str(self.taken) if 2 * self.cancelled > self.audible else MIX

    def push(self, frame: av.AudioFrame) -> Iterator[NDArray[np.float32]]:
        """Yield what can be told after one more frame. Raises DataError no_channel."""
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:
            yield from self.flush()
            self._begin(frame, shape)
        for resampled in self._resampler.resample(frame):
            if self._count == 1:
                yield resampled.to_ndarray().reshape(-1)
            else:
                yield from self._mono(resampled)

    def flush(self) -> Iterator[NDArray[np.float32]]:
        """Yield what is left, as at the end of the file or before a pause."""
        if self._resampler is not None:
            for resampled in self._resampler.resample(None):
                yield from self._mono(resampled)
            self._resampler, self._shape = None, None
        if self._waiting:
            waiting = np.concatenate(self._waiting)
            self._waiting = []
            yield self._mixed(waiting)

    def _begin(self, frame: av.AudioFrame, shape: tuple[str, str, int]) -> None:
        channels, index = frame.layout.nb_channels, self.choice.index
        if index is not None and index >= channels and not self.channels:
            there = "one channel, 0" if channels == 1 else f"{channels} channels, from 0 on"
            raise DataError("no_channel", f"{self.place}: there is no channel {self.choice.channel}: it has {there}")
        self._count = channels
        self.channels = max(self.channels, channels)
        # Packed, not planar: PyAV 18.1 counts planes up to a null pointer, so planar data of 8 channels or more
        # is a segmentation fault. And FFmpeg's own downmix to mono adds 3 dB to float stereo and drops the LFE.
        self._resampler = av.AudioResampler(format="flt", rate=SAMPLE_RATE)
        self._shape = shape

    def _mono(self, frame: av.AudioFrame) -> Iterator[NDArray[np.float32]]:
        samples = frame.to_ndarray().reshape(-1, self._count)
        index = self.choice.index  # where the file goes on with fewer channels, its last one
        if self.choice.channel != AUTO or self._count == 1:
            yield _mean(samples) if index is None else np.ascontiguousarray(samples[:, min(index, self._count - 1)])
            return
        self._waiting.append(samples)
        if sum(map(len, self._waiting)) >= WINDOW_SAMPLES:
            window = np.concatenate(self._waiting)
            self._waiting = []
            yield self._mixed(window)

    def _mixed(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean of the channels [samples, channels], or the one that stands for all where they cancel."""
        mixed = _mean(window)
        with np.errstate(invalid="ignore", over="ignore"):
            shared = window.T @ window  # [channels, channels]: powers of each, and what they have in common
            powers = shared.diagonal() / len(window)
            if not float(powers.mean()) > AUDIBLE_POWER:  # silence, or a NaN
                return mixed
            self.audible += len(window)
            if not _cancels(shared):
                # An offset or the hum of the mains that all channels share hides what cancels; not in differences.
                pairs = len(window) // 2 * 2
                steps = window[1:pairs:2] - window[0:pairs:2]
                if not _cancels(steps.T @ steps):
                    return mixed
        loudest = int(powers.argmax())
        if self.taken is None or self.taken >= len(powers) or 2 * powers[self.taken] < powers[loudest]:
            self.taken = loudest
        self.cancelled += len(window)
        return np.ascontiguousarray(window[:, self.taken])


def _mean(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(invalid="ignore", over="ignore"):  # a NaN in the source is reported once the stretch is whole
        mixed: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
        return mixed


def _cancels(shared: NDArray[np.float32]) -> bool:
    """Return whether channels cancel, by the products [channels, channels] of each with each."""
    count = len(shared)
    return bool(shared.sum() / count**2 < CANCELLING / count * shared.trace() / count)
