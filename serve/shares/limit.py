"""Limits of one ingress: of each bound of the whole endpoint the share that this ingress may use now.

An ingress that needs more asks the controller, and waits for the answer: a request is refused when the endpoint is
full, not when one ingress is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from serve.shares.ledger import Clock, ShareState

ANSWER_S = 5.0  # for what others give back, once the controller has answered: milliseconds on an idle machine
ABSENT_S = 30.0  # the same while no controller answers: a new one is there by then
FULL_S = 0.1  # an overloaded endpoint is not asked again sooner
IDLE_S = 60.0  # after which the share of a key that nobody uses is given back


class Limit:
    """A bound, and how much of it this ingress may use (``allowed``): all of it, unless it is shared out.

    ``used`` tells what is used of it now. One that is not ``standing`` is shared out to ingresses that use it.
    """

    def __init__(
        self, name: str, total: int, used: Callable[[], int], keep_s: float = 0.0, standing: bool = True
    ) -> None:
        self.name = name
        self.total = total
        self.used = used
        self.keep_s = keep_s
        self.standing = standing
        self.allowed = total
        self.wanted = 0
        self.used_at = 0.0
        self.shares: Shares | None = None

    def fits(self, amount: int = 1) -> bool:
        """Return whether there is room for so much more here."""
        return self.used() + amount <= self.allowed

    async def room(self, amount: int = 1) -> None:
        """Return once there is room for so much more here, or the endpoint has none. Take it before anything else."""
        if self.shares is not None:
            await self.shares.room(self, amount)


class Shares:
    """The limits of this ingress that are shared with others. ``ask`` has the controller told at once."""

    def __init__(self, ask: Callable[[], None] = lambda: None, clock: Clock = time.monotonic) -> None:
        self.ask = ask
        self._clock = clock
        self._limits: dict[str, Limit] = {}
        self._full: dict[str, float] = {}
        self._news = asyncio.Event()
        self._answered_at = clock()

    def add(self, limit: Limit) -> None:
        """Share a limit: nothing of it is allowed until the controller says so."""
        limit.allowed, limit.shares = 0, self
        self._limits[limit.name] = limit

    async def room(self, limit: Limit, amount: int) -> None:
        """See ``Limit.room``."""
        limit.used_at = self._clock()
        if limit.fits(amount) or amount > limit.total:
            return
        begun = self._clock()
        limit.wanted += amount
        try:
            while not limit.fits(amount) and self._clock() - self._full.get(limit.name, -FULL_S) >= FULL_S:
                news = self._news
                self.ask()
                patience_s = ANSWER_S if self._answered_at > begun else ABSENT_S
                async with asyncio.timeout(begun + patience_s - self._clock()):
                    await news.wait()
        except TimeoutError:  # the request is refused here, as it would be by a full endpoint
            return
        finally:
            limit.wanted -= amount

    def report(self) -> dict[str, ShareState]:
        """Return the state of all limits that are used or wanted; those of idle keys are given back."""
        states = {}
        for limit in self._limits.values():
            used = limit.used()
            if used:
                limit.used_at = self._clock()
            elif not limit.standing and not limit.wanted and self._clock() - limit.used_at > IDLE_S:
                limit.allowed = 0
            limit.allowed = max(limit.allowed, used)
            if limit.standing or limit.allowed or limit.wanted:
                states[limit.name] = ShareState(limit.total, limit.allowed, used, limit.wanted, limit.keep_s)
        return states

    def obey(self, ordered: Mapping[str, int], full: frozenset[str] = frozenset()) -> None:
        """Hold what the controller has ordered, in answer to the last report; ``full`` are bounds without room."""
        self._answered_at = self._clock()
        for name, amount in ordered.items():
            limit = self._limits[name]
            if amount > limit.allowed:
                self._full.pop(name, None)
            limit.allowed = max(amount, limit.used())
        self._full |= dict.fromkeys(full, self._clock())
        news, self._news = self._news, asyncio.Event()
        news.set()
