"""Reasons to reject a transcript: it repeats itself, the decoder was unsure of it, or nobody spoke.

The thresholds are those of openai/whisper, in whose `transcribe` they are named after what they bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from asr.scoring.repetition import MAX_COMPRESSION_RATIO, compression_ratio
from asr.transcript import Transcript

MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6

# What a transcript that fails is decoded again at, one after the other, until it passes.
TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)


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
