from __future__ import annotations

import asyncio

import pytest

from serve.errors import ApiError
from serve.ingress import readiness
from serve.ingress.readiness import KEPT_S, MAX_WAITING, OLD_S, Readiness


class Replica:
    """One that answers when it may, and counts how often it was asked, on a clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = 0.0
        self.asked = 0
        self.may = asyncio.Event()
        self.error: Exception | None = None
        self.readiness = Readiness(self.answers, lambda: self.time)

    async def answers(self) -> None:
        self.asked += 1
        await self.may.wait()
        if self.error:
            raise self.error


def test_a_thousand_asks_a_second_are_one_question() -> None:
    async def test() -> None:
        replica = Replica()
        replica.may.set()
        for _ in range(1000):
            await replica.readiness.check()
            replica.time += KEPT_S / 1000.5
        assert replica.asked == 1
        replica.time += KEPT_S
        await replica.readiness.check()
        assert replica.asked == 2

    asyncio.run(test())


def test_few_wait_for_a_replica_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "TIMEOUT_S", 0.05)

    async def test() -> None:
        replica = Replica()
        asked = [replica.readiness.check() for _ in range(MAX_WAITING + 5)]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(error, ApiError) and error.status == 503 for error in found)
        assert sum("others wait" in str(error) for error in found) == 5
        assert replica.asked == 1
        with pytest.raises(ApiError, match="no replica"):
            await replica.readiness.check()  # what was found is kept, too

    asyncio.run(test())


@pytest.mark.parametrize("error", [None, ValueError("gone")])
def test_a_flood_does_not_make_a_probe_fail(error: Exception | None) -> None:
    """More ask than may wait: they hear what was found a moment ago."""

    async def test() -> None:
        replica = Replica()
        replica.may.set()
        replica.error = error
        await asyncio.gather(replica.readiness.check(), return_exceptions=True)
        replica.may.clear()
        replica.time += OLD_S - 1.0
        flood = [asyncio.create_task(replica.readiness.check()) for _ in range(MAX_WAITING)]
        await asyncio.sleep(0)
        probes = await asyncio.gather(*[replica.readiness.check() for _ in range(50)], return_exceptions=True)
        assert probes == [error] * 50
        assert not any(task.done() for task in flood)
        replica.time += 1.0
        with pytest.raises(ApiError, match="others wait"):  # that is too old to be true
            await replica.readiness.check()
        replica.may.set()
        await asyncio.gather(*flood, return_exceptions=True)
        assert replica.asked == 2

    asyncio.run(test())


def test_who_leaves_takes_the_answer_from_nobody() -> None:
    async def test() -> None:
        replica = Replica()
        leaving, staying = (asyncio.create_task(replica.readiness.check()) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        replica.may.set()
        await staying
        assert replica.asked == 1

    asyncio.run(test())


def test_a_replica_that_fails_is_not_ready_until_it_is() -> None:
    async def test() -> None:
        replica = Replica()
        replica.may.set()
        replica.error = ValueError("gone")
        with pytest.raises(ValueError, match="gone"):
            await replica.readiness.check()
        replica.error = None
        replica.time += KEPT_S
        await replica.readiness.check()

    asyncio.run(test())
