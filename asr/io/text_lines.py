"""UTF-8 text read line by line in bounded memory, packed or not: a megabyte of gzip may be a line of a gigabyte."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from asr.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LINE = 64 << 20  # characters; what stands on a longer line is nobody's row
# In place of a longer line. No row in any table or manifest, and it is counted as one.
TOO_LONG = f"(line_of_over_{MAX_LINE}_characters)\n"  # one cell, whatever separates them
# Lines that are alike pack 50 times smaller; a file that unpacks to more than this was made to.
MAX_UNPACKED = 100  # times the file's size
FEW_BYTES = 64 << 20


class BoundedText(io.TextIOWrapper):
    """A text file whose lines end in ``\\n`` alone; a byte order mark is skipped.

    A line of over MAX_LINE characters is read as TOO_LONG. Of a packed file ``packed_bytes`` is the size: UserError is
    raised where it unpacks to over MAX_UNPACKED times as much.
    """

    def __init__(self, stream: pa.NativeFile, uri: str, packed_bytes: int | None) -> None:
        super().__init__(stream, encoding="utf-8-sig", newline="\n")
        self._uri = uri
        self._left = None if packed_bytes is None else max(FEW_BYTES, MAX_UNPACKED * packed_bytes)

    def __next__(self) -> str:  # type: ignore[override]
        """Return the next line."""
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """Return the next line, or TOO_LONG, or its first ``size`` characters; an empty text at the end."""
        line = self._part(MAX_LINE if size < 0 else size)
        if size >= 0 or len(line) < MAX_LINE or line.endswith("\n"):
            return line
        while (rest := self._part(MAX_LINE)) and not rest.endswith("\n"):
            pass
        return TOO_LONG

    def _part(self, size: int) -> str:
        part = super().readline(size)
        if self._left is not None:
            self._left -= len(part)
            if self._left < 0:
                raise UserError(
                    f"{self._uri}: unpacks to over {MAX_UNPACKED} times its size", "unpack it, if it may be so large"
                )
        return part
