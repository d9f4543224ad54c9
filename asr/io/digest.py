"""SHA-256 digests of files and folders, recorded and verified."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from asr.errors import UserError
from asr.io.folders import require_regular


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes. Raises OSError, of a pipe too."""
    require_regular(str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digests(folder: Path, leave_out: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the digest of every file below ``folder`` by its relative POSIX path, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    return {name: sha256(path) for name, path in names.items() if name not in leave_out}


def verify(folder: Path, digests: Mapping[str, str], remedy: str) -> None:
    """Raise UserError naming the first file that is missing or differs from its recorded digest."""
    for name, expected in digests.items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path}: missing, though it is recorded with a digest", remedy)
        found = sha256(path)
        if found != expected:
            raise UserError(f"{path}: digest {found[:12]}... is not the recorded {expected[:12]}...", remedy)
