"""The folder for what is fetched once and used by every run."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from asr.io.unretryable import writing

VARIABLE = "WHISPERFLEET_CACHE"
KEPT_DAYS = 30
_MARK = ".used"  # in a folder: its time is that of the last use, and who uses it has it locked

_in_use: dict[Path, int] = {}


def cache_root() -> Path:
    """Return ``$WHISPERFLEET_CACHE``, or ``~/.cache/whisperfleet``. Not created here.

    A relative one is written back absolute, before processes inherit it that stand in other folders.
    """
    if named := os.environ.get(VARIABLE):
        os.environ[VARIABLE] = os.path.abspath(os.path.expanduser(named))
    return Path(os.environ.get(VARIABLE) or "~/.cache/whisperfleet").expanduser()


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` if the block succeeds, and is deleted if it does not.

    An interrupted download or conversion therefore never looks like a finished one. Where another process finished
    the same work first, its result stands.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.parent / f".{target.name}-{secrets.token_hex(8)}"
        draft.mkdir()  # mkdtemp would make it for its owner only, or a chmod for everybody: the umask says
    try:
        with writing(target):  # inside: what is free is said of the disk as it was, with the draft on it
            yield draft
            try:
                draft.rename(target)
            except OSError:
                if not target.is_dir():
                    raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def use(folder: Path) -> bool:
    """Keep ``prune`` away from a folder of the cache until this process ends; False where it came first."""
    path = folder / _MARK
    try:
        mark = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # a cache that can only be read is not pruned either
    with suppress(OSError):  # a file system without locks
        fcntl.flock(mark, fcntl.LOCK_SH)
    try:
        os.utime(path)
        found = os.path.samestat(os.fstat(mark), path.stat())
    except FileNotFoundError:
        found = False
    replaced = _in_use.pop(folder, None)
    if found:
        _in_use[folder] = mark  # open until the process ends: that is the lock
    for done in (replaced, None if found else mark):
        if done is not None:
            os.close(done)
    return found


def prune(parent: Path, days: float = KEPT_DAYS) -> None:
    """Delete the folders in ``parent`` that nobody has used for so many days and no process is using."""
    for folder in [entry for entry in parent.iterdir() if entry.is_dir()]:
        try:
            _prune(folder, time.time() - days * 86400)
        except OSError:
            continue  # in use, not ours, or gone already: nothing that should keep anybody from working


def _prune(folder: Path, before: float) -> None:
    mark = folder / _MARK
    if (mark if mark.is_file() else folder).stat().st_mtime >= before:
        return
    with open(mark, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        doomed = Path(tempfile.mkdtemp(prefix=".pruned-", dir=folder.parent))
        folder.rename(doomed)  # at once: nobody finds half of it
    shutil.rmtree(doomed)
