"""Row groups of Parquet files, so many rows at a time as fit into memory: a kilobyte may stand for terabytes.

A value that is there once may be named by a million rows, and a run of a billion empty ones takes ten bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from asr.errors import DataError

BATCH_BYTES = 512 << 20  # at most, of one column
BATCH_ROWS = 1024
# One row costs reading its whole group. pandas writes a group for the whole file; Hugging Face's are at most 100 MB.
MAX_GROUP_BYTES = 1 << 30
# A row has words of its own, or a name: a table of more rows than bytes says nothing in most of them.
FEW_ROWS = 100_000


def open_parquet(opened: Any) -> Any:
    """Return a Parquet file. Raises ValueError for what is none, and for one of more rows than bytes."""
    import pyarrow as pa  # type: ignore[import-untyped]
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    size = opened.size()
    try:
        file = pq.ParquetFile(opened)
    except pa.ArrowException as error:
        raise ValueError(" ".join(str(error).split())) from None
    if file.metadata.num_rows > max(FEW_ROWS, size):
        raise ValueError(f"it says that it has {file.metadata.num_rows:,} rows in {size:,} bytes")
    return file


def audio_cells(file: Any, group: int, column: str) -> Iterator[Any]:
    """Yield the arrays of a row group's audio column, or of its part ``audio.bytes``.

    Raises DataError too_large where they come to over MAX_GROUP_BYTES: one clip that a million rows name.
    """
    total = 0
    for batch in batches(file, group, [column]):
        total += batch.nbytes
        if total > MAX_GROUP_BYTES:
            raise DataError("too_large", f"row group {group} unpacks to over {MAX_GROUP_BYTES:,} bytes of audio")
        yield batch.column(0)


def batches(file: Any, group: int, columns: Sequence[str]) -> Iterator[Any]:
    """Yield some columns of a row group as record batches of at most BATCH_ROWS rows and BATCH_BYTES a column.

    That goes by what the file says of how long its pages are: no value is longer than all of them.
    """
    longest = max((leaf.total_uncompressed_size for leaf in leaves(file, group, columns)), default=0)
    rows = min(max(BATCH_BYTES // max(longest, 1), 1), BATCH_ROWS)
    yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=list(columns), use_threads=False)


def leaves(file: Any, group: int, columns: Sequence[str]) -> list[Any]:
    """Return what the file says of some columns, or of their parts: ``audio``, ``audio.bytes``."""
    metadata = file.metadata.row_group(group)
    found = map(metadata.column, range(metadata.num_columns))
    return [leaf for leaf in found if f"{leaf.path_in_schema}.".startswith(tuple(f"{name}." for name in columns))]
