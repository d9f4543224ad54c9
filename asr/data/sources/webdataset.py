"""WebDataset: tars in which files of one name (``a/001.flac``, ``a/001.txt``, ``a/001.json``) are one sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asr.audio.filenames import is_litter
from asr.data.sources import tar
from asr.data.sources.config import SourceConfig
from asr.data.sources.samples import MAX_TEXT_BYTES, Member, Samples, split_name
from asr.data.sources.shards import shards, unpacking
from asr.errors import UserError
from asr.io import storage
from asr.utterance import Quarantined, Utterance

if TYPE_CHECKING:
    from pyarrow import NativeFile

# Over a network a whole tar is read through: asking for its headers one by one would be a request for each of them.
REMOTE_READ_BYTES = 4 << 20


def rows(config: SourceConfig, cache: Path) -> Iterator[Utterance | Quarantined]:
    """Yield the samples of a tar, or of all tars below a folder; ids are the names up to the first dot.

    Where that would put several clips into one sample (``talk_11.02.wav``, ``talk_11.30.wav``), the last dot ends the
    name. Fields come from ``.txt`` (the transcript) and from the object in ``.json``; a sample may have either, or
    both. Columns are named by the ending (``text: transcript``) or by the key in ``.json``. Audio stays in the tar: its
    address is a byte range. A link is the file that it leads to, if that is earlier in the tar. Tars that are joined
    are read one after the other. Of a tar that is cut, the sample that the cut runs through is quarantined as
    truncated; a second sample of a name, because its files are not side by side or are there twice, as malformed_row.
    Raises UserError where there are no tars, no sample of one has audio, or none of the first has text, and for a
    compressed one.
    """
    for shard in shards(config, ".tar"):
        with storage.explained(shard.uri, "cannot be read"), storage.open_input(shard.uri) as file:
            yield from _tar_rows(config, shard.uri, file)


def _tar_rows(config: SourceConfig, uri: str, file: NativeFile) -> Iterator[Utterance | Quarantined]:
    buffered = io.BufferedReader(file, REMOTE_READ_BYTES if storage.is_remote(uri) else tar.BLOCK)
    samples = Samples(config, uri)
    group: list[Member] = []
    try:
        for found in tar.members(buffered):
            if is_litter(found.name):
                continue
            key, ending = split_name(found.name)
            if found.link and not samples.is_wanted(ending):
                continue
            if group and (key != group[0].key or any(member.ending == ending for member in group)):
                yield from samples.rows(group)
                group = []
            text = _text(buffered, found) if samples.is_text(ending) else None
            group.append(Member(key, ending, found.name, found.offset, found.size, text, found.sparse, found.link))
    except tar.BrokenTar as broken:
        if broken.at == 0:
            buffered.seek(0)
            hint = unpacking(buffered.read(6))
            raise UserError(f"{uri}: not an uncompressed tar: {broken.why}", hint) from None
        if not broken.ended:
            yield from samples.rows(group, f"{uri} is cut or broken at byte {broken.at}: {broken.why}")
            return
        yield from samples.rows(group)
        what = f"{uri} goes on behind its end, with what is no tar, at byte {broken.at}: {broken.why}"
        yield Quarantined(uri, "truncated", what)
    else:
        yield from samples.rows(group)
        samples.require_both()


def _text(file: io.BufferedReader, found: tar.TarMember) -> bytes | None:
    if found.size > MAX_TEXT_BYTES:
        return None
    file.seek(found.offset)
    return file.read(found.size)
