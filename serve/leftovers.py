"""What a client still sends while its answer is ready: read and dropped within bounds, so that it can read the answer.

A server that answers and closes while bytes are under way resets the connection, and most clients then show that
instead of the answer. A connection that is kept needs nothing: the HTTP proxy reads the rest itself.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

MAX_BYTES = 256 * 1024 * 1024
MAX_S = 20.0


class Upload:
    """The body of a request, received as ASGI's ``receive`` gives it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._closes = scope.get("http_version") == "1.0" or "close" in Headers(scope=scope).get("connection", "")
        self._receive = receive
        self._complete = False

    async def __call__(self) -> Message:
        """Return the next message."""
        message = await self._receive()
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def drop(self) -> None:
        """Read what is left, where the connection closes after the answer: so many bytes, for so long."""
        dropped = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(MAX_S):
                while self._closes and not self._complete and dropped < MAX_BYTES:
                    dropped += len((await self()).get("body", b""))
