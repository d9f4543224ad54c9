"""Addresses of audio: a path, a URI, or one member of a container, opened on any machine that sees the same storage.

A member is written behind its container: ``s3://bucket/a.tar#offset=512&size=9000``,
``/data/a.parquet#row_group=3&row=17&column=audio`` (the row within its group) and
``/data/a.arrow#batch=432&row=17&column=audio`` (the byte where the row's record batch begins in the stream).
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast
from urllib.parse import parse_qsl, quote

from asr.errors import DataError, UserError, one_line
from asr.io import storage
from asr.io.folders import require_regular
from asr.io.parquet.arrow_types import bytes_of
from asr.io.parquet.row_groups import audio_cells, open_parquet

if TYPE_CHECKING:
    import pyarrow as pa
    from _typeshed import WriteableBuffer
    from pyarrow import NativeFile

# FFmpeg's names of the formats that have no header: nothing in such a file says what it is.
RAW_CONTAINERS = {".g722": "g722", ".722": "g722", ".gsm": "gsm", ".sln": "sln"}

T = TypeVar("T")
Key = tuple[str | int, ...]

READ_AHEAD_BYTES = 1 << 20  # of a remote file: most clips are smaller, and one request brings all of them
OPEN_FILES = 64  # per process
ROWS_BYTES = 256 << 20  # of audio columns per process, so that neighbouring rows are read once

_MEMBER = re.compile(
    r"(?P<uri>.+)#(?P<fields>(?:offset=\d+&size=\d+|(?:row_group|batch)=\d+&row=\d+&column=[^&]+)(?:&container=\w+)?)",
    re.DOTALL,
)


def tar_member(uri: str, offset: int, size: int, name: str = "") -> str:
    """Return the address of the bytes [offset, offset + size) of a tar; ``name`` gives raw audio's format away."""
    return f"{uri}#offset={offset}&size={size}{_container_field(name)}"


def parquet_row(uri: str, row_group: int, row: int, column: str, name: str = "") -> str:
    """Return the address of a row's audio in a Parquet file; ``row`` counts within the row group."""
    return f"{uri}#row_group={row_group}&row={row}&column={quote(column, safe='')}{_container_field(name)}"


def arrow_row(uri: str, batch: int, row: int, column: str, name: str = "") -> str:
    """Return the address of a row's audio in an Arrow stream file; ``batch`` is where its record batch begins."""
    return f"{uri}#batch={batch}&row={row}&column={quote(column, safe='')}{_container_field(name)}"


def plain(name: str) -> str:
    """Return a path as it is written shortest: ``./a.flac``, ``b//../a.flac`` and ``a.flac`` are one file.

    Told by the text alone, so that it is the same on every machine: a folder that is a link is not followed before
    ``..``. Addresses are as they are written: in a bucket ``./`` is a part of a name.
    """
    if not name or "://" in name:
        return name
    return posixpath.normpath(f"/{name.lstrip('/')}" if name.startswith("/") else name)


def raw_container(address: str | Path) -> str | None:
    """Return FFmpeg's name of a format without a header, told by the file's suffix; None for all others."""
    uri, fields = _split(str(address))
    return fields.get("container") or RAW_CONTAINERS.get(PurePosixPath(storage.name_of(uri)).suffix.lower())


def open_address(address: str | Path) -> tuple[BinaryIO, int]:
    """Return the open file that an address means, and its size in bytes.

    Raises DataError with the reason missing_file, missing_audio (an empty cell) or unreadable (storage that does not
    answer, a container that is not what the address says).
    """
    uri, fields = _split(str(address))
    if not fields and not storage.is_remote(uri):
        return _open_local(storage.local_path(uri))
    try:
        if "offset" in fields:
            return _open_range(uri, int(fields["offset"]), int(fields["size"]))
        if fields:
            data = _cell(uri, fields)
            return io.BytesIO(data), len(data)
        file = storage.open_input(uri)
        return _buffered(_Window(file, 0, file.size(), uri, owned=True))
    except (FileNotFoundError, UserError) as error:
        raise DataError("missing_file", f"{address}: {_reason(error)}") from None
    except DataError:
        raise
    except Exception as error:  # of pyarrow, about bytes of whoever wrote the file: it is the row's
        raise DataError("unreadable", f"{address}: {_reason(error)}") from None


def without_member(address: str) -> tuple[str, str]:
    """Return the address of the file, and what says which member of it: ``#offset=512&size=9000``, or nothing."""
    match = _MEMBER.fullmatch(address) if "#" in address else None
    return (match["uri"], address[len(match["uri"]) :]) if match else (address, "")


def _split(address: str) -> tuple[str, dict[str, str]]:
    match = _MEMBER.fullmatch(address) if "#" in address else None
    return (match["uri"], dict(parse_qsl(match["fields"]))) if match else (address, {})


def _container_field(name: str) -> str:
    container = RAW_CONTAINERS.get(PurePosixPath(name).suffix.lower())
    return f"&container={container}" if container else ""


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    return one_line(error)


def _open_local(path: str) -> tuple[BinaryIO, int]:
    try:
        if not Path(path).is_file():  # a folder, or a pipe on which open() would wait for ever
            raise DataError("missing_file", f"{path}: no such file")
        file = open(path, "rb")  # noqa: SIM115 - the caller closes it
        return file, os.fstat(file.fileno()).st_size
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise DataError("missing_file", f"{path!r}: {error}") from None


