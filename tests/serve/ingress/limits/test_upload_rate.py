from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi import Request
from starlette.types import Message

from serve.errors import ApiError
from serve.ingress.limits import upload_rate
from serve.ingress.limits.admission import Admission
from serve.ingress.limits.body_drain import RequestBody as Body
from serve.ingress.limits.upload_rate import PATIENCE_S, STALLED_S, Upload, Uploads

RATE = 1000  # bytes a second
PLACES = 4


class Room:
    """A house with few places, on a clock that goes when it is told to, and clients whose bytes come when they do."""

    def __init__(self, max_audio_s: float = 100.0) -> None:
        self.time = 1000.0
        self.admission = Admission(PLACES, max_audio_s, self.clock)
        self.uploads = Uploads(self.admission, RATE, self.clock)
        self.stack = ExitStack()

    def clock(self) -> float:
        return self.time

    def enter(self, key: str, received: int = 0) -> Upload:
        upload = self.stack.enter_context(self.uploads.enter(key))
        upload.received = received
        return upload

    async def read(self, upload: Upload, *messages: tuple[float, int]) -> int:
        """Read messages that each come after so many seconds with so many bytes; return how many bytes came."""
        coming = self._coming(messages)
        paced = upload.paced(Request({"type": "http"}, lambda: anext(coming)))
        return sum([len((await paced.receive())["body"]) for _ in messages])

    async def _coming(self, messages: tuple[tuple[float, int], ...]) -> AsyncIterator[Message]:
        for after_s, size in messages:
            self.time += after_s
            yield {"type": "http.request", "body": bytes(size), "more_body": True}

    async def stalled(self, upload: Upload, scope: dict[str, Any]) -> asyncio.Task[Message]:
        """Wait for bytes that do not come."""
        task = asyncio.create_task(upload.paced(Request({"type": "http"} | scope, forever)).receive())
        await asyncio.sleep(0)
        return task


async def forever() -> Message:
    return await asyncio.Event().wait()  # type: ignore[return-value]


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


def refused(task: asyncio.Task[Message]) -> tuple[int, str]:
    error = task.exception()
    assert isinstance(error, ApiError)
    return error.status, error.code


@in_a_loop
async def test_a_slow_but_steady_upload_comes_in() -> None:
    room = Room()
    assert await room.read(room.enter("a"), *[(1.0, RATE)] * 600) == 600 * RATE
    assert await room.read(room.enter("a"), *[(PATIENCE_S - 1.0, 30 * RATE)] * 20) == 600 * RATE


