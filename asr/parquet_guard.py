"""Footers of strangers' Parquet files, read first by a process with little memory: where pyarrow ends it, so be it.

    python -m asr.parquet_guard SOCKET MEMORY_BYTES

pyarrow ends its process over a footer that says there are no columns where there are some, and takes gigabytes for one
of megabytes. ``SOCKET`` is the descriptor of a Unix socket (SEQPACKET). A message is a descriptor of a file that has a
footer and holes in place of the rest; the answer is how the process that read it has ended: with 3 where pyarrow said
why, in words that the file then holds. Pages are not read here.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import threading
import weakref
from typing import Any

from asr.confinement import bounds, confine, end_with_parent, restrict
from asr.printable import printable
from asr.sandbox_process import started

MEMORY_BYTES = 512 << 20  # beyond what the process begins with
CPU_S = 30
_ANSWER_S = 120.0
_END_BYTES = 8  # the length of the footer, and PAR1
_FOOTER_BYTES = 64 << 20  # pyarrow's own limit is 100 MB
_MESSAGE_BYTES = 500
_SAID = b"3"
_TOO_MUCH = "its footer makes what reads it crash, or take too much memory or time"

_own = threading.local()


class Guard:
    """The process that reads footers. It ends with the thread that made it."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._made_in = os.getpid()
        self._process, self._socket = started("asr.parquet_guard", memory_bytes)
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
            socket.send_fds(self._socket, [b"?"], [copy])
            answer = self._socket.recv(16)
            if not answer:
                raise EOFError
            said = os.pread(copy, _MESSAGE_BYTES, 0).decode(errors="replace") if answer == _SAID else ""
        except (OSError, EOFError) as error:
            self.close()
            raise OSError("the process that reads footers of Parquet files has ended, or does not answer") from error
        finally:
            os.close(copy)
        if answer != b"0":
            in_words = said and "alloc" not in said  # std::bad_alloc comes as a broken footer
            raise ValueError(printable(said, _MESSAGE_BYTES) if in_words else _TOO_MUCH)


def require_readable(opened: Any) -> None:
    """Raise as ``Guard.require_readable``, of the guard of this thread; the first call starts one."""
    try:
        _guard().require_readable(opened)
    except OSError:  # of the machine's: another one is tried
        _guard().require_readable(opened)


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


def _end(process: subprocess.Popen[bytes], ours: socket.socket) -> None:
    ours.close()
    process.kill()
    process.wait()


def main() -> None:
    """Answer until the parent has gone."""
    end_with_parent()
    _warm_up()
    most = bounds(int(sys.argv[2]))
    restrict()
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        while True:
            data, descriptors, _, _ = socket.recv_fds(parent, 16, 1)
            if not data:
                return
            pid = os.fork()
            if not pid:
                _child(descriptors[0], most)
            os.close(descriptors[0])
            parent.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


def _warm_up() -> None:
    """Read a table of our own: what is imported or begun late cannot be any more."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with contextlib.closing(os.fdopen(os.memfd_create("table"), "r+b")) as file:
        pq.write_table(pa.table({"audio": [b""], "text": ["a"]}), file)
        file.flush()
        _touch(file.fileno())


def _child(descriptor: int, most: dict[int, int]) -> None:
    status = 1
    try:
        end_with_parent()
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        confine(most)
        said = _touch(descriptor)
        if said:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, said.encode(errors="replace")[:_MESSAGE_BYTES], 0)
        status = int(_SAID) if said else 0
    finally:
        os._exit(status)


def _touch(descriptor: int) -> str:
    """Look at all that is looked at later. Returns what pyarrow says against it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            opened = pq.ParquetFile(pa.PythonFile(file))
            metadata = opened.metadata
            for group in map(metadata.row_group, range(metadata.num_row_groups)):
                for number in range(group.num_columns):
                    leaf = group.column(number)
                    _ = leaf.path_in_schema, leaf.statistics, leaf.compression
            _ = opened.schema_arrow
    except MemoryError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


if __name__ == "__main__":
    main()
