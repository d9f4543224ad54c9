"""Two replicas with fake engines, without an ingress."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from asr.errors import UserError
from serve.errors import ApiError
from serve.models.replica_group import ReplicaGroup
from serve.models.version import Version
from tests.serve.conftest import Pair
from tests.serve.slow import clip, replicas_of


@pytest.fixture
def folder(pair: Pair) -> Path:
    return pair.folder


@pytest.fixture
def replica_group(pair: Pair) -> ReplicaGroup:
    return ReplicaGroup(pair.handle)


@pytest.mark.slow
def test_every_replica_loads_decodes_once_and_unloads(replica_group: ReplicaGroup, folder: Path) -> None:
    async def ask() -> None:
        second = (await replica_group.inspect("second")).version
        assert [one.version for one in await replica_group.load(second)] == [second, second]
        assert all(second in held.nbytes and held.total == 2_000_000 for held in await replica_group.held())
        assert [len(prompts) for prompts in replicas_of(folder).values()] == [0, 0]
        assert [len(diary.read_text().splitlines()) for diary in folder.iterdir()] == [1, 1]
        heard = await replica_group.transcribe(clip("hello"), "turns", 0, 60.0, second)
        assert heard.text == "hello"
        await replica_group.drop(second)
        assert all(list(held.nbytes) == [Version("first", held_first)] for held in await replica_group.held())

    held_first = asyncio.run(replica_group.describe(Version("first"))).version.fingerprint
    asyncio.run(ask())


@pytest.mark.slow
def test_what_one_of_them_cannot_load_is_told_to_whoever_loads_it_and_kept_from_clients(
    replica_group: ReplicaGroup,
) -> None:
    async def ask() -> None:
        broken = Version("broken")
        with pytest.raises(UserError, match="broken is damaged"):
            await replica_group.load(broken)
        with pytest.raises(ApiError, match="this model cannot be loaded now") as raised:
            await replica_group.transcribe(clip(), "turns", 0, 60.0, broken)
        assert raised.value.status == 503
        assert (await replica_group.transcribe(clip("on"), "turns", 1, 60.0, Version("first"))).text == "on"

    asyncio.run(ask())


@pytest.mark.slow
def test_a_replica_that_died_holds_up_nobody_and_its_successor_loads_what_it_is_asked_for(
    replica_group: ReplicaGroup, folder: Path
) -> None:
    async def ask() -> None:
        third = (await replica_group.inspect("third")).version
        os.kill(next(iter(replicas_of(folder))), signal.SIGKILL)
        assert 1 <= len(await replica_group.load(third)) <= 2
        while len(await replica_group.held()) < 2:
            await asyncio.sleep(0.2)
        for number in range(20):  # whichever of them is asked
            assert (await replica_group.transcribe(clip(str(number)), f"{number}", 0, 60.0, third)).text == str(number)

    asyncio.run(ask())
