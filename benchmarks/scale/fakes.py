"""A model that answers at once, so that everything around it is measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from transformers import WhisperFeatureExtractor

from asr.audio.decode import SAMPLE_RATE
from asr.audio.features import LogMel
from asr.inference.model_info import ModelInfo
from asr.transcript import DecodingRequest, Transcript
from serve.config import ServeConfig

LANGUAGE = "it"


class Blank(LogMel):
    """Makes no features: silence of the right length."""

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float16]:
        """Return float16 [80, frames] of zeros."""
        return np.zeros((80, len(waveform) * 100 // SAMPLE_RATE), np.float16)


class Instant:
    """An engine that answers every clip with the same word."""

    def __init__(self, config: ServeConfig, log_mel: LogMel) -> None:
        self.info = ModelInfo(config.public_name, frozenset({LANGUAGE}), LANGUAGE, "short", log_mel)
        self.nbytes = 1
        self.group = config.model

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        """Answer."""
        return [Transcript("parola", (0,), LANGUAGE) for _ in clips]


def instant(config: ServeConfig) -> Instant:
    """Return an engine that is given real features."""
    return Instant(config, LogMel(WhisperFeatureExtractor().mel_filters))


def blank(config: ServeConfig) -> Instant:
    """Return an engine that is given silence."""
    return Instant(config, Blank(WhisperFeatureExtractor().mel_filters))
