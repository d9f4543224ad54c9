"""Parquet tables with the audio inside: a file or a folder of files, whose audio stays there until it is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr import storage
from asr.address import bytes_of, parquet_row
from asr.errors import UserError
from asr.sources.cells import AudioColumn, audio_column, metadata_columns, table_rows
from asr.sources.columns import Columns, choose
from asr.sources.config import SourceConfig
from asr.sources.shards import shards
from asr.utterance import Quarantined, Utterance

# One row costs reading its whole group. pandas writes a group for the whole file; Hugging Face's are at most 100 MB.
MAX_GROUP_BYTES = 1 << 30


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a Parquet file, or of all files below a folder in the order of their names.

    The audio column holds binary, a struct with ``bytes`` and ``path`` (as ``datasets`` writes it), or paths relative
    to the file. Audio is not read here. Raises UserError where there are no files, columns are missing, or row groups
    are too large to reach into.
    """
    for shard in shards(config, ".parquet"):
        yield from _file_rows(config, shard.uri, shard.name)


def _file_rows(config: SourceConfig, uri: str, name: str) -> Iterator[Utterance | Quarantined]:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    with storage.explained(uri, "cannot be read as Parquet"), storage.open_input(uri) as opened:
        try:
            file = pq.ParquetFile(opened)
        except ValueError as error:
            raise UserError(f"{uri}: not Parquet: {error}") from None
        columns = choose(config, file.schema_arrow.names, uri, ("audio", "text"))
        audio = audio_column(file.schema_arrow, columns, uri)
        begin = 0
        for group in range(file.num_row_groups):
            yield from _group_rows(file, group, columns, audio, _Place(uri, name, begin))
            begin += file.metadata.row_group(group).num_rows


@dataclass(frozen=True)
class _Place:
    """A row group: its file, the file's name in the source, and the number of its first row there."""

    uri: str
    name: str
    begin: int


def _group_rows(
    file: Any, group: int, columns: Columns, audio: AudioColumn, place: _Place
) -> Iterator[Utterance | Quarantined]:
    leaf = _leaf(file, group, audio.bytes_column)
    if audio.inside and leaf.total_uncompressed_size > MAX_GROUP_BYTES:
        raise UserError(
            f"{place.uri}: row group {group} holds {leaf.total_uncompressed_size / 1e9:.1f} GB of audio, and one clip "
            "costs reading all of it",
            "write the file with row_group_size=100, or read it with format: huggingface, streaming: true",
        )
    wanted = metadata_columns(file.schema_arrow, columns)
    paths = [audio.path_column] if audio.path_column else []
    table = file.read_row_group(group, columns=[*wanted, *paths])
    records = table.select(wanted).to_pylist() if wanted else [{} for _ in range(table.num_rows)]
    if audio.path_column is None:
        names = [None] * len(records)
    else:
        cells = table.column(audio.name).to_pylist()
        names = [cell.get("path") if isinstance(cell, dict) else cell for cell in cells]
    present = _present(file, group, audio, leaf, len(records))

    def name(row: int) -> tuple[str, str]:
        return f"{place.name}:{place.begin + row}", parquet_row(place.uri, group, row, audio.name, names[row] or "")

    yield from table_rows(records, list(zip(present, names, strict=True)), columns, storage.parent(place.uri), name)


def _leaf(file: Any, group: int, path: str) -> Any:
    metadata = file.metadata.row_group(group)
    return next(column for column in map(metadata.column, range(metadata.num_columns)) if column.path_in_schema == path)


def _present(file: Any, group: int, audio: AudioColumn, leaf: Any, count: int) -> list[bool]:
    """Whether each row's bytes are there. The audio itself is read for that only where the file counts empty cells."""
    if not audio.inside:
        return [False] * count
    statistics = leaf.statistics
    if statistics is not None and statistics.has_null_count and statistics.null_count in (0, count):
        return [statistics.null_count == 0] * count
    cells = file.read_row_group(group, columns=[audio.bytes_column]).column(0).combine_chunks()
    present: list[bool] = bytes_of(cells).is_valid().to_pylist()
    return present
