"""Whole folders to storage and back: many files at a time, and the file that says "complete" last."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from asr.errors import UserError
from asr.io import storage
from asr.io.unretryable import writing

COPIES = 8  # files that are under way at the same time


def upload(folder: Path, uri: str | Path, last: str) -> None:
    """Copy all files of a local ``folder`` to ``uri``, the one named ``last`` after the others are there.

    An older file of that name is removed first, so that its presence always means complete. Raises UserError.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if last not in names:
        raise ValueError(f"{folder} has no {last}")
    if storage.kind(storage.join(uri, last)) == "file":
        with storage.explained(storage.join(uri, last), "cannot be removed"):
            filesystem, path = storage.resolve(storage.join(uri, last))
            filesystem.delete_file(path)
    _copy_all([(str(folder / name), storage.join(uri, name)) for name in names if name != last])
    _copy_all([(str(folder / last), storage.join(uri, last))])


def download(uri: str | Path, folder: Path) -> None:
    """Copy all files of the folder at ``uri`` into a local folder. Raises UserError, also where there are none."""
    entries = storage.list_files(uri)
    if not entries:
        raise UserError(f"{uri}: no files are there")
    _copy_all([(entry.uri, str(folder / entry.name)) for entry in entries])


def _copy_all(pairs: list[tuple[str, str]]) -> None:
    with ThreadPoolExecutor(COPIES) as pool:
        list(pool.map(_copy, pairs))


def _copy(pair: tuple[str, str]) -> None:
    from pyarrow.fs import copy_files

    source, target = pair
    with storage.explained(target, f"{source} cannot be copied there"), writing(target):
        if not storage.is_remote(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
        (from_system, from_path), (to_system, to_path) = storage.resolve(source), storage.resolve(target)
        copy_files(from_path, to_path, source_filesystem=from_system, destination_filesystem=to_system)
