from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import ray.exceptions

from serve.errors import ApiError
from serve.ingress.controller_link import short_name
from serve.models.rollout import RolloutRequest
from serve.shares.ledger import FRESH_S
from serve.shares.limit import Limit
from tests.serve.models.test_controller import FIRST, SECOND, fleet


class Away:
    """A handle of a controller that has died: whatever is asked of it fails."""

    def __getattr__(self, method: str) -> Any:
        raise ray.exceptions.RayActorError

    def options(self, **_: Any) -> Any:
        class Steps:
            def __aiter__(self) -> Steps:
                return self

            async def __anext__(self) -> Any:
                raise ray.exceptions.RayActorError

            def cancel(self) -> None: ...

        class Change:
            def remote(self, *_: Any) -> Steps:
                return Steps()

        class Method:
            change = Change()

        return Method()


def inside(limit: Limit, people: list[None], room: int) -> None:
    assert limit.fits(room)
    people.extend([None] * room)


def test_a_share_moves_to_the_ingress_that_needs_it_in_milliseconds(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            people: list[list[None]] = [[], []]
            limits = []
            for ingress, here in zip((FIRST, SECOND), people, strict=True):
                link = await one.link(ingress)
                limits.append(Limit("people", 100, lambda here=here: len(here), standing=False))  # type: ignore[misc]
                link.shares.add(limits[-1])
            for limit, here in zip(limits, people, strict=True):
                for _ in range(3):
                    begun = time.monotonic()
                    await limit.room(30)
                    inside(limit, here, 30)
                    assert time.monotonic() - begun < 0.9, "it did not wait for the next report"
                here.clear()
                await asyncio.sleep(2 * FRESH_S)  # what is known of the others may be so old
            assert sum(limit.allowed for limit in limits) <= 100

    asyncio.run(ask())


def test_while_no_controller_answers_an_ingress_goes_on_by_what_it_knows(tmp_path: Path) -> None:
    async def ask() -> None:
        async with fleet(tmp_path) as one:
            link = await one.link(FIRST)
            await link.router.info(link.router.route("one", "r"))
            controller, link._controller = link._controller, Away()  # type: ignore[assignment]
            await asyncio.sleep(1.5)  # what was asked before has been answered
            route, info = await link.router.info(link.router.route("one", "r"))
            assert info.name == "one" and route.version.fingerprint
            with pytest.raises(ApiError, match="ended during the change"):
                await anext(link.change("rollback", "one", RolloutRequest()))
            asking = asyncio.create_task(link.states())
            await asyncio.sleep(0.5)
            assert not asking.done()
            link._controller = controller
            assert [state.name for state in await asking] == ["one"]

    asyncio.run(ask())


def test_who_asks_a_controller_that_does_not_come_back_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.ingress.controller_link.AGAIN_S", 0.1)

    async def ask() -> None:
        async with fleet(tmp_path) as one:
            link = await one.link(FIRST)
            link._controller = Away()  # type: ignore[assignment]
            with pytest.raises(ApiError, match="does not answer"):
                await link.held()

    asyncio.run(ask())


def test_an_ingress_is_called_by_what_tells_it_from_the_others() -> None:
    assert short_name("SERVE_REPLICA::whisperfleet#Api#ab12cd34") == "ab12cd34"
