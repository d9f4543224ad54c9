"""The rows of delimited text, each line of it accounted for: a stray quotation mark swallows none."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from asr.audio.filenames import is_audio, suffix

Line = tuple[int, str]
Quoting = Literal["always", "rarely", "never"]
"""Rule of quotation marks: one encloses a cell if it can, or only if inner marks are doubled or the line is no row
otherwise, or is always text, as in Common Voice."""

# Of one quoted cell. A transcript of a thousand lines is none: the quotation mark that opens it is a stray one.
MAX_LINES = 1000


_ENCLOSED = re.compile(r'"((?:[^"]|"")*+)"')


class TableRecord(NamedTuple):
    """A row's cells and the number of its first line, or why it is none."""

    line: int
    cells: list[str]
    fault: str = ""


def lines_of(file: Iterable[str]) -> Iterator[Line]:
    """Yield the lines of a text with their numbers. ``\\r`` ends one only where the first line shows that it does."""
    number, old_mac = 0, None
    for line in file:
        if old_mac is None:
            old_mac = "\r" in line.rstrip("\r\n")
        for piece in line.rstrip("\r\n").split("\r") if old_mac else [line]:
            number += 1
            yield number, piece


def split_line(line: str, delimiter: str, quoted: bool = True) -> list[str]:
    """Return the cells of one line: a quotation mark that does not enclose a whole cell is text."""
    line = line.rstrip("\r\n")
    if not quoted or '"' not in line:
        return line.split(delimiter)
    cells, position, mark = [], 0, re.escape(delimiter)
    enclosed = re.compile(rf'"((?:[^"]|"")*+)"(?={mark}|$)')
    while position <= len(line):
        if match := enclosed.match(line, position):
            cells.append(match[1].replace('""', '"'))
            position = match.end() + 1
        else:
            end = line.find(delimiter, position)
            end = len(line) if end < 0 else end
            cells.append(line[position:end])
            position = end + 1
    return cells


def cells_of(line: str, delimiter: str, quoted: Quoting) -> list[str]:
    """Return the cells of a line that is a row."""
    cells = split_line(line, delimiter, quoted == "always")
    return [unquoted(cell) for cell in cells] if quoted == "rarely" else cells


def unquoted(cell: str) -> str:
    """Return a cell without the quotation marks that enclose all of it; one whose own are not doubled as it is."""
    enclosed = _ENCLOSED.fullmatch(cell)
    return enclosed[1].replace('""', '"') if enclosed else cell


def records(
    lines: Iterable[Line], delimiter: str, quoted: Quoting, width: int, key: int, surplus: int = 0
) -> Iterator[TableRecord]:
    """Yield a row for each line that is not blank, but for quoted cells over several lines as RFC 4180 has them.

    ``width`` is the number of cells that a row has, ``surplus`` that of empty ones behind them in every row; ``key`` is
    the column that names the audio. A quotation mark opens such a cell only where it is closed before a delimiter or a
    line's end, the row then has its cells, and no line inside looks like a row itself; else it is text. Where a line
    may be either, all lines of the cell are faults, and rows where marks are mostly text.
    """
    if quoted != "never":
        yield from _Quoted(lines, delimiter, width, key, surplus, quoted == "rarely").records()
        return
    for number, line in lines:
        if line.strip():
            yield _checked(number, split_line(line, delimiter, False), width, surplus)


def surplus_of(rows: Iterable[list[str]], width: int) -> int:
    """Return how many empty cells every one of some rows has behind its ``width``, as a spreadsheet's empty columns.

    0 where one has another number, or there is but one row: there a delimiter within a text looks the same.
    """
    counts = [len(cells) - width if not any(map(str.strip, cells[width:])) else 0 for cells in rows]
    return max(counts[0], 0) if len(counts) > 1 and len(set(counts)) == 1 else 0


