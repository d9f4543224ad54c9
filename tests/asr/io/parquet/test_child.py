from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from asr.io.confined_process import started
from asr.io.messages import ASKED, receive, send
from asr.io.parquet.child import TOGETHER_BYTES
from asr.io.parquet.guard import MEMORY_BYTES

pytestmark = pytest.mark.medium

PART = {"group": 0, "columns": ["text"], "rows": 2, "present": 0}


Forker = tuple[psutil.Process, socket.socket]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[int]:
    """The descriptor of a file with 100 texts of a megabyte, in two row groups."""
    pq.write_table(pa.table({"text": [f"{n}" * (1 << 20) for n in range(10)] * 10}), tmp_path / "a", row_group_size=50)
    file = os.open(tmp_path / "a", os.O_RDONLY)
    yield file
    os.close(file)


@pytest.fixture
def parent() -> Iterator[Forker]:
    """What forks readers, and the socket to it."""
    process, ours = started("asr.io.parquet.child", MEMORY_BYTES)
    with ours:
        yield psutil.Process(process.pid), ours
    assert process.wait(10) == 0


class Reader:
    """A process that reads pages, asked by hand."""

    def __init__(self, parent: socket.socket, parquet: int) -> None:
        self.socket, theirs = socket.socketpair()
        self.files = [os.memfd_create("batches") for _ in range(2)]
        with theirs:
            socket.send_fds(parent, [b"read"], [theirs.fileno(), *self.files, parquet])
        send(self.socket, {"size": os.fstat(parquet).st_size})
        self.begun = receive(self.socket)

    def answer(self, **asked: object) -> dict[str, Any]:
        """Ask something."""
        send(self.socket, asked)
        return receive(self.socket)

    def batches(self, turn: int = 0) -> tuple[int, list[pa.RecordBatch]]:
        """Ask for some batches."""
        nbytes = self.answer(file=turn)["bytes"]
        return nbytes, list(pa.ipc.open_stream(os.pread(self.files[turn], nbytes, 0))) if nbytes else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        for file in self.files:
            os.close(file)


def test_megabytes_of_batches_come_together_until_there_are_no_more(parent: Forker, table: int) -> None:
    with Reader(parent[1], table) as reader:
        assert reader.answer(open=True) == {}
        send(reader.socket, PART)
        texts, sizes = [], []
        while (got := reader.batches(len(sizes) % 2))[1]:
            assert [batch.num_rows for batch in got[1]] == [2] * len(got[1])
            texts += [text[0] for batch in got[1] for text in batch.column(0).to_pylist()]
            sizes.append(got[0])
        assert texts == [str(n % 10) for n in range(50)]
        assert max(sizes) < TOGETHER_BYTES + (3 << 20)
        send(reader.socket, {**PART, "group": 1, "rows": 50, "present": 60 << 20})
        assert [batch.to_pydict() for batch in reader.batches()[1]] == [{"present": [True] * 50}]
        send(reader.socket, {**PART, "group": 1, "present": 20 << 20})
        assert "20,971,520 bytes of audio" in reader.answer(file=0)["say"]


def test_several_read_at_a_time_and_each_in_its_own_bounds(parent: Forker, table: int) -> None:
    with Reader(parent[1], table) as little, Reader(parent[1], table) as much:
        assert {each.pid for each in parent[0].children()} == {little.begun["pid"], much.begun["pid"]}
        for reader in (little, much):
            assert reader.answer(open=True) == {}
            send(reader.socket, PART)
        for limit, nbytes in little.begun["limits"]:
            resource.prlimit(little.begun["pid"], limit, (nbytes - MEMORY_BYTES, nbytes))
        with pytest.raises((EOFError, ConnectionError)):
            little.batches()
        assert much.batches()[1]
        parent[1].send(ASKED.pack(little.begun["pid"]))
        assert ASKED.unpack(parent[1].recv(ASKED.size))[0] in (os.EX_UNAVAILABLE, -signal.SIGABRT)
        parent[1].send(ASKED.pack(much.begun["pid"]))
        assert parent[1].recv(ASKED.size) == ASKED.pack(0)  # it had not ended
        assert not parent[0].children()


def test_what_pyarrow_says_is_told(parent: Forker, table: int) -> None:
    with Reader(parent[1], table) as reader:
        assert reader.answer(open=True) == {}
        for group in (9, -1):
            send(reader.socket, {**PART, "group": group})
            assert "row_group" in reader.answer(file=0)["say"]
    with os.fdopen(os.memfd_create("no footer"), "w+b") as none:
        none.write(b"PAR1")
        none.flush()
        with Reader(parent[1], none.fileno()) as reader:
            assert "footer" in reader.answer(open=True)["say"]
