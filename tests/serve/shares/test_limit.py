from __future__ import annotations

import asyncio

import pytest

from serve.shares.ledger import Bounds
from serve.shares.limit import FULL_S, IDLE_S, Limit, Shares
from tests.serve.shares.test_ledger import Hands


class Door:
    """An ingress that lets people in one by one, as its limit allows."""

    def __init__(self, name: str, bounds: Bounds, total: int, standing: bool = True) -> None:
        self.name, self.bounds, self.inside, self.asked = name, bounds, 0, 0
        self.clock = Hands()
        self.shares = Shares(self.ask, self.clock)
        self.limit = Limit("people", total, lambda: self.inside, standing=standing)
        self.shares.add(self.limit)

    def ask(self) -> None:
        self.asked += 1

    def report(self) -> set[str]:
        return self.bounds.report(self.name, self.shares.report())

    def obey(self) -> None:
        self.shares.obey(*self.bounds.orders(self.name))

    async def enter(self) -> bool:
        await self.limit.room()
        if self.limit.fits():
            self.inside += 1
            return True
        return False


async def settled(*doors: Door) -> None:
    for _ in range(4):
        for door in doors:
            door.report()
            door.obey()
            await asyncio.sleep(0)
            await asyncio.sleep(0)


def test_a_limit_that_nobody_shares_is_all_there_is() -> None:
    limit = Limit("people", 2, lambda: 1)
    asyncio.run(limit.room(5))
    assert limit.fits(1) and not limit.fits(2)


def test_a_request_was_refused_by_an_ingress_while_another_had_room() -> None:
    async def ask() -> None:
        bounds = Bounds()
        first, second = Door("a", bounds, 10), Door("b", bounds, 10)
        await settled(first)
        assert all([await first.enter() for _ in range(4)])
        waiting = [asyncio.create_task(second.enter()) for _ in range(6)]
        await asyncio.sleep(0)
        assert second.asked == 6 and second.inside == 0, "it waits for the others to give some back"
        await settled(second, first)
        assert [await one for one in waiting] == [True] * 6
        assert (first.inside, second.inside, first.limit.allowed) == (4, 6, 4)

    asyncio.run(ask())


def test_of_more_than_there_is_the_rest_is_refused_at_once_and_not_asked_about_again_and_again() -> None:
    async def ask() -> None:
        bounds = Bounds()
        first, second = Door("a", bounds, 4), Door("b", bounds, 4)
        await settled(first)
        assert all([await first.enter() for _ in range(4)])
        waiting = [asyncio.create_task(second.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        await settled(first, second)
        assert [await one for one in waiting] == [False] * 3
        asked = second.asked
        assert not await second.enter() and second.asked == asked
        second.clock.now += 2 * FULL_S
        again = asyncio.create_task(second.enter())
        await asyncio.sleep(0)
        assert second.asked == asked + 1
        first.inside = 3
        await settled(first, second)
        assert await again

    asyncio.run(ask())


def test_who_leaves_while_waiting_wants_nothing_more() -> None:
    async def ask() -> None:
        door = Door("a", Bounds(), 4)
        waiting = asyncio.create_task(door.enter())
        await asyncio.sleep(0)
        assert door.limit.wanted == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert door.limit.wanted == 0

    asyncio.run(ask())


def test_without_a_controller_an_ingress_goes_on_within_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.shares.limit.ABSENT_S", 0.01)

    async def ask() -> None:
        door = Door("a", Bounds(), 2)
        await settled(door)
        assert await door.enter() and await door.enter()
        assert not await door.enter()

    asyncio.run(ask())


def test_the_share_of_an_idle_key_is_given_back_and_a_standing_one_stays() -> None:
    async def ask() -> None:
        for standing in (True, False):
            door = Door("a", Bounds(), 4, standing)
            assert bool(door.shares.report()) is standing, "an idle key is not reported at all"
            waiting = asyncio.create_task(door.enter())
            await asyncio.sleep(0)
            await settled(door)
            assert await waiting and door.limit.allowed == 4
            door.clock.now += IDLE_S + 1.0
            door.report()
            assert door.limit.allowed == 4, "somebody is inside"
            door.inside = 0
            door.clock.now += IDLE_S + 1.0
            assert bool(door.shares.report()) is standing
            assert door.limit.allowed == (4 if standing else 0)

    asyncio.run(ask())
