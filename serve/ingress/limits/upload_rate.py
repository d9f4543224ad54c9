"""Minimum upload rate, and fair shares of keys: neither a slow upload nor a key with many costs others anything.

A request has its place from its first byte on, so that a long upload is not refused at its end. One key alone may hold
all places. When all are taken, a new request of a key that holds fewer displaces one of the key that holds most, until
both hold as many: of its requests a stalled one, else the one with the fewest bytes received, else the newest. Within
its share a key loses no place, except that its own stalled upload may lose it to another upload of the same key.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import TypeVar

from fastapi import Request
from starlette.types import Message

from serve.errors import ApiError
from serve.ingress.limits.admission import Admission
from serve.ingress.limits.body_drain import unwelcome
from serve.shares.ledger import Clock

T = TypeVar("T")

# What an upload may be late at any time, in seconds: a handover between cells, a lost packet sent again.
PATIENCE_S = 20.0
STALLED_S = 2.0


class Uploads:
    """Uploads of all keys, each with its ticket."""

    def __init__(self, admission: Admission, min_bytes_per_s: float, clock: Clock = time.monotonic) -> None:
        self._admission = admission
        self._min_bytes_per_s = min_bytes_per_s
        self._clock = clock
        self._present: dict[Upload, None] = {}  # in the order of their coming

    def enter(self, key: str) -> Upload:
        """Admit a request for the length of a block. Raises ApiError 429 if the endpoint is full, 503 once closed."""
        if self._admission.crowded(key) and (victim := self._victim(key)):
            victim.displace()
        upload = Upload(self, self._admission, key, self._min_bytes_per_s, self._clock)
        self._present[upload] = None
        return upload

    def leave(self, upload: Upload) -> None:
        """Remove a request: its place can be taken no more."""
        self._present.pop(upload, None)

    def _victim(self, key: str) -> Upload | None:
        held = Counter(upload.key for upload in self._present)
        most, count = max(held.items(), key=lambda item: item[1], default=("", 0))
        if count > held[key] + 1:
            return min((upload for upload in self._present if upload.key == most), key=Upload.claim)
        own = [upload for upload in self._present if upload.key == key and upload.stalled_s >= STALLED_S]
        return min(own, key=Upload.claim, default=None)


class Upload:
    """A request in flight, from its coming to its going: ``with uploads.enter(key) as upload``."""

    def __init__(self, uploads: Uploads, admission: Admission, key: str, min_bytes_per_s: float, clock: Clock) -> None:
        self._uploads = uploads
        self._admission = admission
        self.ticket = admission.enter(key)
        self.key = key
        self.received = 0  # bytes
        self._min_bytes_per_s = min_bytes_per_s
        self._clock = clock
        self._patience_s = PATIENCE_S
        self._has_arrived = False
        self._waiting: asyncio.Timeout | None = None
        self._since = 0.0  # waiting
        self._displaced = False

    def claim(self) -> tuple[int, float]:
        """Return the rank of its claim to its place: of one key, the lowest goes first."""
        if not self._has_arrived:
            stalled_s = self.stalled_s
            return (0, -stalled_s) if stalled_s >= STALLED_S else (1, self.received)
        return (3 if self.ticket.audio_s else 2, -self.ticket.since)  # what is transcribed already last

    @property
    def stalled_s(self) -> float:
        """The seconds that its next bytes have been waited for."""
        return self._clock() - self._since if self._waiting and not self._has_arrived else 0.0

    def displace(self) -> None:
        """Take its place away: the code that waits for its bytes or its transcript gets an error."""
        self._displaced = True
        self._uploads.leave(self)
        self.ticket.leave()
        if self._waiting:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    def paced(self, request: Request) -> Request:
        """Return the same, whose body raises ApiError 408 where it comes too slowly, 429 once it was displaced."""

        async def received() -> Message:
            self._since = self._clock()
            try:
                if self._displaced or self._patience_s <= 0.0:
                    raise TimeoutError
                async with asyncio.timeout(self._patience_s) as self._waiting:
                    message = await request.receive()
            except TimeoutError:
                unwelcome(request.scope)
                raise self._refusal() from None
            finally:
                self._waiting = None
            size = len(message.get("body", b""))
            self.received += size
            late_s = self._clock() - self._since - size / self._min_bytes_per_s
            self._patience_s = min(self._patience_s - late_s, PATIENCE_S)
            return message

        return Request(request.scope, received)

    def arrived(self) -> None:
        """Say that its body is here. Raises ApiError 429 where it was displaced a moment before."""
        if self._displaced:
            raise self._refusal()
        self._has_arrived = True

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Go on with a block while the place is kept. Raises ApiError 429 once another has it."""
        try:
            if self._displaced:
                raise TimeoutError
            async with asyncio.timeout(None) as self._waiting:
                yield
        except TimeoutError:
            if not self._displaced:
                raise
            raise self._refusal() from None
        finally:
            self._waiting = None

    async def each(self, coming: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """Yield what comes while the place is kept; the generator is closed in any case. Raises ApiError 429."""
        async with aclosing(coming):
            while True:
                async with self.kept():
                    try:
                        one = await anext(coming)
                    except StopAsyncIteration:
                        return
                yield one

    def _refusal(self) -> ApiError:
        if not self._displaced:
            slow = f"the upload is slower than {self._min_bytes_per_s:.0f} bytes a second"
            return ApiError(408, slow, "upload_too_slow", "file")
        if self._has_arrived:
            what = "others wait, and this key held more places than they: send it again"
            return ApiError(429, what, "displaced", retry_after_s=self._admission.full("").retry_after_s)
        return ApiError(429, "the upload stood still or was one of many, and others wait: send it again", "stalled")

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._uploads.leave(self)
        self.ticket.leave()
