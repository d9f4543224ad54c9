"""Lock of an output folder: one run at a time writes there; a second one is refused before it reads or writes."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from asr.errors import UserError
from asr.io import storage
from asr.io.unretryable import writing

NAME = ".transcribe.lock"
# A file system that knows no locks, as some of those that stand for a bucket.
_UNKNOWN = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


@contextmanager
def alone(uri: str) -> Iterator[None]:
    """Hold the folder at ``uri`` for as long as the block lasts; the kernel lets go of it where the process dies.

    It holds among all machines that have the folder mounted, where their file system has locks. An address cannot be
    held. Raises UserError where another run holds it, and for a lock that is a link to elsewhere.
    """
    if storage.is_remote(uri):
        yield
        return
    folder = storage.local_path(uri)
    path = os.path.join(folder, NAME)
    with writing(uri):
        os.makedirs(folder, exist_ok=True)
        held = _held(path, uri)
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)  # while it is held: who opened it meanwhile sees that it is no more, and makes another
        os.close(held)


def _held(path: str, uri: str) -> int:
    """Return the open lock file, which is nobody else's."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UserError(f"{path}: is a link, and no lock of ours", "remove it") from None
            raise
        try:
            _lock(file, uri)
            if _is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, uri: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{uri}: another transcribe writes into this folder", "wait for it, or choose another --out"
        ) from None
    except OSError as error:
        if error.errno not in _UNKNOWN:
            raise


def _is_at(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False
