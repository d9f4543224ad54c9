"""When a transcript is not believed: it repeats itself, the decoder was unsure of it, or nobody spoke.

The thresholds are those of openai/whisper, in whose `transcribe` they are named after what they bound.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

from asr.clip import Transcript

MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6

# About what a model reads of a prompt, and its ratio at most: prose has up to 2.3, like phrases more, loops 20.
PROMPT_CHARACTERS = 1000
MAX_PROMPT_RATIO = 4.0

# What a transcript that fails is decoded again at, one after the other, until it passes.
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)


def compression_ratio(text: str) -> float:
    """Return how many times smaller zlib makes a text's UTF-8: speech about 1, a loop more with each round."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def is_loop(text: str) -> bool:
    """Return whether a text repeats itself, at least in what a model would read of it as its prompt."""
    return compression_ratio(text[-PROMPT_CHARACTERS:]) > MAX_PROMPT_RATIO


def is_silence(transcript: Transcript) -> bool:
    """Return whether nobody spoke: both the decoder's own sign of it and its doubt of the words say so."""
    return transcript.no_speech_prob > MAX_NO_SPEECH_PROB and not transcript.avg_logprob >= MIN_AVG_LOGPROB


def fails(transcript: Transcript) -> bool:
    """Return whether a transcript should be decoded again, hotter."""
    if is_silence(transcript):
        return False
    return transcript.compression_ratio > MAX_COMPRESSION_RATIO or not transcript.avg_logprob >= MIN_AVG_LOGPROB


def best(attempts: Sequence[Transcript]) -> Transcript:
    """Return the last attempt where it passes; else the likeliest of those that do not loop, or else of all.

    The hottest one is the worst bet: nothing but chance stopped its loop.
    """
    if not fails(attempts[-1]):
        return attempts[-1]
    calm = [one for one in attempts if one.compression_ratio <= MAX_COMPRESSION_RATIO]
    return max(calm or attempts, key=lambda one: one.avg_logprob)


def without_silence(transcript: Transcript) -> Transcript:
    """Return a transcript without the words where nobody spoke."""
    if not is_silence(transcript):
        return transcript
    return replace(transcript, text="", tokens=(), segments=(), words=(), compression_ratio=compression_ratio(""))
