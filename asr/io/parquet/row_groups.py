"""Row groups of Parquet files, so many rows at a time as fit into memory: a kilobyte may stand for terabytes.

A value that is there once may be named by a million rows or entries of a list, a run of a billion empty ones takes ten
bytes, and a footer may say anything: what is read is planned by the headers of the pages themselves, and who reads it
gets no more memory than the plan has.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from asr.errors import DataError, one_line
from asr.io import storage
from asr.io.folders import require_regular
from asr.io.parquet.pages import Pages, believed, walk
from asr.io.parquet.pool import Readers
from asr.io.parquet.reader import File, RowGroupPart
from asr.io.ranges import Positioned, Remembered

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_BYTES = 64 << 20  # at most, of all columns
OPEN_BYTES = 128 << 20  # of pages that are open at a time, and of one row; or four times the file
BATCH_ROWS = 1024
# One row costs reading its whole group. pandas writes a group for the whole file; Hugging Face's are at most 100 MB.
MAX_GROUP_BYTES = 1 << 30
# Sound does not compress a hundredfold; what is only ever silence may, up to this.
MAX_UNPACKED = 100  # times the file's size
FEW_BYTES = 256 << 20
# A row has words of its own, or a name: a table of more rows than bytes says nothing in most of them.
FEW_ROWS = 100_000
FEW_ENTRIES = 1_000_000  # of lists
FOOTER_BYTES = 256 << 10  # take some 5 MB
# Far away each page's header would be a question of its own; what is small comes at once.
FAR_CHUNK = 8 << 20


@dataclass(frozen=True)
class Table:
    """A Parquet file: its footer as pyarrow reads it, the bytes below it, and the reader of its pages."""

    file: pq.ParquetFile
    below: File
    readers: Readers

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self.below.size

    @property
    def cost(self) -> int:
        """The cost of keeping it open: 1, and more for a footer of megabytes."""
        return 1 + int(self.file.metadata.serialized_size) // FOOTER_BYTES

    def close(self) -> None:
        """End who reads it. The file is closed when nobody has it any more."""
        self.readers.close()

    def pages(self, leaf: pq.ColumnChunkMetaData) -> Pages:
        """Return what a column of a row group unpacks to. Raises DataError where its pages cannot be read.

        Where each read is a question to a server, the footer is believed of columns over FAR_CHUNK.
        """
        is_far = self.below.descriptor is None and leaf.total_compressed_size > FAR_CHUNK
        return believed(leaf) if is_far else walk(self.below.opened, leaf)


def open_parquet(uri: str) -> Table:
    """Open a Parquet file and start the reader of its pages.

    Raises ValueError for what is none, crashes pyarrow, or has more rows than bytes; OSError as ``storage.open_input``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    below = _opened(uri)
    try:
        readers = Readers(below)
        file = pq.ParquetFile(below.opened)
    except DataError as error:
        raise ValueError(error.detail) from None
    except pa.ArrowException as error:
        raise ValueError(one_line(error)) from None
    if file.metadata.num_rows > max(FEW_ROWS, below.size):
        raise ValueError(f"it says that it has {file.metadata.num_rows:,} rows in {below.size:,} bytes")
    return Table(file, below, readers)


