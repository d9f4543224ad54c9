from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.types import Message

from serve.ingress.limits import body_drain
from serve.ingress.limits.body_drain import RequestBody, unwelcome, welcome

LENGTH = (b"content-length", b"40")
CLOSING = {"type": "http", "http_version": "1.1", "headers": [LENGTH, (b"connection", b"close")]}
KEPT = {"type": "http", "http_version": "1.1", "headers": [LENGTH]}
OLD = {"type": "http", "http_version": "1.0", "headers": [LENGTH]}


def left_after(scope: dict[str, Any], messages: Iterable[Message], read: int = 1) -> int:
    """Read some messages, drop the rest, and return how many of them nobody asked for."""
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def drop() -> None:
        upload = RequestBody(scope, receive)
        welcome(scope)
        for _ in range(read):
            await upload()
        await upload.drop()

    asyncio.run(drop())
    return len(waiting)


def body(*sizes: int) -> list[Message]:
    last = len(sizes) - 1
    return [{"type": "http.request", "body": bytes(size), "more_body": i < last} for i, size in enumerate(sizes)]


@pytest.mark.parametrize(("scope", "left"), [(CLOSING, 0), (OLD, 0), (KEPT, 3)])
def test_what_is_left_is_read_where_the_connection_closes(scope: dict[str, Any], left: int) -> None:
    assert left_after(scope, body(10, 10, 10, 10)) == left


def test_a_body_that_is_there_is_not_waited_for() -> None:
    assert left_after(CLOSING, body(10)) == 0
    assert left_after(CLOSING, [{"type": "http.disconnect"}]) == 0


def test_there_is_an_end_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_drain, "MAX_BYTES", 100)
    assert left_after(CLOSING, body(*[10] * 50)) == 39
    monkeypatch.setattr(body_drain, "MAX_S", 0.05)
    assert left_after(CLOSING, body(10, 10, 10)[:2]) == 0  # and no more came


def test_who_was_not_let_in_is_not_waited_for() -> None:
    async def never() -> Message:
        raise AssertionError("nothing is read")

    upload = RequestBody(OLD | {"state": {}}, never)
    assert upload.unwanted
    asyncio.run(upload.drop())
    assert not RequestBody(OLD | {"headers": []}, never).unwanted  # there is no body to wait for


def test_who_was_let_in_may_lose_that() -> None:
    scope: dict[str, Any] = OLD | {"state": {}}

    async def read() -> None:
        upload = RequestBody(scope, lambda: asyncio.sleep(0, {"type": "http.request"}))
        welcome(scope)
        assert not upload.unwanted
        unwelcome(scope)
        assert upload.unwanted
        await upload()
        assert not upload.unwanted  # all of it is here

    asyncio.run(read())


def test_few_are_waited_for_at_once_and_none_that_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_drain, "PAUSE_S", 0.05)
    asked = 0

    async def never() -> Message:
        nonlocal asked
        asked += 1
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def drop() -> None:
        scopes = [OLD | {"state": {"welcome": True}} for _ in range(body_drain.AT_ONCE + 5)]
        await asyncio.gather(*(RequestBody(scope, never).drop() for scope in scopes))

    asyncio.run(drop())
    assert asked == body_drain.AT_ONCE
