"""Strangers' Parquet files, each read by a confined process of its own (``asr.parquet_child``): this is who asks them.

pyarrow ends its process over a footer that says there are no columns where there are some, and takes gigabytes for a
footer of megabytes or a page of a hundred bytes. What asks here reads no pages, and a footer after another process has
read it; record batches come as Arrow streams, which are copied and looked through.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from asr.arrow_types import plain as _plain
from asr.confinement import Allowance
from asr.errors import DataError
from asr.messages import ASKED, receive, send
from asr.printable import printable
from asr.ranges import Ranges
from asr.sandbox_process import NONSENSE, started, tell

MEMORY_BYTES = 512 << 20  # beyond what a process begins with
MORE_BYTES = 16 << 30  # that may be let it have beyond that: more than any plan
MESSAGE_BYTES = 500
RANGE_BYTES = 64 << 20  # of one question: far away each takes its time
_CPU_S = 30
_ANSWER_S = 120.0
_UNPACKED_PER_S = 10 << 20  # bytes in a second of CPU time, at the least
_TRIES = 3
_ENDED = "what reads Parquet files has ended, or does not answer"
_HOW = {
    os.EX_UNAVAILABLE: "take too much memory",
    -signal.SIGXCPU: "take too much time",
    -signal.SIGXFSZ: "take too much memory",
}
_TUNABLES = "glibc.malloc.hugetlb=1"  # memory that is used once costs a sixth in pages of 2 MB


@dataclass(frozen=True)
class File:
    """A Parquet file as pyarrow reads it, its size in bytes, and its descriptor (None for one far away)."""

    opened: Any
    size: int
    descriptor: int | None


@dataclass(frozen=True)
class Part:
    """What is to be read of a Parquet file."""

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


class Guard:
    """The process that forks those which read. All threads of this process share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process, self._socket = started("asr.parquet_child", MEMORY_BYTES, GLIBC_TUNABLES=_TUNABLES)
        self._socket.settimeout(_ANSWER_S)
        self.close = weakref.finalize(self, _end, self._process, self._socket)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.close.alive and self._process.poll() is None

    def start(self, descriptors: Sequence[int]) -> None:
        """Start a process that reads, with a socket, two files to write to and perhaps the Parquet file."""
        try:
            socket.send_fds(self._socket, [b"read"], descriptors)
        except OSError as error:
            self.close()
            raise OSError(_ENDED) from error

    def end_of(self, pid: int) -> int:
        """Return how a process that reads has ended, as ``subprocess`` has it; 0 where it must be ended."""
        try:
            with self._lock:
                self._socket.send(ASKED.pack(pid))
                answer = self._socket.recv(ASKED.size)
            return int(ASKED.unpack(answer)[0])
        except (OSError, ValueError) as error:
            self.close()
            raise OSError(_ENDED) from error

    def leave(self) -> None:
        """Let go of it, in a process that was forked from the one that it belongs to: it ends with the last of them."""
        self.close.detach()
        self._socket.close()
        self._process.returncode = 0  # it is no child of this process


