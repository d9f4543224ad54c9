from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from ray.exceptions import RaySystemError

from serve.ingress import replica_channel
from serve.ingress.replica_channel import NodeGone, ReplicaChannel


class Ways:
    """A handle: what is sent by gRPC is never answered, what is sent through Ray at once."""

    def __init__(self, is_grpc: bool = False) -> None:
        self.is_grpc = is_grpc
        self.sent = 0
        self.cancelled = 0
        self.transcribe = self.transcribed = self
        self.grpc = self if is_grpc else Ways(True)

    def options(self, _by_reference: bool, stream: bool) -> Ways:
        assert not _by_reference and stream
        return self.grpc

    def remote(self, *_: Any) -> Ways:
        self.sent += 1
        return self

    def __await__(self) -> Iterator[Any]:
        return self._answer().__await__()

    async def __aiter__(self) -> AsyncIterator[str]:
        yield await self._answer()

    async def _answer(self) -> str:
        if self.is_grpc:
            await asyncio.Event().wait()
        return "word"

    def cancel(self) -> None:
        self.cancelled += 1


class Ray:
    """Nodes that live; ``asked`` counts."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked = 0
        self.is_away = False

    async def __call__(self) -> set[str]:
        self.asked += 1
        if self.is_away:
            raise RaySystemError("no head")
        return set(self.names)

    async def looked(self) -> None:
        """Return when it has been asked once more."""
        asked = self.asked
        while self.asked == asked:
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_channel, "LOOK_S", 0.01)


def opened(handle: Any, ray: Ray, *holding: str) -> ReplicaChannel:
    channel = ReplicaChannel(handle, lambda: holding or {"one", "two"}, ray)
    channel.open()
    return channel


def test_a_node_that_vanished_kept_the_windows_of_its_replica_for_ever() -> None:
    async def ask() -> None:
        handle, ray = Ways(), Ray("one", "two")
        channel = opened(handle, ray)
        await ray.looked()
        waiting = asyncio.create_task(channel.transcribe("window"))
        await ray.looked()
        await asyncio.sleep(0.05)
        assert not waiting.done(), "all live: it may take its time"
        ray.names.discard("one")
        with pytest.raises(NodeGone):
            await waiting
        assert handle.grpc.cancelled == 1
        assert await channel.transcribe("window", again=True) == "word", "Ray knows who is dead"
        assert (handle.sent, handle.grpc.sent) == (1, 1)
        channel.close()

    asyncio.run(ask())


def test_what_serve_sends_to_the_dead_replica_before_it_knows_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        handle, ray = Ways(), Ray("one", "two")
        channel = opened(handle, ray)
        await ray.looked()
        ray.names.discard("one")
        await ray.looked()
        await ray.looked()
        with pytest.raises(NodeGone):
            await channel.transcribe("window")
        monkeypatch.setattr(replica_channel, "SETTLED_S", 0.0)
        waiting = asyncio.create_task(channel.transcribe("window"))
        await asyncio.sleep(0.05)
        assert not waiting.done(), "that was long ago"
        waiting.cancel()
        channel.close()

    asyncio.run(ask())


def test_a_node_was_lost_before_its_replicas_were_counted_and_its_windows_waited_for_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask() -> None:
        ray = Ray("one", "two", "three")
        channel = opened(Ways(), ray, "one")
        await ray.looked()
        waiting = asyncio.create_task(channel.transcribe("window"))
        ray.names.discard("two")
        with pytest.raises(NodeGone):
            await waiting
        monkeypatch.setattr(replica_channel, "SETTLED_S", 0.0)
        monkeypatch.setattr(replica_channel, "TOLD_S", 0.0)  # by now it would have been told of
        waiting = asyncio.create_task(channel.transcribe("window"))
        ray.names.discard("three")
        await ray.looked()
        await ray.looked()
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        channel.close()

    asyncio.run(ask())


def test_a_new_node_and_a_head_that_does_not_answer_are_no_loss() -> None:
    async def ask() -> None:
        ray = Ray("one")
        channel = opened(Ways(), ray)
        await ray.looked()
        waiting = asyncio.create_task(channel.transcribe("window"))
        ray.names.add("two")
        await ray.looked()
        ray.is_away = True
        await ray.looked()
        await asyncio.sleep(0.05)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        channel.close()

    asyncio.run(ask())


def test_who_leaves_withdraws_the_window() -> None:
    async def ask() -> None:
        handle = Ways()
        channel = ReplicaChannel(handle, tuple, Ray())  # type: ignore[arg-type]
        waiting = asyncio.create_task(channel.transcribe("window"))
        await asyncio.sleep(0.02)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert handle.grpc.cancelled == 1

    asyncio.run(ask())
