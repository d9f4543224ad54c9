"""WebDataset: tars in which files of one name (``a/001.flac``, ``a/001.txt``, ``a/001.json``) are one sample."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asr import storage
from asr.address import AUDIO_SUFFIXES, tar_member
from asr.errors import UserError
from asr.manifest import json_object
from asr.sources.columns import USUAL, Chooser, utterance
from asr.sources.config import SourceConfig
from asr.sources.shards import shards
from asr.utterance import Quarantined, Utterance

KEY = "__key__"
TEXTS = frozenset({"txt", "text", "transcript"})
MAX_TEXT_BYTES = 1 << 20

# Over a network a whole tar is read through: asking for its headers one by one would be a request for each of them.
REMOTE_READ_BYTES = 4 << 20


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the samples of a tar, or of all tars below a folder; ids are the names up to the first dot.

    Fields come from ``.txt`` (the transcript) and from the object in ``.json``; a sample may have either, or both.
    Columns are named by the ending (``text: transcript``) or by the key in ``.json``. Audio stays in the tar: its
    address is a byte range. Of a tar that is cut, the sample that the cut runs through is quarantined as truncated.
    Raises UserError where there are no tars, or the first sample of one has no audio or no text.
    """
    for shard in shards(config, ".tar"):
        with storage.explained(shard.uri, "cannot be read"), storage.open_input(shard.uri) as file:
            yield from _tar_rows(config, shard.uri, file)


@dataclass
class _Sample:
    """The files of one name, by their endings without the first dot."""

    key: str
    members: dict[str, tarfile.TarInfo] = field(default_factory=dict)


def _tar_rows(config: SourceConfig, uri: str, file: Any) -> Iterator[Utterance | Quarantined]:
    size = file.size()
    buffered = io.BufferedReader(file, REMOTE_READ_BYTES if storage.is_remote(uri) else tarfile.BLOCKSIZE)
    try:
        tar = tarfile.open(fileobj=buffered, mode="r:")  # noqa: SIM115 - closed below
    except tarfile.TarError as error:
        raise UserError(f"{uri}: not an uncompressed tar: {error}") from None
    sample: _Sample | None = None
    with tar:
        samples = _Samples(config, uri, tar)
        for member in _members(tar):
            key, ending = _key(member.name)
            if sample is not None and sample.key != key:
                yield samples.row(sample)
                sample = None
            sample = sample or _Sample(key)
            sample.members[ending] = member
        end = tar.offset  # of what could be read: a whole tar has a block of zeros there
        buffered.seek(end)
        if size < end or buffered.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            yield Quarantined(sample.key if sample else uri, "truncated", f"{uri} is cut or broken at byte {end}")
        elif sample is not None:
            yield samples.row(sample)


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files of a tar until its end, or to where it is broken."""
    while True:
        try:
            member = tar.next()
        except (tarfile.TarError, EOFError):
            return
        if member is None:
            return
        tar.members.clear()  # type: ignore[attr-defined]  # else a tar of a million files is a list of a million
        if member.isfile():
            yield member


def _key(name: str) -> tuple[str, str]:
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, ending = file.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


class _Samples:
    """What the samples of one tar mean."""

    def __init__(self, config: SourceConfig, uri: str, tar: tarfile.TarFile) -> None:
        self.uri, self.tar = uri, tar
        self.audio = config.columns.get("audio")
        self.texts = TEXTS | set(config.columns.values())
        others = {field: name for field, name in config.columns.items() if field != "audio"}
        self.chooser = Chooser(config.model_copy(update={"columns": others}), uri, ("audio", "text"))

    def row(self, sample: _Sample) -> Utterance | Quarantined:
        """Return a sample as an utterance, or why it is none."""
        cells: dict[str, Any] = {KEY: sample.key}
        try:
            for ending, member in sample.members.items():
                if ending == "json":
                    cells |= json_object(_text(self.tar, member), member.name)
                elif ending in self.texts and not _is_audio(ending):
                    cells[ending] = _text(self.tar, member).strip()
        except (UserError, ValueError) as error:
            return Quarantined(sample.key, "malformed_row", f"{self.uri}: {error}")
        # The audio is a file of the sample: a path in its JSON means nothing outside the tar.
        cells = {name: cell for name, cell in cells.items() if name not in USUAL["audio"]}
        found = self.audio or next(filter(_is_audio, sample.members), None)
        if found in sample.members:
            member = sample.members[found]
            cells["audio"] = tar_member(self.uri, member.offset_data, member.size, member.name)
        return utterance(cells, self.chooser.columns(list(cells)), sample.key, cells.get("audio"))


def _is_audio(ending: str) -> bool:
    return f".{ending.rpartition('.')[2]}" in AUDIO_SUFFIXES


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > MAX_TEXT_BYTES:
        raise ValueError(f"{member.name}: {member.size:,} bytes, over {MAX_TEXT_BYTES:,}")
    file = tar.extractfile(member)
    return file.read().decode("utf-8-sig") if file else ""
