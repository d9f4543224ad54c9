"""Result of a window, as a replica answers an ingress: the transcript, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

from asr.transcript import Transcript


@dataclass(frozen=True)
class BatchInfo:
    """Facts about a batch, in seconds: its windows, their audio as the encoder saw it, and how long it took."""

    windows: int
    audio_s: float
    seconds: float


@dataclass(frozen=True)
class WindowResult:
    """A transcript, its window's time in the queue, and its batch: given to one window of each batch only."""

    transcript: Transcript
    waited_s: float
    batch: BatchInfo | None
