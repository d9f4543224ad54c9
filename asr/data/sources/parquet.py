"""Parquet tables with the audio inside: a file or a folder of files, whose audio stays there until it is decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from asr.data.sources.cells import AudioColumn, Record, audio_column, metadata_columns, paths, records, table_rows
from asr.data.sources.columns import ColumnMap, choose
from asr.data.sources.config import SourceConfig
from asr.data.sources.shards import shards
from asr.errors import DataError, UserError, one_line
from asr.io import storage
from asr.io.address import parquet_row
from asr.io.parquet.row_groups import (
    FEW_BYTES,
    MAX_GROUP_BYTES,
    MAX_UNPACKED,
    Table,
    batches,
    leaves,
    open_parquet,
    present,
)
from asr.utterance import Quarantined, Utterance

if TYPE_CHECKING:
    import pyarrow.parquet as pq


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a Parquet file, or of all files below a folder in the order of their names.

    The audio column holds binary, a struct with ``bytes`` and ``path`` (as ``datasets`` writes it), or paths relative
    to the file. Audio is not read here. Raises UserError where there are no files, columns are missing, or row groups
    are too large to reach into.
    """
    for shard in shards(config, ".parquet"):
        yield from _file_rows(config, shard.uri, shard.name)


def _file_rows(config: SourceConfig, uri: str, name: str) -> Iterator[Utterance | Quarantined]:
    with storage.explained(uri, "cannot be read as Parquet"), closing(_opened(uri)) as table:
        columns = choose(config, table.file.schema_arrow.names, uri, ("audio", "text"))
        audio = audio_column(table.file.schema_arrow, columns, uri)
        # Of all that is read beside the audio, however it was packed: texts that unpack to more are made to.
        reader = _Reader(table, columns, audio, uri, name, max(FEW_BYTES, MAX_UNPACKED * table.size))
        for group in range(table.file.num_row_groups):
            with _explained(uri):
                yield from reader.rows(group)


def _opened(uri: str) -> Table:
    try:
        return open_parquet(uri)
    except ValueError as error:
        raise UserError(f"{uri}: not Parquet: {error}") from None


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """pyarrow has eight kinds of errors for bytes that are not what they should be; two are ValueErrors."""
    import pyarrow as pa

    try:
        yield
    except DataError as error:
        raise UserError(f"{uri}: {error.detail}") from None
    except (pa.ArrowException, MemoryError) as error:
        raise UserError(f"{uri}: cannot be read as Parquet: {one_line(error)}") from None


class _Reader:
    """Reads what lies beside the audio, a part of a row group at a time. ``left`` bytes may come of it."""

    def __init__(self, table: Table, columns: ColumnMap, audio: AudioColumn, uri: str, name: str, left: int) -> None:
        self.table, self.columns, self.audio, self.uri, self.name, self.left = table, columns, audio, uri, name, left
        self.wanted = metadata_columns(table.file.schema_arrow, columns)
        self.number = 0  # of the next row in the file

    def rows(self, group: int) -> Iterator[Utterance | Quarantined]:
        """Yield the rows of a row group. Raises UserError where it is too large to reach into."""
        audio, begin = self.audio, self.number
        self._require_small(group)
        present = self._present(group)
        read = [*self.wanted, *([audio.path_column] if audio.path_column else [])]
        for some in batches(self.table, group, read, self.left) if read else [None]:
            count = self.table.file.metadata.row_group(group).num_rows if some is None else some.num_rows
            found = records(some, self.wanted, count)
            self.left -= sum(map(_length, found))
            if self.left < 0:
                raise UserError(f"{self.uri}: its texts unpack to over {MAX_UNPACKED} times its size")
            names = paths(some, audio) if some is not None and audio.path_column else [None] * count
            first = self.number

            def name(row: int, first: int = first, names: Sequence[str | None] = names) -> tuple[str, str]:
                at = parquet_row(self.uri, group, first - begin + row, audio.name, names[row] or "")
                return f"{self.name}:{first + row}", at

            pairs = list(zip(islice(present, count), names, strict=True))
            yield from table_rows(found, pairs, self.columns, storage.parent(self.uri), name)
            self.number += count

    def _require_small(self, group: int) -> None:
        size = max((leaf.total_uncompressed_size for leaf in self._audio_leaves(group)), default=0)
        if size > MAX_GROUP_BYTES:
            raise UserError(
                f"{self.uri}: row group {group} holds {size / 1e9:.1f} GB of audio, and one clip costs reading all "
                "of it",
                "write the file with row_group_size=100, or read it with format: huggingface, streaming: true",
            )

    def _audio_leaves(self, group: int) -> list[pq.ColumnChunkMetaData]:
        return leaves(self.table, group, [self.audio.bytes_column]) if self.audio.inside else []

    def _present(self, group: int) -> Iterator[bool]:
        """Return whether each row has bytes. The audio is read for that only if the file does not count empty cells."""
        count = self.table.file.metadata.row_group(group).num_rows
        if not self.audio.inside:
            return repeat(False, count)
        statistics = next((leaf.statistics for leaf in self._audio_leaves(group)), None)
        if statistics is not None and statistics.has_null_count and statistics.null_count in (0, count):
            return repeat(statistics.null_count == 0, count)
        there = present(self.table, group, self.audio.bytes_column)
        return (cell.as_py() for cell in there)


def _length(record: Record) -> int:
    """Return how much text a row holds; a list of any depth has some size too."""
    if isinstance(record, DataError):
        return 0
    return sum(
        len(cell) if isinstance(cell, str) else len(str(cell)) if isinstance(cell, list | dict) else 8
        for cell in record.values()
    )
