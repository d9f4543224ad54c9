from __future__ import annotations

import asyncio

import pytest

from serve.models.members import OVERDUE_S, Members
from serve.models.messages import IngressReport, Usage
from serve.models.version import Version
from tests.serve.shares.test_ledger import Hands

ONE, TWO, V = "Api#one", "Api#two", Version("a", "f")


class Ray:
    """The ingresses that live, and those that were found dead."""

    def __init__(self, *awaited: str) -> None:
        self.living = {ONE, TWO}
        self.gone: list[str] = []
        self.clock = Hands()
        self.members = Members(self.alive, self.gone.append, awaited, self.clock)

    async def alive(self) -> set[str]:
        return set(self.living)

    def report(self, ingress: str, number: int, revision: int, **usage: int) -> IngressReport:
        report = IngressReport(ingress, number, revision, {V: Usage(**usage)} if usage else {})
        self.members.report(report)
        return report


def test_an_ingress_that_was_sent_a_catalogue_may_answer_by_it_before_it_says_so() -> None:
    ours = Ray()
    first = ours.report(ONE, 1, 0)
    assert ours.members.behind(5) == [], "it has nothing to answer by, and gets the newest"
    ours.members.tell(first, 4)
    assert ours.members.behind(5) == [ONE]
    ours.report(ONE, 2, 4)
    assert ours.members.behind(5) == [ONE] and ours.members.behind(4) == []
    ours.report(ONE, 3, 5)
    assert ours.members.behind(5) == []


def test_a_later_report_makes_the_one_before_void() -> None:
    async def ask() -> None:
        ours = Ray()
        news = ours.members.report(first := IngressReport(ONE, 1, 1))
        assert ours.members.is_latest(first) and not news.is_set()
        second = ours.report(ONE, 2, 1)
        assert news.is_set() and ours.members.is_latest(second) and not ours.members.is_latest(first)

    asyncio.run(ask())


def test_all_that_one_waits_for_is_waited_for_and_the_dead_are_not() -> None:
    async def ask() -> None:
        ours = Ray(TWO)
        ours.report(ONE, 1, 1, requests=3, present=1)
        waiting = [
            asyncio.create_task(ours.members.answering_by(2)),
            asyncio.create_task(ours.members.without(V, 2)),
            asyncio.create_task(ours.members.heard()),
        ]
        await asyncio.sleep(0.01)
        assert not any(one.done() for one in waiting)
        ours.report(TWO, 1, 2)
        await waiting[2]
        ours.report(ONE, 2, 2, requests=3, present=1)
        await waiting[0]
        assert not waiting[1].done()
        ours.report(ONE, 3, 2, requests=3)
        await waiting[1]
        ours.report(TWO, 2, 2, requests=1, present=1)
        dying = asyncio.create_task(ours.members.without(V, 2))
        await asyncio.sleep(0.01)
        ours.living.discard(TWO)
        ours.clock.now += OVERDUE_S + 1.0
        ours.report(ONE, 4, 2, requests=3)
        await dying
        assert ours.gone == [TWO] and ours.members.names == [ONE]
        assert ours.members.usage(V) == Usage(4, 0), "what a dead one was asked for still counts"

    asyncio.run(asyncio.wait_for(ask(), 30.0))


def test_who_reports_late_and_lives_is_kept() -> None:
    async def ask() -> None:
        ours = Ray()
        ours.report(ONE, 1, 1)
        ours.clock.now += 10 * OVERDUE_S
        await ours.members.look()
        assert ours.members.names == [ONE] and not ours.gone

    asyncio.run(ask())


@pytest.mark.parametrize("names", [None, [ONE], [TWO, "nobody"]])
def test_news_wakes_who_it_is_for(names: list[str] | None) -> None:
    ours = Ray()
    news = {one: ours.members.report(IngressReport(one, 1, 1)) for one in (ONE, TWO)}
    ours.members.wake(names)
    assert {one for one, event in news.items() if event.is_set()} == (
        {ONE, TWO} if names is None else {*names} & {ONE, TWO}
    )
