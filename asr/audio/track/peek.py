"""Bytes of an open file, whose position is kept."""

from __future__ import annotations

import os
from typing import BinaryIO


def size_of(file: BinaryIO) -> int:
    """Return the size of an open file in bytes; its position is kept."""
    before = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(before)
    return size


def read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    """Return up to so many bytes of a file from an offset on; its position is kept."""
    before = file.tell()
    try:
        file.seek(offset)
        return file.read(count)
    finally:
        file.seek(before)
