from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from serve.config import ServeConfig
from serve.errors import ApiError
from serve.ingress.controller_link import ControllerLink
from serve.models.messages import IngressReport
from serve.models.rollout import RolloutRequest
from serve.models.version import Version
from serve.replica.transcriber import Transcriber
from serve.shares.ledger import ShareState
from tests.serve.fakes import FakeEngine
from tests.serve.inside import Handle, Kept, controlled, linked
from tests.serve.made import made

FIRST, SECOND = "SERVE_REPLICA::app#Api#first", "SERVE_REPLICA::app#Api#second"


class Fleet:
    """A real replica with fake engines, and the ingresses of its endpoint that Ray takes for alive."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.config = ServeConfig(model="first", name="one", **settings)
        self.replicas: Any = Handle(Transcriber(self.config, made(lambda config: FakeEngine(config, folder))))
        self.memory = Kept()
        self.alive: set[str] = set()
        self.is_away = False
        self.controller = self.controlled()
        self.links: list[ControllerLink] = []

    def controlled(self) -> Any:
        """Return a controller that begins: after another one it goes on with what that one kept."""
        return controlled(self.config, self.replicas, self.memory, self._alive)

    async def _alive(self) -> set[str]:
        if self.is_away:
            raise RaySystemError("no head")
        return set(self.alive)

    async def link(self, ingress: str) -> ControllerLink:
        """Return the link of an ingress that begins."""
        self.alive.add(ingress)
        link = linked(self.controller, self.replicas, ingress)
        self.links.append(link)
        await link.opened()
        return link

    def begin_again(self) -> None:
        """Put another controller in the place of this one, as Serve does where it dies."""
        self.controller._replica = self.controlled()._replica


@asynccontextmanager
async def fleet(folder: Path, **settings: Any) -> AsyncIterator[Fleet]:
    one = Fleet(folder, **settings)
    try:
        yield one
    finally:
        for link in one.links:
            link.close()


async def change(link: ControllerLink, verb: str, name: str, **words: Any) -> list[str]:
    return [step.step async for step in link.change(verb, name, RolloutRequest(**words))]


def test_after_a_promotion_no_ingress_answers_by_the_catalogue_before(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            links = [await one.link(FIRST), await one.link(SECOND)]
            assert (await change(links[0], "promote", "one", artifact="second"))[-1] == "done"
            assert [link.router.catalog.entries["one"].stable.artifact for link in links] == ["second"] * 2
            assert await change(links[1], "rollback", "one") == ["load", "done"]
            assert [link.router.catalog.entries["one"].stable.artifact for link in links] == ["first"] * 2

    asyncio.run(ask())


def test_a_change_waits_for_an_ingress_that_does_not_answer_until_it_is_dead(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first, second = await one.link(FIRST), await one.link(SECOND)
            second.close()  # it lives, and takes nothing up
            changing = asyncio.create_task(change(first, "promote", "one", artifact="second"))
            await asyncio.sleep(1.5)
            assert not changing.done() and first.router.catalog.entries["one"].stable.artifact == "second"
            one.alive.discard(SECOND)
            assert (await changing)[-1] == "done"

    asyncio.run(ask())


def test_a_version_is_unloaded_once_no_ingress_has_a_request_of_it(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path, models={"two": "other"}) as one:
            first, second = await one.link(FIRST), await one.link(SECOND)
            route, _ = await second.router.info(second.router.route("two", "r"))
            with second.router.present(route):
                unloading = asyncio.create_task(change(first, "unload", "two"))
                await asyncio.sleep(2.0)
                assert "two" not in second.router.catalog.entries
                assert not unloading.done() and await held(one) == {"first", "other"}
            assert (await unloading)[-1] == "done"
            assert await held(one) == {"first"}

    asyncio.run(ask())


async def held(one: Fleet) -> set[str]:
    return {version.artifact for each in [await one.replicas.held.remote()] for version in each.nbytes}


def test_a_controller_that_begins_again_has_lost_nothing(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first, second = await one.link(FIRST), await one.link(SECOND)
            await change(first, "promote", "one", artifact="second", canary=0.25)
            await change(first, "load", "new", artifact="third")
            before = first.router.catalog
            candidate = before.entries["one"].candidate
            assert candidate is not None
            one.begin_again()
            states = await first.states()
            assert [(state.name, state.state, state.share, state.version.artifact) for state in states] == [
                ("one", "stable", 0.75, "first"),
                ("one", "candidate", 0.25, "second"),
                ("new", "stable", 1.0, "third"),
            ]
            await change(second, "promote", "one")
            assert first.router.catalog == second.router.catalog == before.promoted("one", candidate)

    asyncio.run(ask())


def test_what_a_controller_was_about_to_unload_its_successor_unloads(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first = await one.link(FIRST)
            await one.replicas.load.remote(Version("left"))
            assert await held(one) == {"first", "left"}
            one.begin_again()
            await first.states()
            while await held(one) != {"first"}:
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(ask(), 30.0))


def test_a_new_controller_gives_nobody_more_until_every_ingress_has_reported(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            one.alive |= {FIRST, SECOND}
            for ingress in (FIRST, SECOND):
                await one.controller._replica._owner.note(ingress, frozenset())
            controller = one.controlled()
            revision = controller._replica._owner.revision
            mine = ShareState(10, 4, 4, 3)
            waiting = controller.sync.remote(IngressReport(FIRST, 1, revision, {}, {"people": mine}))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            await controller.sync.remote(IngressReport(SECOND, 1, revision, {}, {"people": ShareState(10, 6, 1)}))
            assert (await waiting).shares["people"] == 4, "nothing is free before the other gives it back"

    asyncio.run(ask())


def test_a_controller_that_came_back_waited_for_an_ingress_that_had_no_place_to_run_on(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first = await one.link(FIRST)
            one.alive.add(SECOND)  # to Ray an actor lives that waits for a node
            one.begin_again()
            assert "done" in await change(first, "load", "new", artifact="third")

    asyncio.run(asyncio.wait_for(ask(), 30.0))


def test_a_head_of_ray_that_was_away_for_a_moment_broke_a_controller_for_good(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first, second = await one.link(FIRST), await one.link(SECOND)
            second.close()
            one.alive.discard(SECOND)
            one.is_away = True
            one.begin_again()
            assert len(await first.states()) == 1
            waiting = asyncio.create_task(change(first, "load", "new", artifact="third"))
            await asyncio.sleep(0.2)
            assert not waiting.done(), "whether the second one lives is not known"
            one.is_away = False
            assert "done" in await waiting

    asyncio.run(asyncio.wait_for(ask(), 30.0))


def test_a_report_that_was_overtaken_gave_back_what_was_in_use(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            one.alive |= {FIRST, SECOND}
            revision = one.controller._replica._owner.revision

            def report(ingress: str, number: int, state: ShareState) -> Any:
                return one.controller.sync.remote(IngressReport(ingress, number, revision, {}, {"people": state}))

            assert (await report(FIRST, 2, ShareState(10, 0, 0, 10))).shares["people"] == 10
            newest = asyncio.ensure_future(report(FIRST, 4, ShareState(10, 10, 10)))
            await asyncio.sleep(0.05)
            assert await report(FIRST, 3, ShareState(10, 0, 0)) is None
            assert (await report(SECOND, 1, ShareState(10, 0, 0, 5))).shares["people"] == 0
            await newest

    asyncio.run(asyncio.wait_for(ask(), 30.0))


def test_a_change_that_one_ingress_did_not_take_up_left_the_old_version_in_every_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.models.catalog_owner.TAKEN_UP_S", 0.2)

    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first, second = await one.link(FIRST), await one.link(SECOND)
            await change(first, "promote", "one", artifact="second")
            second.close()
            with pytest.raises(ApiError, match="has not taken it up"):
                await change(first, "promote", "one", artifact="third")
            assert await held(one) == {"first", "second", "third"}
            one.alive.discard(SECOND)
            while await held(one) != {"second", "third"}:
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(ask(), 30.0))


def test_another_deployment_begins_with_what_is_configured(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first = await one.link(FIRST)
            await change(first, "promote", "one", artifact="second")
            one.memory.content = (one.memory.content or b"").replace(b'"deployment":"deployment"', b'"deployment":"x"')
            one.alive.clear()
            one.begin_again()
            (state,) = await first.states()
            assert state.version.artifact == "first"

    asyncio.run(ask())


def test_one_change_at_a_time_and_its_errors_are_told_as_they_are(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            first = await one.link(FIRST)
            with pytest.raises(ApiError, match="there is no 'sell'"):
                await change(first, "sell", "one")
            steps = first.change("promote", "one", RolloutRequest(artifact="second"))
            await anext(steps)
            with pytest.raises(ApiError, match="another change"):
                await change(first, "promote", "one", artifact="third")
            assert [step.step async for step in steps][-1] == "done"

    asyncio.run(ask())
