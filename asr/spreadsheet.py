"""Cells of CSV tables with strangers' words in them: a spreadsheet must not take one for a formula."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

# What a spreadsheet takes for a formula's beginning (OWASP, CSV injection), behind what we put in front of it.
_FORMULA = re.compile("'*[=+\\-@\t\r\n＝＋－＠]")


def cells(values: Iterable[Any]) -> list[Any]:
    """Return a row's cells as they are written: texts that look like a formula with ``'`` in front, as is usual."""
    return [f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value for value in values]


def told(cell: str) -> str:
    """Return the text that ``cells`` has written as ``cell``."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell[1:]) else cell