class Reader:
    """A process that reads one Parquet file, whose footer it has read.

    Raises DataError unreadable where pyarrow cannot read the footer, or not in its bounds, or crashes. OSError where a
    process has ended or does not answer, and that is no file's fault.
    """

    def __init__(self, file: File) -> None:
        self._file, self._guard, self._made_in, self._pid = file, _guard(), os.getpid(), 0
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

    def batches(self, part: Part) -> Iterator[Any]:
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

    def _begin(self) -> None:
        begun = self._answer()
        self._pid, self._allowance = int(begun["pid"]), None
        self._limits = {int(limit): int(nbytes) for limit, nbytes in begun["limits"]}
        missing = [str(each) for each in begun["missing"]]
        try:
            self._allowance = Allowance(self._pid)
        except OSError as error:
            missing.append(f"limits on CPU time and file size: {error}")
        tell(tuple(missing))

    def _renew(self, memory: int) -> None:
        """Let it have what the next part takes."""
        self._ranges = Ranges(self._file.opened, self._file.size, RANGE_BYTES)
        if self._allowance is not None:
            most = {limit: nbytes + min(memory, MORE_BYTES) for limit, nbytes in self._limits.items()}
            self._allowance.renew(_CPU_S + memory // _UNPACKED_PER_S, MEMORY_BYTES + memory, most)

    def _some(self, turn: int, what: str) -> list[Any]:
        """Return the batches that one of the files holds, and have the other filled."""
        with self._explained(what):
            nbytes = int(self._answer()["bytes"])
            if not nbytes:
                return []
            send(self._socket, {"file": 1 - turn})
            return _stream(self._files[turn], nbytes)

    def _answer(self) -> dict[str, Any]:
        """Return the next answer. Meanwhile send what is asked of a file that is far away."""
        while "read" in (answer := receive(self._socket, time.monotonic() + _ANSWER_S)):
            _, offset, count = map(int, answer["read"])
            if self._ranges is None or self._file.descriptor is not None:
                raise ValueError(NONSENSE)
            self._socket.settimeout(_ANSWER_S)
            self._ranges.answer(self._socket, offset, count)
        if "say" in answer:
            raise DataError("unreadable", printable(str(answer["say"]), MESSAGE_BYTES))
        return answer

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Say what it means that there is no answer, or one without a sense."""
        if self._made_in != os.getpid():
            raise OSError(_ENDED)
        try:
            yield
        except DataError as error:
            if "alloc" in error.detail:  # std::bad_alloc comes as a broken file
                raise DataError("unreadable", f"{what} would take too much memory") from None
            raise
        except (EOFError, OSError, ValueError, LookupError, TypeError) as error:
            code = self._guard.end_of(self._pid) if self._pid else -signal.SIGKILL  # it has not looked at the file
            self.close()
            if code == -signal.SIGKILL:  # the machine needed its memory
                raise OSError(_ENDED) from error
            raise DataError("unreadable", f"{what} would {_HOW.get(code, 'make what reads it crash')}") from None


class Readers:
    """Reads parts of one file, each by a process that is free; another is started where the machine ends it.

    Raises as Reader.
    """

    def __init__(self, file: File) -> None:
        self._file = file
        self._free = [self._started()]

    def batches(self, part: Part) -> Iterator[Any]:
        """Yield record batches. Raises as Reader."""
        done = 0
        for tries_left in reversed(range(_TRIES)):
            reader = self._free.pop() if self._free else self._started()
            try:
                for batch in islice(reader.batches(part), done, None):
                    yield batch
                    done += 1
                self._free[:] = [reader]
                return
            except OSError:
                if not tries_left:
                    raise
            finally:
                if reader not in self._free:
                    reader.close()

    def close(self) -> None:
        """End the process that is free."""
        while self._free:
            self._free.pop().close()

    def _started(self) -> Reader:
        for _ in range(_TRIES - 1):
            with contextlib.suppress(OSError):
                return Reader(self._file)
        return Reader(self._file)


def _forget() -> None:
    global _shared, _lock
    if _shared is not None:
        _shared.leave()
    _shared, _lock = None, threading.Lock()


def _guard() -> Guard:
    global _shared
    with _lock:
        if _shared is None or not _shared.alive:
            _shared = Guard()
        return _shared


_shared: Guard | None = None
_lock = threading.Lock()
os.register_at_fork(after_in_child=_forget)  # who is forked has processes of its own


def _stream(file: int, nbytes: int) -> list[Any]:
    """Return a copy of the record batches in a file. Raises ValueError for what are none, or without a row."""
    import pyarrow as pa  # type: ignore[import-untyped]

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
                column.view(_plain(column.type)).validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(NONSENSE) from error
    if not all(batch.num_rows for batch in batches):
        raise ValueError(NONSENSE)
    return batches


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    process.kill()
    process.wait()
