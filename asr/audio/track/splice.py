"""Streams that are nothing but frames, without the tags between and behind them: FFmpeg takes covers for frames."""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO, cast

from asr.audio.container import open_media
from asr.audio.formats.tags import MARKS, tag_bytes
from asr.audio.track.known import remembered
from asr.audio.track.peek import read_at, size_of

if TYPE_CHECKING:
    from av.container import InputContainer

TAGGED = frozenset({"mp3", "aac", "ac3", "eac3"})
BLOCK_BYTES = 1 << 20
HEAD_BYTES = 32
MARK = re.compile(b"|".join(map(re.escape, MARKS)))

Span = tuple[int, int]


class Spliced(io.RawIOBase):
    """A file as it would be without some spans of its bytes, each given by where it starts and ends."""

    def __init__(self, file: BinaryIO, without: Sequence[Span]) -> None:
        self._file, self._position = file, 0
        size = size_of(file)
        self._parts: list[Span] = []  # what is left
        for (_, start), (end, _) in pairwise([(0, 0), *without, (size, size)]):
            if end > start:
                self._parts.append((start, end))
        self._size = sum(end - start for start, end in self._parts)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative position {base + offset}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = self._size if size is None or size < 0 else size
        pieces, before = [], 0
        for start, end in self._parts:
            begin = max(self._position - before, 0)
            if begin < end - start and wanted > 0:
                piece = read_at(self._file, start + begin, min(wanted, end - start - begin))
                pieces.append(piece)
                wanted -= len(piece)
                self._position += len(piece)
            before += end - start
        return b"".join(pieces)


@contextlib.contextmanager
def without_tags(place: str, file: BinaryIO, media: InputContainer) -> Iterator[tuple[BinaryIO, InputContainer]]:
    """Yield a file and its container as ``asr.audio.container.opened`` does, without what ``tags_within`` finds."""
    tags = remembered("tags", file, lambda: tags_within(file)) if media.format.name in TAGGED else []
    if not tags:
        yield file, media
        return
    spliced = cast(BinaryIO, Spliced(file, tags))
    with open_media(spliced, place, media.format.name) as again:
        yield spliced, again


def tags_within(file: BinaryIO) -> list[Span]:
    """Return the spans of the tags between frames, and behind the last one.

    Three letters may be sound: what follows a tag must be a frame as the first one, another tag, or the end.
    """
    size, front = size_of(file), tag_bytes(read_at(file, 0, HEAD_BYTES))
    sync = read_at(file, front, 2)
    spans: list[Span] = []
    for at in _marks(file, front):
        if spans and at < spans[-1][1]:
            continue
        end = at + tag_bytes(read_at(file, at, HEAD_BYTES))
        if end > at and (end == size or _is_start(read_at(file, end, HEAD_BYTES), sync)):
            spans.append((at, end))
    return spans


def _is_start(head: bytes, sync: bytes) -> bool:
    frame = len(head) > 1 and len(sync) > 1 and head[0] == sync[0] and head[1] & 0xE0 == sync[1] & 0xE0
    return frame or MARK.match(head) is not None


def _marks(file: BinaryIO, start: int) -> Iterator[int]:
    """Yield where marks stand, from a position on."""
    position, behind = start, b""
    while block := read_at(file, position, BLOCK_BYTES):
        data = behind + block
        for found in MARK.finditer(data):
            yield position - len(behind) + found.start()
        position += len(block)
        behind = data[-(max(map(len, MARKS)) - 1) :]
