"""Batches a source's rows, a few at a time, for work that costs as much for one as for many, with a short wait."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from asr.utterance import Utterance

ROWS = 32  # a request to the sandbox costs 6 to 10 ms, however many are in it
INLINE_BYTES = 8 << 20  # of audio that lies in the rows themselves
PATIENCE_S = 0.2

Row = TypeVar("Row")


def batches(rows: Iterable[Row], most: int = ROWS) -> Iterator[list[Row]]:
    """Yield lists of at most ``most`` rows, in order. No row is read before the list that it is in is asked for.

    A list is shorter where the audio of a stream fills INLINE_BYTES, or where the source is so slow that the next row
    comes after PATIENCE_S: a row a minute is a list a minute.
    """
    batch: list[Row] = []
    size, due = 0, time.monotonic() + PATIENCE_S
    for row in rows:
        batch.append(row)
        if isinstance(row, Utterance) and isinstance(row.audio, bytes):
            size += len(row.audio)
        if len(batch) == most or size >= INLINE_BYTES or time.monotonic() > due:
            yield batch
            batch, size, due = [], 0, time.monotonic() + PATIENCE_S
    if batch:
        yield batch
