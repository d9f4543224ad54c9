"""CSV and TSV tables: a header line, then a row for each utterance, with the audio's path in one of the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asr import storage
from asr.errors import UserError
from asr.sources.columns import Columns, choose, utterance
from asr.sources.config import SourceConfig
from asr.utterance import Quarantined, Utterance


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a table. Relative audio paths are relative to its folder; ids are the paths as written.

    A name ending in ``.tsv`` says that tabs separate the cells, and that quotation marks are text as in Common Voice.
    """
    yield from read_table(config, config.source, storage.parent(config.source))


def read_table(
    config: SourceConfig, place: str, folder: str, extra: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of the table at ``place`` with audio paths relative to ``folder``.

    ``extra`` adds cells by column and audio path. Raises UserError for a file without a header or a row, for missing
    columns and for what no CSV reader takes.
    """
    columns: Columns | None = None
    extra = extra or {}
    for number, row in _records(place):
        if columns is None:
            columns = choose(config, [*(name for name in row if name is not None), *extra], place, ("audio", "text"))
        if None in row or None in row.values():
            yield Quarantined(f"line {number}", "malformed_row", f"{place}:{number}: not as many cells as the header")
            continue
        audio = columns.value(row, "audio")
        row |= {name: cells[audio] for name, cells in extra.items() if audio in cells}
        yield utterance(row, columns, audio or f"line {number}", folder=folder)
    if columns is None:
        raise UserError(f"{place}: the table holds no rows")


def _records(place: str) -> Iterator[tuple[int, dict[Any, Any]]]:
    with storage.open_text(place) as file:
        if storage.name_of(place).lower().endswith(".tsv"):
            # Only "\n" ends a line, and the reader is to see no other: a transcript may hold U+2028 or a bare "\r".
            reader = csv.DictReader(_lines(file), delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            reader = csv.DictReader(file)
        try:
            for row in reader:
                yield reader.line_num, row
        except csv.Error as error:
            raise UserError(f"{place}:{reader.line_num}: not CSV: {error}") from None


def _lines(file: Iterable[str]) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in file)