def _opened(uri: str) -> File:
    if storage.is_remote(uri):
        far = storage.open_input(uri)
        return File(_python_file(Remembered(far.read_at).read_at, far.size()), far.size(), None)
    # One descriptor for all that read: what is put in its place meanwhile is another file. O_NONBLOCK for pipes.
    descriptor = os.open(storage.local_path(uri), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    size = os.fstat(descriptor).st_size
    opened = _python_file(lambda count, offset: os.pread(descriptor, count, offset), size)
    file = File(opened, size, descriptor)
    weakref.finalize(file, os.close, descriptor)
    require_regular(descriptor)
    return file


def _python_file(read_at: Callable[[int, int], bytes], size: int) -> pa.PythonFile:
    import pyarrow as pa

    return pa.PythonFile(Positioned(read_at, size), mode="r")


def audio_cells(table: Table, group: int, column: str) -> Iterator[pa.Array]:
    """Yield the arrays of a row group's audio column, or of its part ``audio.bytes``.

    Raises DataError too_large where they come to over MAX_GROUP_BYTES, or over MAX_UNPACKED times the file (and over
    FEW_BYTES): one clip that a million rows name.
    """
    total, most = 0, _most_audio(table)
    for batch in batches(table, group, [column], most):
        total += batch.nbytes
        if total > most:
            raise DataError("too_large", f"row group {group} unpacks to over {most:,} bytes of audio")
        yield batch.column(0)


def batches(table: Table, group: int, columns: Sequence[str], most: int) -> Iterator[pa.RecordBatch]:
    """Yield some columns of a row group as record batches of at most BATCH_ROWS rows and about BATCH_BYTES.

    Raises DataError too_large, before anything is unpacked, where their pages come to over ``most`` bytes, the pages
    that are open together or one row to over OPEN_BYTES and a group's bound, or lists have more entries than bytes.
    And as ``asr.io.parquet.reader.ParquetReader``: the pages may take more than they say.
    """
    yield from table.readers.batches(_planned(table, group, columns, most))


def present(table: Table, group: int, column: str) -> pa.ChunkedArray:
    """Return which cells of a row group's audio column are there, as booleans. Raises DataError as ``audio_cells``."""
    import pyarrow as pa

    most = _most_audio(table)
    part = replace(_planned(table, group, [column], most), present=most)
    return pa.chunked_array([batch.column(0) for batch in table.readers.batches(part)], pa.bool_())


def _most_audio(table: Table) -> int:
    return min(MAX_GROUP_BYTES, max(FEW_BYTES, MAX_UNPACKED * table.size))


def _planned(table: Table, group: int, columns: Sequence[str], most: int) -> RowGroupPart:
    rows, memory = _plan(table, group, columns, most)
    return RowGroupPart(group, columns, rows, table.file.metadata.row_group(group).num_rows, memory)


def _plan(table: Table, group: int, columns: Sequence[str], most: int) -> tuple[int, int]:
    """Return how many rows may be read at a time, and the memory (bytes) for all that is open then.

    A batch takes ``fixed`` bytes at most, and ``each`` for every row.
    """
    packed = total = opened = fixed = each = 0
    size = table.size
    # pandas writes a group of padded clips as one dictionary, many times the file: it is open as a whole.
    room = max(OPEN_BYTES, 4 * size, min(MAX_GROUP_BYTES, most, MAX_UNPACKED * size))
    for number, leaf in _numbered(table, group, columns):
        pages, shape = table.pages(leaf), table.file.schema.column(number)
        width = shape.length if shape.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0  # also of a cell that is empty
        packed += min(pages.packed, size)
        total += pages.total
        opened += pages.largest + pages.dictionary
        if shape.max_repetition_level:
            if pages.values > max(FEW_ENTRIES, pages.packed):
                what = f"lists of {pages.values:,} entries in '{shape.path:.100}'"
                raise DataError("too_large", f"row group {group}: {what}")
            fixed += pages.values * (pages.entry + width) + pages.total
        elif pages.total <= BATCH_BYTES // 8:
            fixed += pages.total
            each += pages.entry + width
        else:
            each += pages.largest + pages.entry + width
    if total > most or max(opened, fixed + each) > room:
        what = f"over {most:,} bytes" if total > most else f"over {room:,} bytes at a time"
        raise DataError("too_large", f"row group {group}: {', '.join(columns):.100} unpack to {what}")
    rows = min(max((BATCH_BYTES - fixed) // max(each, 1), 1), BATCH_ROWS)
    # What grows is copied as it does.
    return rows, packed + 2 * (opened + max(BATCH_BYTES, fixed + each))


def leaves(table: Table, group: int, columns: Sequence[str]) -> list[pq.ColumnChunkMetaData]:
    """Return what the file says of some columns, or of their parts: ``audio``, ``audio.bytes``."""
    return [leaf for _, leaf in _numbered(table, group, columns)]


def _numbered(table: Table, group: int, columns: Sequence[str]) -> list[tuple[int, pq.ColumnChunkMetaData]]:
    metadata = table.file.metadata.row_group(group)
    found = enumerate(map(metadata.column, range(metadata.num_columns)))
    wanted = tuple(f"{name}." for name in columns)
    return [(number, leaf) for number, leaf in found if f"{leaf.path_in_schema}.".startswith(wanted)]
