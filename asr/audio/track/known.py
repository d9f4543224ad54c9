"""Facts about files on disk that this process has found out: many rows of a corpus are stretches of one file."""

from __future__ import annotations

import io
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import BinaryIO, TypeVar, cast

MAX_KNOWN = 4096

T = TypeVar("T")
Key = tuple[str, int, int, int, int]
_known: OrderedDict[Key, object] = OrderedDict()


def is_on_disk(file: BinaryIO) -> bool:
    """Return whether facts about a file are remembered."""
    return _key("", file) is not None


def remembered(what: str, file: BinaryIO, find_out: Callable[[], T]) -> T:
    """Return what ``find_out`` returned for this file when it was asked ``what`` for the first time.

    A file that has changed since, or is not on disk, is asked anew.
    """
    key = _key(what, file)
    if key is None:
        return find_out()
    if key not in _known:
        _known[key] = find_out()
        while len(_known) > MAX_KNOWN:
            _known.popitem(last=False)
    return cast(T, _known[key])


def _key(what: str, file: BinaryIO) -> Key | None:
    try:
        found = os.fstat(file.fileno())
    except (OSError, io.UnsupportedOperation):
        return None
    if not found.st_nlink:  # memory, or a file that nobody can ask for again
        return None
    return what, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
