"""Lanes in which uploads are decoded: short ones never behind long ones, keys in turn, all within a memory bound."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from asr.audio.sandbox import own
from asr.inference.pipeline import DecodedAudio, Watch
from serve.errors import ApiError
from serve.ingress.limits.memory import SHORT_SAMPLES, Full, Lease, Longer, SampleMemory
from serve.replica.scheduler import FairScheduler, QueuedWindow

T = TypeVar("T")

THREADS = 2  # of each lane: an hour of audio takes some hundred MB while it is decoded
# Decoded, the upload may be long all the same: that is seen while it is decoded.
SHORT_BYTES = 1 << 20
MEMORY_RETRY_S = 10.0  # about what three hours of audio take to be decoded

Open = Callable[[Watch], DecodedAudio]


class Lane:
    """Two threads and the queue for them: keys take turns, however much each of them sends."""

    def __init__(self, name: str) -> None:
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix=f"prepare-{name}")
        for _ in range(THREADS):
            self.threads.submit(own)  # the child that decodes for this thread: no request should wait for its start
        self._free = THREADS
        self._scheduler: FairScheduler[asyncio.Future[None]] = FairScheduler()
        self._arrivals = itertools.count()

    async def run(self, key: str, work: Callable[[], T]) -> T:
        """Return what ``work`` does in one of the threads when it is the turn of ``key``. Raises what it raises."""
        await self._turn(key)
        loop = asyncio.get_running_loop()
        doing = self.threads.submit(work)

        def done(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever waits
                loop.call_soon_threadsafe(self._next)

        doing.add_done_callback(done)  # not when we are cancelled: the thread is busy until then
        return await asyncio.wrap_future(doing)

    async def _turn(self, key: str) -> None:
        if self._free:
            self._free -= 1
            return
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = QueuedWindow(called, key, next(self._arrivals), 1.0)
        self._scheduler.put(waiting)
        try:
            await called
        except asyncio.CancelledError:
            if not self._scheduler.withdraw(waiting):
                self._next()  # it was called already
            raise

    def _next(self) -> None:
        for waiting in self._scheduler.take(0.0):  # one at most
            if waiting.item.cancelled():  # and will call the next one itself
                continue
            waiting.item.set_result(None)
            return
        self._free += 1


class Lanes:
    """A lane for recordings of up to a minute, one for longer ones, and threads for what comes after decoding those.

    A recording is short until more of it has been decoded than that, whatever its upload and its header say: then it is
    stopped and begun anew in the other lane. ``max_bytes`` are those of ``serve.ingress.limits.memory``.
    """

    def __init__(self, max_bytes: int) -> None:
        self.short, self.long = Lane("short"), Lane("long")
        # Each window of a long recording would wait for others' hours in their lane.
        self.windows = ThreadPoolExecutor(THREADS, thread_name_prefix="prepare-windows")
        self.memory = SampleMemory(max_bytes)

    async def open(self, size: int, lease: Lease, open_: Open) -> tuple[DecodedAudio, Executor]:
        """Return what ``open_`` makes of an upload of ``size`` bytes, and the threads that prepare the rest of it.

        Raises what it raises, or ApiError 429 where there is too much in memory.
        """

        def work() -> DecodedAudio:
            with lease:
                return open_(lease.look)

        try:
            lease.upload(size)
            if size < SHORT_BYTES:
                lease.max_samples = SHORT_SAMPLES
                with suppress(Longer):
                    return await self.short.run(lease.key, work), self.short.threads
                lease.max_samples = None
            return await self.long.run(lease.key, work), self.windows
        except Full:
            what = f"{self.memory.nbytes >> 20} MB of uploads and decoded audio are held already"
            raise ApiError(429, f"{what}, try again later", "queue_full", retry_after_s=MEMORY_RETRY_S) from None
        finally:
            lease.upload(0)
