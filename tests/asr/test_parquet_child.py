from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.messages import receive, send
from asr.parquet_child import TOGETHER_BYTES
from asr.parquet_guard import CPU_S, MEMORY_BYTES
from asr.sandbox_process import started

ASKED = {"group": 0, "columns": ["text"], "rows": 2, "memory": 0, "written": MEMORY_BYTES, "cpu_s": CPU_S}


@pytest.fixture
def table(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a file with 100 texts of a megabyte, in two row groups."""
    pq.write_table(pa.table({"text": [f"{n}" * (1 << 20) for n in range(10)] * 10}), tmp_path / "a", row_group_size=50)
    file = os.open(tmp_path / "a", os.O_RDONLY)
    yield file
    os.close(file)


@pytest.fixture
def parent() -> Iterator[tuple[psutil.Process, socket.socket]]:
    """What forks readers, and the socket to it."""
    process, ours = started("asr.parquet_child", MEMORY_BYTES)
    with ours:
        yield psutil.Process(process.pid), ours
    assert process.wait(10) == 0


def ask(ours: socket.socket, file: int, **asked: object) -> tuple[socket.socket, list[str]]:
    """Start a reader; return the socket to it, and what it is not confined by."""
    reader, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(ours, [b"pages"], [theirs.fileno(), file])
    send(reader, {"size": os.fstat(file).st_size, **ASKED, **asked})
    return reader, receive(reader)["missing"]


def answer(reader: socket.socket) -> tuple[dict[str, object], list[pa.RecordBatch]]:
    """Ask for some batches."""
    into = os.memfd_create("batch")
    socket.send_fds(reader, [b"?"], [into])
    said = receive(reader)
    with os.fdopen(into, "rb") as file:
        file.seek(0)
        return said, list(pa.ipc.open_stream(file.read())) if said.get("bytes") else []


def test_megabytes_of_batches_come_together_until_there_are_no_more(
    parent: tuple[psutil.Process, socket.socket], table: int
) -> None:
    reader, missing = ask(parent[1], table)
    with reader:
        assert isinstance(missing, list)
        texts, sizes = [], []
        while (got := answer(reader))[1]:
            assert [batch.num_rows for batch in got[1]] == [2] * len(got[1])
            texts += [text[0] for batch in got[1] for text in batch.column(0).to_pylist()]
            sizes.append(got[0]["bytes"])
        assert got[0] == {"bytes": 0}
    assert texts == [str(n % 10) for n in range(50)]
    assert max(sizes) < TOGETHER_BYTES + (3 << 20)


def test_several_read_at_a_time_and_each_in_its_own_bounds(
    parent: tuple[psutil.Process, socket.socket], table: int
) -> None:
    little, _ = ask(parent[1], table, memory=-MEMORY_BYTES)
    much, _ = ask(parent[1], table, group=1)
    with little, much:
        assert len(parent[0].children()) == 2
        with pytest.raises((EOFError, ConnectionError)):
            answer(little)
        assert answer(much)[1]


def test_what_pyarrow_says_is_told_and_who_read_it_is_buried(
    parent: tuple[psutil.Process, socket.socket], table: int
) -> None:
    for asked in ({"group": 9}, {"columns": ["text"], "group": -1}):
        reader, _ = ask(parent[1], table, **asked)
        with reader:
            said, batches = answer(reader)
            assert not batches
            assert str(said["say"])
    with os.fdopen(os.memfd_create("no footer"), "wb") as none:
        none.write(b"PAR1")
        none.flush()
        socket.send_fds(parent[1], [b"footer"], [none.fileno()])
        assert parent[1].recv(16) == b"3"
    assert not parent[0].children()
