"""The folder for what is fetched once and used by every run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "WHISPERFLEET_CACHE"


def cache_root() -> Path:
    """Return ``$WHISPERFLEET_CACHE``, or ``~/.cache/whisperfleet``. Not created here."""
    return Path(os.environ.get(VARIABLE) or "~/.cache/whisperfleet").expanduser()


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``target`` if the block succeeds, and is deleted if it does not.

    An interrupted download or conversion therefore never looks like a finished one. Where another process finished
    the same work first, its result stands.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield draft
        draft.chmod(0o755)
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
