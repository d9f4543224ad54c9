from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from train.data.ahead import ROWS_AHEAD, ahead


def test_results_come_in_the_order_of_the_rows() -> None:
    assert list(ahead(lambda row: row * row, range(500))) == [row * row for row in range(500)]
    assert list(ahead(str, [])) == []


def test_no_more_rows_are_read_than_the_bound() -> None:
    """A source larger than memory: what is read has been taken, but for a few rows."""
    read = 0

    def rows() -> Iterator[int]:
        nonlocal read
        while True:  # there is no end
            read += 1
            yield read

    results = ahead(lambda row: row, rows())
    for taken in range(1, 100):
        assert next(results) == taken
        assert read <= taken + ROWS_AHEAD
    results.close()


def test_what_has_not_begun_when_the_taker_stops_never_does() -> None:
    started: list[int] = []
    free = threading.Event()

    def work(row: int) -> int:
        started.append(row)
        if row:
            free.wait(30)
        return row

    results = ahead(work, range(1000))
    assert next(results) == 0
    free.set()
    results.close()
    assert len(started) <= ROWS_AHEAD + 1


def test_an_error_reaches_the_taker() -> None:
    with pytest.raises(ZeroDivisionError):
        list(ahead(lambda row: 1 // row, [1, 0, 1]))
