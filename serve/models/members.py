"""Members: the ingresses of an endpoint as its controller knows them, by what they report."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from serve.models.messages import IngressReport, Usage
from serve.models.version import Version
from serve.shares.ledger import Clock

logger = logging.getLogger("ray.serve")

OVERDUE_S = 2.5  # since the last report, of which there is one each second: then Ray is asked whether it lives
LOOK_S = 0.5

Alive = Callable[[], Awaitable[set[str]]]
"""Returns the names of the ingresses' actors that Ray takes for alive."""


@dataclass
class _Member:
    report: IngressReport
    at: float
    told: int  # the newest catalogue that it was sent, which it may answer by before it says so
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Members:
    """The ingresses that have reported. ``awaited`` are those that a controller which begins again has not heard yet.

    ``gone`` is called with each that has died.
    """

    def __init__(
        self, alive: Alive, gone: Callable[[str], None], awaited: Iterable[str] = (), clock: Clock = time.monotonic
    ) -> None:
        self._alive = alive
        self._gone = gone
        self._clock = clock
        self._members: dict[str, _Member] = {}
        self._past: defaultdict[Version, Usage] = defaultdict(Usage)
        self._changed = asyncio.Event()
        self.awaited = set(awaited)

    @property
    def names(self) -> list[str]:
        """The ingresses that have reported and live."""
        return list(self._members)

    def report(self, report: IngressReport) -> asyncio.Event:
        """Take down a report; the event is set once there is news for this ingress, or a later report of it."""
        self.awaited.discard(report.ingress)
        before = self._members.get(report.ingress)
        if before is not None:
            before.news.set()
        told = before.told if before is not None else 0
        member = self._members[report.ingress] = _Member(report, self._clock(), max(told, report.revision))
        self._tell()
        return member.news

    def is_overtaken(self, report: IngressReport) -> bool:
        """Return whether a later report of the same ingress came first: Ray may turn calls round."""
        member = self._members.get(report.ingress)
        return member is not None and member.report.number > report.number

    def is_latest(self, report: IngressReport) -> bool:
        """Return whether no later report of the same ingress has come."""
        member = self._members.get(report.ingress)
        return member is not None and member.report is report

    def tell(self, report: IngressReport, revision: int) -> None:
        """Note that a report is answered with a catalogue of that revision."""
        self._members[report.ingress].told = revision

    def wake(self, names: Iterable[str] | None = None) -> None:
        """Say that there is news for some of them, or for all."""
        for name in list(self._members) if names is None else names:
            if name in self._members:
                self._members[name].news.set()

    def usage(self, version: Version) -> Usage:
        """Return the requests of a version on all ingresses; of those that died, without any in flight."""
        total = self._past.get(version, Usage())
        for member in self._members.values():
            total = total.plus(member.report.usages.get(version, Usage()))
        return total

    async def answering_by(self, revision: int) -> None:
        """Return once every ingress answers by a catalogue as new as ``revision``, or has died."""
        await self._until(lambda: not self.behind(revision))

    def behind(self, revision: int) -> list[str]:
        """Return the ingresses that may still answer by an older catalogue."""
        late = [name for name, one in self._members.items() if one.told and one.report.revision < revision]
        return [*late, *self.awaited]

    async def without(self, version: Version, revision: int) -> None:
        """Return once no ingress has a request of a version, nor could get one by a catalogue before ``revision``."""
        await self._until(lambda: not self.behind(revision) and not self.usage(version).present)

    async def heard(self) -> None:
        """Return once every ingress that was awaited has reported, or has died."""
        await self._until(lambda: not self.awaited)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            changed = self._changed
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await changed.wait()
            await self.look()

    async def look(self, overdue_s: float = OVERDUE_S) -> None:
        """Ask Ray about those that have not reported for so long, and take out those that have died."""
        due = self._clock() - overdue_s
        silent = {name for name, member in self._members.items() if member.at < due} | self.awaited
        if not silent:
            return
        try:
            living = await self._alive()
        except Exception:  # Ray's head is away: nobody is taken for dead, and the next look may find more
            logger.exception("Ray does not say which ingresses live")
            return
        for name in silent - living:
            member = self._members.get(name)
            if member is not None and member.at >= due:  # it has reported meanwhile
                continue
            self.awaited.discard(name)
            if member is not None:
                self._leave(name, member)
            self._tell()

    def _leave(self, name: str, member: _Member) -> None:
        del self._members[name]
        for version, usage in member.report.usages.items():
            self._past[version] = self._past[version].plus(Usage(usage.requests, 0, usage.last))
        member.news.set()
        self._gone(name)

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
