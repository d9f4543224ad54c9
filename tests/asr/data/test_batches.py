from __future__ import annotations

import time
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from asr.data.batches import INLINE_BYTES, PATIENCE_S, ROWS, batches
from asr.utterance import Utterance


@given(st.lists(st.integers(), max_size=50), st.integers(1, 9))
def test_every_row_once_and_in_order(rows: list[int], most: int) -> None:
    cut = list(batches(rows, most))
    assert [row for batch in cut for row in batch] == rows
    assert all(0 < len(batch) <= most for batch in cut)


def test_no_row_is_read_before_its_list_is_asked_for() -> None:
    read = 0

    def endless() -> Iterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    cut = batches(endless())
    assert read == 0
    for asked in range(1, 4):
        next(cut)
        assert read <= asked * ROWS


def test_a_slow_source_is_not_waited_for_until_a_list_is_full() -> None:
    def slow() -> Iterator[int]:
        yield 0
        time.sleep(1.1 * PATIENCE_S)
        yield 1
        raise AssertionError("asked for more than there is to do")

    assert next(batches(slow())) == [0, 1]


def test_large_recordings_in_the_rows_themselves_are_few_in_memory() -> None:
    large = Utterance("a", bytes(INLINE_BYTES // 3 + 1))
    assert [len(batch) for batch in batches([large] * 7)] == [3, 3, 1]
    assert len(next(batches([Utterance("a", "a.wav")] * ROWS))) == ROWS
