"""Forced alignment as families offer it: given words and sound in, the times of the words or segments out."""

from __future__ import annotations

from dataclasses import dataclass

from asr.transcript import FeatureArray


@dataclass(frozen=True)
class AlignmentRequest:
    """A clip's features [bins, frames], and the words that are spoken in it."""

    features: FeatureArray
    text: str
    language: str | None = None


@dataclass(frozen=True)
class SoundWindow:
    """A stretch of a recording, in seconds of it, and its features [bins, frames]."""

    start_s: float
    end_s: float
    features: FeatureArray


@dataclass(frozen=True)
class SegmentLimits:
    """Limits on a segment of a long recording: its length, and its confidence, that of its least likely second.

    A confidence is the mean natural logarithm of the probabilities on the alignment's path.
    """

    max_s: float = 20.0
    min_confidence: float = -2.0


@dataclass(frozen=True)
class SpokenSegment:
    """A stretch of a recording in seconds, the part of its text that is spoken in it, and how sure that is."""

    start_s: float
    end_s: float
    text: str
    confidence: float


@dataclass(frozen=True)
class LeftOut:
    """A part of a recording's text, characters ``start`` to before ``end``, in no segment for a ``reason``."""

    start: int
    end: int
    reason: str
    detail: str


@dataclass(frozen=True)
class LongAlignment:
    """The whole text of a recording: segments in order, and what is in none of them."""

    segments: tuple[SpokenSegment, ...]
    left_out: tuple[LeftOut, ...]
