from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import UserError
from serve.config import GB
from serve.models.version import ArtifactInfo, Version
from serve.replica.model_cache import REFUSED_FOR_S, ModelCache
from tests.speed import WAIT_S


class Model:
    """An engine of so many gigabytes."""

    def __init__(self, name: str, nbytes: int) -> None:
        self.info: Any = name
        self.nbytes = nbytes
        self.group = name

    def decode(self, clips: Any) -> Any:
        raise AssertionError


class Warehouse:
    """A stock in which ``a3`` takes 3 GB, whatever starts with ``x`` is broken, and who is used is not unloaded."""

    def __init__(self) -> None:
        self.engines: list[Model] = []
        self.used: set[str] = set()
        self.loaded: list[str] = []
        self.peak = 0
        self.open = threading.Event()
        self.open.set()
        self.threads: set[int] = set()

    def inspect(self, artifact: str) -> ArtifactInfo:
        return ArtifactInfo(Version(artifact, "f"), "")

    def load(self, version: Version) -> tuple[Version, Any]:
        assert self.open.wait(WAIT_S)
        self.threads.add(threading.get_ident())
        name = version.artifact
        self.loaded.append(name)
        if name.startswith("x"):
            raise UserError(f"{name} is broken", "mend it")
        if name.startswith("y"):
            raise KeyError("a bug")
        assert name not in [engine.info for engine in self.engines], f"{name} was loaded twice"
        self.engines.append(Model(name, int(name[1:]) * int(GB)))
        self.peak = max(self.peak, self.nbytes)
        return Version(name, "f"), self.engines[-1]

    def unload(self, engine: Any) -> None:
        assert engine.info not in self.used, f"{engine.info} was in use"
        self.engines.remove(engine)

    def expected_nbytes(self, version: Version) -> int:
        return int(version.artifact[1:] or 0) * int(GB)

    @property
    def nbytes(self) -> int:
        return sum(engine.nbytes for engine in self.engines)

    @property
    def names(self) -> list[str]:
        return sorted(engine.info for engine in self.engines)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0
        self.ticks = itertools.count()

    def __call__(self) -> float:
        return self.time + next(self.ticks) * 1e-6


@pytest.fixture
def loader() -> Warehouse:
    return Warehouse()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model_cache(loader: Warehouse, clock: Clock) -> ModelCache:
    return ModelCache(loader, 6.0, clock)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 30.0))


async def use(model_cache: ModelCache, *names: str) -> None:
    for name in names:
        with await model_cache.lease(Version(name)) as engine:
            assert engine.info == name


def test_a_model_is_loaded_when_it_is_asked_for_and_once(model_cache: ModelCache, loader: Warehouse) -> None:
    async def ask() -> None:
        await use(model_cache, "a1", "a1", "b1", "a1")
        await asyncio.gather(*[use(model_cache, "c1") for _ in range(20)])

    run(ask())
    assert loader.loaded == ["a1", "b1", "c1"]
    assert model_cache.held().total == 3 * GB and len(model_cache.held().nbytes) == 3
    assert threading.get_ident() not in loader.threads


def test_the_least_recently_used_makes_room_before_another_is_loaded(
    model_cache: ModelCache, loader: Warehouse
) -> None:
    async def ask() -> None:
        await use(model_cache, "a2", "b2", "c2", "a2", "d2")

    run(ask())
    assert loader.names == ["a2", "c2", "d2"]
    assert loader.peak == 6 * GB


def test_what_is_in_use_stays_and_what_is_free_goes_first(model_cache: ModelCache, loader: Warehouse) -> None:
    async def ask() -> None:
        with await model_cache.lease(Version("a2")):
            loader.used.add("a2")
            await use(model_cache, "b2", "c2", "d2", "e2")
            loader.used.clear()

    run(ask())
    assert loader.names == ["a2", "d2", "e2"]


def test_where_all_are_in_use_the_next_one_waits_its_turn_and_gets_it(
    model_cache: ModelCache, loader: Warehouse
) -> None:
    async def ask() -> None:
        with ExitStack() as used:
            for name in ("a3", "b3"):
                used.enter_context(await model_cache.lease(Version(name)))
            loader.used |= {"a3", "b3"}
            waiting = asyncio.create_task(use(model_cache, "c3"))
            while model_cache.holds(Version("a3")):
                await asyncio.sleep(0)
            late = asyncio.create_task(use(model_cache, "a3"))  # the one that has to go takes no new users
            for _ in range(50):
                await asyncio.sleep(0)
            assert not waiting.done() and not late.done()
            loader.used.clear()
        await asyncio.gather(waiting, late)

    run(ask())
    assert loader.loaded == ["a3", "b3", "c3", "a3"]