class _Window(io.RawIOBase):
    """A stretch of a pyarrow file as a Python file. Reads name their position, so that windows can share a file."""

    def __init__(self, file: NativeFile, offset: int, size: int, uri: str, owned: bool) -> None:
        self.file, self.offset, self.size, self.uri, self.owned = file, offset, size, uri, owned
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = max(base + offset, 0)
        return self.position

    def readinto(self, buffer: WriteableBuffer) -> int:
        into = memoryview(buffer)
        count = min(len(into), self.size - self.position)
        if count <= 0:
            return 0
        try:
            data = self.file.read_at(count, self.offset + self.position)
        except OSError as error:  # in the middle of decoding: the row's fault, as far as anybody here can tell
            raise DataError("unreadable", f"{self.uri}: {_reason(error)}") from None
        into[: len(data)] = data
        self.position += len(data)
        return len(data)

    def close(self) -> None:
        if self.owned and not self.closed:
            self.file.close()
        super().close()


def _buffered(window: _Window) -> tuple[BinaryIO, int]:
    return io.BufferedReader(window, READ_AHEAD_BYTES), window.size


class _Cache:
    """The values used last, by key; ``cost`` of all together stays within ``limit``, but for the newest one."""

    def __init__(self, limit: int, cost: Callable[[object], int]) -> None:
        self.limit, self.cost = limit, cost
        self._begin()
        os.register_at_fork(after_in_child=self._begin)  # another thread may have been in the middle of something

    def _begin(self) -> None:
        self.values: OrderedDict[Key, object] = OrderedDict()
        self.total = 0
        self.lock = threading.RLock()

    def get(self, key: Key, make: Callable[[], T]) -> T:
        """Return the value of ``key``, made at most once at a time: pyarrow's readers are not for several threads."""
        with self.lock:
            if key not in self.values:
                self.values[key] = make()
                self.total += self.cost(self.values[key])
            self.values.move_to_end(key)
            while self.total > self.limit and len(self.values) > 1:
                self.total -= self.cost(self.values.popitem(last=False)[1])
            return cast(T, self.values[key])


_files = _Cache(OPEN_FILES, lambda file: int(getattr(file, "cost", 1)))
_rows = _Cache(ROWS_BYTES, lambda column: int(getattr(column, "nbytes", 1)))


def _stamp(uri: str) -> Key:
    """Return a stamp that tells a local file from another one written later at the same path."""
    if storage.is_remote(uri):
        return (uri,)
    status = os.stat(storage.local_path(uri))
    return uri, status.st_ino, status.st_mtime_ns, status.st_size


def _open_range(uri: str, offset: int, size: int) -> tuple[BinaryIO, int]:
    file = _files.get(("range", *_stamp(uri)), lambda: storage.open_input(uri))
    if offset + size > file.size():
        raise DataError("truncated", f"{uri}: {offset + size} bytes were in it, {file.size()} are there")
    return _buffered(_Window(file, offset, size, uri, owned=False))


def _cell(uri: str, fields: dict[str, str]) -> bytes:
    stamp, row, column = _stamp(uri), int(fields["row"]), fields["column"]
    if "row_group" in fields:
        group = int(fields["row_group"])
        values = _rows.get((*stamp, group, column), lambda: _parquet_column(uri, stamp, group, column))
        if isinstance(values, DataError):
            raise DataError(values.reason, values.detail)
    else:
        batch = int(fields["batch"])
        values = _rows.get((*stamp, batch, column), lambda: _arrow_column(uri, stamp, batch, column))
    value = values[row].as_py()
    if not isinstance(value, bytes):
        raise DataError("missing_audio", f"{uri}: row {row} of {column} holds {type(value).__name__}, not audio")
    return value


def _parquet_column(uri: str, stamp: Key, group: int, column: str) -> pa.ChunkedArray | DataError:
    """Return a row group's audio, or what is wrong with it, so that it is not read again for each of its rows."""
    import pyarrow as pa

    try:
        table = _files.get(("parquet", *stamp), lambda: open_parquet(uri))
        is_struct = table.file.schema_arrow.field(column).type.num_fields > 0
        cells = audio_cells(table, group, f"{column}.bytes" if is_struct else column)
        return pa.chunked_array([bytes_of(part) for part in cells])
    except (DataError, ValueError) as error:
        fault = DataError(*_said(error, uri))
        if storage.is_remote(uri):  # another time the storage may answer
            raise fault from None
        return fault


def _said(error: Exception, uri: str) -> tuple[str, str]:
    if isinstance(error, DataError):
        return error.reason, f"{uri}: {error.detail}"
    return "unreadable", f"{uri}: {_reason(error)}"


def _arrow_column(uri: str, stamp: Key, batch: int, column: str) -> pa.Array:
    file, schema = _files.get(("arrow", *stamp), lambda: open_arrow(uri))
    return bytes_of(read_batch(file, schema, batch).column(column))


def open_arrow(uri: str) -> tuple[NativeFile, pa.Schema]:
    """Return an Arrow stream file (memory-mapped where it is local) and its schema; it stands at the first batch."""
    import pyarrow as pa

    if not storage.is_remote(uri):
        require_regular(storage.local_path(uri))
    file = storage.open_input(uri) if storage.is_remote(uri) else pa.memory_map(storage.local_path(uri))
    return file, pa.ipc.read_schema(file)


def read_batch(file: NativeFile, schema: pa.Schema, offset: int) -> pa.RecordBatch:
    """Return the record batch that begins at a byte of an opened Arrow stream; EOFError at the end of the stream.

    ValueError where a cell would lie outside of the file: pyarrow believes what a batch says, and reads or dies there.
    """
    import pyarrow as pa

    file.seek(offset)
    batch = pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)
    batch.validate(full=True)
    return batch
