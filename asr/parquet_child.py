"""The process in which strangers' Parquet files are read, with little memory: where pyarrow ends it, so be it.

    python -m asr.parquet_child SOCKET MEMORY_BYTES

This one forks those that read, and reads nothing itself. ``SOCKET`` is the descriptor of a Unix socket (SEQPACKET). A
message comes with descriptors:

- ``footer``, with a file that has a footer and holes in place of the rest. The answer is how the process that read it
  has ended: with 3 where pyarrow said why, in words that the file then holds.
- ``pages``, with a socket, two files to write to and, where there is one, the Parquet file. There is no answer, but a
  process that listens at that socket. A frame says what to read: the ``size`` of the file, ``group``, ``columns``, so
  many ``rows`` at a time; and what may be taken: ``memory`` beyond MEMORY_BYTES, ``written`` (both in bytes) and
  ``cpu_s``. From then on each byte, 0 or 1, asks for some megabytes of record batches in the first or second file. A
  frame answers: how many ``bytes`` of an Arrow stream the file begins with, 0 at the end, or what pyarrow has to
  ``say``. Of a Parquet file that has not come, ranges are asked for (``asr.ranges``).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import resource
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.ipc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from asr.confinement import bounds, confine, end_with_parent, restrict
from asr.errors import DataError
from asr.messages import receive, send
from asr.parquet_guard import CPU_S, MESSAGE_BYTES, RANGE_BYTES, SAID
from asr.ranges import buffered

TOGETHER_BYTES = 8 << 20  # of batches: asking for each takes its time

_ERRORS = (pa.ArrowException, DataError, ValueError, OSError)


def main() -> None:
    """Answer until the parent has gone."""
    end_with_parent()
    pa.set_memory_pool(pa.system_memory_pool())  # the others take more than they are asked for, and keep it
    _warm_up()
    most = bounds(int(sys.argv[2]))
    missing = restrict()
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        while True:
            data, descriptors, _, _ = socket.recv_fds(parent, 16, 4)
            if not data:
                return
            pid = os.fork()
            if not pid:
                _child(data, descriptors, most, missing)
            for each in descriptors:
                os.close(each)
            if data == b"footer":
                parent.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
            _bury()


def _bury() -> None:
    """Forget the processes that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _child(data: bytes, descriptors: Sequence[int], most: Mapping[int, int], missing: Sequence[str]) -> None:
    """Do what a forked process does, and end it."""
    status = 1
    try:
        end_with_parent()
        if data == b"footer":
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
            confine(most)
            status = SAID if _read_footer(descriptors[0]) else 0
        else:
            with socket.socket(fileno=descriptors[0]) as parent:
                _answer(parent, descriptors[1:], most, missing)
            status = 0
    finally:
        os._exit(status)


def _read_footer(descriptor: int) -> str:
    """Look at all that is looked at later. Returns what pyarrow says against it, and leaves it in the file."""
    said = ""
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
    except _ERRORS as error:
        said = _words(error)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, said.encode(errors="replace"), 0)
    return said


def _words(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:MESSAGE_BYTES]


def _answer(parent: socket.socket, given: Sequence[int], most: Mapping[int, int], missing: Sequence[str]) -> None:
    asked, files, parquet = receive(parent), given[:2], given[2:]
    resource.setrlimit(resource.RLIMIT_CPU, (asked["cpu_s"], asked["cpu_s"]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (asked["written"], asked["written"]))
    # Where somebody makes a file shorter that is mapped, this process ends.
    mapped = mmap.mmap(parquet[0], 0, prot=mmap.PROT_READ) if parquet else b""
    spare = {resource.RLIMIT_AS: len(mapped)}
    refused = confine({limit: nbytes + asked["memory"] + spare.get(limit, 0) for limit, nbytes in most.items()})
    send(parent, {"missing": [*missing, *refused]})
    if parquet:
        opened = pa.BufferReader(pa.py_buffer(mapped))
    else:
        opened = pa.PythonFile(buffered(parent, 0, asked["size"], RANGE_BYTES), mode="r")
    batches = _batches(opened, asked)
    while turn := parent.recv(1):
        try:
            send(parent, {"bytes": _write(batches, files[turn[0]])})
        except MemoryError:
            raise
        except _ERRORS as error:
            send(parent, {"say": _words(error)})


def _batches(file: Any, asked: Mapping[str, Any]) -> Iterator[Any]:
    opened = pq.ParquetFile(file, pre_buffer=False)
    wanted = {"batch_size": asked["rows"], "row_groups": [asked["group"]], "columns": asked["columns"]}
    for batch in opened.iter_batches(use_threads=False, **wanted):
        yield batch.replace_schema_metadata(None)


def _write(batches: Iterator[Any], into: int) -> int:
    """Write some of the batches, and return how many bytes they take: 0 where there are no more."""
    first = next(batches, None)
    if first is None:
        return 0
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(os.fdopen(into, "wb", closefd=False))
        file.seek(0)
        sink = stack.enter_context(pa.PythonFile(file, mode="w"))
        stream = stack.enter_context(pa.ipc.new_stream(sink, first.schema))
        stream.write_batch(first)
        while sink.tell() < TOGETHER_BYTES and (batch := next(batches, None)) is not None:
            stream.write_batch(batch)
        stream.close()
        return int(sink.tell())


def _warm_up() -> None:
    """Read a table of our own: what is begun late cannot be any more."""
    with contextlib.ExitStack() as stack:
        file, into = (os.memfd_create("table") for _ in range(2))
        stack.callback(os.close, into)
        with os.fdopen(file, "w+b") as table:
            pq.write_table(pa.table({"audio": [{"bytes": b"", "path": "a"}], "text": [["a"]]}), table)
            table.flush()
            _read_footer(file)
            asked = {"rows": 1, "group": 0, "columns": ["audio", "text"]}
            _write(_batches(pa.PythonFile(table, mode="r"), asked), into)


if __name__ == "__main__":
    main()
