"""The files of one Hugging Face data set: what its rows may name, on the hub and in Hugging Face's own cache."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

from asr.errors import DataError, UserError, one_line
from asr.io.roots import REASON

MAX_BYTES = 256 << 20  # of one clip in a stream, which is held in memory whole
# How datasets reaches into an archive: ``zip://a.wav::hf://datasets/owner/name@revision/clips.zip``. One at most: of an
# archive in an archive, all of the outer one is unpacked before the inner one is known.
ARCHIVES = frozenset({"zip", "gzip", "bz2", "lz4", "xz", "zstd"})
_CHAIN = "::"
_INDEXES = ("README.md", ".huggingface.yaml", "dataset_infos.json")  # what datasets reads of a folder before its data
_reading: ContextVar[str] = ContextVar("_reading", default="")  # the data set that this thread has datasets read


def read(path: str, name: str) -> bytes:
    """Return a file that a row of the data set ``name`` (``owner/name``, or a local folder) names.

    Raises DataError address_not_allowed for a file of anybody else, too_large, or missing_file.
    """
    import fsspec

    try:
        own = _own(path, name)
        if own is None:
            raise DataError(REASON, f"{path}: no file of {name}")
        with fsspec.open(own, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except DataError:
        raise
    except Exception as error:  # of any library between here and the file: it is this row's
        raise DataError("missing_file", f"{path}: {one_line(error)}") from None
    if len(data) > MAX_BYTES:
        raise DataError("too_large", f"{path}: over {MAX_BYTES:,} bytes")
    return data


@contextmanager
def only_own(name: str) -> Iterator[None]:
    """Have ``datasets`` look for data nowhere but in the data set ``name``, whatever its README says of where it lies.

    It would read any file of the machine, and call any host. Raises UserError, also for a README that is a pipe.
    """
    for index in (os.path.join(name, file) for file in _INDEXES):
        if os.path.exists(index) and not stat.S_ISREG(os.stat(index).st_mode):
            raise UserError(f"{index}: no regular file", "replace it by one")
    _guard()
    token = _reading.set(name)
    try:
        yield
    finally:
        _reading.reset(token)


@cache
def _guard() -> None:
    """Ask ``_may_look`` before anything is looked for: every way of ``datasets`` to files comes through here."""
    from datasets import data_files

    resolve = data_files.resolve_pattern

    def resolve_pattern(pattern: str, base_path: str, *arguments: object, **options: object) -> list[str]:
        name = _reading.get()
        if name and not _may_look(str(pattern), str(base_path), name):
            raise UserError(f"'{pattern}' is no file of {name}", "its README may name files in its own folder only")
        found: list[str] = resolve(pattern, base_path, *arguments, **options)
        return found

    data_files.resolve_pattern = resolve_pattern


def _may_look(pattern: str, base: str, name: str) -> bool:
    from datasets.utils.file_utils import is_relative_path

    if _CHAIN in pattern or ".." in pattern.split("/"):
        return False
    if not is_relative_path(pattern):
        base = pattern
    elif "://" in pattern or ".." in base.split("/")[len(name.split("/")) :]:
        return False
    if os.path.isdir(name):
        places = (os.path.abspath(name), os.path.realpath(name))
        return "://" not in base and any(f"{os.path.abspath(base)}/".startswith(f"{uri}/") for uri in places)
    return base.startswith((f"hf://datasets/{name}@", f"hf://datasets/{name}/"))


def roots(name: str) -> tuple[str, ...]:
    """Return where the files of a loaded data set lie: a local folder, or what Hugging Face has fetched of it."""
    import datasets.config
    from huggingface_hub.constants import HF_HUB_CACHE

    if os.path.isdir(name):
        return (os.path.abspath(name), *_unpacked(datasets.config.HF_DATASETS_CACHE))
    snapshots = os.path.join(HF_HUB_CACHE, f"datasets--{name.replace('/', '--')}")
    return (snapshots, *_unpacked(datasets.config.HF_DATASETS_CACHE))


def _unpacked(cache: str | os.PathLike[str]) -> tuple[str, ...]:
    return (os.path.join(cache, "downloads"),)


def _own(path: str, name: str) -> str | None:
    """Return an address of the data set's own file as fsspec must not misread it, None for any other.

    fsspec takes ``~`` for a home, and ``file:/x`` and ``local:/x`` for ``/x``: a local file is opened by where it lies.
    """
    *archives, uri = path.split(_CHAIN)
    if len(archives) > 1 or any(part.partition("://")[0] not in ARCHIVES for part in archives):
        return None
    if os.path.isdir(name):
        real = os.path.realpath(uri)
        inside = not _is_address(uri) and any(_is_below(real, root) for root in _real_roots(name))
        return _CHAIN.join([*archives, real]) if inside and os.path.isfile(real) else None
    plain = (f"hf://datasets/{name}/",) if "/" in name else ()  # of an owner's name it would be all that is the owner's
    owned = uri.startswith((f"hf://datasets/{name}@", *plain))
    return path if owned and ".." not in uri.split("/") else None


def _is_address(uri: str) -> bool:
    return "://" in uri or not os.path.isabs(uri)


def _real_roots(name: str) -> tuple[str, ...]:
    """The folder itself; and as it may be a snapshot in Hugging Face's cache, the cache's blobs that its links name."""
    real = os.path.realpath(name)
    above, kind = os.path.split(os.path.dirname(real))
    return (real, os.path.join(above, "blobs")) if kind == "snapshots" else (real,)


def _is_below(path: str, root: str) -> bool:
    return path.startswith(f"{root.rstrip(os.sep)}{os.sep}")
