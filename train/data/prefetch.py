"""Prefetches a source's rows: threads work a few rows ahead of the consumer, however many rows there are."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

from asr.data.batches import batches

Row = TypeVar("Row")
Result = TypeVar("Result")

THREADS = min(4, os.cpu_count() or 1)
_BATCHES_AHEAD = 2 * THREADS


def ahead(work: Callable[[list[Row]], Sequence[Result]], rows: Iterable[Row]) -> Iterator[Result]:
    """Yield what ``work`` returns of some rows, one result for each, in order.

    At most ``2 * THREADS + 1`` batches are held: ``ThreadPoolExecutor.map`` would first read all rows. Where the taker
    stops early, what has not begun never does.
    """
    pool = kept(THREADS)
    waiting: deque[Future[Sequence[Result]]] = deque()
    try:
        for batch in batches(rows):
            waiting.append(pool.submit(work, batch))
            while len(waiting) > _BATCHES_AHEAD or (waiting and waiting[0].done()):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()
        wait(waiting)


@cache
def kept(threads: int) -> ThreadPoolExecutor:
    """Return threads that last as long as this process: each has a child that decodes, which takes 0.4 s to start."""
    return ThreadPoolExecutor(threads)
