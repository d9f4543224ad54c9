from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

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


class Reader:
    """A process that reads pages, asked by hand."""

    def __init__(self, parent: socket.socket, parquet: int, **asked: object) -> None:
        self.socket, theirs = socket.socketpair()
        self.files = [os.memfd_create("batches") for _ in range(2)]
        with theirs:
            socket.send_fds(parent, [b"pages"], [theirs.fileno(), *self.files, parquet])
        send(self.socket, {"size": os.fstat(parquet).st_size, **ASKED, **asked})
        self.missing = receive(self.socket)["missing"]

    def answer(self, turn: int = 0) -> tuple[dict[str, Any], list[pa.RecordBatch]]:
        """Ask for some batches."""
        self.socket.send(bytes([turn]))
        said = receive(self.socket)
        data = os.pread(self.files[turn], said.get("bytes", 0), 0)
        return said, list(pa.ipc.open_stream(data)) if data else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        for file in self.files:
            os.close(file)


def test_megabytes_of_batches_come_together_until_there_are_no_more(
    parent: tuple[psutil.Process, socket.socket], table: int
) -> None:
    with Reader(parent[1], table) as reader:
        assert isinstance(reader.missing, list)
        texts, sizes = [], []
        while (got := reader.answer(len(sizes) % 2))[1]:
            assert [batch.num_rows for batch in got[1]] == [2] * len(got[1])
            texts += [text[0] for batch in got[1] for text in batch.column(0).to_pylist()]
            sizes.append(got[0]["bytes"])
        assert got[0] == {"bytes": 0}
    assert texts == [str(n % 10) for n in range(50)]
    assert max(sizes) < TOGETHER_BYTES + (3 << 20)


def test_several_read_at_a_time_and_each_in_its_own_bounds(
    parent: tuple[psutil.Process, socket.socket], table: int
) -> None:
    with Reader(parent[1], table, memory=-MEMORY_BYTES) as little, Reader(parent[1], table, group=1) as much:
        assert len(parent[0].children()) == 2
        with pytest.raises((EOFError, ConnectionError)):
            little.answer()
        assert much.answer()[1]


def test_what_pyarrow_says_is_told_and_who_read_it_is_buried(
    parent: tuple[psutil.Process, socket.socket], table: int
) -> None:
    for asked in ({"group": 9}, {"columns": ["text"], "group": -1}):
        with Reader(parent[1], table, **asked) as reader:
            said, batches = reader.answer()
            assert not batches
            assert str(said["say"])
    with os.fdopen(os.memfd_create("no footer"), "wb") as none:
        none.write(b"PAR1")
        none.flush()
        socket.send_fds(parent[1], [b"footer"], [none.fileno()])
        assert parent[1].recv(16) == b"3"
    assert not parent[0].children()
