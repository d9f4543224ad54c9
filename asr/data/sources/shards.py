"""The files of a source that comes in many: all of one kind below a folder, or those of one split."""

from __future__ import annotations

import re

from asr.config import suggestion
from asr.data.sources.config import SourceConfig
from asr.errors import UserError
from asr.io import storage

_PACKED = {".tar": r"\.(tar\.(gz|bz2|xz|zst)|tgz)$"}
_UNPACK = {b"\x1f\x8b": "gunzip", b"\xfd7zXZ": "unxz", b"BZh": "bunzip2", b"\x28\xb5\x2f\xfd": "unzstd"}
SPLITS = ("train", "validation", "valid", "dev", "test")


def shards(config: SourceConfig, suffix: str) -> list[storage.FileEntry]:
    """Return the file that a source names, or the files ending in ``suffix`` below its folder, sorted by name.

    ``split`` takes the files that begin with it or lie in a folder of its name. Raises UserError where there are none,
    and where a folder holds several of the usual splits and none was asked for: they would be mixed.
    """
    if storage.kind(config.source) == "file":
        return [storage.FileEntry(config.source, storage.name_of(config.source), 0)]
    entries = storage.list_files(config.source)
    found = [entry for entry in entries if entry.name.lower().endswith(suffix)]
    packed = [entry.name for entry in entries if re.search(_PACKED.get(suffix, "(?!)"), entry.name.lower())]
    if packed:
        raise UserError(
            f"{config.source}: {len(packed)} of its files are compressed and cannot be read, such as {packed[0]}",
            f"unpack it to a plain *{suffix}, or move it away",
        )
    if not found:
        raise UserError(f"{config.source}: no *{suffix} files are there")
    splits = {entry.name: _split_of(entry.name, config.split) for entry in found}
    known = sorted({split for split in splits.values() if split})
    if config.split is None and len(known) > 1:
        raise UserError(f"{config.source}: its splits are {', '.join(known)}", f"say which: split: {known[0]}")
    if config.split is not None and config.split not in known:
        there = f"its splits are {', '.join(known)}" if known else "its files name no split"
        hint = suggestion(config.split, known)
        raise UserError(f"{config.source}: no *{suffix} files of the split '{config.split}': {there}", hint)
    return [entry for entry in found if config.split in (None, splits[entry.name])]


def unpacking(start: bytes) -> str:
    """Return the hint for a file that begins as compressed ones do; ``""`` for any other."""
    tool = next((tool for begin, tool in _UNPACK.items() if start.startswith(begin)), "")
    return f"it is compressed, and tars are read uncompressed: unpack it: {tool} < PACKED > NAME.tar" if tool else ""


def _split_of(name: str, wanted: str | None) -> str:
    """The split that a file's name tells: ``data/train-00000-of-00002.parquet``, ``train/0.parquet``."""
    *folders, file = name.split("/")
    for split in [wanted, *SPLITS] if wanted else SPLITS:
        if split in folders or file.startswith((f"{split}-", f"{split}.", f"{split}_")):
            return split
    return ""
