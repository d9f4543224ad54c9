from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send

import serve.ingress.openai.sse
from asr.inference.pipeline import DecodingOptions
from asr.inference.recording import Window, WindowTranscript
from asr.sound import SoundReport
from asr.transcript import Segment, Transcript
from serve.ingress.openai.parameters import Parameters
from serve.ingress.openai.responses import Answer
from serve.ingress.openai.sse import EventStream, events


def passage(second: int, text: str) -> WindowTranscript:
    spoken = (Segment(0.0, 1.0, text, (1,)),) if text else ()
    return Window(second * 16_000, (second + 1) * 16_000), Transcript(text, (1,), "en", spoken)


async def following(*passages: WindowTranscript | Exception) -> AsyncIterator[WindowTranscript]:
    for each in passages:
        if isinstance(each, Exception):
            raise each
        yield each


def answer() -> Answer:
    return Answer(Parameters("m"), DecodingOptions("en"), 9.0, SoundReport(0))


def told(
    first: WindowTranscript | None, *rest: WindowTranscript | Exception, within_s: float = 60.0
) -> list[dict[str, Any]]:
    async def collect() -> list[str]:
        later = asyncio.get_running_loop().time() + within_s
        return [event async for event in events(first, following(*rest), answer(), lambda: later)]

    found = []
    for event in asyncio.run(collect()):
        name, data = event.removesuffix("\n\n").split("\n")
        content = json.loads(data.removeprefix("data: "))
        assert name == f"event: {content.get('type', 'error')}"
        found.append(content)
    return found


def test_a_delta_for_each_window_with_words_then_all_of_them() -> None:
    found = told(passage(0, "one"), passage(1, ""), passage(2, "two\nthree"))
    assert [event.get("delta") for event in found] == ["one", " two\nthree", None]
    assert found[-1]["text"] == "one two\nthree"


def test_nothing_spoken_is_done_at_once() -> None:
    [done] = told(None)
    assert (done["type"], done["text"]) == ("transcript.text.done", "")


def test_an_error_ends_the_stream_in_openais_shape_without_secrets() -> None:
    *_, delta, error = told(passage(0, "one"), RuntimeError("a secret of the house"), passage(1, "two"))
    assert delta["delta"] == "one"
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert error["error"]["code"] == "internal_error" and "secret" not in str(error)


def test_so_does_the_deadline() -> None:
    async def late() -> list[str]:
        async def rest() -> AsyncIterator[WindowTranscript]:
            await asyncio.sleep(60)
            yield passage(1, "two")

        soon = asyncio.get_running_loop().time() + 0.05
        return [event async for event in events(passage(0, "one"), rest(), answer(), lambda: soon)]

    *_, error = asyncio.run(late())
    assert '"code": "timeout"' in error


def test_the_deadline_counts_from_event_to_event() -> None:
    async def collect() -> list[str]:
        loop = asyncio.get_running_loop()
        asked: list[int] = []

        def deadline() -> float:
            asked.append(len(asked))
            return loop.time() + (60.0 if len(asked) < 4 else -1.0)

        passages = following(*(passage(second, "word") for second in range(1, 9)))
        return [event async for event in events(passage(0, "one"), paced(passages), answer(), deadline)]

    async def paced(passages: AsyncIterator[WindowTranscript]) -> AsyncIterator[WindowTranscript]:
        async for each in passages:
            await asyncio.sleep(0)
            yield each

    *deltas, error = asyncio.run(collect())
    assert len(deltas) == 4 and '"code": "timeout"' in error


def test_a_number_that_json_does_not_have_never_leaves_as_one() -> None:
    spoken = (Segment(0.0, 1.0, "one", (1,)),)
    transcript = Transcript("one", (1,), "en", spoken, avg_logprob=float("-inf"), no_speech_prob=float("nan"))
    asked = Parameters("m", response_format="verbose_json", granularities=frozenset({"segment"}))
    told = Answer(asked, DecodingOptions("en"), 1.0, SoundReport(0))
    first = Window(0, 16_000), transcript

    async def collect() -> list[str]:
        return [event async for event in events(first, following(), told, lambda: float("inf"))]

    for event in asyncio.run(collect()):
        [segment] = json.loads(event.partition("data: ")[2])["segments"]
        assert (segment["avg_logprob"], segment["no_speech_prob"]) == (-100.0, 0.0)
    assert json.loads(bytes(told.response().body))["segments"] == [segment]


SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "asgi": {"spec_version": "2.3"}}


