"""Processes that read strangers' Parquet files (``asr.io.parquet.reader``), kept for later where that is cheap."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from asr.io.parquet.reader import File, ParquetReader, RowGroupPart

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FREE = 8
_TRIES = 3


class Readers:
    """Reads parts of one file, each by a process that is free; another is started where there is none.

    Raises as Reader; where the machine ends a process, another one is tried.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        _free.put(self, self._started())

    def batches(self, part: RowGroupPart) -> Iterator[pa.RecordBatch]:
        """Yield record batches. Raises as Reader."""
        done = 0
        for tries_left in reversed(range(_TRIES)):
            reader = _free.take(self) or self._started()
            try:
                for batch in islice(reader.batches(part), done, None):
                    yield batch
                    done += 1
            except OSError:
                reader.close()
                if not tries_left:
                    raise
            except BaseException:
                reader.close()
                raise
            else:
                _free.put(self, reader)
                return

    def close(self) -> None:
        """End the process that is free."""
        if (reader := _free.take(self)) is not None:
            reader.close()

    def _started(self) -> ParquetReader:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(OSError):
                return ParquetReader(self._file)
        return ParquetReader(self._file)


class _Free:
    """The processes that have read last and wait for another part of their file: a few, and none that holds much."""

    def __init__(self) -> None:
        self._readers: OrderedDict[weakref.ref[Readers], ParquetReader] = OrderedDict()
        self._lock = threading.RLock()

    def take(self, of: Readers) -> ParquetReader | None:
        with self._lock:
            return self._readers.pop(weakref.ref(of), None)

    def put(self, of: Readers, reader: ParquetReader) -> None:
        over: list[ParquetReader | None] = [reader]
        with self._lock:
            if reader.is_lean:
                over = [self._readers.pop(weakref.ref(of), None), *self._gone()]
                self._readers[weakref.ref(of)] = reader
                while len(self._readers) > MOST_FREE:
                    over.append(self._readers.popitem(last=False)[1])
        for each in over:
            if each is not None:
                each.close()

    def _gone(self) -> list[ParquetReader]:
        return [self._readers.pop(of) for of in list(self._readers) if of() is None]


def _forget() -> None:
    global _free
    _free = _Free()


_free = _Free()
os.register_at_fork(after_in_child=_forget)  # who is forked has processes of its own
