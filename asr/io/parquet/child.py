"""Child process that reads a stranger's Parquet file with little memory; a crash of pyarrow ends only this process.

    python -m asr.io.parquet.child SOCKET MEMORY_BYTES

This one forks those that read, and reads nothing itself. ``SOCKET`` is the descriptor of a Unix socket (SEQPACKET). A
message with descriptors (a socket, two files to write to and, where it has one, a Parquet file) makes a process that
answers at that socket; a message with its id asks how it ended: the answer is as ``subprocess`` has it, and 0 where it
had to be ended.

What reads has one file in its life. The first frame says its ``size``; the answer, before it is looked at: the ``pid``,
the ``limits`` on memory (from outside they may be raised by MORE_BYTES) and what else is ``missing`` of the
confinement. Then each frame is a question:

- ``open``: the footer is read. Answers ``{}``.
- ``group``, ``columns`` and so many ``rows`` at a time: that is read from now on. Where ``present`` is over 0, it is
  only told which cells of the first column are there, which may have so many bytes. No answer.
- ``file``, 0 or 1: some megabytes of record batches go to this file. Answers how many ``bytes`` of an Arrow stream it
  begins with, 0 at the end.

What pyarrow has to ``say`` against it may be any answer. Of a Parquet file that it does not have, ranges are asked for
(``asr.io.ranges``).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute
import pyarrow.ipc
import pyarrow.parquet as pq

from asr.errors import DataError, one_line
from asr.io.confinement import bounds, confine, deaf, end_with_parent, restrict
from asr.io.messages import ASKED, receive, send
from asr.io.parquet.arrow_types import bytes_of
from asr.io.parquet.guard import CPU_S, MESSAGE_BYTES, MORE_BYTES, RANGE_BYTES
from asr.io.ranges import buffered
from asr.parsed import JsonObject

MOST_FOOTER_BYTES = 64 << 20  # pyarrow's own limit is 100 MB
TOGETHER_BYTES = 8 << 20  # of batches: asking for each takes its time

_libc = ctypes.CDLL(None)
_END_MS = 50
_KEPT = 1000  # ends of processes that nobody has asked about
_ERRORS = (pa.ArrowException, DataError, ValueError, LookupError, OSError)


def main() -> None:
    """Answer until the parent has gone: the process, as threads of it come and go."""
    deaf()
    pa.set_memory_pool(pa.system_memory_pool())  # the others take more than they are asked for, and keep it
    _warm_up()
    gc.collect()
    gc.freeze()  # what children never look at stays memory that all share
    most = bounds(int(sys.argv[2]))
    missing = restrict()
    ended: dict[int, int] = {}
    with socket.socket(fileno=int(sys.argv[1])) as parent:
        while True:
            data, given, _, _ = socket.recv_fds(parent, 16, 4)
            if not data:
                return
            if given:
                if not os.fork():
                    _child(parent, given, most, missing)
                for each in given:
                    os.close(each)
            _bury(ended)
            if not given:
                (pid,) = ASKED.unpack(data)
                parent.send(ASKED.pack(ended.pop(pid) if pid in ended else _killed(pid)))


def _bury(ended: dict[int, int]) -> None:
    """Note how the processes that have ended did."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            ended[found[0]] = os.waitstatus_to_exitcode(found[1])
    while len(ended) > _KEPT:
        ended.pop(next(iter(ended)))