@pytest.mark.parametrize("leaves", [False, True])
def test_what_a_stream_holds_is_given_back_however_it_ends(leaves: bool) -> None:
    given_back: list[str] = []

    async def content() -> AsyncIterator[str]:
        yield "data: 1\n\n"
        if leaves:
            await asyncio.sleep(60)
        yield "data: 2\n\n"

    async def run() -> list[Message]:
        sent: list[Message] = []
        held = AsyncExitStack()
        held.callback(given_back.append, "place")

        async def receive() -> Message:
            while not (leaves and len(sent) >= 2):
                await asyncio.sleep(0.001)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await EventStream(content(), held, {"x-audio-warnings": "one"})(SCOPE, receive, send)
        return sent

    start, *bodies = asyncio.run(run())
    assert dict(start["headers"])[b"content-type"].startswith(b"text/event-stream")
    assert dict(start["headers"])[b"x-audio-warnings"] == b"one"
    assert given_back == ["place"]
    assert len([body for body in bodies if body["body"]]) == (1 if leaves else 2)


async def never_read(body: AsyncIterator[str], held: AsyncExitStack) -> None:
    """Serve a stream to a client that asks for it, reads nothing and stays, until what it held is given back."""
    config = uvicorn.Config(EventStream(body, held), port=0, log_config=None, lifespan="off")
    server, given_back = uvicorn.Server(config), asyncio.Event()
    held.callback(given_back.set)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        await loop.sock_sendall(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(given_back.wait(), 10.0)
    server.should_exit = True
    await serving


@pytest.mark.medium
def test_a_stream_that_is_never_read_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.ingress.openai.sse, "SEND_S", 0.2)

    async def without_end() -> AsyncIterator[str]:
        while True:
            yield "data: " + 100_000 * "x" + "\n\n"

    async def attack() -> None:
        await never_read(without_end(), AsyncExitStack())

    asyncio.run(attack())


@pytest.mark.medium
def test_a_stream_that_is_read_slowly_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.ingress.openai.sse, "SEND_S", 0.5)
    read: list[bytes] = []

    async def send(message: Message) -> None:
        await asyncio.sleep(0.05)
        read.append(message.get("body", b""))
        assert len(read[-1]) <= serve.ingress.openai.sse.PIECE_BYTES

    async def receive() -> Message:
        await asyncio.sleep(60.0)
        return {"type": "http.disconnect"}

    async def long() -> AsyncIterator[str]:
        yield 20 * serve.ingress.openai.sse.PIECE_BYTES * "y" + "z"  # a second: as one piece it would be too slow

    asyncio.run(EventStream(long(), AsyncExitStack())(SCOPE, receive, send))
    assert b"".join(read) == 20 * serve.ingress.openai.sse.PIECE_BYTES * b"y" + b"z"


async def as_read(content: AsyncIterator[str], send_s: float = 0.0) -> bytes:
    """Return what a client gets of a stream that takes ``send_s`` for each message."""
    read: list[bytes] = []

    async def send(message: Message) -> None:
        await asyncio.sleep(send_s)
        read.append(message.get("body", b""))

    async def receive() -> Message:
        await asyncio.sleep(60.0)
        return {"type": "http.disconnect"}

    await EventStream(content, AsyncExitStack())(SCOPE, receive, send)
    return b"".join(read)


@pytest.mark.medium
def test_a_comment_keeps_a_stream_open_while_nothing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.ingress.openai.sse, "PING_S", 0.5)

    async def silent() -> AsyncIterator[str]:
        yield "event: a\ndata: 1\n\n"
        await asyncio.sleep(1.3)
        yield "event: a\ndata: 2\n\n"

    body = asyncio.run(as_read(silent()))
    assert body.startswith(b"event: a\ndata: 1\n\n: still listening\n\n")
    assert body.endswith(b": still listening\n\nevent: a\ndata: 2\n\n")
    assert set(body.split(b"\n\n")) == {b"event: a\ndata: 1", b": still listening", b"event: a\ndata: 2", b""}


@pytest.mark.medium
def test_no_comment_comes_between_the_pieces_of_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.ingress.openai.sse, "PING_S", 0.02)
    event = "data: " + 6 * serve.ingress.openai.sse.PIECE_BYTES * "y" + "\n\n"

    async def long() -> AsyncIterator[str]:
        yield event
        yield event

    body = asyncio.run(as_read(long(), 0.03))
    assert body.replace(b": still listening\n\n", b"") == 2 * event.encode()
    assert set(body.split(b"\n\n")) == {event.strip().encode(), b": still listening", b""}


def test_the_official_client_passes_over_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve.ingress.openai.sse, "PING_S", 0.05)

    async def slow() -> AsyncIterator[WindowTranscript]:
        await asyncio.sleep(0.2)
        yield passage(1, "two")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        body = events(passage(0, "one"), slow(), answer(), lambda: asyncio.get_running_loop().time() + 60.0)
        await EventStream(body, AsyncExitStack())(scope, receive, send)

    async def ask() -> list[str]:
        transport = httpx.ASGITransport(app)
        async with openai.AsyncOpenAI(
            api_key="any", base_url="http://a/v1", http_client=httpx.AsyncClient(transport=transport)
        ) as client:
            stream = await client.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF"), stream=True)
            return [event.type async for event in stream]

    assert asyncio.run(ask()) == ["transcript.text.delta", "transcript.text.delta", "transcript.text.done"]