def _checked(number: int, cells: list[str], width: int, surplus: int) -> TableRecord:
    if surplus and len(cells) == width + surplus and not any(map(str.strip, cells[width:])):
        cells = cells[:width]
    fault = "" if len(cells) == width else f"{len(cells)} cells, not {width}"
    return TableRecord(number, cells, fault)


class _Quoted:
    """Reads with the ``csv`` module, and again without it what that cannot have understood."""

    def __init__(self, lines: Iterable[Line], delimiter: str, width: int, key: int, surplus: int, rarely: bool) -> None:
        self.lines, self.delimiter, self.width, self.key = iter(lines), delimiter, width, key
        self.surplus, self.rarely = surplus, rarely
        self.again: deque[Line] = deque()  # lines taken for a part of a cell
        self.taken: list[Line] = []  # of the record being read

    def records(self) -> Iterator[TableRecord]:
        reader = self._reader()
        while True:
            self.taken = []
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error:  # a mark that is never closed, or is closed in the middle of a cell; a bare "\r"
                cells, reader = [], self._reader()
            if len(self.taken) == 1 and len(cells) == self.width > 1:  # nearly always
                yield TableRecord(self.taken[0][0], cells)
            elif len(self.taken) == 1 and cells:
                yield from self._one(*self.taken[0], cells)
            elif any(line.strip() for _, line in self.taken):
                yield from self._judged(cells)

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._feed(), delimiter=self.delimiter, strict=True)

    def _feed(self) -> Iterator[str]:
        while len(self.taken) < MAX_LINES:
            line = self.again.popleft() if self.again else next(self.lines, None)
            if line is None:
                return
            self.taken.append(line)
            yield line[1]

    def _split(self, line: str) -> list[str]:
        return cells_of(line, self.delimiter, "rarely" if self.rarely else "always")

    def _one(self, number: int, line: str, cells: list[str]) -> Iterator[TableRecord]:
        if self.rarely and len(plain := self._split(line)) == self.width:
            cells = plain
        if line.strip():
            yield _checked(number, cells, self.width, self.surplus)

    def _judged(self, cells: list[str]) -> Iterator[TableRecord]:
        (number, line), *inside = self.taken
        alone = self._split(line)
        looks = self._look(alone, cells)
        doubtful = None in looks and len(alone) == self.width
        if True in looks or (doubtful and self.rarely):
            self.again.extendleft(reversed(inside))
            yield from self._alone(number, line, alone)
        elif doubtful:
            fault = "a quotation mark opens a cell of several lines, or is a stray one: it cannot be told"
            for each, text in self.taken:
                if text.strip():
                    yield TableRecord(each, [], fault)
        else:
            yield TableRecord(number, cells)

    def _look(self, alone: list[str], cells: list[str]) -> list[bool | None]:
        """Return whether each line in a cell is a row of its own. The last has the file's name if it comes later."""
        if len(cells) != self.width:
            return [True]
        inside = self.taken[1:-1] if len(alone) <= self.key else self.taken[1:]
        return [self._looks_like_a_row(text, cells) for _, text in inside]

    def _alone(self, number: int, line: str, cells: list[str]) -> Iterator[TableRecord]:
        first, *others = [piece for piece in line.rstrip("\r\n").split("\r") if piece.strip()]
        start = self._split(first)
        if others and len(start) == self.width and all(self._looks_like_a_row(other, start) for other in others):
            for piece in (first, *others):  # line ends of two kinds in one file
                yield _checked(number, self._split(piece), self.width, self.surplus)
        else:
            yield _checked(number, cells, self.width, self.surplus)

    def _looks_like_a_row(self, line: str, cells: list[str]) -> bool | None:
        """Return whether a line within a cell is a row of its own; None if its audio has no suffix to tell it by."""
        inside = self._split(line)
        if len(inside) <= self.key:
            return False
        named, other = cells[self.key].strip(), inside[self.key].strip().strip('"')
        if not other or (" " in other and " " not in named):
            return False
        if suffix(named):
            return suffix(other) == suffix(named) or is_audio(other)
        return None if len(inside) == self.width else False
