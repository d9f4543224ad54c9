"""How far a run is: posted by its first worker, read by whoever started it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Progress:
    """One optimiser step. ``seconds`` and ``audio_s`` count the whole run, resumed parts included."""

    step: int
    max_steps: int
    loss: float
    learning_rate: float
    seconds: float
    audio_s: float
    wait_s: float
    resumed_at: int

    @property
    def audio_per_s(self) -> float:
        """Seconds of speech that pass the network in a second."""
        return self.audio_s / self.seconds if self.seconds else 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the last step, at the speed so far."""
        return self.seconds / self.step * (self.max_steps - self.step) if self.step else 0.0


class ProgressBoard:
    """Holds the newest progress. Run as an actor: the worker may be on another node than whoever watches."""

    def __init__(self) -> None:
        self._newest: Progress | None = None

    def post(self, progress: Progress) -> None:
        """Replace the newest progress."""
        self._newest = progress

    def newest(self) -> Progress | None:
        """Return the newest progress, or None before the first step."""
        return self._newest


Board = Any  # a handle to a ProgressBoard; Ray's actor handles have no static type
