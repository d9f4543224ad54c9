"""Background noise from a folder of recordings, mixed into speech at a drawn signal-to-noise ratio."""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from asr.audio.filenames import HOW_TOLD, is_audio
from asr.audio.sandbox import waveform
from asr.config import Section
from asr.errors import DataError, UserError
from asr.io import storage
from asr.places import Place

CACHE_BYTES = 128 << 20  # in each process: 35 minutes of noise
PROBED_S = 0.1

logger = logging.getLogger(__name__)


class Noise(Section):
    """Clips with something else in the background."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips."""
    folder: Place | None = None
    """Folder or address (s3://...) of noise recordings, subfolders included; it must be there on every node. Of each
    the beginning is read before a run; one that is damaged further on is passed over, with a warning."""
    min_snr_db: float = Field(5.0, ge=-20, le=60)
    """Loudest noise: power of the clip over power of the noise."""
    max_snr_db: float = Field(25.0, ge=-20, le=60)
    """Faintest noise. The ratio is drawn evenly between the two."""

    @model_validator(mode="after")
    def _complete(self) -> Noise:
        if self.probability and self.folder is None:
            raise ValueError(f"probability={self.probability:g} needs noise: set folder")
        if self.min_snr_db > self.max_snr_db:
            raise ValueError(f"min_snr_db={self.min_snr_db:g} is over max_snr_db={self.max_snr_db:g}")
        return self


def require(config: Noise) -> None:
    """Raise UserError where the folder has no noise, or a file in it that cannot be read (its first 0.1 s are)."""
    if not config.probability or config.folder is None:
        return
    for path in recordings(config.folder):
        try:
            waveform(path, end_s=PROBED_S)
        except DataError as error:
            raise UserError(f"augment.noise.folder: {error}", "remove the file or replace it") from None


@lru_cache(maxsize=4)
def recordings(folder: str) -> tuple[str, ...]:
    """Return the audio files in ``folder`` and below, sorted by name. Raises UserError where there is none."""
    if storage.kind(folder) != "folder":
        raise UserError(f"augment.noise.folder={folder}: no such folder")
    # A folder of noise holds licences and lists too (MUSAN does): what is not named like audio is not looked at.
    found = tuple(entry.uri for entry in storage.list_files(folder) if is_audio(entry.name))
    if not found:
        raise UserError(f"augment.noise.folder={folder}: no audio file", HOW_TOLD)
    return found


def with_noise(speech: NDArray[np.float32], config: Noise, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return ``speech`` (float32 [samples], 16 kHz) plus a stretch of a recording, both drawn with ``rng``.

    A recording shorter than the speech is repeated. Powers are means over the whole clip, as in Kaldi. Speech or noise
    that is silent throughout has no such ratio: then the speech is returned as it is. Where a recording turns out to
    be damaged, or is gone, the next one of the folder is taken; UserError where none of them can be read.
    """
    if config.folder is None:
        return speech
    paths = recordings(config.folder)
    noise = _first_readable(paths, int(rng.integers(len(paths))))
    spare = len(noise) - len(speech)
    start = int(rng.integers(spare + 1 if spare >= 0 else len(noise)))
    snr_db = rng.uniform(config.min_snr_db, config.max_snr_db)
    stretch = noise[start : start + len(speech)] if spare >= 0 else _repeated(noise, start, len(speech))
    return speech + _scale(_power(speech), _power(stretch), snr_db) * stretch


def _first_readable(paths: Sequence[str], begin: int) -> NDArray[np.float32]:
    """Return a recording: hours into a run, one that is damaged behind what ``require`` has read must not end it."""
    for path in (*paths[begin:], *paths[:begin]):
        try:
            return _CACHE.get(path)
        except DataError as error:
            fault = error
            _CACHE.tell(path, error)
    raise UserError(f"augment.noise.folder: none of its files can be read, the last: {fault}", "replace them") from None


def _repeated(noise: NDArray[np.float32], start: int, length: int) -> NDArray[np.float32]:
    return noise[np.arange(start, start + length) % len(noise)]


def _power(waveform: NDArray[np.float32]) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64))) if len(waveform) else 0.0


def _scale(speech: float, noise: float, snr_db: float) -> np.float32:
    return np.float32(math.sqrt(speech / (noise * 10 ** (snr_db / 10))) if noise else 0.0)


class _Recordings:
    """The recordings decoded last, up to a number of bytes; several threads may ask."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self.waveforms: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self.told: set[str] = set()
        self.lock = threading.Lock()

    def tell(self, path: str, error: DataError) -> None:
        """Say once in a process that a recording is passed over."""
        with self.lock:
            is_new = path not in self.told
            self.told.add(path)
        if is_new:
            logger.warning("augment.noise.folder: %s; another recording is taken in its place", error)

    def get(self, path: str) -> NDArray[np.float32]:
        """Return a recording's waveform. Raises DataError as decoding does."""
        with self.lock:
            if path in self.waveforms:
                self.waveforms.move_to_end(path)
                return self.waveforms[path]
        noise = waveform(path)
        with self.lock:
            if path not in self.waveforms:
                self.waveforms[path] = noise
                self.bytes += noise.nbytes
            while self.bytes > self.max_bytes:
                self.bytes -= self.waveforms.popitem(last=False)[1].nbytes
        return noise


_CACHE = _Recordings(CACHE_BYTES)
