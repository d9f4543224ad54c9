"""Reads strangers' Parquet files, each through a confined process of its own (``asr.io.parquet.child``).

pyarrow ends its process over a footer that says there are no columns where there are some, and takes gigabytes for a
footer of megabytes or a page of a hundred bytes. What asks here reads no pages, and a footer after another process has
read it; record batches come as Arrow streams, which are copied and looked through.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.errors import DataError
from asr.io.confined_process import NONSENSE, tell
from asr.io.confinement import Allowance
from asr.io.messages import receive, send
from asr.io.parquet.arrow_types import plain
from asr.io.parquet.guard import ANSWER_S, CPU_S, ENDED, MEMORY_BYTES, MESSAGE_BYTES, MORE_BYTES, RANGE_BYTES, guard
from asr.io.ranges import Ranges
from asr.parsed import JsonObject
from asr.printable import printable

if TYPE_CHECKING:
    import pyarrow as pa

LEAN_BYTES = 128 << 20
_UNPACKED_PER_S = 10 << 20  # bytes in a second of CPU time, at the least
_HOW = {
    os.EX_UNAVAILABLE: "take too much memory",
    -signal.SIGXCPU: "take too much time",
    -signal.SIGXFSZ: "take too much memory",
}


@dataclass(frozen=True)
class File:
    """A Parquet file as pyarrow reads it, its size in bytes, and its descriptor (None for one far away)."""

    opened: pa.NativeFile
    size: int
    descriptor: int | None


@dataclass(frozen=True)
class RowGroupPart:
    """A part of a Parquet file's row group to read."""

    group: int
    columns: Sequence[str]
    rows: int
    """At a time."""
    total: int
    """Rows that there are."""
    memory: int
    """Bytes that reading and unpacking takes, beyond MEMORY_BYTES."""
    present: int = 0
    """Over 0: only which cells of the first column are there, which may have so many bytes, as a column ``present``."""


class ParquetReader:
    """A process that reads one Parquet file, whose footer it has read.

    Raises DataError unreadable where pyarrow cannot read the footer, or not in its bounds, or crashes. OSError where a
    process has ended or does not answer, and that is no file's fault.
    """

    def __init__(self, file: File) -> None:
        self._file, self._guard, self._made_in, self._pid = file, guard(), os.getpid(), 0
        self._ranges: Ranges | None = None
        self._socket, its = socket.socketpair()
        with contextlib.ExitStack() as ours, its:
            ours.callback(self._socket.close)
            self._files = [os.memfd_create("batches", os.MFD_CLOEXEC) for _ in range(2)]
            for each in self._files:
                ours.callback(os.close, each)
            given = [its.fileno(), *self._files]
            self._guard.start(given if file.descriptor is None else [*given, file.descriptor])
            self.close = weakref.finalize(self, ours.pop_all().close)
        with self._explained("its footer"):
            send(self._socket, {"size": file.size})
            self._begin()
            self._renew(0)
            send(self._socket, {"open": True})
            self._answer()

    def batches(self, part: RowGroupPart) -> Iterator[pa.RecordBatch]:
        """Yield record batches. The next ones are read meanwhile. Raises as to make a reader does."""
        left, turn, what = part.total, 0, f"row group {part.group}: its pages"
        asked = {"group": part.group, "columns": list(part.columns), "rows": part.rows, "present": part.present}
        with self._explained(what):
            self._renew(part.memory)
            send(self._socket, asked)
            send(self._socket, {"file": turn})
        while some := self._some(turn, what):
            turn, left = 1 - turn, left - sum(batch.num_rows for batch in some)
            if left < 0:
                raise DataError("unreadable", f"{what}: {NONSENSE}")
            yield from some

    @property
    def is_lean(self) -> bool:
        """Return whether the child holds little memory of its own, and in the files that it writes to."""
        try:
            held = sum(os.fstat(file).st_blocks * 512 for file in self._files)
            with open(f"/proc/{self._pid}/statm", encoding="ascii") as file:
                _, resident, shared, *_ = map(int, file.read().split())
        except (OSError, ValueError):
            return False
        return held + (resident - shared) * resource.getpagesize() < LEAN_BYTES

    def _begin(self) -> None:
        begun = self._answer()
        self._pid, self._allowance = int(begun["pid"]), None
        self._limits = {int(limit): int(nbytes) for limit, nbytes in begun["limits"]}
        missing = [str(each) for each in begun["missing"]]
        try:
            self._allowance = Allowance(self._pid)
        except OSError as error:
            missing.append(
                f"limits set from outside, so that parts of over {MEMORY_BYTES:,} bytes are refused: {error}"
            )
        tell(tuple(missing))

    def _renew(self, memory: int) -> None:
        """Let it have what the next part takes."""
        self._ranges = Ranges(self._file.opened, self._file.size, RANGE_BYTES)
        if self._allowance is not None:
            most = {limit: nbytes + min(memory, MORE_BYTES) for limit, nbytes in self._limits.items()}
            self._allowance.renew(CPU_S + memory // _UNPACKED_PER_S, MEMORY_BYTES + memory, most)

    def _some(self, turn: int, what: str) -> list[pa.RecordBatch]:
        """Return the batches that one of the files holds, and have the other filled."""
        with self._explained(what):
            nbytes = int(self._answer()["bytes"])
            if not nbytes:
                return []
            send(self._socket, {"file": 1 - turn})
            return _stream(self._files[turn], nbytes)

    def _answer(self) -> JsonObject:
        """Return the next answer. Meanwhile send what is asked of a file that is far away."""
        while "read" in (answer := receive(self._socket, time.monotonic() + ANSWER_S)):
            _, offset, count = map(int, answer["read"])
            if self._ranges is None or self._file.descriptor is not None:
                raise ValueError(NONSENSE)
            self._socket.settimeout(ANSWER_S)
            self._ranges.answer(self._socket, offset, count)
        if "say" in answer:
            raise DataError("unreadable", printable(str(answer["say"]), MESSAGE_BYTES))
        return answer

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Raise in the block, for an answer that is missing or makes no sense, an error that says what it means."""
        if self._made_in != os.getpid():
            raise OSError(ENDED)
        try:
            yield
        except DataError as error:
            if "bad_alloc" in error.detail or "alloc of size" in error.detail:  # it comes as a broken file
                raise DataError("unreadable", f"{what} would take too much memory") from None
            raise
        except (EOFError, OSError, ValueError, LookupError, TypeError) as error:
            code = self._guard.end_of(self._pid) if self._pid else -signal.SIGKILL  # it has not looked at the file
            self.close()
            if code == -signal.SIGKILL:  # the machine needed its memory
                raise OSError(ENDED) from error
            raise DataError("unreadable", f"{what} would {_HOW.get(code, 'make what reads it crash')}") from None


def _stream(file: int, nbytes: int) -> list[pa.RecordBatch]:
    """Return a copy of the record batches in a file. Raises ValueError for what are none, or without a row."""
    import pyarrow as pa

    if os.fstat(file).st_size < nbytes:
        raise ValueError(NONSENSE)
    # Who writes to the file may go on doing so: it is copied before it is looked at.
    copy, got = pa.allocate_buffer(nbytes), 0
    while got < nbytes:
        got += os.preadv(file, [memoryview(copy)[got:]], got) or nbytes
    try:
        with pa.ipc.open_stream(copy) as stream:
            batches = list(stream)
        for batch in batches:
            batch.validate()
            for column in batch.columns:
                column.view(plain(column.type)).validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(NONSENSE) from error
    if not all(batch.num_rows for batch in batches):
        raise ValueError(NONSENSE)
    return batches
