"""The line of windows inside a replica: turns over requests, batches by seconds of audio, windows of like length."""

from __future__ import annotations

import itertools
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Waiting(Generic[T]):
    """A window that waits: whose it is, its place in the recording, and what it costs the encoder in seconds.

    Only windows of one ``group`` can be decoded together.
    """

    item: T
    request: str
    position: int
    audio_s: float
    group: str = ""


@dataclass
class _Turns(Generic[T]):
    """A request with windows in the line, in their order; ``due_s`` is when the first is due, in virtual time."""

    due_s: float
    arrival: int
    served_s: float = 0.0
    windows: list[Waiting[T]] = field(default_factory=list)


@dataclass(frozen=True)
class _Candidate(Generic[T]):
    """A window that may be in the next batch. The lowest rank is due first; of equals, who got and asks for least."""

    rank: tuple[float, float, float, int]
    window: Waiting[T]


class Line(Generic[T]):
    """Requests share a replica in equal parts, in seconds of audio, however many windows each of them has.

    Weighted fair queueing (Demers, Keshav and Shenker, 1989) with equal weights. A request that comes is due now; each
    window of it that is taken makes the next one due later by what the window cost; and "now", the virtual time, goes
    ahead by what a batch took divided by how many requests shared it. The window that is due first is always in the
    next batch and decides the group. The rest of it is filled with windows of like cost first: engines pad those of one
    length together.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._arrivals = itertools.count()
        self._requests: dict[str, _Turns[T]] = {}

    def __len__(self) -> int:
        return sum(len(turns.windows) for turns in self._requests.values())

    @property
    def audio_s(self) -> float:
        """Seconds of audio that wait."""
        return sum(window.audio_s for turns in self._requests.values() for window in turns.windows)

    def put(self, window: Waiting[T]) -> None:
        """Let a window wait, in its place among the windows of its request."""
        turns = self._requests.get(window.request)
        if turns is None:
            turns = self._requests[window.request] = _Turns(self._now_s, next(self._arrivals))
        insort(turns.windows, window, key=lambda other: other.position)

    def withdraw(self, window: Waiting[T]) -> bool:
        """Take a window out that nobody waits for any more; return whether it was still here."""
        turns = self._requests.get(window.request)
        if turns is None or window not in turns.windows:
            return False
        self._remove(turns, window)
        return True

    def take(self, budget_s: float) -> list[Waiting[T]]:
        """Take the next batch, of one group and at most ``budget_s`` of audio, or a single window that is longer."""
        candidates = sorted(self._candidates(budget_s), key=lambda candidate: candidate.rank)
        if not candidates:
            return []
        first, sharing = candidates[0].window, len(self._requests)
        candidates = [candidate for candidate in candidates if candidate.window.group == first.group]
        candidates.sort(key=lambda candidate: abs(candidate.window.audio_s - first.audio_s))  # stable: else by rank
        batch, taken_s = [first], first.audio_s
        for window in (candidate.window for candidate in candidates):
            if window is not first and taken_s + window.audio_s <= budget_s:
                batch.append(window)
                taken_s += window.audio_s
        for window in batch:
            turns = self._requests[window.request]
            turns.due_s += window.audio_s
            turns.served_s += window.audio_s
            self._remove(turns, window)
        self._now_s += taken_s / sharing
        return batch

    def _candidates(self, budget_s: float) -> Iterator[_Candidate[T]]:
        """Yield of each request no more windows than fill a batch."""
        for turns in self._requests.values():
            ahead_s = 0.0
            for window in turns.windows:
                rank = (turns.due_s + ahead_s, turns.served_s + ahead_s, window.audio_s, turns.arrival)
                yield _Candidate(rank, window)
                ahead_s += window.audio_s
                if ahead_s >= budget_s:
                    break

    def _remove(self, turns: _Turns[T], window: Waiting[T]) -> None:
        turns.windows.remove(window)
        if not turns.windows:
            del self._requests[window.request]
