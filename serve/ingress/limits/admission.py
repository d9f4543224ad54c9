"""Admission of requests: a limit on requests and seconds of audio; a refusal has a Retry-After by measured speed.

Where audio is over its bound, a key that holds less than its share of it is let in all the same, and so is one
recording of a key that has none waiting: replicas and lanes call keys in turn, so it waits for no other key's hours.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter, deque
from types import TracebackType

from serve.errors import RETRY_AFTER_S, ApiError
from serve.shares.ledger import Clock
from serve.shares.limit import Limit, Shares

LAST_WINDOWS = 256
MAX_RETRY_AFTER_S = 600.0

_MS = 1000
_US = 1_000_000  # audio is held in microseconds: a running total of floats would not come back to nothing


class Throughput:
    """Seconds of audio transcribed in a second, over the last windows, while there was something to transcribe."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None  # since when something waits
        self._busy_s = 0.0  # before that
        self._done: deque[tuple[float, float]] = deque([(0.0, 0.0)], maxlen=LAST_WINDOWS + 1)

    def begin(self) -> None:
        """Note that audio waits from now on."""
        self._since = self._clock() if self._since is None else self._since

    def end(self) -> None:
        """Note that no audio waits from now on."""
        self._busy_s, self._since = self._busy(), None

    def done(self, audio_s: float) -> None:
        """Count so many seconds of audio as transcribed."""
        self._done.append((self._busy(), audio_s))

    @property
    def audio_per_s(self) -> float | None:
        """The speed, or None before the first window."""
        passed_s = self._busy() - self._done[0][0]
        audio_s = sum(audio_s for _, audio_s in itertools.islice(self._done, 1, None))
        return audio_s / passed_s if audio_s and passed_s > 0 else None

    def _busy(self) -> float:
        return self._busy_s + (0.0 if self._since is None else self._clock() - self._since)


