"""Strangers' Parquet files, read by processes with little memory (``asr.parquet_child``): this is who asks them.

pyarrow ends its process over a footer that says there are no columns where there are some, and takes gigabytes for a
footer of megabytes or a page of a hundred bytes. What asks here reads no pages, and a footer after another process has
read it; record batches come as Arrow streams, which are copied and looked through.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from asr.errors import DataError
from asr.messages import receive, send
from asr.printable import printable
from asr.ranges import Ranges
from asr.sandbox_process import NONSENSE, started, tell

MEMORY_BYTES = 512 << 20  # beyond what the process begins with
CPU_S = 30
SAID = 3
MESSAGE_BYTES = 500
RANGE_BYTES = 64 << 20  # of one question: far away each takes its time
_ANSWER_S = 120.0
_END_S = 0.2
_UNPACKED_PER_S = 10 << 20  # bytes in a second of CPU time, at the least
_END_BYTES = 8  # the length of the footer, and PAR1
_FOOTER_BYTES = 64 << 20  # pyarrow's own limit is 100 MB
_TOO_MUCH = "make what reads it crash, or take too much memory or time"
_ENDED = "the process that reads Parquet files has ended, or does not answer"
_TUNABLES = "glibc.malloc.hugetlb=1"  # memory that is used once costs a sixth in pages of 2 MB

_own = threading.local()


@dataclass(frozen=True)
class Wanted:
    """A part of a Parquet file: the open file, its path (None for one far away), and what is to be read of it."""

    opened: Any
    path: str | None
    group: int
    columns: Sequence[str]
    rows: int
    """At a time."""
    total: int
    """Rows that there are."""
    memory: int
    """Bytes that reading and unpacking it takes, at the most."""


class Guard:
    """The process that starts those which read. It ends, and they do, with the thread that made it."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._made_in = os.getpid()
        self._process, self._socket = started("asr.parquet_child", memory_bytes, GLIBC_TUNABLES=_TUNABLES)
        self._socket.settimeout(_ANSWER_S)
        self.close = weakref.finalize(self, _end, self._process, self._socket)

    @property
    def alive(self) -> bool:
        """Whether it can be asked: not where it has ended, nor in a process that was forked from its own."""
        return self.close.alive and self._made_in == os.getpid()

    def require_readable(self, opened: Any) -> None:
        """Raise ValueError where pyarrow cannot read the footer of an open file, or not in its bounds, or crashes.

        OSError where the guard itself has ended or does not answer, which is no file's fault.
        """
        copy = _footer(opened)
        if copy is None:
            return  # pyarrow says of it what it is not
        try:
            socket.send_fds(self._socket, [b"footer"], [copy])
            answer = self._socket.recv(16)
            if not answer:
                raise EOFError
            said = os.pread(copy, MESSAGE_BYTES, 0).decode(errors="replace") if answer == b"%d" % SAID else ""
        except (OSError, EOFError) as error:
            self.close()
            raise OSError(_ENDED) from error
        finally:
            os.close(copy)
        if answer != b"0":
            in_words = said and "alloc" not in said  # std::bad_alloc comes as a broken footer
            raise ValueError(printable(said, MESSAGE_BYTES) if in_words else f"its footer would {_TOO_MUCH}")

    def batches(self, wanted: Wanted) -> Iterator[Any]:
        """Yield record batches. The next one is read meanwhile.

        Raises DataError unreadable where pyarrow cannot read them, or not in their bounds, or crashes. OSError as
        ``require_readable``.
        """
        with self._reader(wanted) as (reader, files):
            size = wanted.opened.size()
            ranges = Ranges(wanted.opened, size, RANGE_BYTES) if wanted.path is None else None
            try:
                send(reader, _question(wanted, size))
                tell(tuple(map(str, _answer(reader, ranges)["missing"])))
                yield from _read(reader, files, ranges, wanted.total)
            except (EOFError, ConnectionError, TimeoutError, ValueError, LookupError, TypeError) as error:
                self._require_alive(error)
                raise DataError("unreadable", f"row group {wanted.group}: its pages would {_TOO_MUCH}") from None

    @contextlib.contextmanager
    def _reader(self, wanted: Wanted) -> Iterator[tuple[socket.socket, tuple[int, int]]]:
        """Start a process that reads; yield our end of the socket to it, and the files that it writes to in turn."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            reader, its = socket.socketpair()
            ours.enter_context(reader)
            theirs.enter_context(its)
            files = (_memory(ours), _memory(ours))
            descriptors = [its.fileno(), *files]
            if wanted.path is not None:
                descriptors.append(os.open(wanted.path, os.O_RDONLY | os.O_CLOEXEC))
                theirs.callback(os.close, descriptors[-1])
            try:
                socket.send_fds(self._socket, [b"pages"], descriptors)
            except OSError as error:
                self.close()
                raise OSError(_ENDED) from error
            theirs.close()
            yield reader, files

    def _require_alive(self, error: Exception) -> None:
        """Raise OSError where it has ended: those that read end with it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
            self.close()
            raise OSError(_ENDED) from error


