"""Arrow tables with audio in one of their columns: chooses the columns to read, and makes rows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.data.sources.columns import ColumnMap, utterance
from asr.errors import DataError, UserError
from asr.parsed import JsonObject
from asr.utterance import Quarantined, Utterance

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class AudioColumn:
    """Location of the audio in a table: a column of bytes, of structs with bytes and often a path, or of paths."""

    name: str
    inside: bool
    """True if the bytes are in the table."""
    bytes_column: str
    """``audio`` or ``audio.bytes``, as Parquet names the leaf."""
    path_column: str | None
    """Column of the file's name: ``audio.path``, or ``audio`` itself if it holds paths."""


def audio_column(schema: pa.Schema, columns: ColumnMap, uri: str) -> AudioColumn:
    """Return the audio column of an Arrow schema. Raises UserError for a type that is neither bytes nor paths."""
    import pyarrow as pa
    import pyarrow.types as pt

    if len(set(schema.names)) < len(schema.names):
        raise UserError(f"{uri}: two of its columns have one name: {', '.join(schema.names):.200}", "rename one")
    name = columns.names["audio"]
    type = schema.field(name).type
    if pt.is_string(type) or pt.is_large_string(type):
        return AudioColumn(name, False, name, name)
    if pt.is_binary(type) or pt.is_large_binary(type):
        return AudioColumn(name, True, name, None)
    children = {type.field(n).name: type.field(n).type for n in range(type.num_fields)} if pt.is_struct(type) else {}
    inside, path = children.get("bytes", pa.null()), children.get("path", pa.null())
    if "bytes" not in children or not (pt.is_binary(inside) or pt.is_large_binary(inside) or pt.is_null(inside)):
        raise UserError(f"{uri}: column '{name}' holds {type}: neither audio bytes, nor bytes and path, nor paths")
    told = pt.is_string(path) or pt.is_large_string(path)
    return AudioColumn(name, True, f"{name}.bytes", f"{name}.path" if told else None)


def metadata_columns(schema: pa.Schema, columns: ColumnMap) -> list[str]:
    """Return the columns to read beside the audio: scalars, the transcript, the segments; no embedding, no image."""
    import pyarrow.types as pt

    def is_read(field: pa.Field) -> bool:
        plain = not pt.is_nested(field.type) and not pt.is_binary(field.type) and not pt.is_large_binary(field.type)
        return field.name in (columns.names.get("segments"), columns.names.get("text")) or plain

    return [field.name for field in schema if field.name != columns.names["audio"] and is_read(field)]


Record = JsonObject | DataError
"""A row's cells, or what is wrong with one of them: text that is no UTF-8, a time in the year 292277026596."""


def records(batch: pa.RecordBatch, wanted: Sequence[str], count: int) -> list[Record]:
    """Return some columns of a record batch row by row."""
    if not wanted:
        return [{} for _ in range(count)]
    try:
        found: list[Record] = batch.select(list(wanted)).to_pylist()
    except Exception:  # of any type that there is; which row it was, is not told
        return [_record(batch, wanted, row) for row in range(count)]
    return found


def _record(batch: pa.RecordBatch, wanted: Sequence[str], row: int) -> Record:
    try:
        return {name: batch.column(name)[row].as_py() for name in wanted}
    except Exception as error:
        return DataError("malformed_row", f"{type(error).__name__}: {error}")


def paths(batch: pa.RecordBatch, audio: AudioColumn) -> list[str | None]:
    """Return what each row of a record batch calls its file, where that is told and is text."""
    import pyarrow.compute as pc

    cells = batch.column(audio.name)
    cells = pc.struct_field(cells, "path") if cells.type.num_fields else cells
    found = [each.get("x") if isinstance(each, dict) else None for each in records(_named(cells), ["x"], len(cells))]
    return found


def _named(cells: pa.Array) -> pa.RecordBatch:
    import pyarrow as pa

    return pa.record_batch([cells], names=["x"])


def table_rows(
    records: Sequence[Record],
    audio: Sequence[tuple[bool, str | None]],
    columns: ColumnMap,
    folder: str,
    names: Callable[[int], tuple[str, str]],
) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of one batch.

    ``audio`` says of each row whether the table holds its bytes, and what it calls the file. ``names`` returns a row's
    id and the address of its bytes. A row without bytes is a file relative to ``folder``, or has no audio.
    """
    column = columns.names["audio"]
    for number, (record, (inside, path)) in enumerate(zip(records, audio, strict=True)):
        id, address = names(number)
        if isinstance(record, DataError):
            yield Quarantined(id, record.reason, record.detail)
            continue
        record[column] = path
        yield utterance(record, columns, id, address if inside else None, folder)
