"""An engine that takes its time: so many seconds for each second of audio, and answers with the prompt it was given."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import WhisperFeatureExtractor

from asr.audio.features import LogMel
from asr.inference.model_info import ModelInfo
from asr.transcript import DecodingRequest, Transcript
from serve.config import ServeConfig
from tests.serve.made import MakeEngine

LOG_MEL = LogMel(WhisperFeatureExtractor().mel_filters)


class SlowEngine:
    """Each batch is a line in ``folder/<pid>``: the prompts of its clips."""

    def __init__(self, config: ServeConfig, folder: Path, factor: float) -> None:
        self.info = ModelInfo(config.public_name, frozenset({"en"}), "en", "full", LOG_MEL)
        self.factor = factor
        self.nbytes = 1_000_000
        self.group = config.model
        self.diary = folder / str(os.getpid())
        self.diary.touch()

    def decode(self, clips: Sequence[DecodingRequest]) -> list[Transcript]:
        with self.diary.open("a") as diary:
            diary.write(" ".join(clip.prompt for clip in clips) + "\n")
        time.sleep(self.factor * 30.0 * len(clips))
        return [Transcript(clip.prompt, (0,), "en") for clip in clips]


def slow(folder: Path, factor: float) -> MakeEngine:
    """Return what makes such an engine in a replica."""

    def make_engine(config: ServeConfig) -> SlowEngine:
        return SlowEngine(config, folder, factor)

    return make_engine


def clip(prompt: str = "", seconds: int = 30) -> DecodingRequest:
    """A silent clip that is told apart by its prompt."""
    return DecodingRequest(np.zeros((80, seconds * 100), np.float16), "en", prompt=prompt)


def replicas_of(folder: Path) -> dict[int, list[str]]:
    """Return the prompts that each replica's engine was given, by its process id."""
    return {int(diary.name): diary.read_text().split() for diary in folder.iterdir()}
