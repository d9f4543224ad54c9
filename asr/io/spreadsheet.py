"""Cells of CSV tables with strangers' words in them: no formula for a spreadsheet, no command for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What a spreadsheet takes for a formula's beginning (OWASP, CSV injection), behind what we put in front of it.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")
# What a terminal obeys, or shows in another order, and halves of characters, which no file takes: written as \x1b. Not
# line breaks and tabs, nor the joiners that words of some languages have in them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4})")


def cells(values: Iterable[object]) -> list[object]:
    """Return a row's cells as they are written: texts that look like a formula with ``'`` in front, as is usual.

    A text with control characters has ``\\x1b`` or ``\\u202e`` in their place, and its backslashes are doubled.
    """
    return [_cell(value) if isinstance(value, str) else value for value in values]


def told(cell: str) -> str:
    """Return the text that ``cells`` has written as ``cell``."""
    text = cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell
    return _ESCAPED.sub(lambda found: "\\" if found[1] == "\\" else chr(int(found[1][1:], 16)), text)


def _cell(text: str) -> str:
    if _CONTROL.search(text) or _ESCAPED.search(text):
        text = _CONTROL.sub(_escape, text.replace("\\", "\\\\"))
    return f"'{text}" if _FORMULA.match(text) else text


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
