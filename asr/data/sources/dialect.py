"""Tells how a table is written from its first lines: what separates its cells, and whether a header names them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asr.audio.filenames import is_audio
from asr.data.sources.columns import USUAL
from asr.data.sources.config import SourceConfig
from asr.data.sources.records import Quoting, cells_of, split_line
from asr.errors import UserError
from asr.io import storage

DELIMITERS = (",", ";", "\t", "|")
HEAD_LINES = 50  # looked at

_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_NAMES = frozenset(name for field in ("audio", "text") for name in USUAL[field])


@dataclass(frozen=True)
class Dialect:
    """Format of a table file, and the columns, by number, of a table without a header."""

    delimiter: str
    quoted: Quoting
    """True if cells may stand in quotation marks; if not, the marks are text."""
    header: bool
    names: Sequence[str]
    """As the header has them; ``1``, ``2`` and so on without one."""
    skipped: int
    """Lines before the first row."""
    columns: Mapping[str, str]
    """Ours to theirs, as far as they are known without usual names."""

    def cells(self, line: str) -> list[str]:
        """Return the cells of a line that is a row."""
        return cells_of(line, self.delimiter, self.quoted)


def sniff(config: SourceConfig, uri: str, head: Sequence[str], template: str) -> Dialect:
    """Return the dialect of the table at ``uri`` that begins with the lines of ``head``.

    What ``config`` says is not guessed. ``.tsv`` says tabs; quotation marks are text there as Common Voice
    has it, in its releases always, else unless the header is quoted or they enclose a cell and are doubled within, as
    pandas writes. A first line without a usual or named column is a row where a cell of it is a file of audio, by its
    name or by ``template`` as ``asr.data.sources.locate`` found it. Titles above a header are passed over.
    Raises UserError for a table without a line.
    """
    full = [number for number, line in enumerate(head) if line.strip()]
    if not full:
        raise UserError(f"{uri}: the table holds no rows")
    begin, excel = full[0], _EXCEL.fullmatch(head[full[0]].rstrip("\r\n"))
    if excel and len(full) > 1:
        begin = full[1]
    begin = begin if template else _below_titles(head, begin, config)
    lines = [line for line in head[begin:] if line.strip()]
    is_tsv = storage.name_of(uri).lower().endswith(".tsv") and config.delimiter in (None, "\t")
    delimiter = config.delimiter or (excel[1] if excel and len(full) > 1 else "")
    if not delimiter:
        delimiter = "\t" if is_tsv and "\t" in lines[0] else _delimiter(lines, config)
    release = config.format == "common_voice"
    is_tsv = is_tsv and (release or not _all_quoted(lines[0], "\t"))  # R and spreadsheets quote the header too
    quoted: Quoting = "always" if not is_tsv else "never" if release else "rarely"
    cells = cells_of(lines[0], delimiter, quoted)
    if config.header if config.header is not None else _is_header(cells, config, template):
        cells = [cell.strip() for cell in cells]
        if not is_tsv and _has_row_names(lines, delimiter):
            cells = ["", *cells]
        columns = {field: _named(name, cells) for field, name in config.columns.items()}
        return Dialect(delimiter, quoted, True, cells, begin + 1, columns)
    quoted = "never" if delimiter == "|" else quoted  # LJSpeech and those who write as it does quote nothing
    width = Counter(len(cells_of(line, delimiter, quoted)) for line in lines).most_common(1)[0][0]
    names = [str(number) for number in range(1, width + 1)]
    return Dialect(delimiter, quoted, False, names, begin, _by_number(config, cells, width, template))


def _below_titles(head: Sequence[str], begin: int, config: SourceConfig) -> int:
    """Return the number of the header's line, counted from 0, where titles stand above it as in a spreadsheet.

    That is sure only of a line that names audio and text both, below lines that name neither and hold no file.
    """
    for number in range(begin, len(head) if config.header is not False else begin):
        ways = [split_line(head[number], mark) for mark in ([config.delimiter] if config.delimiter else DELIMITERS)]
        if any(_names_both(cells, config) for cells in ways):
            return number
        cells = [cell for way in ways for cell in way]
        if names_columns(cells, config) or any(map(is_audio, cells)):
            break
    return begin


def _names_both(cells: Sequence[str], config: SourceConfig) -> bool:
    cells = [cell.strip() for cell in cells]
    usual = {field: {cell for cell in cells if cell.lower() in USUAL[field]} for field in ("audio", "text")}
    return all({config.columns[field]} & set(cells) if field in config.columns else usual[field] for field in usual)


def _all_quoted(line: str, delimiter: str) -> bool:
    return all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in line.rstrip("\r\n").split(delimiter))


def _has_row_names(lines: Sequence[str], delimiter: str) -> bool:
    """Return whether each row begins with its number, which the quoted header lacks: R's ``write.table``."""
    width = len(split_line(lines[0], delimiter))
    rows = [split_line(line, delimiter) for line in lines[1:]]
    numbered = all(len(row) == width + 1 and row[0] == str(n) for n, row in enumerate(rows, start=1))
    return len(rows) > 1 and numbered and _all_quoted(lines[0], delimiter)


def _delimiter(lines: Sequence[str], config: SourceConfig) -> str:
    """The character that divides the first line, into names that are known best of all, and others into as many."""
    known = _NAMES | set(config.columns.values())
    best, score = DELIMITERS[0], (0, 0.0, 0)
    for delimiter in DELIMITERS:
        first = split_line(lines[0], delimiter)
        if len(first) < 2:
            continue
        names = sum(cell.strip() in known or cell.strip().lower() in known for cell in first)
        like = sum(len(split_line(line, delimiter)) == len(first) for line in lines) / len(lines)
        if (names, like, len(first)) > score:
            best, score = delimiter, (names, like, len(first))
    return best


def _is_header(cells: Sequence[str], config: SourceConfig, template: str) -> bool:
    if names_columns(cells, config):
        return True
    named = set(config.columns.values())
    return not (named and all(map(str.isdigit, named))) and not any(map(is_audio, cells)) and not template


def names_columns(cells: Sequence[str], config: SourceConfig) -> bool:
    """Return whether a line has a usual name for audio or text, or one that the person named."""
    return bool(set(config.columns.values()) & set(cells)) or any(cell.strip().lower() in _NAMES for cell in cells)


def _named(name: str, cells: Sequence[str]) -> str:
    """The name of a column that is given by its number."""
    is_number = name not in cells and name.isdigit() and 1 <= int(name) <= len(cells)
    return cells[int(name) - 1] if is_number else name


def _by_number(config: SourceConfig, cells: Sequence[str], width: int, template: str) -> dict[str, str]:
    """Columns of a table without a header: those given, then the one with files, and its only neighbour for text.

    An id, a transcript, and the transcript as it is read aloud are LJSpeech's three.
    """
    columns = dict(config.columns)
    files = [str(number) for number, cell in enumerate(cells[:width], start=1) if is_audio(cell)]
    if "audio" not in columns and (files or template):
        columns["audio"] = files[0] if files else "1"
    left = [str(number) for number in range(1, width + 1) if str(number) not in columns.values()]
    if "text" not in columns and left and (len(left) == 1 or (not files and template and width == 3)):
        columns["text"] = left[-1]
    return columns
