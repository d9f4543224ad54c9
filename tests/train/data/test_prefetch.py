from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from asr.data.batches import PATIENCE_S, ROWS
from tests.speed import WAIT_S
from train.data.prefetch import THREADS, ahead

ROWS_AHEAD = ROWS * (2 * THREADS + 1)  # no more than these are held


def same(rows: list[int]) -> list[int]:
    assert 0 < len(rows) <= ROWS
    return rows


def test_results_come_in_the_order_of_the_rows() -> None:
    assert list(ahead(lambda rows: [row * row for row in rows], range(500))) == [row * row for row in range(500)]
    assert list(ahead(same, [])) == []


def test_no_more_rows_are_read_than_the_bound() -> None:
    """A source larger than memory: what is read has been taken, but for a few rows."""
    read = 0

    def rows() -> Iterator[int]:
        nonlocal read
        while True:  # there is no end
            read += 1
            yield read

    results = ahead(same, rows())
    for taken in range(1, 1000):
        assert next(results) == taken
        assert read <= taken + ROWS_AHEAD
    results.close()


@pytest.mark.medium
def test_what_comes_slowly_is_given_away_as_it_is_done() -> None:
    read = 0

    def slow() -> Iterator[int]:
        nonlocal read
        while True:
            time.sleep(1.1 * PATIENCE_S)
            read += 1
            yield read

    results = ahead(same, slow())
    assert next(results) == 1
    assert read <= 3
    results.close()


def test_what_has_not_begun_when_the_taker_stops_never_does() -> None:
    started: list[int] = []
    free = threading.Event()

    def work(rows: list[int]) -> list[int]:
        started.extend(rows)
        if rows[0]:
            free.wait(WAIT_S)
        return rows

    results = ahead(work, range(10 * ROWS_AHEAD))
    assert next(results) == 0
    free.set()
    results.close()
    assert len(started) <= ROWS_AHEAD


def test_an_error_reaches_the_taker() -> None:
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda rows: [1 // row for row in rows], [1, 0, 1]))