class Admission:
    """Requests in flight: at most ``max_requests`` at once, and ``max_audio_s`` seconds of audio not transcribed yet.

    A request is counted when it comes, its audio once its length is known. Nothing here waits. Other keys' shares may
    take audio beyond its bound: with K keys by 1/2 + ... + 1/K of it, or by a recording of each.
    """

    def __init__(self, max_requests: int, max_audio_s: float, clock: Clock = time.monotonic) -> None:
        self.max_requests = Limit("requests", max_requests, lambda: len(self._tickets))
        self.max_audio_ms = Limit("audio_ms", round(max_audio_s * _MS), lambda: -(-self._audio_us * _MS // _US))
        self._clock = clock
        self._tickets: set[Ticket] = set()
        self._audio_us = 0  # of all tickets: adding them up took milliseconds for each request with thousands inside
        self._keys_us: Counter[str] = Counter()  # the same by key, of those that have any
        self._closed = False
        self.speed = Throughput(clock)

    def share(self, shares: Shares) -> None:
        """Have all ingresses together keep the bounds."""
        shares.add(self.max_requests)
        shares.add(self.max_audio_ms)

    async def room(self) -> None:
        """Return once there is room for a request here, or nowhere at the endpoint. Enter before anything else."""
        if not self._closed:
            await self.max_requests.room()
            await self.max_audio_ms.room()

    def enter(self, key: str = "") -> Ticket:
        """Admit a request for the length of a block. Raises ApiError 429 if it is full, 503 once closed."""
        if self._closed:
            raise ApiError(503, "the endpoint is shutting down", "shutting_down")
        if not self.max_requests.fits():
            raise self.full(f"{len(self._tickets)} requests are waiting already")
        if not self._hears(key):
            raise self._full(f"{self.audio_s:.0f} s of audio are waiting already", self.audio_s - self._max_audio_s)
        ticket = Ticket(self, key, self._clock())
        self._tickets.add(ticket)
        return ticket

    def full(self, what: str) -> ApiError:
        """Return the refusal of a request that finds no place; ``what`` is the reason."""
        # A place is free when one of them has gone: on average after its share of the audio that waits.
        return self._full(what, self.audio_s / max(len(self._tickets), 1))

    def close(self) -> None:
        """Admit no request any more; those in flight stay until they are answered."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Return whether no request is admitted any more."""
        return self._closed

    def crowded(self, key: str) -> bool:
        """Return whether one more of ``key`` would be let in if one of those here left."""
        return not self._closed and not self.max_requests.fits() and self._hears(key)

    @property
    def requests(self) -> int:
        """The number of requests in flight."""
        return len(self._tickets)

    @property
    def audio_s(self) -> float:
        """Seconds of audio that are not transcribed yet."""
        return self._audio_us / _US

    @property
    def age_s(self) -> float:
        """The age of the oldest request in flight, in seconds."""
        return max((self._clock() - ticket.since for ticket in self._tickets), default=0.0)

    async def room_for(self, audio_s: float) -> None:
        """Return once there is room for so much audio here, or nowhere at the endpoint. Expect it before all else."""
        await self.max_audio_ms.room(math.ceil(audio_s * _MS))

    def expect(self, ticket: Ticket, audio_s: float) -> None:
        """Count the audio of a request. Raises ApiError 429 where it is too much beside what others wait for."""
        others_s, own_s = self.audio_s - ticket.audio_s, self._keys_us[ticket.key] / _US - ticket.audio_s
        over_s = others_s + audio_s - self._max_audio_s
        if over_s > 0 and own_s > 0 and own_s + audio_s > self._share_s(ticket.key):
            raise self._full(f"{others_s:.0f} s of audio are waiting already", min(over_s, others_s))
        self.count(ticket, audio_s)

    def count(self, ticket: Ticket, audio_s: float) -> None:
        """Note what a ticket still waits for, and whether anything waits at all."""
        held_us = round(audio_s * _US)
        self._audio_us += held_us - ticket.audio_us
        self._keys_us[ticket.key] += held_us - ticket.audio_us
        if not self._keys_us[ticket.key]:
            del self._keys_us[ticket.key]
        ticket.audio_us = held_us
        if self._audio_us > 0:
            self.speed.begin()
        else:
            self.speed.end()

    def leave(self, ticket: Ticket) -> None:
        """Remove a request, with the audio that it still waited for."""
        self._tickets.discard(ticket)
        self.count(ticket, 0.0)

    @property
    def _max_audio_s(self) -> float:
        return self.max_audio_ms.allowed / _MS

    def _hears(self, key: str) -> bool:
        return self.audio_s < self._max_audio_s or self._keys_us[key] / _US < self._share_s(key)

    def _share_s(self, key: str) -> float:
        return self._max_audio_s / len({*self._keys_us, key})

    def _full(self, what: str, excess_s: float) -> ApiError:
        speed = self.speed.audio_per_s
        wait_s = RETRY_AFTER_S if speed is None else min(max(1.0, excess_s / speed), MAX_RETRY_AFTER_S)
        return ApiError(429, f"{what}, try again later", "queue_full", retry_after_s=wait_s)


class Ticket:
    """A request in flight, from its coming to its going: ``with admission.enter() as ticket``."""

    def __init__(self, admission: Admission, key: str, since: float) -> None:
        self._admission = admission
        self.key = key
        self.since = since
        self.audio_us = 0

    @property
    def audio_s(self) -> float:
        """Seconds of its audio that are not transcribed yet."""
        return self.audio_us / _US

    def expect(self, audio_s: float) -> None:
        """Say how much audio there is to transcribe, in seconds. Raises ApiError 429 where that is too much now."""
        self._admission.expect(self, audio_s)

    def done(self, audio_s: float) -> None:
        """Count a window as transcribed."""
        self._admission.speed.done(audio_s)
        self._admission.count(self, max(0.0, self.audio_s - audio_s))

    def spare(self, audio_s: float) -> None:
        """Count so much audio less: nobody speaks in it."""
        self._admission.count(self, max(0.0, self.audio_s - audio_s))

    def leave(self) -> None:
        """Leave; a second call does nothing."""
        self._admission.leave(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
