"""Files that one process has open and another reads: as a descriptor, or range by range over the socket between them.

Ranges are for what is no file of the kernel's: what lies in a storage whose keys the reader must not have, and members
of containers.
"""

from __future__ import annotations

import fcntl
import io
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from asr.errors import DataError
from asr.io.messages import read, receive, send

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

RANGE_BYTES = 1 << 20
# Decoding may read a file two or three times: its end first, and all of it again where a seek missed.
MAX_PASSES = 8
REMEMBERED_BYTES = 2 << 20
BLOCK_BYTES = 1 << 16  # what a request counts for at least: a byte at a time, a file would last for years


class Positioned(io.RawIOBase):
    """A Python file with a position of its own: a forked process shares that of a descriptor.

    ``read_at`` returns so many bytes from a position on, fewer at the end, and raises what reading does.
    """

    def __init__(self, read_at: Callable[[int, int], bytes], size: int) -> None:
        self._read_at, self._size, self._position = read_at, size, 0

    def readable(self) -> bool:
        """Return True: it is a file to read from."""
        return True

    def seekable(self) -> bool:
        """Return True: any place of it can be read next."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a position, which may be behind the end, and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(base + offset, 0)
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer with what comes next, and return how many bytes that are. Raises as the file does."""
        into = memoryview(buffer)
        count = min(len(into), self._size - self._position)
        if count <= 0:
            return 0
        data = self._read_at(count, self._position)
        into[: len(data)] = data
        self._position += len(data)
        return len(data)


class FarFile(Positioned):
    """The reader's side: ``size`` bytes behind a socket as a file, to which the other side gave a ``number``.

    It asks for ``most`` bytes at a time. Reading raises DataError as the other side says.
    """

    def __init__(self, other: socket.socket, number: int, size: int, most: int = RANGE_BYTES) -> None:
        super().__init__(self._asked, size)
        self._other, self._number, self._most = other, number, most

    def _asked(self, count: int, offset: int) -> bytes:
        send(self._other, {"read": [self._number, offset, min(count, self._most)]})
        answer = receive(self._other)
        if "reason" in answer:
            raise DataError(answer["reason"], answer["detail"])
        return read(self._other, answer["bytes"])


def buffered(
    other: socket.socket, number: int, size: int, most: int = RANGE_BYTES, ahead: int = RANGE_BYTES
) -> BinaryIO:
    """Return a ``FarFile`` that asks for ``ahead`` bytes at a time, and for up to ``most`` where so many are wanted."""
    return io.BufferedReader(FarFile(other, number, size, most), ahead)


class Remembered:
    """The last ranges read of a remote file, so that what is inspected first and read soon after is fetched once."""

    def __init__(self, read_at: Callable[[int, int], bytes]) -> None:
        self._read_at = read_at
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def read_at(self, count: int, offset: int) -> bytes:
        """Return so many bytes from a position on. Raises as reading the file does."""
        for begin, data in self._kept.items():
            if begin <= offset and offset + count <= begin + len(data):
                return data[offset - begin : offset - begin + count]
        data = bytes(self._read_at(count, offset))
        if count <= BLOCK_BYTES:
            self._bytes += len(data) - len(self._kept.pop(offset, b""))
            self._kept[offset] = data
        while self._bytes > REMEMBERED_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1])
        return data


@dataclass(frozen=True)
class Served:
    """The cost of a request: ``seconds`` of reading; ``new``: it went where none had been."""

    seconds: float
    new: bool


class Ranges:
    """The side that has the file: answers what the reader asks for, to a bound, as the reader may be anybody's.

    ``most`` bytes may be asked for at a time.
    """

    def __init__(self, file: BinaryIO, size: int, most: int = RANGE_BYTES) -> None:
        self._file, self._size, self._left, self._most = file, size, MAX_PASSES * (size + 8 * RANGE_BYTES), most
        self._seen: set[int] = set()

    def answer(self, to: socket.socket, offset: int, count: int) -> Served:
        """Send a range, or why it cannot be read. Raises ValueError for what nobody asks who decodes."""
        self._left -= max(count, BLOCK_BYTES)
        if not (0 <= offset < self._size and 0 < count <= self._most) or self._left < 0:
            raise ValueError(f"a range of {count} bytes")
        seen = len(self._seen)
        self._seen.update(range(offset // BLOCK_BYTES, (offset + count - 1) // BLOCK_BYTES + 1))
        before = time.monotonic()
        try:
            self._file.seek(offset)
            data = self._file.read(count)
            served = Served(time.monotonic() - before, len(self._seen) > seen)
        except (DataError, OSError) as error:
            fault = error if isinstance(error, DataError) else DataError("unreadable", str(error))
            send(to, {"reason": fault.reason, "detail": fault.detail})
            return Served(time.monotonic() - before, False)
        send(to, {"bytes": len(data)})
        to.sendall(data)
        return served


def descriptor(file: BinaryIO, size: int) -> int | None:
    """Return a descriptor of a file that another process may read and not write; None for one to be read by ranges.

    The caller closes it. A small file is read and copied: then the other process needs nothing more. Raises the
    errors of reading.
    """
    try:
        return os.dup(file.fileno())
    except OSError:  # none of the kernel's
        if size > RANGE_BYTES and not isinstance(file, io.BytesIO):
            return None
    copy = os.memfd_create("recording", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = file.getbuffer() if isinstance(file, io.BytesIO) else memoryview(file.read(size))
        while left:
            left = left[os.write(copy, left) :]
        os.lseek(copy, 0, os.SEEK_SET)
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    except BaseException:
        os.close(copy)
        raise
    return copy
