from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pytest

from asr.errors import DataError
from asr.io.messages import receive
from asr.io.ranges import (
    BLOCK_BYTES,
    MAX_PASSES,
    RANGE_BYTES,
    REMEMBERED_BYTES,
    Positioned,
    Ranges,
    Remembered,
    buffered,
    descriptor,
)

CONTENT = os.urandom(3 * RANGE_BYTES + 17)


class Gone(io.BytesIO):
    def read(self, count: int | None = -1) -> bytes:
        raise OSError("the storage is gone")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def serve(to: socket.socket, file: BinaryIO, size: int) -> threading.Thread:
    ranges = Ranges(file, size)

    def answer() -> None:
        try:
            while True:
                ranges.answer(to, *receive(to)["read"][1:])
        except EOFError:
            pass

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_a_file_behind_a_socket_is_a_file(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    thread = serve(ours, io.BytesIO(CONTENT), len(CONTENT))
    file = buffered(theirs, 0, len(CONTENT))
    assert file.read() == CONTENT and file.tell() == len(CONTENT)
    assert file.seek(-10, os.SEEK_END) == len(CONTENT) - 10 and file.read() == CONTENT[-10:]
    file.seek(1_500_000)
    assert file.read(100) == CONTENT[1_500_000:1_500_100]
    assert file.seek(1 << 40) == 1 << 40 and file.read(1) == b""
    theirs.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_what_a_storage_says_is_what_reading_says(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    thread = serve(ours, Gone(CONTENT), len(CONTENT))
    with pytest.raises(DataError, match="unreadable: the storage is gone"):
        buffered(theirs, 0, len(CONTENT)).read(10)
    theirs.shutdown(socket.SHUT_RDWR)
    thread.join()


@pytest.mark.parametrize(("offset", "count"), [(-1, 1), (0, 0), (0, -1), (0, RANGE_BYTES + 1), (len(CONTENT), 1)])
def test_no_other_range_is_sent(pair: tuple[socket.socket, socket.socket], offset: int, count: int) -> None:
    with pytest.raises(ValueError):
        Ranges(io.BytesIO(CONTENT), len(CONTENT)).answer(pair[0], offset, count)


def test_a_file_is_not_read_from_its_storage_for_ever(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    sent = 0
    ranges = Ranges(io.BytesIO(CONTENT), len(CONTENT))
    drain = threading.Thread(target=_drain, args=(theirs,))
    drain.start()
    with pytest.raises(ValueError):
        while True:
            ranges.answer(ours, 0, RANGE_BYTES)
            sent += RANGE_BYTES
    ours.shutdown(socket.SHUT_RDWR)
    drain.join()
    assert 2 * len(CONTENT) < sent <= MAX_PASSES * (len(CONTENT) + 8 * RANGE_BYTES)


def _drain(of: socket.socket) -> None:
    while of.recv(1 << 20):
        pass


def test_a_file_on_disk_is_handed_over_as_it_is_and_bytes_as_a_sealed_copy(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    with (tmp_path / "a").open("rb") as file:
        here = descriptor(file, 3)
        assert here is not None and os.fstat(here).st_ino == os.fstat(file.fileno()).st_ino
        with pytest.raises(OSError):
            os.write(here, b"x")
        os.close(here)
    copy = descriptor(io.BytesIO(CONTENT), len(CONTENT))
    assert copy is not None and os.read(copy, len(CONTENT)) == CONTENT
    with pytest.raises(PermissionError):
        os.pwrite(copy, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(copy, 0)
    os.close(copy)


def test_what_is_large_and_far_is_read_by_ranges() -> None:
    class Far(io.RawIOBase):
        def read(self, count: int = -1) -> bytes:
            return b"abc"

    assert descriptor(cast(BinaryIO, Far()), len(CONTENT)) is None
    small = descriptor(cast(BinaryIO, Far()), 3)
    assert small is not None and os.read(small, 9) == b"abc"
    os.close(small)


def test_a_byte_at_a_time_a_file_ends_too(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    drain = threading.Thread(target=_drain, args=(theirs,))
    drain.start()
    ranges = Ranges(io.BytesIO(b"abc"), 3)
    assert [ranges.answer(ours, 0, 1).new, ranges.answer(ours, 0, 1).new] == [True, False]
    with pytest.raises(ValueError):
        for _ in range(2000):
            ranges.answer(ours, 0, 1)
    ours.shutdown(socket.SHUT_RDWR)
    drain.join()


class Counted:
    """A pyarrow file, and which ranges it was asked for."""

    def __init__(self, content: bytes) -> None:
        self.file, self.asked = pa.BufferReader(content), list[tuple[int, int]]()

    def size(self) -> int:
        return int(self.file.size())

    def read_at(self, count: int, offset: int) -> bytes:
        self.asked.append((offset, count))
        return bytes(self.file.read_at(count, offset))


def test_what_is_looked_at_and_then_read_is_asked_for_once() -> None:
    content = np.random.default_rng(0).bytes(REMEMBERED_BYTES + 10 * BLOCK_BYTES)
    far = Counted(content)
    opened = pa.PythonFile(Positioned(Remembered(far.read_at).read_at, far.size()), mode="r")
    assert opened.size() == len(content)
    for _ in range(2):
        assert opened.read_at(5000, 100) == content[100:5100]
        assert opened.read_at(10, 5090) == content[5090:5100]
        assert opened.read_at(100, len(content) - 10) == content[-10:]
    assert far.asked == [(100, 5000), (len(content) - 10, 10)]
    for offset in range(0, len(content), BLOCK_BYTES):  # more than is kept
        assert opened.read_at(BLOCK_BYTES, offset) == content[offset : offset + BLOCK_BYTES]
    assert opened.read_at(5000, 100) == content[100:5100]
    assert far.asked[-1] == (100, 5000)
    assert opened.read_at(2 * BLOCK_BYTES, 0) == content[: 2 * BLOCK_BYTES]
