"""CSV and TSV tables: a row for each utterance, with the audio's path in one of the columns, mostly below a header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path

from asr.data.sources.columns import ColumnMap, choose, utterance
from asr.data.sources.config import SourceConfig
from asr.data.sources.dialect import HEAD_LINES, Dialect, names_columns, sniff
from asr.data.sources.locate import located, template
from asr.data.sources.records import lines_of, records, surplus_of
from asr.errors import UserError
from asr.io import storage
from asr.io.address import plain
from asr.io.roots import Roots
from asr.parsed import JsonObject
from asr.utterance import Quarantined, Utterance

_DECIMAL_COMMA = re.compile(r"\d+,\d+")


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of a table.

    Relative audio paths are relative to its folder; ids are the paths, of which ``./a.wav`` is ``a.wav``.

    Delimiter and header are told from the first lines, or set. A name ending in ``.tsv`` says that tabs separate the
    cells, and that quotation marks are text as in Common Voice, but for a quoted header or whole cells.
    """
    yield from read_table(config, config.source, storage.parent(config.source))


def read_table(
    config: SourceConfig,
    uri: str,
    folder: str,
    extra: Mapping[str, Mapping[str, object]] | None = None,
    prefix: str = "",
) -> Iterator[Utterance | Quarantined]:
    """Yield the rows of the table at ``uri`` with audio paths relative to ``folder``.

    ``extra`` adds cells by column and audio path; ``prefix`` is what a path may begin with
    that ``folder`` ends in. Each line below the header that is not blank is a row, or a part of a quoted cell of one;
    what has not as many cells as there are columns is quarantined as malformed_row.
    Raises UserError for a table without a row, for missing columns, and for what is not UTF-8.
    """
    found, extra = False, extra or {}
    roots = Roots(folder, (config.source, *config.audio_roots))
    with storage.open_text(uri) as file:
        lines = lines_of(file)
        head = list(islice(lines, HEAD_LINES))
        texts = [text for _, text in head]
        if texts and "\0" in texts[0]:
            raise UserError(f"{uri}: looks like UTF-16", "save it as UTF-8: iconv -f UTF-16LE -t UTF-8")
        dialect = sniff(config, uri, texts, template(roots, _first_cells(texts)))
        columns = _columns(config, uri, dialect, list(extra))
        audio_column = columns.names["audio"]
        key = dialect.names.index(audio_column)
        way = template(
            roots, (plain(cells[key]).removeprefix(prefix) for cells in _rows_of(texts, dialect) if len(cells) > key)
        )
        decimals = _decimals(dialect, columns)
        body = chain(head[dialect.skipped :], lines)
        width = len(dialect.names)
        surplus = surplus_of(_rows_of(texts, dialect), width)
        for record in records(body, dialect.delimiter, dialect.quoted, width, key, surplus):
            found = True
            if record.fault:
                yield Quarantined(f"line {record.line}", "malformed_row", f"{uri}:{record.line}: {record.fault}")
                continue
            row: JsonObject = dict(zip(dialect.names, record.cells))  # noqa: B905 - a record has as many
            audio = row[audio_column] = plain(row[audio_column]).removeprefix(prefix)
            row.update((name, known[audio]) for name, known in extra.items() if audio in known)
            if way:
                row[audio_column] = located(way, audio)
            for name in decimals:
                if _DECIMAL_COMMA.fullmatch(row[name].strip()):
                    row[name] = row[name].replace(",", ".")
            yield utterance(row, columns, audio or f"line {record.line}", folder=folder)
    if not found:
        raise UserError(f"{uri}: the table holds no rows")


def _first_cells(head: list[str]) -> list[str]:
    """Return the first cells of a table without a header: these would be LJSpeech's ids."""
    return [line.partition("|")[0].strip() for line in head[:1] if "|" in line]


def _rows_of(head: list[str], dialect: Dialect) -> Iterator[list[str]]:
    return (dialect.cells(line) for line in head[dialect.skipped :] if line.strip())


def _columns(config: SourceConfig, uri: str, dialect: Dialect, more: list[str]) -> ColumnMap:
    hint = ""
    if config.delimiter is None and len(dialect.names) == 1:
        hint = "; if its cells are separated by something else: delimiter: CHARACTER or --delimiter CHARACTER"
    elif config.header is None and dialect.header and not names_columns(dialect.names, config):
        hint = "; if the first line is a row already: header: false or --no-header, and columns: {audio: 1, text: 2}"
    if dialect.header and not names_columns(dialect.names, config):
        hint += "; if its header is a line further down: name its columns, or remove what stands above it"
    named = config.model_copy(update={"columns": dict(dialect.columns)})
    columns = choose(named, [*dialect.names, *more], uri, ("audio", "text"), hint)
    for name in columns.names.values():
        if dialect.names.count(name) > 1:
            raise UserError(f"{uri}: {dialect.names.count(name)} columns are called '{name}'", "rename all but one")
    return columns


def _decimals(dialect: Dialect, columns: ColumnMap) -> list[str]:
    """Columns in which ``1,5`` is 1.5: what writes a decimal comma separates cells by another character."""
    names = [columns.names[field] for field in ("duration_s", "start_s", "end_s") if field in columns.names]
    return [name for name in names if name in dialect.names and dialect.delimiter != ","]
