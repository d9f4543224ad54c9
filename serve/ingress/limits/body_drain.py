"""Drains the body that a client still sends when its answer is ready, within bounds, so that it can read the answer.

A server that answers and closes while bytes are under way resets the connection, and most clients then show that
instead of the answer. A connection that is kept needs nothing: the HTTP proxy reads the rest itself. A client
that was not admitted is owed neither: its connection is closed with the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

MAX_BYTES = 256 * 1024 * 1024
MAX_S = 20.0
PAUSE_S = 1.0  # without a byte; that many seconds ago, the answer was ready
AT_ONCE = 8  # each holds one of the requests that Serve lets in

_WELCOME = "welcome"
_dropping: set[RequestBody] = set()


def welcome(scope: Scope) -> None:
    """Let a request be read to its end, for its client's convenience: it has a key that is known here."""
    scope.setdefault("state", {})[_WELCOME] = True


def unwelcome(scope: Scope) -> None:
    """Have its connection closed with the answer: nothing more is expected of it."""
    scope.setdefault("state", {})[_WELCOME] = False


class RequestBody:
    """The body of a request, received as ASGI's ``receive`` gives it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = Headers(scope=scope)
        self._closes = scope.get("http_version") == "1.0" or "close" in headers.get("connection", "")
        self._scope = scope
        self._receive = receive
        self._complete = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers

    async def __call__(self) -> Message:
        """Return the next message of the request, as ASGI's ``receive``."""
        message = await self._receive()
        self._complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    @property
    def unwanted(self) -> bool:
        """Return whether more of it may come, from a client that is owed nothing."""
        return not self._complete and not self._scope.get("state", {}).get(_WELCOME, False)

    async def drop(self) -> None:
        """Read what is left, where the connection closes after the answer: so many bytes, for so long."""
        if self.unwanted or len(_dropping) >= AT_ONCE:
            return
        dropped = 0
        _dropping.add(self)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_S):
                    while self._closes and not self._complete and dropped < MAX_BYTES:
                        async with asyncio.timeout(PAUSE_S):
                            dropped += len((await self()).get("body", b""))
        finally:
            _dropping.discard(self)
