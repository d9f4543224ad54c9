"""Server-sent events of an answer: text as it is decoded, then all of it, or an error."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus
from starlette.types import Message, Receive, Scope, Send

from asr.inference.recording import WindowTranscript
from serve.errors import as_api_error, body
from serve.ingress.openai.responses import Answer

logger = logging.getLogger("ray.serve")

# A client that does not take so much in this time reads nothing: a kilobyte a second is slower than any line.
SEND_S = 60.0
PIECE_BYTES = 64 * 1024
# nginx and most of its kind cut an answer of which nothing comes for 60 s; clients pass over a comment.
PING_S = 15.0

AppStatus.disable_automatic_graceful_drain()  # a stream ends with its last word: whoever stops us waits for that


def _pieces(message: Message) -> Iterator[Message]:
    """Yield a message, or parts of it where it is long: a client reads on while it takes one of them."""
    content: bytes = message.get("body", b"")
    for start in range(0, max(len(content), 1), PIECE_BYTES):
        end = start + PIECE_BYTES
        is_last = end >= len(content)
        yield (
            message
            if is_last and not start
            else {
                **message,
                "body": content[start:end],
                "more_body": message.get("more_body", False) or not is_last,
            }
        )


class EventStream(EventSourceResponse):
    """A response that gives back what it holds (its ticket, its windows) when it ends, however it ends.

    While no event comes, a comment does, every ``PING_S`` seconds.
    """

    def __init__(
        self, content: AsyncIterator[str], held: AsyncExitStack, headers: Mapping[str, str] | None = None
    ) -> None:
        # a browser's cache would otherwise keep the events; that nginx should not collect them, the library says
        headers = {"Cache-Control": "no-cache", **(headers or {})}
        encoded = (event.encode() async for event in content)
        super().__init__(encoded, headers=headers, ping=PING_S, ping_message_factory=_ping)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, as ASGI asks, until the client has gone or has not read on for ``SEND_S`` seconds."""
        loop = asyncio.get_running_loop()
        whole = asyncio.Lock()  # no comment between the pieces of an event
        async with self._held:
            try:
                async with asyncio.timeout(None) as unread:

                    async def sent(message: Message) -> None:
                        async with whole:
                            for piece in _pieces(message):
                                unread.reschedule(loop.time() + SEND_S)
                                await send(piece)
                                unread.reschedule(None)

                    await super().__call__(scope, receive, sent)
            except TimeoutError:
                if not unread.expired():
                    raise
                logger.warning("a client has not read its stream for %g s: it is closed", SEND_S)


def _ping() -> ServerSentEvent:
    return ServerSentEvent(comment="still listening", sep="\n")


async def events(
    first: WindowTranscript | None, rest: AsyncIterator[WindowTranscript], answer: Answer, deadline: Callable[[], float]
) -> AsyncIterator[str]:
    """Yield a delta for each window with words in it, then done; where something fails, an error instead.

    ``deadline`` says, after each window, by when there must be another: a time of the event loop's clock. A long
    recording may take as long as it takes; what has stopped moving may not.
    """
    try:
        decoded = first
        while decoded is not None:
            window, transcript = decoded
            part = answer.add(window, transcript)
            if part.segments or part.words:
                yield _event(answer.delta(part))
            async with asyncio.timeout_at(deadline()):
                decoded = await anext(rest, None)
        if (remaining := answer.rest()) is not None:
            yield _event(remaining)
        yield await asyncio.to_thread(lambda: _event(answer.done()))  # long, at the end of a long recording
    except Exception as error:  # the status is sent already
        yield f"event: error\ndata: {json.dumps(body(as_api_error(error)))}\n\n"


def _event(content: dict[str, object]) -> str:
    return f"event: {content['type']}\ndata: {json.dumps(content, allow_nan=False)}\n\n"