@in_a_loop
async def test_one_below_the_least_rate_is_ended_however_often_its_bytes_come() -> None:
    room = Room()
    begun = room.time
    with pytest.raises(ApiError, match="slower than 1000 bytes a second") as raised:
        await room.read(room.enter("a"), *[(0.5, RATE // 4)] * 1000)
    assert raised.value.status == 408
    assert room.time - begun == pytest.approx(2 * PATIENCE_S, abs=1.0)


@in_a_loop
async def test_what_came_fast_excuses_no_pause() -> None:
    room = Room()
    upload = room.enter("a")
    await room.read(upload, (0.0, 1000 * RATE))
    with pytest.raises(ApiError) as raised:
        await room.read(upload, (PATIENCE_S + 1.0, 0), (0.1, 10))
    assert raised.value.code == "upload_too_slow"


def test_an_idle_upload_ends_by_itself_and_its_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_rate, "PATIENCE_S", 0.01)

    async def test() -> None:
        room = Room()
        scope: dict[str, Any] = {"type": "http", "headers": [(b"content-length", b"10")], "state": {"welcome": True}}
        body = Body(scope, forever)
        task = await room.stalled(room.enter("a"), scope)
        await asyncio.wait([task])
        assert refused(task) == (408, "upload_too_slow")
        assert body.unwanted

    asyncio.run(test())


@in_a_loop
async def test_one_key_that_holds_all_places_makes_room_for_another() -> None:
    room = Room()
    held = [room.enter("greedy", received) for received in (30, 10, 20, 40)]
    tasks = [await room.stalled(upload, {}) for upload in held]
    guest = room.enter("guest")
    await asyncio.sleep(0.01)
    assert [task.done() for task in tasks] == [False, True, False, False]
    assert refused(tasks[1]) == (429, "stalled")
    assert room.admission.requests == PLACES
    second = room.enter("guest")
    with pytest.raises(ApiError, match="4 requests are waiting"):
        room.enter("guest")  # two each: that is a share
    with pytest.raises(ApiError, match="4 requests are waiting"):
        room.enter("greedy")
    assert [guest.ticket.since, second.ticket.since] == [room.time] * 2
    for task in tasks:
        task.cancel()


@in_a_loop
async def test_of_a_key_over_its_share_the_upload_that_has_stalled_longest_goes_first() -> None:
    room = Room()
    tasks = []
    for key in ("greedy", "greedy", "greedy", "guest"):
        tasks.append(await room.stalled(room.enter(key), {}))
        room.time += STALLED_S
    room.enter("other")
    await asyncio.sleep(0.01)
    assert [task.done() for task in tasks] == [True, False, False, False]
    for task in tasks:
        task.cancel()


@in_a_loop
async def test_a_pause_costs_no_place_while_another_key_holds_more() -> None:
    room = Room()
    paused = await room.stalled(room.enter("innocent"), {})
    room.time += PATIENCE_S - 1.0
    for _ in range(PLACES - 1):  # of which a byte comes now and then, or which have arrived
        room.enter("greedy")
    with pytest.raises(ApiError, match="4 requests are waiting"):
        room.enter("greedy")
    room.enter("other")
    room.enter("third")
    await asyncio.sleep(0.01)
    assert not paused.done()
    assert room.admission.requests == PLACES
    with pytest.raises(ApiError, match="4 requests are waiting"):
        room.enter("fourth")  # one each: nobody has more than a share
    paused.cancel()


@in_a_loop
async def test_one_who_is_alone_may_replace_what_stands_still() -> None:
    room = Room()
    tasks = [await room.stalled(room.enter("only"), {}) for _ in range(PLACES)]
    with pytest.raises(ApiError, match="4 requests are waiting"):
        room.enter("only")
    room.time += STALLED_S
    room.enter("only")
    await asyncio.sleep(0.01)
    assert [task.done() for task in tasks] == [True, False, False, False]
    for task in tasks:
        task.cancel()


async def working(upload: Upload) -> str:
    """Do what takes forever with an upload that has arrived."""
    upload.arrived()
    async with upload.kept():
        await forever()
    return "done"


@in_a_loop
async def test_one_key_cannot_fill_the_house_with_what_has_arrived() -> None:
    room = Room()
    tasks = []
    for _ in range(PLACES):
        room.time += 1.0
        tasks.append(asyncio.create_task(working(room.enter("greedy"))))
    await asyncio.sleep(0)
    for guest, left in (("guest", [3]), ("guest", [2, 3]), ("other", [1, 2, 3])):  # the newest first
        room.enter(guest)
        await asyncio.sleep(0.01)
        assert [number for number, task in enumerate(tasks) if task.done()] == left
    for task in tasks[1:]:
        error = task.exception()
        assert isinstance(error, ApiError)
        assert (error.status, error.code) == (429, "displaced") and error.retry_after_s
    tasks[0].cancel()


@in_a_loop
async def test_what_is_transcribed_already_goes_last() -> None:
    room = Room()
    heard, coming = asyncio.create_task(working(room.enter("greedy"))), room.enter("greedy")
    waiting = [asyncio.create_task(working(room.enter("greedy"))) for _ in range(PLACES - 2)]
    await asyncio.sleep(0)
    next(iter(room.uploads._present)).ticket.expect(30.0)
    for _ in range(2):
        room.enter("guest")
    await asyncio.sleep(0.01)
    assert not heard.done()
    with pytest.raises(ApiError, match="send it again"):
        coming.arrived()
    assert [task.done() for task in waiting].count(True) == 1
    for task in (heard, *waiting):
        task.cancel()


@in_a_loop
async def test_a_stream_that_loses_its_place_ends_with_an_error_and_closes_what_feeds_it() -> None:
    closed = asyncio.Event()

    async def words() -> AsyncGenerator[str]:
        try:
            yield "one"
            await forever()
        finally:
            closed.set()

    room = Room()
    streams = [room.enter("greedy") for _ in range(PLACES)]
    for stream in streams:
        stream.arrived()
    room.time += 1.0
    following = [stream.each(words()) for stream in streams]
    assert [await anext(each) for each in following] == ["one"] * PLACES
    task = asyncio.create_task(anext(following[0]))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    room.enter("guest")
    await asyncio.wait([task], timeout=1.0)
    error = task.exception()
    assert isinstance(error, ApiError) and error.code == "displaced"
    assert closed.is_set()
    for each in following:
        await each.aclose()


@in_a_loop
async def test_a_share_of_what_has_arrived_is_kept() -> None:
    room = Room()
    for key in ("a", "a", "b", "b"):
        room.enter(key).arrived()
    room.time += 100.0
    for key in ("a", "b"):
        with pytest.raises(ApiError, match="4 requests are waiting"):
            room.enter(key)


@in_a_loop
async def test_nobody_loses_a_place_for_one_who_would_not_be_let_in() -> None:
    room = Room(max_audio_s=10.0)
    upload = room.enter("a")
    for _ in range(PLACES - 1):
        room.enter("greedy")
    upload.arrived()
    upload.ticket.expect(20.0)
    with pytest.raises(ApiError, match="are waiting already"):
        room.enter("a")
    assert room.admission.requests == PLACES
    room.admission.close()
    with pytest.raises(ApiError, match="shutting down"):
        room.enter("guest")
    assert room.admission.requests == PLACES


@in_a_loop
async def test_one_that_is_displaced_while_nothing_is_awaited_hears_of_it_next() -> None:
    room = Room()
    first, second, *_ = [room.enter("greedy", received) for received in range(PLACES)]
    room.enter("guest")
    with pytest.raises(ApiError, match="send it again"):
        first.arrived()
    second.arrived()


@in_a_loop
async def test_places_come_back() -> None:
    room = Room()
    for _ in range(PLACES):
        room.enter("greedy")
    room.enter("guest")
    room.stack.close()
    assert room.admission.requests == 0
    assert not room.uploads._present
