"""The files of one Hugging Face data set: what its rows may name, on the hub and in Hugging Face's own cache."""

from __future__ import annotations

import os

from asr.errors import DataError
from asr.roots import REASON

MAX_BYTES = 256 << 20  # of one clip in a stream, which is held in memory whole
# How fsspec reaches into an archive: ``zip://a.wav::hf://datasets/owner/name@revision/clips.zip``.
ARCHIVES = frozenset({"zip", "tar", "gzip", "bz2", "lz4", "xz", "zstd"})
_CHAIN = "::"


def read(path: str, name: str) -> bytes:
    """Return a file that a row of the data set ``name`` (``owner/name``, or a local folder) names.

    Raises DataError address_not_allowed for a file of anybody else, too_large, or missing_file.
    """
    import fsspec  # type: ignore[import-untyped]

    if not _is_own(path, name):
        raise DataError(REASON, f"{path}: no file of {name}")
    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read(MAX_BYTES + 1)
    except Exception as error:  # of any library between here and the file: it is this row's
        raise DataError("missing_file", f"{path}: {' '.join(str(error).split())}") from None
    if len(data) > MAX_BYTES:
        raise DataError("too_large", f"{path}: over {MAX_BYTES:,} bytes")
    return data


def roots(name: str) -> tuple[str, ...]:
    """Return where the files of a loaded data set lie: a local folder, or what Hugging Face has fetched."""
    import datasets.config
    from huggingface_hub.constants import HF_HUB_CACHE

    local = (os.path.abspath(name),) if os.path.isdir(name) else ()
    return (*local, str(datasets.config.HF_DATASETS_CACHE), str(HF_HUB_CACHE))


def _is_own(path: str, name: str) -> bool:
    *archives, place = path.split(_CHAIN)
    if any(part.partition("://")[0] not in ARCHIVES for part in archives):
        return False
    if os.path.isdir(name):
        inside = os.path.abspath(name)
        return "://" not in place and os.path.abspath(place).startswith(f"{inside}{os.sep}")
    owned = place.startswith((f"hf://datasets/{name}@", f"hf://datasets/{name}/"))
    return owned and ".." not in place.split("/")