def _killed(pid: int) -> int:
    """End a process; return how it ended, 0 for one that was still there: that does not mean the same."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        for _ in range(_END_MS):  # the news of a process's end may come before its end
            if (found := os.waitpid(pid, os.WNOHANG))[0]:
                return os.waitstatus_to_exitcode(found[1])
            time.sleep(0.001)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 0


def _child(forker: socket.socket, given: Sequence[int], most: Mapping[int, int], missing: Sequence[str]) -> None:
    """Do what a process does that reads, and end it: its socket last, for by that it is known that there is an end."""
    status = 1
    try:
        end_with_parent()
        forker.close()
        parent = socket.socket(fileno=given[0])
        _answer(parent, given[1:3], given[3:], most, missing)
        status = 0
    except (EOFError, ConnectionError):
        status = 0
    except MemoryError:
        status = os.EX_UNAVAILABLE
    finally:
        os._exit(status)


def _answer(
    parent: socket.socket, files: Sequence[int], parquet: Sequence[int], most: Mapping[int, int], missing: Sequence[str]
) -> None:
    size = receive(parent)["size"]
    mapped = _mapped(parquet[0]) if parquet else b""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    limits = {**most, resource.RLIMIT_AS: most[resource.RLIMIT_AS] + len(mapped)}
    refused = confine(limits, MORE_BYTES)
    send(parent, {"pid": os.getpid(), "limits": list(limits.items()), "missing": [*missing, *refused]})
    if mapped:
        opened = pa.BufferReader(pa.py_buffer(mapped))
    elif parquet:
        opened = pa.PythonFile(os.fdopen(parquet[0], "rb"), mode="r")
    else:
        opened = pa.PythonFile(buffered(parent, 0, size, RANGE_BYTES, ahead=1), mode="r")
    reads: list[pq.ParquetFile | Iterator[pa.RecordBatch]] = []
    while True:
        asked = receive(parent)
        try:
            if "open" in asked:
                reads = [_footer(opened, size), iter(())]
                send(parent, {})
            elif "group" in asked:
                reads[1] = _batches(reads[0], asked)
            else:
                nbytes = _write(reads[1], files[asked["file"]])
                if not nbytes:
                    reads[1] = iter(())
                    _give_back()
                send(parent, {"bytes": nbytes})
        except MemoryError:
            raise
        except _ERRORS as error:
            send(parent, {"say": one_line(error)[:MESSAGE_BYTES]})


def _mapped(descriptor: int) -> mmap.mmap | bytes:
    """Return a file as memory; nothing where that cannot be. Where somebody makes it shorter, this process ends."""
    try:
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    except (ValueError, OSError):
        return b""


def _give_back() -> None:
    """Give memory that is free to the machine: who reads another part may be another file's process."""
    with contextlib.suppress(AttributeError):  # not every C library has it
        _libc.malloc_trim(0)


def _footer(opened: pa.NativeFile, size: int) -> pq.ParquetFile:
    """Check all parts of the footer that are used later."""
    end = opened.read_at(8, max(size - 8, 0))
    if end[4:] == b"PAR1" and (length := int.from_bytes(end[:4], "little")) > MOST_FOOTER_BYTES:
        raise ValueError(f"its footer has {length:,} bytes")
    file = pq.ParquetFile(opened, pre_buffer=False)  # a thread would read ahead, and there is none
    for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
        for number in range(group.num_columns):
            leaf = group.column(number)
            _ = leaf.path_in_schema, leaf.statistics, leaf.compression
    _ = file.schema_arrow
    return file


def _batches(file: pq.ParquetFile, asked: JsonObject) -> Iterator[pa.RecordBatch]:
    wanted = {"batch_size": asked["rows"], "row_groups": [asked["group"]], "columns": asked["columns"]}
    most = total = asked["present"]
    for batch in file.iter_batches(use_threads=False, **wanted):
        if most:
            total -= batch.nbytes
            if total < 0:
                raise ValueError(f"row group {asked['group']} unpacks to over {most:,} bytes of audio")
            yield pa.record_batch({"present": bytes_of(batch.column(0)).is_valid()})
        else:
            yield batch.replace_schema_metadata(None)


def _write(batches: Iterator[pa.RecordBatch], into: int) -> int:
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
    with os.fdopen(os.memfd_create("table"), "w+b") as table, os.fdopen(os.memfd_create("batches"), "w+b") as into:
        pq.write_table(pa.table({"audio": [{"bytes": b"", "path": "a"}], "text": [["a"]]}), table)
        table.flush()
        file = _footer(pa.PythonFile(table, mode="r"), os.fstat(table.fileno()).st_size)
        for present in (0, 100):
            asked = {"rows": 1, "group": 0, "columns": ["audio", "text"], "present": present}
            _write(_batches(file, asked), into.fileno())
        _give_back()


if __name__ == "__main__":
    main()
