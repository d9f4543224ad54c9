"""Ingresses of the simulation: real admissions whose bounds a real ledger shares out, with messages in virtual time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serve.ingress.limits.admission import Admission
from serve.shares.ledger import Bounds, Clock
from serve.shares.limit import ANSWER_S, FULL_S, Shares

WAY_S = 0.0025  # of a message between an ingress and the controller, in one direction
REPORT_S = 1.0

Later = Callable[[float, Callable[[], None]], None]
"""Does something at a moment."""


@dataclass(eq=False)
class _Waiting:
    """A request that waits for room in its ingress's share. ``enter`` tries to let it in, or refuses it."""

    enter: Callable[[], None]
    until: float


@dataclass(eq=False)
class Door:
    """An ingress: its admission, its shares, and the requests that wait for more of them."""

    name: str
    admission: Admission
    shares: Shares
    reports: int = 0
    waiting: list[_Waiting] = field(default_factory=list)
    is_asking: bool = False
    full_at: float = -FULL_S


class Doors:
    """Ingresses and the controller that they report to, in virtual time."""

    def __init__(self, count: int, house_s: float, clock: Clock, later: Later) -> None:
        self._clock = clock
        self._later = later
        self._bounds = Bounds(clock)
        self.report_s = 0.0  # of real time, in the controller
        self.all = [self._door(str(number), house_s) for number in range(count)]
        for door in self.all:
            self._ask(door)
            later(REPORT_S * (1 + int(door.name) / count), lambda door=door: self._again(door))  # type: ignore[misc]

    @property
    def reports(self) -> int:
        """Reports that the controller has had."""
        return sum(door.reports for door in self.all)

    def room(self, door: Door, audio_s: float, enter: Callable[[], None]) -> None:
        """Call ``enter`` once there is room for so much audio at a door, or the endpoint has none."""
        limit = door.admission.max_audio_ms
        amount = round(1000 * audio_s)
        if limit.fits(amount) or self._clock() - door.full_at < FULL_S:
            enter()
            return
        limit.wanted += amount
        now = self._clock()

        def tried() -> None:
            limit.wanted -= amount
            enter()

        waiting = _Waiting(tried, now + ANSWER_S)
        door.waiting.append(waiting)
        self._later(waiting.until, lambda: self._let_in(door, waiting))
        self._ask(door)

    def _door(self, name: str, house_s: float) -> Door:
        door = Door(name, Admission(10**9, house_s, self._clock), Shares(clock=self._clock))
        door.shares.add(door.admission.max_audio_ms)
        return door

    def _let_in(self, door: Door, waiting: _Waiting) -> None:
        if waiting in door.waiting:
            door.waiting.remove(waiting)
            waiting.enter()

    def _again(self, door: Door) -> None:
        self._ask(door)
        self._later(self._clock() + REPORT_S, lambda: self._again(door))

    def _ask(self, door: Door) -> None:
        """Have an ingress report, unless it is about to."""
        if not door.is_asking:
            door.is_asking = True
            self._later(self._clock() + WAY_S, lambda: self._reported(door))

    def _reported(self, door: Door) -> None:
        door.is_asking = False
        door.reports += 1
        begun = time.perf_counter()
        told = self._bounds.report(door.name, door.shares.report())
        self.report_s += time.perf_counter() - begun
        for other in self.all:
            if other.name in told:
                self._later(self._clock() + WAY_S, lambda other=other: self._obey(other))  # type: ignore[misc]

    def _obey(self, door: Door) -> None:
        ordered, full = self._bounds.orders(door.name)
        before = door.admission.max_audio_ms.allowed
        door.shares.obey(ordered, full)
        if full:
            door.full_at = self._clock()
        waiting = list(door.waiting)
        limit = door.admission.max_audio_ms
        for one in waiting:
            if full or limit.fits(limit.wanted // len(door.waiting)):
                self._let_in(door, one)
        if door.waiting or limit.allowed != before or self._bounds.has_news(door.name):
            self._ask(door)
