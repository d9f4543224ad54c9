"""Real Italian speech and the checkpoint that understands it, loaded once for all tests."""

from __future__ import annotations

from functools import cache

import numpy as np

from asr.audio.decode import decode as decode_audio
from asr.data.sources.prompts import fetch, utterances
from asr.io.cache import cache_root
from asr.models.artifact import load_model
from asr.models.family import SpeechModel


@cache
def base() -> SpeechModel:
    """Whisper base, multilingual."""
    return load_model("builtin:base")


@cache
def italian(count: int) -> list[np.ndarray]:
    """Features of telephone prompts of five to twelve words, spread over all there are."""
    good, _ = utterances("it", fetch("it", cache_root()))
    chosen = [clip for clip in good if 5 <= len(clip.text.split()) <= 12]
    return [
        base().features(decode_audio(str(clip.audio), container="g722")) for clip in chosen[:: len(chosen) // count]
    ][:count]
