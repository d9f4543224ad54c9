"""Work on the rows of a source in threads, a few rows ahead of whoever takes the results, however many there are."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TypeVar

Row = TypeVar("Row")
Result = TypeVar("Result")

THREADS = min(4, os.cpu_count() or 1)
ROWS_AHEAD = 4 * THREADS


def ahead(work: Callable[[Row], Result], rows: Iterable[Row]) -> Iterator[Result]:
    """Yield ``work(row)`` for each row, in the order of the rows. No more than ROWS_AHEAD + 1 results are held.

    ``ThreadPoolExecutor.map`` would first read all rows. Where the taker stops early, what has not begun never does.
    """
    pool = kept(THREADS)
    waiting: deque[Future[Result]] = deque()
    try:
        for row in rows:
            waiting.append(pool.submit(work, row))
            if len(waiting) > ROWS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for each in waiting:
            each.cancel()
        wait(waiting)


@cache
def kept(threads: int) -> ThreadPoolExecutor:
    """Return threads that last as long as this process: each has a child that decodes, which takes 0.4 s to start."""
    return ThreadPoolExecutor(threads)
