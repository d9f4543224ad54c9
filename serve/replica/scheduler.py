"""Fair queue of windows in a replica: keys and their requests take turns; batches are bounded by audio seconds."""

from __future__ import annotations

import itertools
from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class QueuedWindow(Generic[T]):
    """A queued window: its request, its position in the recording, and its cost for the encoder in seconds.

    Only windows of one ``group`` can be decoded together. ``key`` is the API key: a request has exactly one.
    """

    item: T
    request: str
    position: int
    audio_s: float
    group: str = ""
    key: str = ""


@dataclass
class _Share:
    """Service that a key or a request got so far; ``due_s`` is when its first window is due, in virtual time."""

    due_s: float
    arrival: int
    served_s: float = 0.0

    def rank(self, ahead_s: float, window: QueuedWindow[T]) -> _Rank:
        """Return when ``window`` is due, if so many seconds of the same sharer go before it."""
        return self.due_s + ahead_s, self.served_s + ahead_s, window.audio_s, self.arrival

    def take(self, audio_s: float) -> None:
        """Count the audio that is taken."""
        self.due_s += audio_s
        self.served_s += audio_s


@dataclass
class _Request(_Share, Generic[T]):
    """A request with queued windows, in their order."""

    windows: list[QueuedWindow[T]] = field(default_factory=list)


@dataclass
class _Key(_Share, Generic[T]):
    """A key with queued requests; ``now_s`` is the virtual time among them."""

    now_s: float = 0.0
    requests: dict[str, _Request[T]] = field(default_factory=dict)

    def in_turn(self, budget_s: float) -> list[QueuedWindow[T]]:
        """Return the windows of its requests in their turns, of each no more than fill a batch."""
        found: list[tuple[_Rank, QueuedWindow[T]]] = []
        for request in self.requests.values():
            ahead_s = 0.0
            for window in request.windows:
                found.append((request.rank(ahead_s, window), window))
                ahead_s += window.audio_s
                if ahead_s >= budget_s:
                    break
        found.sort(key=itemgetter(0))
        return [window for _, window in found]


_Rank = tuple[float, float, float, int]
"""The lowest is due first; of equals, who got least, asks for least and came first."""


class FairScheduler(Generic[T]):
    """Fair queue: keys share a replica in equal parts, in seconds of audio, and the requests of a key share its part.

    How many windows a request has makes no difference.

    Weighted fair queueing (Demers, Keshav and Shenker, 1989) with equal weights, on two levels. A newcomer is due now;
    each of its windows that is taken makes its next one due later by the cost of the window; and "now", the virtual
    time, advances by the cost of a batch divided by the number of sharers in it: among keys, and in each key among its
    requests.
    The window that is due first is always in the next batch and decides the group. The rest of it is filled with
    windows of similar cost first: engines pad windows of one length together. If each request has windows of one
    length, no request is ever more than a batch behind its part; a request whose windows fit into the room that a batch
    has left may be ahead by more, as no other can use that room. If lengths differ within a request, one that is first
    with a short window brings short ones of others along, and its own long ones wait longer than a batch.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        self._arrivals = itertools.count()
        self._keys: dict[str, _Key[T]] = {}

    def __len__(self) -> int:
        return sum(len(request.windows) for request in self._requests())

    @property
    def audio_s(self) -> float:
        """Seconds of queued audio."""
        return sum(window.audio_s for request in self._requests() for window in request.windows)

    def put(self, window: QueuedWindow[T]) -> None:
        """Queue a window, in order among the windows of its request."""
        key = self._keys.get(window.key)
        if key is None:
            key = self._keys[window.key] = _Key(self._now_s, next(self._arrivals))
        request = key.requests.get(window.request)
        if request is None:
            request = key.requests[window.request] = _Request(key.now_s, next(self._arrivals))
        insort(request.windows, window, key=lambda other: other.position)

    def withdraw(self, window: QueuedWindow[T]) -> bool:
        """Remove a window that nobody waits for any more; return whether it was still queued."""
        key = self._keys.get(window.key)
        request = key.requests.get(window.request) if key else None
        if request is None or window not in request.windows:
            return False
        self._remove(window)
        return True

    def take(self, budget_s: float) -> list[QueuedWindow[T]]:
        """Take the next batch, of one group and at most ``budget_s`` of audio, or a single window that is longer."""
        candidates = self._in_turn(budget_s)
        if not candidates:
            return []
        first = candidates[0]
        candidates = [window for window in candidates if window.group == first.group]
        candidates.sort(key=lambda window: abs(window.audio_s - first.audio_s))  # stable: else by rank
        batch, taken_s = [first], first.audio_s
        for window in candidates:
            if window is not first and taken_s + window.audio_s <= budget_s:
                batch.append(window)
                taken_s += window.audio_s
        self._count(batch, taken_s)
        for window in batch:
            self._remove(window)
        return batch

    def _requests(self) -> Iterator[_Request[T]]:
        return (request for key in self._keys.values() for request in key.requests.values())

    def _in_turn(self, budget_s: float) -> list[QueuedWindow[T]]:
        found: list[tuple[_Rank, QueuedWindow[T]]] = []
        for key in self._keys.values():
            ahead_s = 0.0
            for window in key.in_turn(budget_s):
                found.append((key.rank(ahead_s, window), window))
                ahead_s += window.audio_s
        found.sort(key=itemgetter(0))
        return [window for _, window in found]

    def _count(self, batch: list[QueuedWindow[T]], taken_s: float) -> None:
        self._now_s += taken_s / len(self._keys)
        for window in batch:
            key = self._keys[window.key]
            key.take(window.audio_s)
            key.now_s += window.audio_s / len(key.requests)
            key.requests[window.request].take(window.audio_s)

    def _remove(self, window: QueuedWindow[T]) -> None:
        key = self._keys[window.key]
        windows = key.requests[window.request].windows
        windows.remove(window)
        if not windows:
            del key.requests[window.request]
        if not key.requests:
            del self._keys[window.key]