def test_more_than_the_budget_is_refused_and_the_rest_goes_on(model_cache: ModelCache, loader: Warehouse) -> None:
    async def ask() -> None:
        await use(model_cache, "a2")
        with pytest.raises(UserError, match=r"h9 takes 9\.00 GB, and memory_gb is 6"):
            await use(model_cache, "h9")
        await use(model_cache, "a2")

    run(ask())
    assert loader.names == ["a2"]
    with pytest.raises(UserError, match=r"h9 takes"):
        ModelCache(Warehouse(), 6.0).put(Version("h9"))


def test_without_a_budget_everything_stays(loader: Warehouse) -> None:
    run(use(ModelCache(loader), "a9", "b9", "c9"))
    assert loader.names == ["a9", "b9", "c9"]


@pytest.mark.parametrize(("name", "reason"), [("x1", "x1 is broken"), ("y1", "cannot be loaded: KeyError")])
def test_a_load_that_fails_fails_only_who_asked_for_it_and_is_not_repeated_at_once(
    model_cache: ModelCache, loader: Warehouse, clock: Clock, name: str, reason: str
) -> None:
    async def fail() -> None:
        with pytest.raises(UserError, match=reason):
            await use(model_cache, name)

    async def ask() -> None:
        await asyncio.gather(fail(), fail(), use(model_cache, "a1"), use(model_cache, "b1"))
        await fail()
        assert loader.loaded.count(name) == 1
        clock.time += REFUSED_FOR_S
        await fail()
        assert loader.loaded.count(name) == 2
        await model_cache.inspect(name)  # whoever looks after models may have mended it
        await fail()
        assert loader.loaded.count(name) == 3

    run(ask())
    assert loader.names == ["a1", "b1"]


def test_who_leaves_does_not_end_a_load_that_others_wait_for(model_cache: ModelCache, loader: Warehouse) -> None:
    async def ask() -> None:
        loader.open.clear()
        first, second = (asyncio.create_task(use(model_cache, "a1")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        loader.open.set()
        await second

    run(ask())
    assert loader.loaded == ["a1"]


def test_what_is_removed_is_waited_for_and_may_come_back(model_cache: ModelCache, loader: Warehouse) -> None:
    async def ask() -> None:
        await model_cache.remove(Version("never"))
        with await model_cache.lease(Version("a1")):
            loader.used.add("a1")
            removing = asyncio.create_task(model_cache.remove(Version("a1")))
            for _ in range(20):
                await asyncio.sleep(0)
            assert not removing.done() and not model_cache.holds(Version("a1"))
            loader.used.clear()
        await removing
        assert loader.names == []
        await use(model_cache, "a1")

    run(ask())


def test_a_version_without_a_fingerprint_is_whatever_is_there(model_cache: ModelCache) -> None:
    assert model_cache.put(Version("a1")) == Version("a1", "f")
    assert model_cache.holds(Version("a1")) and model_cache.holds(Version("a1", "f"))
    assert not model_cache.holds(Version("a1", "other"))
    assert run(model_cache.describe(Version("a1"))).version == Version("a1", "f")


@pytest.mark.medium
@settings(deadline=None, max_examples=60)
@given(
    asked=st.lists(st.tuples(st.sampled_from(["a1", "b2", "c3", "d4", "e5"]), st.integers(0, 6)), max_size=25),
    budget_gb=st.sampled_from([5.0, 6.0, 9.0]),
)
def test_everybody_is_served_within_the_budget_and_nothing_in_use_is_unloaded(
    asked: list[tuple[str, int]], budget_gb: float
) -> None:
    loader = Warehouse()
    model_cache = ModelCache(loader, budget_gb)
    users: dict[str, int] = {}

    async def client(name: str, moments: int) -> None:
        with await model_cache.lease(Version(name)):
            users[name] = users.get(name, 0) + 1
            loader.used.add(name)
            for _ in range(moments):
                await asyncio.sleep(0)
            users[name] -= 1
            if not users[name]:
                loader.used.discard(name)

    async def all_clients() -> None:
        await asyncio.gather(*[client(name, moments) for name, moments in asked])

    run(all_clients())
    assert loader.nbytes <= budget_gb * GB
    assert model_cache.held().total == loader.nbytes
