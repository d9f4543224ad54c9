"""Readiness of the endpoint: asks a replica at most once a second, however often clients ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from serve.errors import ApiError
from serve.shares.ledger import Clock

TIMEOUT_S = 5.0
KEPT_S = 1.0
MAX_WAITING = 16  # each holds one of the requests that Serve lets in
OLD_S = 10.0  # what was found then is told to who cannot wait: a flood of asks must not make a probe fail


class Readiness:
    """``ask`` returns once a replica has answered that holds the default model."""

    def __init__(self, ask: Callable[[], Awaitable[None]], clock: Clock = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._asked: asyncio.Task[Exception | None] | None = None
        self._last: asyncio.Task[Exception | None] | None = None  # the question before, whose answer is there
        self._found_at = 0.0
        self._waiting = 0

    async def check(self) -> None:
        """Raise what a question ended with that is a second old at most, or ApiError 503 where no replica answers.

        Where many wait for the answer already, that of the question before is told, if it is no older than ``OLD_S``.
        """
        asked = self._asked
        if asked is None or (asked.done() and self._clock() - self._found_at >= KEPT_S):
            self._last = asked
            asked = self._asked = asyncio.create_task(self._question())
        if not asked.done() and self._waiting >= MAX_WAITING:
            if self._last is None or self._clock() - self._found_at >= OLD_S:
                raise ApiError(503, "others wait for the same already", "model_unavailable")
            asked = self._last
        self._waiting += 1
        try:
            error = await asyncio.shield(asked)  # one who leaves takes it from nobody else
        finally:
            self._waiting -= 1
        if error is not None:
            raise error

    async def _question(self) -> Exception | None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._ask()
        except TimeoutError:
            return ApiError(503, "no replica of the model answers", "model_unavailable")
        except Exception as error:
            return error
        finally:
            self._found_at = self._clock()
        return None
