"""Local folders: listed, links followed but never in a circle, and tried before long work is to be written there."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path


def local_sizes(root: str, recursive: bool, above: str = "") -> Iterator[tuple[str, int]]:
    """Yield the names of files and folders in a folder, and the size of a file in bytes, -1 of a folder.

    Links are followed, but for those to what they lie in. A link to nowhere is a file: who opens it says that there is
    none. Raises OSError for a folder that cannot be read.
    """
    with os.scandir(os.path.join(root, above)) as found:
        for entry in found:
            name = f"{above}/{entry.name}" if above else entry.name
            if not entry.is_dir():
                yield name, entry.stat(follow_symlinks=os.path.exists(entry.path)).st_size
            elif not (entry.is_symlink() and _is_within(root, os.path.dirname(entry.path), entry.path)):
                yield name, -1
                if recursive and not entry.name.startswith("."):
                    yield from local_sizes(root, recursive, name)


def _is_within(root: str, folder: str, link: str) -> bool:
    """Return whether a link in ``folder`` leads to a parent of that folder, through whatever links below ``root``."""
    target = os.path.realpath(link)
    while True:
        if os.path.realpath(folder) == target or f"{os.path.realpath(folder)}/".startswith(f"{target.rstrip('/')}/"):
            return True
        if len(folder) <= len(root.rstrip("/")):
            return False
        folder = os.path.dirname(folder)


def require_regular(path: str | int) -> None:
    """Raise OSError for a pipe, a device or a socket (or its descriptor): whoever reads it may wait for ever."""
    if not (stat.S_ISREG(mode := os.stat(path).st_mode) or stat.S_ISDIR(mode)):
        raise OSError("no regular file but a pipe, a device or a socket: save it to a file first")


def require_writable(folder: Path) -> None:
    """Make a folder, and a file in it that goes again. Raises OSError where that cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
