from __future__ import annotations

import asyncio

import pytest

from serve.models.living import living, no_actors
from tests.serve.conftest import Pair


@pytest.mark.ray
@pytest.mark.slow
def test_the_replicas_of_a_deployment_are_named_and_no_others(pair: Pair) -> None:
    async def ask() -> tuple[set[str], set[str]]:
        await pair.complete()
        mine = await living(pair.handle.app_name, pair.handle.deployment_name)()
        return mine, await living(pair.handle.app_name, "Other")()

    mine, others = asyncio.run(ask())
    assert len(mine) == 2 and not others


def test_without_ray_there_are_none() -> None:
    assert asyncio.run(no_actors()) == set()
