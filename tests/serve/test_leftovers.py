from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from starlette.types import Message

from serve import leftovers
from serve.leftovers import Upload

CLOSING = {"type": "http", "http_version": "1.1", "headers": [(b"connection", b"close")]}
KEPT = {"type": "http", "http_version": "1.1", "headers": []}
OLD = {"type": "http", "http_version": "1.0", "headers": []}


def left_after(scope: dict[str, Any], messages: Iterable[Message], read: int = 1) -> int:
    """Read some messages, drop the rest, and return how many of them nobody asked for."""
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def drop() -> None:
        upload = Upload(scope, receive)
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
    monkeypatch.setattr(leftovers, "MAX_BYTES", 100)
    assert left_after(CLOSING, body(*[10] * 50)) == 39
    monkeypatch.setattr(leftovers, "MAX_S", 0.05)
    assert left_after(CLOSING, body(10, 10, 10)[:2]) == 0  # and no more came
