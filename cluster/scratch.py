"""The folder for Ray's own files, tried before Ray starts: on a full disk it waits half a minute and tells nothing."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asr.errors import UserError
from asr.io.unretryable import writing

# A run of some minutes leaves up to 18 MB of logs and sockets; a session that does nothing takes 0.2.
ROOM_BYTES = 16 * 10**6
_THEN = "TMPDIR may name another folder"
_SOCKETS = "AF_UNIX path length"


def folder() -> Path:
    """Return where Ray makes its folder ``ray``: as Ray itself looks for it."""
    on_linux = os.environ.get("TMPDIR") if sys.platform.startswith("linux") else None
    return Path(os.environ.get("RAY_TMPDIR", on_linux or "/tmp"))


@contextmanager
def room(path: Path, then: str = _THEN) -> Iterator[None]:
    """Start Ray in the block, which is to keep its files in the local folder ``path``.

    Raises UserError where they have no room there, as it is found out before; or afterwards, where the block fails.
    ``then`` is what a person may do as well.
    """
    require_room(path, then)
    try:
        yield
    except Exception as error:
        if _SOCKETS in str(error):
            raise UserError(f"{path}: too long a path for Ray's sockets", then) from None
        require_room(path, then)  # somebody else may have filled it meanwhile
        raise


def require_room(path: Path, then: str = _THEN) -> None:
    """Write as much as Ray may, and take it away again. Raises UserError where that cannot be.

    Free bytes alone would not tell of quotas, of limits on the size of a file, nor of a disk mounted for reading.
    """
    if not path.is_absolute():
        raise UserError(f"{path}: Ray's own files need an absolute path", then)
    nearest = path / "ray"
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise UserError(f"{nearest}: Ray's own files need a folder, and this is none", then)
    wanted = f"the {ROOM_BYTES / 1e6:.0f} MB of Ray's own files"
    with writing(nearest, wanted, then), tempfile.TemporaryFile(dir=nearest) as file:
        file.write(bytes(ROOM_BYTES))
