"""A model that hears nothing, and checks what it is given."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import WhisperFeatureExtractor

from asr.audio import SAMPLE_RATE, encode_flac
from asr.decode import Clip, Transcript
from asr.features import LogMel
from serve.config import ServeConfig
from serve.engine import ModelInfo

POISON = "la"  # a clip in Latin cannot be decoded, nor can a batch with one in it


class FakeEngine:
    """Answers with the seconds of each clip; one line in ``folder/batches`` is one batch, its clips' seconds.

    While ``folder/hold`` exists it does not come back from a batch.
    """

    def __init__(self, config: ServeConfig, folder: Path) -> None:
        languages = frozenset({"en", "it", "zh", POISON})
        self.info = ModelInfo(config.public_name, languages, None, "full", LogMel(WhisperFeatureExtractor()))
        self.max_clips = config.max_batch_audio_s / 30.0
        self.folder = folder
        self.threads: set[int] = set()

    def decode(self, clips: Sequence[Clip]) -> list[Transcript]:
        self.threads.add(threading.get_ident())
        assert len(self.threads) == 1, "batches run in one thread, one after the other"
        assert 1 <= len(clips) <= self.max_clips, f"{len(clips)} clips are over the batch's limit"
        for clip in clips:
            assert clip.features.dtype == np.float16 and clip.features.shape[0] == 80
            assert clip.features.shape[1] <= 3000
        seconds = [str(round(clip.features.shape[1] / 100)) for clip in clips]
        with open(self.folder / "batches", "a", encoding="utf-8") as diary:
            diary.write(" ".join(seconds) + "\n")
        while (self.folder / "hold").exists():
            time.sleep(0.01)
        if any(clip.language == POISON for clip in clips):
            raise RuntimeError("a secret of the house")
        return [Transcript(text, (0,), clip.language) for text, clip in zip(seconds, clips, strict=True)]


def noise(seconds: float, seed: int = 0) -> bytes:
    """A FLAC file of faint noise."""
    samples = np.random.default_rng(seed).normal(0.0, 0.01, round(seconds * SAMPLE_RATE))
    return encode_flac(samples.astype(np.float32))
