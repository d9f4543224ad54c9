"""Admits uploads so that a slow one costs others nothing: a least rate, and places that a stalled one has to give up.

A request has its place from its first byte on, so that a long upload is not refused at its end. Where all places are
taken, who comes takes that of an upload that has stalled, else one of the key that uploads most, if that is more than
its share. What has arrived keeps its place.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from types import TracebackType

from fastapi import Request
from starlette.types import Message

from serve.admission import Admission, Clock, Visit
from serve.errors import ApiError
from serve.leftovers import unwelcome

# What an upload may be late at any time, in seconds: a handover between cells, a lost packet sent again.
PATIENCE_S = 20.0
STALLED_S = 2.0


class Uploads:
    """Uploads of all keys, each with a place in the house."""

    def __init__(self, house: Admission, min_bytes_per_s: float, clock: Clock = time.monotonic) -> None:
        self._house = house
        self._min_bytes_per_s = min_bytes_per_s
        self._clock = clock
        self._present: dict[Upload, None] = {}  # in the order of their coming

    def enter(self, key: str) -> Upload:
        """Let a request in for the length of a block. Raises ApiError 429 where there is no place, 503 once closed."""
        if self._house.crowded and (victim := self._victim(key)):
            victim.displace()
        upload = Upload(self, self._house.enter(), key, self._min_bytes_per_s, self._clock)
        self._present[upload] = None
        return upload

    def leave(self, upload: Upload) -> None:
        """Have a place be given up no more: the upload has arrived, or has gone."""
        self._present.pop(upload, None)

    def _victim(self, key: str) -> Upload | None:
        if stalled := [upload for upload in self._present if upload.stalled_s >= STALLED_S]:
            return max(stalled, key=lambda upload: upload.stalled_s)
        held = Counter(upload.key for upload in self._present)
        most, count = max(held.items(), key=lambda item: item[1], default=("", 0))
        if count <= held[key] + 1:
            return None
        return min((upload for upload in self._present if upload.key == most), key=lambda upload: upload.received)


class Upload:
    """A request in the house, from its coming to its going: ``with uploads.enter(key) as upload``."""

    def __init__(self, uploads: Uploads, visit: Visit, key: str, min_bytes_per_s: float, clock: Clock) -> None:
        self._uploads = uploads
        self.visit = visit
        self.key = key
        self.received = 0  # bytes
        self._min_bytes_per_s = min_bytes_per_s
        self._clock = clock
        self._patience_s = PATIENCE_S
        self._waiting: asyncio.Timeout | None = None
        self._since = 0.0  # waiting
        self._displaced = False

    @property
    def stalled_s(self) -> float:
        """How long its next bytes have been waited for."""
        return self._clock() - self._since if self._waiting else 0.0

    def displace(self) -> None:
        """Take its place away: whoever waits for its bytes is told so."""
        self._displaced = True
        self._uploads.leave(self)
        self.visit.leave()
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
        self._uploads.leave(self)

    def _refusal(self) -> ApiError:
        if self._displaced:
            return ApiError(429, "the upload stood still or was one of many, and others wait: send it again", "stalled")
        slow = f"the upload is slower than {self._min_bytes_per_s:.0f} bytes a second"
        return ApiError(408, slow, "upload_too_slow", "file")

    def __enter__(self) -> Upload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._uploads.leave(self)
        self.visit.leave()