def require_readable(opened: Any) -> None:
    """Raise as ``Guard.require_readable``, of the guard of this thread; the first call starts one."""
    try:
        _guard().require_readable(opened)
    except OSError:  # of the machine's: another one is tried
        _guard().require_readable(opened)


def batches(wanted: Wanted) -> Iterator[Any]:
    """Yield what ``Guard.batches`` does, of the guard of this thread; the first call starts one."""
    done = 0
    try:
        for batch in _guard().batches(wanted):
            yield batch
            done += 1
        return
    except OSError:
        pass  # of the machine's: another one is tried
    for number, batch in enumerate(_guard().batches(wanted)):
        if number >= done:
            yield batch


def _guard() -> Guard:
    guard: Guard | None = getattr(_own, "guard", None)
    if guard is None or not guard.alive:
        guard = _own.guard = Guard()
    return guard


def _footer(opened: Any) -> int | None:
    """Return a descriptor of a file like an open one, whose footer alone is there; None where it has none."""
    size = opened.size()
    end = opened.read_at(_END_BYTES, max(size - _END_BYTES, 0))
    length = int.from_bytes(end[:4], "little") + _END_BYTES
    if end[4:] != b"PAR1" or not _END_BYTES < length <= size:
        return None
    if length > _FOOTER_BYTES:
        raise ValueError(f"its footer has {length:,} bytes")
    copy = os.memfd_create("footer", os.MFD_CLOEXEC)
    os.ftruncate(copy, size)
    footer, at = memoryview(opened.read_at(length, size - length)), size - length
    while footer:
        written = os.pwrite(copy, footer, at)
        footer, at = footer[written:], at + written
    return copy


def _question(wanted: Wanted, size: int) -> dict[str, Any]:
    what = {"size": size, "group": wanted.group, "columns": list(wanted.columns), "rows": wanted.rows}
    most = {"memory": wanted.memory, "written": MEMORY_BYTES + wanted.memory}
    return {**what, **most, "cpu_s": CPU_S + wanted.memory // _UNPACKED_PER_S}


def _memory(stack: contextlib.ExitStack) -> int:
    file = os.memfd_create("batches", os.MFD_CLOEXEC)
    stack.callback(os.close, file)
    return file


def _read(reader: socket.socket, files: tuple[int, int], ranges: Ranges | None, rows: int) -> Iterator[Any]:
    """Yield the batches that a process reads, of so many rows."""
    turn = 0
    reader.send(bytes([turn]))
    while nbytes := _answer(reader, ranges)["bytes"]:
        reader.send(bytes([1 - turn]))
        some = _stream(files[turn], nbytes)
        turn = 1 - turn
        got = sum(batch.num_rows for batch in some)
        rows -= got
        if not got or rows < 0:
            raise ValueError("rows that are not there")
        yield from some


def _answer(reader: socket.socket, ranges: Ranges | None) -> dict[str, Any]:
    """Return the next answer. Meanwhile send what is asked of a file that is far away."""
    while "read" in (answer := receive(reader, time.monotonic() + _ANSWER_S)):
        _, offset, count = map(int, answer["read"])
        if ranges is None:
            raise ValueError("a range of a file that is there")
        reader.settimeout(_ANSWER_S)
        ranges.answer(reader, offset, count)
    if "say" in answer:
        raise DataError("unreadable", printable(str(answer["say"]), MESSAGE_BYTES))
    return answer


def _stream(file: int, nbytes: int) -> list[Any]:
    """Return a copy of the record batches in a file. Raises ValueError for what are none."""
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
        for column in (column for batch in batches for column in batch.columns):
            column.view(_with_bytes(column.type)).validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(NONSENSE) from error
    return batches


def _with_bytes(kind: Any) -> Any:
    """Return an Arrow type like this one, with bytes in place of texts: one that is no UTF-8 is its row's fault."""
    import pyarrow as pa

    for text, plain in ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary())):
        if kind == text:
            return plain
    if isinstance(kind, pa.StructType):
        return pa.struct([pa.field(field.name, _with_bytes(field.type)) for field in kind])
    if isinstance(kind, pa.MapType):
        return pa.map_(_with_bytes(kind.key_type), _with_bytes(kind.item_type))
    if isinstance(kind, pa.FixedSizeListType):
        return pa.list_(_with_bytes(kind.value_type), kind.list_size)
    if isinstance(kind, pa.LargeListType):
        return pa.large_list(_with_bytes(kind.value_type))
    if isinstance(kind, pa.ListType):
        return pa.list_(_with_bytes(kind.value_type))
    if isinstance(kind, pa.DictionaryType):
        return pa.dictionary(kind.index_type, _with_bytes(kind.value_type), kind.ordered)
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    process.kill()
    process.wait()
